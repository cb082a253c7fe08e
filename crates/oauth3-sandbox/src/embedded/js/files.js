// The files of Deno, as far as a private /tmp needs them, and the standard streams.
(function (native, need, { define }) {
  const { bytesOf } = need("data");
  const errors = {};
  for (const name of ["NotFound", "PermissionDenied", "AlreadyExists", "IsADirectory"]) {
    errors[name] = {
      [name]: class extends Error {
        constructor(message, options) {
          super(message, options);
          define(this, "name", name);
        }
      },
    }[name];
  }

  const pathOf = (path) => {
    if (path instanceof URL) {
      if (path.protocol !== "file:") throw new TypeError("Must be a file URL.");
      return decodeURIComponent(path.pathname);
    }
    return String(path).toWellFormed();
  };
  // Errors of the host begin with the name of their class.
  const attempt = (work, ...args) => {
    try {
      return work(...args);
    } catch (error) {
      const [, name, message] = /^(\w+): (.*)$/s.exec(error.message) ?? [];
      if (name === undefined) throw error;
      throw new (errors[name] ?? Error)(message);
    }
  };

  const readFileSync = (path) => attempt(native.readFile, pathOf(path));
  const readTextFileSync = (path) => new TextDecoder().decode(readFileSync(path));
  const writeFileSync = (path, data, options) =>
    attempt(native.writeFile, pathOf(path), bytesOf(data), options?.append === true);
  const writeTextFileSync = (path, text, options) =>
    writeFileSync(path, new TextEncoder().encode(String(text)), options);
  const removeSync = (path) => attempt(native.removeFile, pathOf(path));

  const output = (number) => {
    const writeSync = (bytes) => (native.writeBytes(number, bytesOf(bytes)), bytes.byteLength);
    return {
      writeSync,
      write: async (bytes) => writeSync(bytes),
      isTerminal: () => false,
      close() {},
      get writable() {
        return new WritableStream({ write: (chunk) => void writeSync(chunk) });
      },
    };
  };

  return {
    errors,
    readFileSync,
    readFile: async (path) => readFileSync(path),
    readTextFileSync,
    readTextFile: async (path) => readTextFileSync(path),
    writeFileSync,
    writeFile: async (path, data, options) => writeFileSync(path, data, options),
    writeTextFileSync,
    writeTextFile: async (path, text, options) => writeTextFileSync(path, text, options),
    removeSync,
    remove: async (path) => removeSync(path),
    stdout: output(1),
    stderr: output(2),
    stdin: {
      read: async () => null,
      readSync: () => null,
      isTerminal: () => false,
      close() {},
      get readable() {
        return new ReadableStream({ start: (controller) => controller.close() });
      },
    },
    permissions: { query: async () => ({ state: "granted" }), request: async () => ({ state: "granted" }) },
  };
});
