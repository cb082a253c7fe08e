// Blob, File, FormData, and bodies of forms.
(function (native, need, { custom }) {
  const { bytesOf, concat, encode } = need("data");
  const EMPTY = new Uint8Array(0);

  const blobBytes = new WeakMap();

  class Blob {
    #type;
    constructor(parts = [], { type = "" } = {}) {
      blobBytes.set(
        this,
        concat([
          EMPTY,
          ...Array.from(parts, (part) => {
            if (part instanceof Blob) return blobBytes.get(part);
            if (ArrayBuffer.isView(part) || part instanceof ArrayBuffer) return bytesOf(part).slice();
            return encode(part);
          }),
        ]),
      );
      this.#type = /^[\x20-\x7e]*$/.test(type) ? String(type).toLowerCase() : "";
    }
    get size() {
      return blobBytes.get(this).length;
    }
    get type() {
      return this.#type;
    }
    async text() {
      return new TextDecoder().decode(blobBytes.get(this));
    }
    async arrayBuffer() {
      return blobBytes.get(this).slice().buffer;
    }
    async bytes() {
      return blobBytes.get(this).slice();
    }
    slice(start, end, type = "") {
      return new Blob([blobBytes.get(this).slice(start, end)], { type });
    }
    stream() {
      return ReadableStream.from([blobBytes.get(this)]);
    }
    get [Symbol.toStringTag]() {
      return "Blob";
    }
    [custom](inspect) {
      return `Blob ${inspect({ size: this.size, type: this.type })}`;
    }
  }

  class File extends Blob {
    #name;
    #lastModified;
    constructor(parts, name, options = {}) {
      super(parts, options);
      this.#name = String(name);
      this.#lastModified = options.lastModified ?? Date.now();
    }
    get name() {
      return this.#name;
    }
    get lastModified() {
      return this.#lastModified;
    }
    get [Symbol.toStringTag]() {
      return "File";
    }
  }

  // --- FormData -----------------------------------------------------------------------------------------------------

  class FormData {
    #list = [];
    static #entry(name, value, fileName) {
      if (!(value instanceof Blob)) return [String(name), String(value)];
      if (value instanceof File && fileName === undefined) return [String(name), value];
      return [String(name), new File([value], fileName ?? "blob", { type: value.type })];
    }
    append(name, value, fileName) {
      this.#list.push(FormData.#entry(name, value, fileName));
    }
    set(name, value, fileName) {
      const index = this.#list.findIndex(([n]) => n === String(name));
      if (index < 0) return this.append(name, value, fileName);
      this.#list = this.#list.filter(([n], i) => i <= index || n !== String(name));
      this.#list[index] = FormData.#entry(name, value, fileName);
    }
    delete(name) {
      this.#list = this.#list.filter(([n]) => n !== String(name));
    }
    get(name) {
      return this.#list.find(([n]) => n === String(name))?.[1] ?? null;
    }
    getAll(name) {
      return this.#list.filter(([n]) => n === String(name)).map(([, value]) => value);
    }
    has(name) {
      return this.#list.some(([n]) => n === String(name));
    }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }
    *entries() {
      yield* this.#list;
    }
    *keys() {
      for (const [name] of this.#list) yield name;
    }
    *values() {
      for (const [, value] of this.#list) yield value;
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    get [Symbol.toStringTag]() {
      return "FormData";
    }
  }

  const multipart = (form) => {
    const boundary = `----oauth3${
      Array.from(native.random(16), (byte) => byte.toString(16).padStart(2, "0")).join("")
    }`;
    const quote = (text) => text.replaceAll("\n", "%0A").replaceAll("\r", "%0D").replaceAll('"', "%22");
    const chunks = [];
    for (const [name, value] of form) {
      const head = `--${boundary}\r\nContent-Disposition: form-data; name="${quote(name)}"`;
      if (typeof value === "string") {
        chunks.push(encode(`${head}\r\n\r\n${value}\r\n`));
      } else {
        const type = value.type === "" ? "application/octet-stream" : value.type;
        chunks.push(encode(`${head}; filename="${quote(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`));
        chunks.push(blobBytes.get(value), encode("\r\n"));
      }
    }
    chunks.push(encode(`--${boundary}--\r\n`));
    return [concat(chunks), `multipart/form-data; boundary=${boundary}`];
  };

  // Splits a multipart body; the boundary stands between parts, headers and content are parted by an empty line.
  const parseMultipart = (bytes, boundary) => {
    const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    const form = new FormData();
    for (const part of text.split(`--${boundary}`).slice(1, -1)) {
      const split = part.indexOf("\r\n\r\n");
      if (split < 0) throw new TypeError("Malformed multipart body");
      const head = part.slice(0, split);
      const content = Uint8Array.from(part.slice(split + 4, -2), (c) => c.charCodeAt(0));
      const disposition = new TextDecoder().decode(Uint8Array.from(head, (c) => c.charCodeAt(0)));
      const name = /[; ]name="([^"]*)"/i.exec(disposition)?.[1];
      const fileName = /filename="([^"]*)"/i.exec(disposition)?.[1];
      if (name === undefined) throw new TypeError("Malformed multipart body");
      if (fileName === undefined) form.append(name, new TextDecoder().decode(content));
      else form.append(name, new File([content], fileName, { type: /content-type: *([^\r\n]*)/i.exec(head)?.[1] }));
    }
    return form;
  };

  return { Blob, File, FormData, blobBytes: (blob) => blobBytes.get(blob), multipart, parseMultipart };
});
