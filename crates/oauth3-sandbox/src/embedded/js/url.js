// URL and URLSearchParams over the host's parser.
(function (native, need, { custom }) {
  const text = (value) => `${value}`.toWellFormed();
  const PARTS = [
    "href",
    "origin",
    "protocol",
    "username",
    "password",
    "host",
    "hostname",
    "port",
    "pathname",
    "search",
    "hash",
  ];

  // Sets the parameters of a URL anew after the URL changed.
  let resetParams;

  class URLSearchParams {
    #pairs = [];
    #changed = null;

    // `changed` is the URL's own hook; programs cannot pass it, for the token is not theirs.
    constructor(init = "", token = null, changed = null) {
      if (token === PARTS) this.#changed = changed;
      if (init === null || (typeof init !== "object" && typeof init !== "function")) {
        this.#parse(text(init));
      } else if (typeof init[Symbol.iterator] === "function") {
        for (const pair of init) {
          const [name, value, ...rest] = pair;
          if (pair.length === 1 || rest.length > 0) throw new TypeError("Each query pair must be [name, value]");
          this.#pairs.push([text(name), text(value)]);
        }
      } else {
        for (const name of Object.keys(init)) this.#pairs.push([text(name), text(init[name])]);
      }
    }

    #parse(query) {
      const flat = native.parseForm(query.startsWith("?") ? query.slice(1) : query);
      this.#pairs = [];
      for (let i = 0; i < flat.length; i += 2) this.#pairs.push([flat[i], flat[i + 1]]);
    }

    #update() {
      if (this.#changed !== null) this.#changed(this.toString());
    }

    static {
      resetParams = (params, query) => params.#parse(query);
    }

    get size() {
      return this.#pairs.length;
    }
    append(name, value) {
      this.#pairs.push([text(name), text(value)]);
      this.#update();
    }
    delete(name, value) {
      this.#pairs = this.#pairs.filter(([n, v]) => !(n === text(name) && (value === undefined || v === text(value))));
      this.#update();
    }
    get(name) {
      return this.#pairs.find(([n]) => n === text(name))?.[1] ?? null;
    }
    getAll(name) {
      return this.#pairs.filter(([n]) => n === text(name)).map(([, v]) => v);
    }
    has(name, value) {
      return this.#pairs.some(([n, v]) => n === text(name) && (value === undefined || v === text(value)));
    }
    set(name, value) {
      const index = this.#pairs.findIndex(([n]) => n === text(name));
      if (index < 0) {
        this.#pairs.push([text(name), text(value)]);
      } else {
        this.#pairs[index] = [text(name), text(value)];
        this.#pairs = this.#pairs.filter(([n], i) => i <= index || n !== text(name));
      }
      this.#update();
    }
    sort() {
      this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      this.#update();
    }
    forEach(callback, self) {
      for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
    }
    *keys() {
      for (const [name] of this.#pairs) yield name;
    }
    *values() {
      for (const [, value] of this.#pairs) yield value;
    }
    *entries() {
      for (const [name, value] of this.#pairs) yield [name, value];
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    toString() {
      return native.printForm(this.#pairs.flat());
    }
    get [Symbol.toStringTag]() {
      return "URLSearchParams";
    }
    [custom](inspect) {
      return `URLSearchParams ${inspect(new Map(this.#pairs)).replace(/^Map\(\d+\) /, "")}`;
    }
  }

  class URL {
    #parts;
    #params = null;

    constructor(url, base) {
      const parts = native.parseUrl(text(url), base === undefined ? undefined : text(base));
      if (parts === undefined || parts === null) {
        const relative = base === undefined ? "" : ` with base '${text(base)}'`;
        throw new TypeError(`Invalid URL: '${text(url)}'${relative}`);
      }
      this.#parts = parts;
    }

    static canParse(url, base) {
      return URL.parse(url, base) !== null;
    }
    static parse(url, base) {
      try {
        return new URL(url, base);
      } catch {
        return null;
      }
    }

    get searchParams() {
      this.#params ??= new URLSearchParams(this.search, PARTS, (query) => {
        this.#parts = native.setUrl(this.href, "search", query) ?? this.#parts;
      });
      return this.#params;
    }
    toString() {
      return this.href;
    }
    toJSON() {
      return this.href;
    }
    get [Symbol.toStringTag]() {
      return "URL";
    }
    [custom](inspect) {
      const shown = {};
      for (
        const part of [
          "href",
          "origin",
          "protocol",
          "username",
          "password",
          "host",
          "hostname",
          "port",
          "pathname",
          "hash",
          "search",
        ]
      ) shown[part] = this[part];
      return `URL ${inspect(shown)}`;
    }

    static {
      const own = {
        get: (url, index) => url.#parts[index],
        set: (url, part, value) => {
          const parts = native.setUrl(url.href, part, text(value));
          if (parts === undefined || parts === null) {
            if (part === "href") throw new TypeError(`Invalid URL: '${text(value)}'`);
            return;
          }
          url.#parts = parts;
          if (url.#params !== null) resetParams(url.#params, url.search);
        },
      };
      PARTS.forEach((part, index) =>
        Object.defineProperty(URL.prototype, part, {
          configurable: true,
          enumerable: true,
          get() {
            return own.get(this, index);
          },
          set: part === "origin" ? undefined : function (value) {
            own.set(this, part, value);
          },
        })
      );
    }
  }
  return { URL, URLSearchParams };
});
