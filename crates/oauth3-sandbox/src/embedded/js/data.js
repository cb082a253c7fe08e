// Bytes and text: encodings, base64, clones, blobs.
(function (native, need, { define, custom }) {

  const EMPTY = new Uint8Array(0);

  // The bytes behind any BufferSource, without a copy.
  const bytesOf = (source) => {
    if (source instanceof Uint8Array && source.constructor === Uint8Array) return source;
    if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (source instanceof ArrayBuffer || source instanceof SharedArrayBuffer) return new Uint8Array(source);
    throw new TypeError("The value is neither an ArrayBuffer nor a view of one");
  };

  const concat = (chunks) => {
    if (chunks.length === 1) return chunks[0];
    const bytes = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
    let offset = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, offset);
      offset += chunk.length;
    }
    return bytes;
  };

  const encode = (text) => native.encode(`${text}`.toWellFormed());

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text = "") { return encode(text); }
    encodeInto(text, target) {
      let read = 0;
      let written = 0;
      for (const character of `${text}`) {
        const bytes = encode(character);
        if (written + bytes.length > target.length) break;
        target.set(bytes, written);
        written += bytes.length;
        read += character.length;
      }
      return { read, written };
    }
  }

  const LABELS = { "utf-8": "utf-8", "utf8": "utf-8", "unicode-1-1-utf-8": "utf-8", "utf-16le": "utf-16le",
    "utf-16": "utf-16le", "latin1": "windows-1252", "iso-8859-1": "windows-1252", "ascii": "windows-1252",
    "us-ascii": "windows-1252", "windows-1252": "windows-1252" };

  class TextDecoder {
    #rest = EMPTY;
    #begun = false;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      const encoding = LABELS[String(label).trim().toLowerCase()];
      if (encoding === undefined) throw new RangeError(`The encoding label provided ('${label}') is invalid.`);
      for (const [name, value] of Object.entries({ encoding, fatal: !!fatal, ignoreBOM: !!ignoreBOM })) {
        define(this, name, value);
      }
    }

    decode(source = EMPTY, { stream = false } = {}) {
      let bytes = bytesOf(source);
      if (this.#rest.length > 0) bytes = concat([this.#rest, bytes]);
      let [text, taken] = this.#decode(bytes, stream);
      this.#rest = stream ? bytes.slice(taken) : EMPTY;
      if (text === undefined || text === null) {
        this.#rest = EMPTY;
        this.#begun = false;
        throw new TypeError("The encoded data is not valid");
      }
      if (!this.#begun && !this.ignoreBOM && text.startsWith("\ufeff")) text = text.slice(1);
      this.#begun = stream && (this.#begun || taken > 0);
      return text;
    }

    #decode(bytes, stream) {
      if (this.encoding === "utf-8") return native.decode(bytes, this.fatal, stream);
      const wide = this.encoding === "utf-16le";
      const step = wide ? 2 : 1;
      let text = "";
      let i = 0;
      for (; i + step <= bytes.length; i += step) {
        text += String.fromCharCode(wide ? bytes[i] | (bytes[i + 1] << 8) : bytes[i]);
      }
      return [text, i];
    }
  }

  // --- Base64: the engine's own, with the exception that the platform has -------------------------------------------

  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const invalid = (message) => new (need("events").DOMException)(message, "InvalidCharacterError");

  function btoa(value) {
    const text = `${value}`;
    let out = "";
    for (let i = 0; i < text.length; i += 3) {
      const [a, b, c] = [text.charCodeAt(i), text.charCodeAt(i + 1), text.charCodeAt(i + 2)];
      if (a > 255 || b > 255 || c > 255) {
        throw invalid("Cannot encode string: string contains characters outside of the Latin1 range");
      }
      out += ALPHABET[a >> 2] + ALPHABET[((a & 3) << 4) | (b >> 4)];
      out += i + 1 < text.length ? ALPHABET[((b & 15) << 2) | (c >> 6)] : "=";
      out += i + 2 < text.length ? ALPHABET[c & 63] : "=";
    }
    return out;
  }

  function atob(value) {
    let text = `${value}`.replace(/[\t\n\f\r ]/g, "");
    if (text.length % 4 === 0) text = text.replace(/==?$/, "");
    if (text.length % 4 === 1 || /[^A-Za-z0-9+/]/.test(text)) throw invalid("Failed to decode base64");
    let out = "";
    let bits = 0;
    let count = 0;
    for (const character of text) {
      bits = ((bits << 6) | ALPHABET.indexOf(character)) & 0xffffff;
      count += 6;
      if (count >= 8) {
        count -= 8;
        out += String.fromCharCode((bits >> count) & 255);
      }
    }
    return out;
  }

  // --- structuredClone ----------------------------------------------------------------------------------------------

  const ERRORS = [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError];

  function structuredClone(value) {
    if (arguments.length === 0) throw new TypeError("1 argument required, but only 0 present");
    const seen = new Map();
    const refuse = (what) => {
      throw new (need("events").DOMException)(`${what} could not be cloned.`, "DataCloneError");
    };
    const clone = (value) => {
      if (typeof value === "symbol") refuse(String(value));
      if (typeof value === "function") refuse(String(value));
      if (typeof value !== "object" || value === null) return value;
      if (seen.has(value)) return seen.get(value);
      const keep = (copy) => (seen.set(value, copy), copy);
      if (value instanceof Date) return keep(new Date(value.getTime()));
      if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
      if (value instanceof Boolean || value instanceof Number || value instanceof String || value instanceof BigInt) {
        return keep(Object(value.valueOf()));
      }
      if (value instanceof ArrayBuffer) return keep(value.slice(0));
      if (value instanceof DataView) {
        return keep(new DataView(clone(value.buffer), value.byteOffset, value.byteLength));
      }
      if (ArrayBuffer.isView(value)) {
        return keep(new value.constructor(clone(value.buffer), value.byteOffset, value.length));
      }
      if (value instanceof Map) {
        const copy = keep(new Map());
        for (const [key, item] of [...value]) copy.set(clone(key), clone(item));
        return copy;
      }
      if (value instanceof Set) {
        const copy = keep(new Set());
        for (const item of [...value]) copy.add(clone(item));
        return copy;
      }
      if (value instanceof Blob) return value;
      if (value instanceof Error) {
        const error = keep(new (ERRORS.find((type) => value.name === type.name) ?? Error)(String(value.message)));
        define(error, "stack", value.stack);
        if (Object.hasOwn(value, "cause")) define(error, "cause", clone(value.cause));
        return error;
      }
      if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
        refuse(`#<${value.constructor.name}>`);
      }
      const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
      for (const key of Object.keys(value)) copy[key] = clone(value[key]);
      return copy;
    };
    return clone(value);
  }

  // --- Blob and File ------------------------------------------------------------------------------------------------

  const blobBytes = new WeakMap();

  class Blob {
    #type;
    constructor(parts = [], { type = "" } = {}) {
      blobBytes.set(this, concat([EMPTY, ...Array.from(parts, (part) => {
        if (part instanceof Blob) return blobBytes.get(part);
        if (ArrayBuffer.isView(part) || part instanceof ArrayBuffer) return bytesOf(part).slice();
        return encode(part);
      })]));
      this.#type = /^[\x20-\x7e]*$/.test(type) ? String(type).toLowerCase() : "";
    }
    get size() { return blobBytes.get(this).length; }
    get type() { return this.#type; }
    async text() { return new TextDecoder().decode(blobBytes.get(this)); }
    async arrayBuffer() { return blobBytes.get(this).slice().buffer; }
    async bytes() { return blobBytes.get(this).slice(); }
    slice(start, end, type = "") { return new Blob([blobBytes.get(this).slice(start, end)], { type }); }
    stream() { return ReadableStream.from([blobBytes.get(this)]); }
    get [Symbol.toStringTag]() { return "Blob"; }
    [custom](inspect) { return `Blob ${inspect({ size: this.size, type: this.type })}`; }
  }

  class File extends Blob {
    #name;
    #lastModified;
    constructor(parts, name, options = {}) {
      super(parts, options);
      this.#name = String(name);
      this.#lastModified = options.lastModified ?? Date.now();
    }
    get name() { return this.#name; }
    get lastModified() { return this.#lastModified; }
    get [Symbol.toStringTag]() { return "File"; }
  }

  return { bytesOf, concat, encode, blobBytes: (blob) => blobBytes.get(blob), TextEncoder, TextDecoder, atob, btoa,
    structuredClone, Blob, File };
})
