// Deno and process: the environment, the exit, what a program asks about its surroundings.
(function (native, need, { define, lazy, holdTimer, print }) {
  let variables = null;
  const env = () => variables ??= new Map(native.env());
  const exit = (code) => native.exit(code === undefined ? exitCode : code | 0);
  let exitCode = 0;
  const setExitCode = (code) => {
    exitCode = code === undefined ? 0 : code | 0;
    native.exitCode(exitCode);
  };

  const Deno = {
    args: [],
    build: {
      target: "x86_64-unknown-linux-gnu",
      arch: "x86_64",
      os: "linux",
      vendor: "unknown",
      env: "gnu",
      standalone: false,
    },
    version: { deno: "2.0.0", v8: "quickjs", typescript: "5.9.0" },
    pid: 1,
    noColor: true,
    mainModule: "file:///skill/main.ts",
    env: {
      get: (name) => env().get(String(name)),
      has: (name) => env().has(String(name)),
      set: (name, value) => void env().set(String(name), String(value)),
      delete: (name) => void env().delete(String(name)),
      toObject: () => Object.fromEntries(env()),
    },
    exit,
    get exitCode() {
      return exitCode;
    },
    set exitCode(code) {
      setExitCode(code);
    },
    cwd: () => "/tmp",
    inspect: (value, options) => need("inspect").inspect(value, options),
    unrefTimer: (id) => holdTimer(id, false),
    refTimer: (id) => holdTimer(id, true),
    memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0 }),
    addSignalListener() {},
    removeSignalListener() {},
  };
  // What is left out says so.
  for (
    const name of [
      "Command",
      "serve",
      "listen",
      "connect",
      "connectTls",
      "startTls",
      "resolveDns",
      "openKv",
      "open",
      "openSync",
      "create",
      "readDir",
      "readDirSync",
      "stat",
      "statSync",
      "lstat",
      "mkdir",
      "mkdirSync",
      "rename",
      "copyFile",
      "makeTempFile",
      "makeTempDir",
      "watchFs",
      "test",
      "bench",
      "dlopen",
    ]
  ) {
    define(Deno, name, function () {
      throw new Error(`Deno.${name} is not part of the embedded runtime. Use runtime deno.`);
    });
  }
  lazy(
    Deno,
    "files",
    "errors",
    "readFile",
    "readFileSync",
    "readTextFile",
    "readTextFileSync",
    "writeFile",
    "writeFileSync",
    "writeTextFile",
    "writeTextFileSync",
    "remove",
    "removeSync",
    "stdout",
    "stderr",
    "stdin",
    "permissions",
  );

  const process = {
    argv: ["/usr/bin/oauth3", "/skill/main.ts"],
    execArgv: [],
    version: "v20.0.0",
    versions: { node: "20.0.0", quickjs: "0.16" },
    platform: "linux",
    arch: "x64",
    pid: 1,
    exit,
    get exitCode() {
      return exitCode === 0 ? undefined : exitCode;
    },
    set exitCode(code) {
      setExitCode(code);
    },
    cwd: () => "/tmp",
    uptime: () => performance.now() / 1000,
    nextTick: (callback, ...args) => queueMicrotask(() => callback(...args)),
    hrtime: Object.assign(() => {
      const now = performance.now();
      return [Math.floor(now / 1000), Math.floor((now % 1000) * 1e6)];
    }, { bigint: () => BigInt(Math.floor(performance.now() * 1e6)) }),
    memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }),
    on: () => process,
    once: () => process,
    off: () => process,
    emitWarning: (warning) => print(2, [String(warning)]),
  };
  // Reads and writes go to the same variables as Deno.env.
  Object.defineProperty(process, "env", {
    configurable: true,
    enumerable: true,
    get() {
      const value = new Proxy({}, {
        get: (_, name) => (typeof name === "string" ? env().get(name) : undefined),
        set: (_, name, value) => (env().set(String(name), String(value)), true),
        has: (_, name) => env().has(name),
        deleteProperty: (_, name) => (env().delete(name), true),
        ownKeys: () => [...env().keys()],
        getOwnPropertyDescriptor: (_, name) =>
          env().has(name)
            ? { value: env().get(name), writable: true, enumerable: true, configurable: true }
            : undefined,
      });
      Object.defineProperty(process, "env", { value, configurable: true, enumerable: true, writable: true });
      return value;
    },
  });
  const nodeStream = (number) => ({
    isTTY: false,
    columns: 80,
    fd: number,
    write(chunk, encoding, done) {
      if (typeof chunk === "string") native.write(number, chunk.toWellFormed());
      else native.writeBytes(number, need("data").bytesOf(chunk));
      const callback = typeof encoding === "function" ? encoding : done;
      if (typeof callback === "function") queueMicrotask(() => callback());
      return true;
    },
    on() {
      return this;
    },
    once() {
      return this;
    },
    end() {},
  });
  for (const [name, number] of [["stdout", 1], ["stderr", 2]]) {
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: true,
      get() {
        const value = nodeStream(number);
        Object.defineProperty(process, name, { value, configurable: true, enumerable: true });
        return value;
      },
    });
  }
  define(process, Symbol.toStringTag, "process");

  return { Deno, process };
});
