// Headers, Request, Response: the messages of fetch.
(function (native, need, { define, custom }) {
  const { bytesOf, concat, encode } = need("data");

  // --- Headers ------------------------------------------------------------------------------------------------------

  const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
  const nameOf = (name) => {
    const text = String(name);
    if (!TOKEN.test(text)) throw new TypeError(`Invalid header name: "${text}"`);
    return text.toLowerCase();
  };
  const valueOf = (value) => {
    const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
    if (/[\0\n\r]|[^\0-\xff]/.test(text)) throw new TypeError(`Invalid header value: ${JSON.stringify(text)}`);
    return text;
  };

  // Makes headers immutable, and reads their pairs: set by the class, whose private parts they reach.
  let fix;
  let listOf;

  class Headers {
    #list = [];
    #fixed = false;
    static {
      fix = (headers) => (headers.#fixed = true, headers);
      listOf = (headers) => headers.#list;
    }

    constructor(init) {
      if (init === undefined || init === null) return;
      if (typeof init !== "object") throw new TypeError("Headers take an object or pairs");
      if (init instanceof Headers) {
        this.#list = init.#list.map((pair) => [...pair]);
      } else if (typeof init[Symbol.iterator] === "function") {
        for (const pair of init) {
          const [name, value, ...rest] = pair;
          if (value === undefined || rest.length > 0) throw new TypeError("Each header pair must be [name, value]");
          this.append(name, value);
        }
      } else {
        for (const name of Object.keys(init)) this.append(name, init[name]);
      }
    }

    #change() {
      if (this.#fixed) throw new TypeError("Headers are immutable");
    }
    append(name, value) {
      const pair = [nameOf(name), valueOf(value)];
      this.#change();
      this.#list.push(pair);
    }
    delete(name) {
      name = nameOf(name);
      this.#change();
      this.#list = this.#list.filter(([n]) => n !== name);
    }
    get(name) {
      name = nameOf(name);
      const values = this.#list.filter(([n]) => n === name).map(([, value]) => value);
      return values.length === 0 ? null : values.join(", ");
    }
    getSetCookie() {
      return this.#list.filter(([n]) => n === "set-cookie").map(([, value]) => value);
    }
    has(name) {
      name = nameOf(name);
      return this.#list.some(([n]) => n === name);
    }
    set(name, value) {
      const pair = [nameOf(name), valueOf(value)];
      this.#change();
      const index = this.#list.findIndex(([n]) => n === pair[0]);
      this.#list = this.#list.filter(([n], i) => i <= index || n !== pair[0]);
      if (index < 0) this.#list.push(pair);
      else this.#list[this.#list.findIndex(([n]) => n === pair[0])] = pair;
    }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }
    *entries() {
      const names = [...new Set(this.#list.map(([n]) => n))].sort();
      for (const name of names) {
        if (name === "set-cookie") { for (const value of this.getSetCookie()) yield [name, value]; }
        else yield [name, this.get(name)];
      }
    }
    *keys() {
      for (const [name] of this.entries()) yield name;
    }
    *values() {
      for (const [, value] of this.entries()) yield value;
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    get [Symbol.toStringTag]() {
      return "Headers";
    }
    [custom](inspect) {
      return `Headers ${inspect(Object.fromEntries(this))}`;
    }
  }

  // --- Bodies -------------------------------------------------------------------------------------------------------

  // A body is `bytes`, or a `read` function (next chunk or null) with a `cancel`, or a `stream`.
  const bodyFrom = (value) => {
    if (value === null || value === undefined) return [null, null];
    if (typeof value !== "object") return [{ bytes: encode(value) }, "text/plain;charset=UTF-8"];
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return [{ bytes: bytesOf(value).slice() }, null];
    if (value instanceof ReadableStream) {
      if (value.locked || need("streams").isDisturbed(value)) throw new TypeError("The stream is locked or was read");
      return [{ stream: value }, null];
    }
    if (value instanceof URLSearchParams) {
      return [{ bytes: encode(value) }, "application/x-www-form-urlencoded;charset=UTF-8"];
    }
    const { blobBytes, multipart } = need("blob");
    if (value instanceof Blob) return [{ bytes: blobBytes(value) }, value.type === "" ? null : value.type];
    if (value instanceof FormData) {
      const [bytes, type] = multipart(value);
      return [{ bytes }, type];
    }
    if (typeof value[Symbol.asyncIterator] === "function") {
      return [{ stream: ReadableStream.from(value) }, null];
    }
    return [{ bytes: encode(value) }, "text/plain;charset=UTF-8"];
  };

  const streamOf = (body) => {
    if (body.stream === undefined) {
      const bytes = body.bytes;
      body.stream = new ReadableStream(
        body.read === undefined
          ? {
            start(controller) {
              if (bytes.length > 0) controller.enqueue(bytes);
              controller.close();
            },
          }
          : {
            async pull(controller) {
              const chunk = await body.read();
              if (chunk === null) controller.close();
              else controller.enqueue(chunk);
            },
            cancel: () => body.cancel(),
          },
        { highWaterMark: 0 },
      );
    }
    return body.stream;
  };

  const collect = async (body) => {
    const chunks = [new Uint8Array(0)];
    if (body.stream !== undefined) { for await (const chunk of body.stream) chunks.push(bytesOf(chunk)); }
    else if (body.bytes !== undefined) return body.bytes;
    else for (let chunk; (chunk = await body.read()) !== null;) chunks.push(chunk);
    return concat(chunks.length === 2 ? [chunks[1]] : chunks);
  };

  const bodies = new WeakMap();
  class Body {
    get body() {
      const body = bodies.get(this);
      return body === null || body === undefined ? null : streamOf(body);
    }
    get bodyUsed() {
      const body = bodies.get(this);
      if (body === null || body === undefined) return false;
      return body.used === true || (body.stream !== undefined && need("streams").isDisturbed(body.stream));
    }
    async bytes() {
      const body = bodies.get(this);
      if (body === null || body === undefined) return new Uint8Array(0);
      if (this.bodyUsed || body.stream?.locked) throw new TypeError("Body already consumed.");
      body.used = true;
      return collect(body);
    }
    async arrayBuffer() {
      const bytes = await this.bytes();
      return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
    }
    async text() {
      return new TextDecoder().decode(await this.bytes());
    }
    async json() {
      return JSON.parse(await this.text());
    }
    async blob() {
      return new Blob([await this.bytes()], { type: this.headers.get("content-type") ?? "" });
    }
    async formData() {
      const type = this.headers.get("content-type") ?? "";
      const boundary = /^multipart\/form-data.*boundary="?([^";]+)/i.exec(type)?.[1];
      if (boundary !== undefined) return need("blob").parseMultipart(await this.bytes(), boundary);
      if (!/^application\/x-www-form-urlencoded/i.test(type)) throw new TypeError("Body is no form data");
      const form = new FormData();
      for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
      return form;
    }
  }
  // Two bodies out of one that was not read yet.
  const cloneBody = (message) => {
    const body = bodies.get(message);
    if (body === null || body === undefined) return null;
    if (message.bodyUsed || body.stream?.locked) throw new TypeError("Body already consumed.");
    if (body.bytes !== undefined && body.stream === undefined) return { bytes: body.bytes };
    const [one, two] = streamOf(body).tee();
    bodies.set(message, { stream: one });
    return { stream: two };
  };

  // --- Request and Response -----------------------------------------------------------------------------------------

  const METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"];
  const methodOf = (method) => {
    const text = String(method);
    if (!TOKEN.test(text)) throw new TypeError(`Invalid method: "${text}"`);
    const upper = text.toUpperCase();
    if (["CONNECT", "TRACE", "TRACK"].includes(upper)) throw new TypeError(`Method is forbidden: ${text}`);
    return METHODS.includes(upper) ? upper : text;
  };

  // The signal that a request was given, or null.
  let signalOf;

  class Request extends Body {
    #signal;
    static {
      signalOf = (request) => request.#signal;
    }

    constructor(input, init = {}) {
      super();
      init ??= {};
      const from = input instanceof Request ? input : null;
      const url = new URL(from === null ? input : from.url);
      this.url = url.href;
      this.method = methodOf(init.method ?? from?.method ?? "GET");
      this.headers = new Headers(init.headers ?? from?.headers);
      this.redirect = init.redirect ?? from?.redirect ?? "follow";
      this.#signal = init.signal ?? (from === null ? null : signalOf(from));
      this.credentials = init.credentials ?? "same-origin";
      this.mode = init.mode ?? "cors";
      this.cache = init.cache ?? "default";
      if (!["follow", "manual", "error"].includes(this.redirect)) throw new TypeError(`Bad redirect: ${this.redirect}`);
      let [body, type] = bodyFrom(init.body);
      if (init.body === undefined && from !== null && bodies.get(from)) {
        if (from.bodyUsed) throw new TypeError("Input request's body is unusable.");
        body = { ...bodies.get(from) };
        bodies.get(from).used = true;
      }
      if (body !== null && (this.method === "GET" || this.method === "HEAD")) {
        throw new TypeError("Request with GET/HEAD method cannot have body.");
      }
      if (type !== null && !this.headers.has("content-type")) this.headers.set("content-type", type);
      bodies.set(this, body);
    }
    get signal() {
      return this.#signal ??= new AbortController().signal;
    }
    clone() {
      const body = cloneBody(this);
      const copy = new Request(this.url, this);
      bodies.set(copy, body);
      return copy;
    }
    get [Symbol.toStringTag]() {
      return "Request";
    }
    [custom](inspect) {
      const { bodyUsed, headers, method, redirect, url } = this;
      return `Request ${inspect({ bodyUsed, headers, method, redirect, url })}`;
    }
  }

  const NULL_BODY = [101, 204, 205, 304];

  class Response extends Body {
    #status;
    #meta;
    constructor(body = null, init = {}, token = null, meta = {}) {
      super();
      init ??= {};
      const status = init.status ?? 200;
      if (token !== bodies && (!Number.isInteger(status) || status < 200 || status > 599)) {
        throw new RangeError(`The status provided (${status}) is not equal to 101 and outside the range [200, 599].`);
      }
      this.#status = status;
      this.#meta = token === bodies ? meta : {};
      define(this, "statusText", String(init.statusText ?? ""));
      define(this, "headers", new Headers(init.headers));
      if (token === bodies) {
        bodies.set(this, body);
        return;
      }
      const [source, type] = bodyFrom(body);
      if (source !== null && NULL_BODY.includes(status)) {
        throw new TypeError("Response with null body status cannot have body");
      }
      if (type !== null && !this.headers.has("content-type")) this.headers.set("content-type", type);
      bodies.set(this, source);
    }
    get status() {
      return this.#status;
    }
    get ok() {
      return this.#status >= 200 && this.#status < 300;
    }
    get url() {
      return this.#meta.url ?? "";
    }
    get redirected() {
      return this.#meta.redirected ?? false;
    }
    get type() {
      return this.#meta.type ?? "default";
    }
    clone() {
      const init = { status: this.status, statusText: this.statusText, headers: this.headers };
      return new Response(cloneBody(this), init, bodies, this.#meta);
    }
    static json(data, init = {}) {
      const headers = new Headers(init.headers);
      if (!headers.has("content-type")) headers.set("content-type", "application/json");
      const text = JSON.stringify(data);
      if (text === undefined) throw new TypeError("The data is not JSON serializable");
      return new Response(text, { ...init, headers });
    }
    static error() {
      return new Response(null, { status: 0 }, bodies, { type: "error" });
    }
    static redirect(url, status = 302) {
      if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`Invalid redirect status: ${status}`);
      return new Response(null, { status, headers: { location: new URL(url).href } });
    }
    get [Symbol.toStringTag]() {
      return "Response";
    }
    [custom](inspect) {
      const { body, bodyUsed, headers, ok, redirected, status, statusText, url } = this;
      return `Response ${inspect({ body, bodyUsed, headers, ok, redirected, status, statusText, url })}`;
    }
  }

  // For fetch: the body of a request as bytes, and a response made of what came over the wire.
  const requestBytes = async (request) => {
    const body = bodies.get(request);
    if (body === null || body === undefined) return null;
    return request.bytes();
  };
  const received = (body, init, meta) => {
    const response = new Response(body, init, bodies, meta);
    fix(response.headers);
    return response;
  };
  return { Headers, Request, Response, requestBytes, signalOf, received, listOf, NULL_BODY };
});
