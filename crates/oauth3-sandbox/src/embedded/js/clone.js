// Base64 and structuredClone.
(function (native, need, { define }) {
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
      if (["Blob", "File"].includes(value[Symbol.toStringTag])) return value;
      if (value instanceof Error) {
        const error = keep(new (ERRORS.find((type) => value.name === type.name) ?? Error)(String(value.message)));
        define(error, "stack", value.stack);
        if (Object.hasOwn(value, "cause")) define(error, "cause", clone(value.cause));
        return error;
      }
      if (
        value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef
      ) {
        refuse(`#<${value.constructor.name}>`);
      }
      const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
      for (const key of Object.keys(value)) copy[key] = clone(value[key]);
      return copy;
    };
    return clone(value);
  }

  return { atob, btoa, structuredClone };
});
