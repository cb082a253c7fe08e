// The part of the runtime that every program needs. Everything else is a theme, compiled when a program first uses
// one of its names: that keeps the start of a small program below a millisecond.
//
// `native` holds the functions of the host (natives.rs). The result holds the hooks that its event loop calls.
(function (native) {
  const themes = new Map();
  const state = { listeners: null, groups: "" };

  // The exports of a theme.
  const need = (name) => {
    let theme = themes.get(name);
    if (theme === undefined) {
      theme = native.load(name)(native, need, shared);
      themes.set(name, theme);
    }
    return theme;
  };

  const define = (target, name, value) =>
    Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });

  // A property that loads its theme when it is first read.
  const lazy = (target, theme, ...names) => {
    for (const name of names) {
      Object.defineProperty(target, name, {
        configurable: true,
        enumerable: false,
        get() {
          const value = need(theme)[name];
          define(target, name, value);
          return value;
        },
        set(value) {
          define(target, name, value);
        },
      });
    }
  };

  // --- Operations of the host, as promises ------------------------------------------------------------------------

  const waiting = new Map();
  let lastOperation = 0;

  // Starts an operation with `begin(id)`. The promise has an `id`, with which native.abort ends it.
  const operation = (begin) => {
    const id = ++lastOperation;
    const promise = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    begin(id);
    return { id, promise };
  };

  const complete = (id, message, value) => {
    const promise = waiting.get(id);
    if (promise === undefined) return;
    waiting.delete(id);
    if (message === undefined) promise.resolve(value);
    else promise.reject(new TypeError(message));
  };

  const abort = (id, reason) => {
    const promise = waiting.get(id);
    if (promise === undefined) return;
    waiting.delete(id);
    native.abort(id);
    promise.reject(reason);
  };

  // --- Timers -----------------------------------------------------------------------------------------------------

  const timers = new Map();
  let lastTimer = 0;

  const setTimer = (callback, delay, args, repeat, holding = true) => {
    if (typeof callback !== "function") {
      throw new TypeError(`The "callback" argument must be of type function. Received ${typeof callback}`);
    }
    // Conversion to a 32-bit integer is what the web platform does: longer delays wrap around.
    const milliseconds = Math.max(0, delay | 0);
    const id = ++lastTimer;
    timers.set(id, { callback, args, milliseconds, repeat, holding });
    native.setTimer(id, milliseconds, holding);
    return id;
  };

  const clearTimer = (id) => {
    id = Number(id);
    if (timers.delete(id)) native.clearTimer(id);
  };

  const fire = (id) => {
    const timer = timers.get(id);
    if (timer === undefined) return;
    if (timer.repeat) native.setTimer(id, Math.max(1, timer.milliseconds), timer.holding);
    else timers.delete(id);
    Reflect.apply(timer.callback, globalThis, timer.args);
  };

  const holdTimer = (id, holding) => {
    const timer = timers.get(Number(id));
    if (timer === undefined) return;
    timer.holding = holding;
    native.holdTimer(Number(id), holding);
  };

  define(globalThis, "setTimeout", function setTimeout(callback, delay = 0, ...args) {
    return setTimer(callback, delay, args, false);
  });
  define(globalThis, "setInterval", function setInterval(callback, delay = 0, ...args) {
    return setTimer(callback, delay, args, true);
  });
  define(globalThis, "setImmediate", function setImmediate(callback, ...args) {
    return setTimer(callback, 0, args, false);
  });
  define(globalThis, "clearTimeout", function clearTimeout(id) {
    clearTimer(id);
  });
  define(globalThis, "clearInterval", function clearInterval(id) {
    clearTimer(id);
  });
  define(globalThis, "clearImmediate", function clearImmediate(id) {
    clearTimer(id);
  });

  // --- Console ----------------------------------------------------------------------------------------------------

  // Text and numbers need no inspection, and are most of what programs print.
  const isPlain = (value) => value === null || !["object", "function", "symbol"].includes(typeof value);
  const plain = (value) => (typeof value === "bigint" ? `${value}n` : Object.is(value, -0) ? "-0" : `${value}`);

  const print = (stream, args) => {
    const hasFormat = args.length > 1 && typeof args[0] === "string" && args[0].includes("%");
    let text = !hasFormat && args.every(isPlain)
      ? args.map(plain).join(" ").toWellFormed()
      : need("inspect").format(args);
    if (state.groups !== "") text = state.groups + text.replaceAll("\n", "\n" + state.groups);
    native.write(stream, text + "\n");
  };

  const console = {};
  define(globalThis, "console", console);
  const printer = (name, stream) => {
    console[name] = {
      [name](...args) {
        print(stream, args);
      },
    }[name];
  };
  printer("log", 1);
  printer("info", 1);
  printer("debug", 1);
  printer("warn", 2);
  printer("error", 2);
  lazy(
    console,
    "console",
    "assert",
    "clear",
    "count",
    "countReset",
    "dir",
    "dirxml",
    "group",
    "groupCollapsed",
    "groupEnd",
    "table",
    "time",
    "timeEnd",
    "timeLog",
    "timeStamp",
    "trace",
  );
  define(console, Symbol.toStringTag, "console");

  // --- Errors -----------------------------------------------------------------------------------------------------

  // The engine's stacks are frames only, in positions of the stripped code. Programs expect the error's own line
  // first and positions of what they wrote.
  const stack = Object.getOwnPropertyDescriptor(Error.prototype, "stack");
  Object.defineProperty(Error.prototype, "stack", {
    configurable: true,
    enumerable: false,
    get: function stack_() {
      const frames = Reflect.apply(stack.get, this, []);
      if (typeof frames !== "string") return frames;
      let head;
      try {
        head = Error.prototype.toString.call(this);
      } catch {
        head = "Error";
      }
      const mapped = native.mapStack(frames.toWellFormed());
      return mapped === "" ? head : head + "\n" + mapped;
    },
    set(value) {
      Object.defineProperty(this, "stack", { value, writable: true, configurable: true, enumerable: false });
    },
  });

  // What to say about an error that nothing caught, or null when a listener of the program took it.
  const uncaught = (error, promise) => {
    const events = state.listeners === null ? null : need("events");
    if (events !== null && events.dispatchUncaught(error, promise)) return null;
    return need("inspect").describeUncaught(error);
  };

  // --- The rest, by theme -----------------------------------------------------------------------------------------

  define(globalThis, "global", globalThis);
  define(globalThis, "self", globalThis);
  define(globalThis, "navigator", { userAgent: "oauth3", language: "en-US", hardwareConcurrency: 1 });

  lazy(globalThis, "system", "Deno", "process");
  lazy(globalThis, "data", "TextEncoder", "TextDecoder");
  lazy(globalThis, "clone", "atob", "btoa", "structuredClone");
  lazy(globalThis, "blob", "Blob", "File", "FormData");
  lazy(
    globalThis,
    "events",
    "Event",
    "CustomEvent",
    "ErrorEvent",
    "PromiseRejectionEvent",
    "EventTarget",
    "AbortController",
    "AbortSignal",
    "DOMException",
    "addEventListener",
    "removeEventListener",
    "dispatchEvent",
  );
  lazy(globalThis, "url", "URL", "URLSearchParams");
  lazy(
    globalThis,
    "streams",
    "ReadableStream",
    "ReadableStreamDefaultReader",
    "WritableStream",
    "WritableStreamDefaultWriter",
    "TransformStream",
    "TextDecoderStream",
    "TextEncoderStream",
    "CountQueuingStrategy",
    "ByteLengthQueuingStrategy",
  );
  lazy(globalThis, "message", "Headers", "Request", "Response");
  lazy(globalThis, "fetch", "fetch");
  lazy(globalThis, "crypto", "crypto", "Crypto", "CryptoKey", "SubtleCrypto");

  // Objects that have a method of this name show themselves.
  const custom = Symbol.for("Deno.customInspect");

  const shared = { define, lazy, holdTimer, custom, operation, abort, setTimer, clearTimer, print, state };
  return { fire, complete, uncaught };
});
