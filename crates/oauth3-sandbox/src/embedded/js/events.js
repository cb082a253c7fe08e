// Events, and the signals that abort work.
(function (native, need, { define, custom, setTimer, state }) {
  const CODES = {
    IndexSizeError: 1,
    NotFoundError: 8,
    NotSupportedError: 9,
    InvalidStateError: 11,
    SyntaxError: 12,
    InvalidAccessError: 15,
    TypeMismatchError: 17,
    NetworkError: 19,
    AbortError: 20,
    URLMismatchError: 21,
    QuotaExceededError: 22,
    TimeoutError: 23,
    DataCloneError: 25,
    InvalidCharacterError: 5,
  };

  class DOMException extends Error {
    constructor(message = "", name = "Error") {
      super(message);
      define(this, "name", typeof name === "object" ? String(name?.name ?? "Error") : String(name));
      if (typeof name === "object" && name !== null && "cause" in name) define(this, "cause", name.cause);
      define(this, "code", CODES[this.name] ?? 0);
    }
    get [Symbol.toStringTag]() {
      return "DOMException";
    }
  }

  class Event {
    #type;
    #cancelable;
    constructor(type, { bubbles = false, cancelable = false, composed = false } = {}) {
      if (arguments.length === 0) throw new TypeError("1 argument required, but only 0 present");
      this.#type = String(type);
      this.#cancelable = !!cancelable;
      this.bubbles = !!bubbles;
      this.composed = !!composed;
      this.defaultPrevented = false;
      this.target = null;
      this.currentTarget = null;
      this.eventPhase = 0;
      this.timeStamp = performance.now();
      define(this, "stopped", false);
    }
    get type() {
      return this.#type;
    }
    get cancelable() {
      return this.#cancelable;
    }
    preventDefault() {
      if (this.#cancelable) this.defaultPrevented = true;
    }
    stopPropagation() {}
    stopImmediatePropagation() {
      this.stopped = true;
    }
    composedPath() {
      return this.target === null ? [] : [this.target];
    }
  }
  class CustomEvent extends Event {
    constructor(type, init = {}) {
      super(type, init);
      this.detail = init.detail ?? null;
    }
  }
  class ErrorEvent extends Event {
    constructor(type, init = {}) {
      super(type, init);
      this.message = init.message ?? "";
      this.error = init.error;
    }
  }
  class PromiseRejectionEvent extends Event {
    constructor(type, init) {
      super(type, init);
      this.promise = init.promise;
      this.reason = init.reason;
    }
  }

  class EventTarget {
    #listeners = new Map();

    addEventListener(type, listener, options) {
      if (listener === null || listener === undefined) return;
      const { once = false, signal } = typeof options === "object" && options !== null ? options : {};
      if (signal?.aborted) return;
      const list = this.#listeners.get(type) ?? [];
      if (list.some((entry) => entry.listener === listener)) return;
      this.#listeners.set(type, [...list, { listener, once }]);
      signal?.addEventListener("abort", () => this.removeEventListener(type, listener), { once: true });
    }

    removeEventListener(type, listener) {
      const list = this.#listeners.get(type);
      if (list !== undefined) this.#listeners.set(type, list.filter((entry) => entry.listener !== listener));
    }

    dispatchEvent(event) {
      if (!(event instanceof Event)) throw new TypeError("The argument is no Event");
      event.target = this;
      event.currentTarget = this;
      const handler = this[`on${event.type}`];
      const list = this.#listeners.get(event.type) ?? [];
      const entries = typeof handler === "function" ? [{ listener: handler, once: false }, ...list] : list;
      for (const { listener, once } of entries) {
        if (once) this.removeEventListener(event.type, listener);
        if (typeof listener === "function") listener.call(this, event);
        else listener.handleEvent(event);
        if (event.stopped) break;
      }
      event.currentTarget = null;
      return !event.defaultPrevented;
    }
  }

  // --- Signals ------------------------------------------------------------------------------------------------------

  const token = Symbol("signal");
  const signalAbort = (signal, reason) => {
    if (signal.aborted) return;
    setSignal(signal, reason ?? new DOMException("The signal has been aborted", "AbortError"));
    signal.dispatchEvent(new Event("abort"));
  };
  let setSignal;

  class AbortSignal extends EventTarget {
    #aborted = false;
    #reason = undefined;
    static {
      setSignal = (signal, reason) => {
        signal.#aborted = true;
        signal.#reason = reason;
      };
    }
    constructor(given) {
      if (given !== token) throw new TypeError("Illegal constructor");
      super();
      define(this, "onabort", null);
    }
    get aborted() {
      return this.#aborted;
    }
    get reason() {
      return this.#reason;
    }
    throwIfAborted() {
      if (this.#aborted) throw this.#reason;
    }
    static abort(reason) {
      const signal = new AbortSignal(token);
      signalAbort(signal, reason);
      return signal;
    }
    static timeout(milliseconds) {
      const signal = new AbortSignal(token);
      const expire = () => signalAbort(signal, new DOMException("Signal timed out.", "TimeoutError"));
      // It does not keep the program alive.
      setTimer(expire, milliseconds, [], false, false);
      return signal;
    }
    static any(signals) {
      const signal = new AbortSignal(token);
      for (const source of signals) {
        if (source.aborted) {
          signalAbort(signal, source.reason);
          break;
        }
        source.addEventListener("abort", () => signalAbort(signal, source.reason), { once: true });
      }
      return signal;
    }
    get [Symbol.toStringTag]() {
      return "AbortSignal";
    }
    [custom](inspect) {
      return `AbortSignal ${inspect({ aborted: this.aborted, reason: this.reason, onabort: this.onabort })}`;
    }
  }

  class AbortController {
    #signal = new AbortSignal(token);
    get signal() {
      return this.#signal;
    }
    abort(reason) {
      signalAbort(this.#signal, reason);
    }
    get [Symbol.toStringTag]() {
      return "AbortController";
    }
    [custom](inspect) {
      return `AbortController ${inspect({ signal: this.signal })}`;
    }
  }

  // --- Events of the program itself ------------------------------------------------------------------------------------

  const world = new EventTarget();
  const addEventListener = (type, listener, options) => {
    state.listeners = world;
    world.addEventListener(type, listener, options);
  };
  // Offers an error that nothing caught to the listeners; whether one of them took it.
  const dispatchUncaught = (error, promise) => {
    const event = promise === undefined || promise === null
      ? new ErrorEvent("error", { cancelable: true, error, message: String(error?.message ?? error) })
      : new PromiseRejectionEvent("unhandledrejection", { cancelable: true, promise, reason: error });
    world.dispatchEvent(event);
    return event.defaultPrevented;
  };

  return {
    DOMException,
    Event,
    CustomEvent,
    ErrorEvent,
    PromiseRejectionEvent,
    EventTarget,
    AbortController,
    AbortSignal,
    addEventListener,
    removeEventListener: (type, listener) => world.removeEventListener(type, listener),
    dispatchEvent: (event) => world.dispatchEvent(event),
    dispatchUncaught,
  };
});
