// Streams: enough of the standard for bodies, pipes and hand-made streams. Byte streams are ordinary streams of
// Uint8Array here; a BYOB reader is not there.
(function (native, need, { define }) {
  const deferred = () => Promise.withResolvers();
  const quiet = (promise) => (promise.catch(() => {}), promise);
  const sizeOf = (strategy, chunk) => (typeof strategy?.size === "function" ? strategy.size(chunk) : 1);

  // --- Reading ------------------------------------------------------------------------------------------------------

  // What a stream keeps: kept apart, so that readers and pipes of this file can reach it.
  const inner = new WeakMap();

  class ReadableStreamDefaultController {
    #state;
    constructor(state) {
      this.#state = state;
    }
    get desiredSize() {
      const { status, strategy, size } = this.#state;
      return status === "errored" ? null : status === "closed" ? 0 : (strategy?.highWaterMark ?? 1) - size;
    }
    enqueue(chunk) {
      const state = this.#state;
      if (state.status !== "readable" || state.closing) {
        throw new TypeError("The stream controller cannot close or enqueue");
      }
      const read = state.reads.shift();
      if (read !== undefined) {
        read.resolve({ value: chunk, done: false });
      } else {
        const size = sizeOf(state.strategy, chunk);
        state.queue.push({ chunk, size });
        state.size += size;
      }
      pull(state);
    }
    close() {
      const state = this.#state;
      if (state.status !== "readable" || state.closing) {
        throw new TypeError("The stream controller cannot close or enqueue");
      }
      state.closing = true;
      if (state.queue.length === 0) close(state);
    }
    error(reason) {
      fail(this.#state, reason);
    }
  }

  const close = (state) => {
    if (state.status !== "readable") return;
    state.status = "closed";
    for (const read of state.reads.splice(0)) read.resolve({ value: undefined, done: true });
    state.closed.resolve();
  };
  const fail = (state, reason) => {
    if (state.status !== "readable") return;
    state.status = "errored";
    state.reason = reason;
    state.queue = [];
    for (const read of state.reads.splice(0)) read.reject(reason);
    state.closed.reject(reason);
  };
  const pull = (state) => {
    if (state.status !== "readable" || state.closing || !state.started || typeof state.source.pull !== "function") {
      return;
    }
    if (state.reads.length === 0 && state.controller.desiredSize <= 0) return;
    if (state.pulling) {
      state.again = true;
      return;
    }
    state.pulling = true;
    let pulled;
    try {
      pulled = Promise.resolve(state.source.pull(state.controller));
    } catch (error) {
      pulled = Promise.reject(error);
    }
    pulled.then(() => {
      state.pulling = false;
      if (state.again) {
        state.again = false;
        pull(state);
      }
    }, (error) => fail(state, error));
  };
  const read = (state) => {
    state.disturbed = true;
    if (state.queue.length > 0) {
      const { chunk, size } = state.queue.shift();
      state.size -= size;
      if (state.closing && state.queue.length === 0) close(state);
      else pull(state);
      return Promise.resolve({ value: chunk, done: false });
    }
    if (state.status === "closed") return Promise.resolve({ value: undefined, done: true });
    if (state.status === "errored") return Promise.reject(state.reason);
    const next = deferred();
    state.reads.push(next);
    pull(state);
    return next.promise;
  };
  const cancel = async (state, reason) => {
    state.disturbed = true;
    if (state.status === "errored") throw state.reason;
    if (state.status === "closed") return;
    state.queue = [];
    close(state);
    await state.source.cancel?.(reason);
  };

  class ReadableStream {
    constructor(source = {}, strategy = {}) {
      const state = {
        source: source ?? {},
        strategy,
        status: "readable",
        queue: [],
        size: 0,
        reads: [],
        closing: false,
        started: false,
        pulling: false,
        again: false,
        locked: false,
        disturbed: false,
        closed: deferred(),
        reason: undefined,
      };
      quiet(state.closed.promise);
      state.controller = new ReadableStreamDefaultController(state);
      inner.set(this, state);
      const started = state.source.start?.(state.controller);
      Promise.resolve(started).then(() => {
        state.started = true;
        pull(state);
      }, (error) => fail(state, error));
    }

    static from(items) {
      const iterator = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
      return new ReadableStream({
        async pull(controller) {
          const { value, done } = await iterator.next();
          if (done) controller.close();
          else controller.enqueue(await value);
        },
        cancel: async (reason) => void (await iterator.return?.(reason)),
      }, { highWaterMark: 0 });
    }

    get locked() {
      return inner.get(this).locked;
    }
    getReader(options) {
      if (options?.mode !== undefined) throw new TypeError("A BYOB reader is not part of the embedded runtime");
      return new ReadableStreamDefaultReader(this);
    }
    cancel(reason) {
      if (this.locked) return Promise.reject(new TypeError("Cannot cancel a locked ReadableStream."));
      return cancel(inner.get(this), reason);
    }
    async *values({ preventCancel = false } = {}) {
      const reader = this.getReader();
      let ended = false;
      try {
        for (;;) {
          const { value, done } = await reader.read();
          ended = done;
          if (done) return;
          yield value;
        }
      } catch (error) {
        ended = true;
        throw error;
      } finally {
        if (!ended && !preventCancel) await reader.cancel();
        reader.releaseLock();
      }
    }
    [Symbol.asyncIterator](options) {
      return this.values(options);
    }
    tee() {
      const reader = this.getReader();
      const branches = [];
      let canceled = 0;
      const pullBoth = async () => {
        const { value, done } = await reader.read();
        for (const branch of branches) {
          if (branch.canceled) continue;
          if (done) branch.controller.close();
          else branch.controller.enqueue(value);
        }
      };
      const streams = [0, 1].map((index) =>
        new ReadableStream({
          start: (controller) => void (branches[index] = { controller, canceled: false }),
          pull: pullBoth,
          cancel: (reason) => {
            branches[index].canceled = true;
            if (++canceled === 2) return reader.cancel(reason);
          },
        }, { highWaterMark: 0 })
      );
      return streams;
    }
    async pipeTo(target, { preventClose = false, preventAbort = false, preventCancel = false, signal } = {}) {
      const reader = this.getReader();
      const writer = target.getWriter();
      try {
        for (;;) {
          signal?.throwIfAborted();
          await writer.ready;
          let chunk;
          try {
            chunk = await reader.read();
          } catch (error) {
            if (!preventAbort) await writer.abort(error);
            throw error;
          }
          if (chunk.done) break;
          try {
            await writer.write(chunk.value);
          } catch (error) {
            if (!preventCancel) await reader.cancel(error);
            throw error;
          }
        }
        if (!preventClose) await writer.close();
      } catch (error) {
        if (signal?.aborted) {
          if (!preventAbort) await writer.abort(error);
          if (!preventCancel) await reader.cancel(error);
        }
        throw error;
      } finally {
        reader.releaseLock();
        writer.releaseLock();
      }
    }
    pipeThrough({ readable, writable }, options) {
      quiet(this.pipeTo(writable, options));
      return readable;
    }
    get [Symbol.toStringTag]() {
      return "ReadableStream";
    }
  }

  class ReadableStreamDefaultReader {
    #state;
    constructor(stream) {
      const state = inner.get(stream);
      if (state.locked) throw new TypeError("ReadableStream is locked.");
      state.locked = true;
      this.#state = state;
    }
    get #held() {
      if (this.#state === null) throw new TypeError("Reader has no associated stream.");
      return this.#state;
    }
    get closed() {
      return this.#held.closed.promise;
    }
    async read() {
      return read(this.#held);
    }
    async cancel(reason) {
      return cancel(this.#held, reason);
    }
    releaseLock() {
      if (this.#state === null) return;
      for (const next of this.#state.reads.splice(0)) next.reject(new TypeError("The reader was released."));
      this.#state.locked = false;
      this.#state = null;
    }
  }

  // --- Writing ------------------------------------------------------------------------------------------------------

  const sinks = new WeakMap();

  class WritableStream {
    constructor(sink = {}, strategy = {}) {
      const state = {
        sink,
        strategy,
        status: "writable",
        reason: undefined,
        tail: Promise.resolve(),
        locked: false,
        closed: deferred(),
        signal: new AbortController(),
      };
      quiet(state.closed.promise);
      const error = (reason) => {
        if (state.status !== "writable") return;
        state.status = "errored";
        state.reason = reason;
        state.closed.reject(reason);
      };
      state.error = error;
      state.controller = { error, signal: state.signal.signal };
      sinks.set(this, state);
      state.tail = quiet((async () => sink.start?.(state.controller))());
      state.tail.catch(error);
    }
    get locked() {
      return sinks.get(this).locked;
    }
    getWriter() {
      return new WritableStreamDefaultWriter(this);
    }
    abort(reason) {
      return abortSink(sinks.get(this), reason);
    }
    close() {
      return closeSink(sinks.get(this));
    }
    get [Symbol.toStringTag]() {
      return "WritableStream";
    }
  }

  // Work on a sink happens one piece after the other.
  const enqueue = (state, work) => {
    const done = state.tail.then(() => {
      if (state.status === "errored") throw state.reason;
      return work();
    });
    done.catch(state.error);
    state.tail = quiet(done.then(() => {}, () => {}));
    return done;
  };
  const closeSink = (state) => {
    if (state.status !== "writable" || state.closing) {
      return Promise.reject(new TypeError("The stream is closing or closed"));
    }
    state.closing = true;
    return quiet(enqueue(state, async () => {
      await state.sink.close?.();
      state.status = "closed";
      state.closed.resolve();
    }));
  };
  const abortSink = async (state, reason) => {
    if (state.status !== "writable") return;
    state.error(reason);
    state.signal.abort(reason);
    await state.sink.abort?.(reason);
  };

  class WritableStreamDefaultWriter {
    #state;
    constructor(stream) {
      const state = sinks.get(stream);
      if (state.locked) throw new TypeError("WritableStream is locked.");
      state.locked = true;
      this.#state = state;
    }
    get closed() {
      return this.#state.closed.promise;
    }
    get ready() {
      return this.#state.status === "errored" ? quiet(Promise.reject(this.#state.reason)) : this.#state.tail;
    }
    get desiredSize() {
      return this.#state.status === "writable" ? 1 : 0;
    }
    write(chunk) {
      const state = this.#state;
      if (state.closing) return Promise.reject(new TypeError("The stream is closing or closed"));
      return quiet(enqueue(state, () => state.sink.write?.(chunk, state.controller)));
    }
    close() {
      return closeSink(this.#state);
    }
    abort(reason) {
      return abortSink(this.#state, reason);
    }
    releaseLock() {
      if (this.#state !== null) this.#state.locked = false;
    }
  }

  // --- Both ---------------------------------------------------------------------------------------------------------

  class TransformStream {
    constructor(transformer = {}) {
      let out;
      let wanted = deferred();
      const readable = new ReadableStream({
        start: (controller) => void (out = controller),
        pull: () => {
          wanted.resolve();
          wanted = deferred();
        },
        cancel: (reason) => transformer.cancel?.(reason),
      }, { highWaterMark: 0 });
      const controller = {
        enqueue: (chunk) => out.enqueue(chunk),
        error: (reason) => out.error(reason),
        terminate: () => out.close(),
        get desiredSize() {
          return out.desiredSize;
        },
      };
      const failing = async (work) => {
        try {
          await work();
        } catch (error) {
          out.error(error);
          throw error;
        }
      };
      const writable = new WritableStream({
        start: () => transformer.start?.(controller),
        write: (chunk) =>
          failing(async () => {
            // A slow reader slows the writer down.
            const state = inner.get(readable);
            if (state.reads.length === 0 && state.status === "readable") await wanted.promise;
            if (typeof transformer.transform === "function") await transformer.transform(chunk, controller);
            else controller.enqueue(chunk);
          }),
        close: () =>
          failing(async () => {
            await transformer.flush?.(controller);
            if (inner.get(readable).status === "readable" && !inner.get(readable).closing) out.close();
          }),
        abort: (reason) => out.error(reason),
      });
      define(this, "readable", readable);
      define(this, "writable", writable);
    }
    get [Symbol.toStringTag]() {
      return "TransformStream";
    }
  }

  class TextDecoderStream extends TransformStream {
    constructor(label, options) {
      const decoder = new TextDecoder(label, options);
      super({
        transform(chunk, controller) {
          const text = decoder.decode(chunk, { stream: true });
          if (text !== "") controller.enqueue(text);
        },
        flush(controller) {
          const text = decoder.decode();
          if (text !== "") controller.enqueue(text);
        },
      });
      define(this, "encoding", decoder.encoding);
    }
  }
  class TextEncoderStream extends TransformStream {
    constructor() {
      const encoder = new TextEncoder();
      super({ transform: (chunk, controller) => controller.enqueue(encoder.encode(chunk)) });
      define(this, "encoding", "utf-8");
    }
  }
  class CountQueuingStrategy {
    constructor({ highWaterMark }) {
      this.highWaterMark = highWaterMark;
    }
    size() {
      return 1;
    }
  }
  class ByteLengthQueuingStrategy {
    constructor({ highWaterMark }) {
      this.highWaterMark = highWaterMark;
    }
    size(chunk) {
      return chunk.byteLength;
    }
  }

  return {
    isDisturbed: (stream) => inner.get(stream).disturbed,
    ReadableStream,
    ReadableStreamDefaultReader,
    WritableStream,
    WritableStreamDefaultWriter,
    TransformStream,
    TextDecoderStream,
    TextEncoderStream,
    CountQueuingStrategy,
    ByteLengthQueuingStrategy,
  };
});
