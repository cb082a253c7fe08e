// Bytes and text.
(function (native, need, { define }) {
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
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return encode(text);
    }
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

  const LABELS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "utf-16le": "utf-16le",
    "utf-16": "utf-16le",
    "latin1": "windows-1252",
    "iso-8859-1": "windows-1252",
    "ascii": "windows-1252",
    "us-ascii": "windows-1252",
    "windows-1252": "windows-1252",
  };

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

  return { bytesOf, concat, encode, TextEncoder, TextDecoder };
});
