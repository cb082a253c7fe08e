// Web Crypto, as far as a program needs it that holds no keys: random values, digests, HMAC.
(function (native, need, { define }) {
  const { bytesOf } = need("data");
  const { DOMException } = need("events");
  const DIGESTS = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };

  const nameOf = (algorithm) => String(algorithm?.name ?? algorithm).toUpperCase();
  const digestOf = (algorithm) => {
    const name = nameOf(algorithm);
    if (!Object.hasOwn(DIGESTS, name)) throw unsupported(name);
    return name;
  };
  const unsupported = (name) =>
    new DOMException(
      `Unrecognized algorithm name: ${name}. The embedded runtime has SHA-1, SHA-256, SHA-384, SHA-512 and HMAC; ` +
        "use runtime deno or node for others",
      "NotSupportedError",
    );
  const buffer = (bytes) => bytes.buffer;

  const keys = new WeakMap();
  class CryptoKey {
    constructor(token, properties, bytes) {
      if (token !== keys) throw new TypeError("Illegal constructor");
      Object.assign(this, properties);
      keys.set(this, bytes);
    }
  }
  const hmacKey = (hash, bytes, extractable, usages) =>
    new CryptoKey(keys, {
      type: "secret",
      extractable,
      algorithm: { name: "HMAC", hash: { name: hash }, length: bytes.length * 8 },
      usages: [...usages],
    }, bytes);
  const use = (algorithm, key, usage) => {
    if (nameOf(algorithm) !== "HMAC") throw unsupported(nameOf(algorithm));
    if (!keys.has(key)) throw new TypeError("The key is no CryptoKey");
    if (!key.usages.includes(usage)) {
      throw new DOMException(`The key does not allow "${usage}"`, "InvalidAccessError");
    }
    return [key.algorithm.hash.name, keys.get(key)];
  };
  const fromBase64Url = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const toBase64Url = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_")
      .replaceAll("=", "");

  class SubtleCrypto {
    async digest(algorithm, data) {
      return buffer(native.digest(digestOf(algorithm), bytesOf(data)));
    }

    async importKey(format, data, algorithm, extractable, usages) {
      if (nameOf(algorithm) !== "HMAC") throw unsupported(nameOf(algorithm));
      if (format !== "raw" && format !== "jwk") throw new DOMException(`Key format ${format}`, "NotSupportedError");
      const bytes = format === "jwk" ? fromBase64Url(data.k) : bytesOf(data).slice();
      if (bytes.length === 0) throw new DOMException("The key is empty", "DataError");
      return hmacKey(digestOf(algorithm.hash), bytes, extractable, usages);
    }

    async exportKey(format, key) {
      if (!keys.has(key)) throw new TypeError("The key is no CryptoKey");
      if (!key.extractable) throw new DOMException("The key is not extractable", "InvalidAccessError");
      const bytes = keys.get(key);
      if (format === "raw") return buffer(bytes.slice());
      if (format !== "jwk") throw new DOMException(`Key format ${format}`, "NotSupportedError");
      const alg = `HS${key.algorithm.hash.name.slice(4)}`;
      return { kty: "oct", alg, k: toBase64Url(bytes), key_ops: [...key.usages], ext: true };
    }

    async generateKey(algorithm, extractable, usages) {
      if (nameOf(algorithm) !== "HMAC") throw unsupported(nameOf(algorithm));
      const hash = digestOf(algorithm.hash);
      const length = algorithm.length === undefined ? DIGESTS[hash] : Math.ceil(algorithm.length / 8);
      return hmacKey(hash, native.random(length), extractable, usages);
    }

    async sign(algorithm, key, data) {
      const [hash, bytes] = use(algorithm, key, "sign");
      return buffer(native.hmac(hash, bytes, bytesOf(data)));
    }

    async verify(algorithm, key, signature, data) {
      const [hash, bytes] = use(algorithm, key, "verify");
      const good = native.hmac(hash, bytes, bytesOf(data));
      const given = bytesOf(signature);
      let difference = good.length ^ given.length;
      for (let i = 0; i < good.length; i++) difference |= good[i] ^ (given[i] ?? 0);
      return difference === 0;
    }
  }
  for (const name of ["encrypt", "decrypt", "deriveBits", "deriveKey", "wrapKey", "unwrapKey"]) {
    define(SubtleCrypto.prototype, name, async (algorithm) => {
      throw unsupported(nameOf(algorithm));
    });
  }

  const INTEGERS = [
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    BigInt64Array,
    BigUint64Array,
  ];
  class Crypto {
    subtle = new SubtleCrypto();

    getRandomValues(array) {
      if (!INTEGERS.some((type) => array instanceof type)) {
        throw new DOMException("The array is no array of integers", "TypeMismatchError");
      }
      if (array.byteLength > 65536) {
        throw new DOMException("More than 65536 bytes of randomness in one call", "QuotaExceededError");
      }
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(native.random(array.byteLength));
      return array;
    }

    randomUUID() {
      const bytes = native.random(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    }
  }
  return { crypto: new Crypto(), Crypto, CryptoKey, SubtleCrypto };
});
