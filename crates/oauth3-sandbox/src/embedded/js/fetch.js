// fetch: every request goes to the egress of this run, which decides, adds the real secrets and speaks TLS.
(function (native, need, { operation, abort }) {
  const { Headers, Request, requestBytes, signalOf, received, listOf, NULL_BODY } = need("message");

  const REDIRECTS_MAX = 20;
  const REDIRECTS = [301, 302, 303, 307, 308];
  // These describe the connection or are derived from the URL and the body; a program cannot set them.
  const OURS = new Set([
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
  ]);
  const CONTENT = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];

  const headersFor = (url, headers) => {
    const list = new Headers(headers);
    if (!list.has("accept")) list.set("accept", "*/*");
    if (!list.has("user-agent")) list.set("user-agent", "oauth3");
    if (url.username !== "" || url.password !== "") {
      const text = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      const bytes = String.fromCharCode(...new TextEncoder().encode(text));
      if (!list.has("authorization")) list.set("authorization", `Basic ${btoa(bytes)}`);
    }
    // Bodies come as they are: there is no decompression here, and the scrubber must be able to read them.
    return [...listOf(list).filter(([name]) => !OURS.has(name)), ["accept-encoding", "identity"]].flat();
  };

  // The address for the wire: no user information, no fragment.
  const bare = (url) => {
    const copy = new URL(url.href);
    [copy.username, copy.password, copy.hash] = ["", "", ""];
    return copy.href;
  };

  // Waits for an operation; `signal`, when there is one, ends it at any time.
  const abortable = async (signal, begin) => {
    signal?.throwIfAborted();
    const { id, promise } = operation(begin);
    if (signal === null) return promise;
    const stop = () => abort(id, signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  };

  // The body of a response: chunks are read when the program asks for them.
  const bodyOf = (resource, signal) => ({
    read: () => abortable(signal, (id) => native.readBody(id, resource)),
    cancel: () => native.closeBody(resource),
  });

  const fetchData = (url) => {
    const match = /^data:([^,]*?)(;base64)?,([^#]*)/is.exec(url.href);
    if (match === null) throw new TypeError("Invalid data URL");
    const raw = match[3].replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
    const bytes = Uint8Array.from(match[2] === undefined ? raw : atob(raw), (c) => c.charCodeAt(0));
    const type = match[1] === ""
      ? "text/plain;charset=US-ASCII"
      : match[1].startsWith(";")
      ? `text/plain${match[1]}`
      : match[1];
    return received({ bytes }, { status: 200, statusText: "OK", headers: { "content-type": type } }, {
      url: url.href,
      type: "basic",
    });
  };

  const fetch = async (input, init) => {
    const request = new Request(input, init);
    const { redirect } = request;
    const signal = signalOf(request);
    signal?.throwIfAborted();
    let url = new URL(request.url);
    let { method } = request;
    const headers = new Headers(request.headers);
    if (url.protocol === "data:") return fetchData(url);
    let bytes = await requestBytes(request);

    for (let redirects = 0;; redirects++) {
      if (url.protocol !== "https:" && url.protocol !== "http:") {
        throw new TypeError(`Url scheme '${url.protocol.slice(0, -1)}' not supported`);
      }
      const head = await abortable(
        signal,
        (id) => native.fetch(id, method, bare(url), headersFor(url, headers), bytes),
      );
      const pairs = [];
      for (let i = 0; i < head.headers.length; i += 2) pairs.push([head.headers[i], head.headers[i + 1]]);
      const location = pairs.find(([name]) => name === "location")?.[1];
      if (REDIRECTS.includes(head.status) && location !== undefined && redirect !== "manual") {
        native.closeBody(head.body);
        if (redirect === "error") throw new TypeError("Encountered redirect while redirect mode is set to 'error'");
        if (redirects >= REDIRECTS_MAX) throw new TypeError("Maximum number of redirects (20) reached");
        const next = new URL(location, url);
        if (next.hash === "") next.hash = url.hash;
        const toGet = head.status === 303
          ? !["GET", "HEAD"].includes(method)
          : [301, 302].includes(head.status) && method === "POST";
        if (toGet) {
          method = "GET";
          bytes = null;
          for (const name of CONTENT) headers.delete(name);
        }
        // Credentials were meant for the first host only.
        if (next.origin !== url.origin) { for (const name of ["authorization", "cookie"]) headers.delete(name); }
        url = next;
        continue;
      }
      const noBody = NULL_BODY.includes(head.status) || method === "HEAD";
      if (noBody) native.closeBody(head.body);
      return received(noBody ? null : bodyOf(head.body, signal), {
        status: head.status,
        statusText: head.statusText,
        headers: pairs,
      }, { url: url.href, redirected: redirects > 0, type: "basic" });
    }
  };
  return { fetch };
});
