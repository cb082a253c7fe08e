// How values look when they are printed: the layout that Deno and Node share.
(function (native, need, { custom }) {
  const BREAK_LENGTH = 80; // columns
  const COMPACT = 3; // levels of nesting that may share a line
  const ITEMS_MAX = 100; // entries of one array, map or set
  const STRING_MAX = 10000; // characters of one string inside an object
  const DEPTH = 4; // levels of nesting
  const IDENTIFIER = /^[a-zA-Z_][a-zA-Z_0-9]*$/;
  const nodeCustom = Symbol.for("nodejs.util.inspect.custom");

  const ESCAPES = { "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\" };
  const quote = (text) => {
    const mark = ['"', "'", "`"].find((mark) => !text.includes(mark)) ?? '"';
    const escaped = text.replace(/[\b\f\n\r\t\v\\]/g, (c) => ESCAPES[c])
      .replace(/[\x00-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
    return mark + (mark === '"' && text.includes('"') ? escaped.replaceAll('"', '\\"') : escaped) + mark;
  };

  const primitive = (value, context) => {
    switch (typeof value) {
      case "string": {
        const rest = value.length - STRING_MAX;
        return rest > 0 && context.depthNow > 0
          ? `${quote(value.slice(0, STRING_MAX))}... ${rest} more character${rest === 1 ? "" : "s"}`
          : quote(value);
      }
      case "number":
        return Object.is(value, -0) ? "-0" : `${value}`;
      case "bigint":
        return `${value}n`;
      default:
        return String(value);
    }
  };

  // The name of the class of an object; null for one without any.
  const constructorOf = (value) => {
    for (let proto = value; proto !== null; proto = Object.getPrototypeOf(proto)) {
      const own = Object.getOwnPropertyDescriptor(proto, "constructor");
      if (own !== undefined && typeof own.value === "function" && value instanceof own.value) {
        return own.value.name;
      }
    }
    return null;
  };
  const tagOf = (value, name) => {
    let tag;
    try {
      tag = value[Symbol.toStringTag];
    } catch {
      return "";
    }
    return typeof tag !== "string" || tag === "" || tag === name ? "" : tag;
  };
  const prefix = (name, tag, fallback, size = "") => {
    if (name === null) {
      return `[${fallback}${size}: null prototype]${tag !== "" && tag !== fallback ? ` [${tag}]` : ""} `;
    }
    return `${name}${size}${tag === "" ? "" : ` [${tag}]`} `.trimStart();
  };

  const functionBase = (value, name, tag) => {
    const source = Function.prototype.toString.call(value);
    if (source.startsWith("class") && source.endsWith("}")) {
      const parent = Object.getPrototypeOf(value);
      const own = Object.hasOwn(value, "name") && value.name !== "" ? ` ${value.name}` : " (anonymous)";
      return `[class${own}${parent?.name ? ` extends ${parent.name}` : ""}]`;
    }
    const type = ["AsyncFunction", "GeneratorFunction", "AsyncGeneratorFunction"].includes(tag)
      ? tag
      : ["AsyncFunction", "GeneratorFunction", "AsyncGeneratorFunction"].includes(name)
      ? name
      : "Function";
    const label = typeof value.name === "string" && value.name !== "" ? `: ${value.name}` : " (anonymous)";
    return `[${type}${name === null ? " (null prototype)" : ""}${label}]`;
  };

  const keysOf = (value) => {
    const symbols = Object.getOwnPropertySymbols(value).filter((key) =>
      Object.prototype.propertyIsEnumerable.call(value, key)
    );
    return [...Object.keys(value), ...symbols];
  };

  // Arrays with many short entries become columns.
  const columns = (output, context, value) => {
    const extra = value.length > ITEMS_MAX ? 1 : 0;
    const count = output.length - extra;
    let total = 0;
    let longest = 0;
    const lengths = [];
    for (let i = 0; i < count; i++) {
      const length = output[i].length;
      lengths.push(length);
      total += length + 2;
      longest = Math.max(longest, length);
    }
    const width = longest + 2;
    if (width * 3 + context.indent >= BREAK_LENGTH || !(total / width > 5 || longest <= 6)) return output;
    // About a square, with characters 2.5 times as high as wide, and more columns for short entries.
    const biased = Math.max(width - 3 - Math.sqrt(width - total / output.length), 1);
    const number = Math.min(
      Math.round(Math.sqrt(2.5 * biased * count) / biased),
      Math.floor((BREAK_LENGTH - context.indent) / width),
      COMPACT * 4,
      15,
    );
    if (number <= 1) return output;
    const widths = [];
    for (let column = 0; column < number; column++) {
      let most = 0;
      for (let i = column; i < count; i += number) most = Math.max(most, lengths[i]);
      widths.push(most + 2);
    }
    const right = value.every((item) => typeof item === "number" || typeof item === "bigint");
    const rows = [];
    for (let i = 0; i < count; i += number) {
      const last = Math.min(i + number, count);
      let row = "";
      for (let j = i; j < last; j++) {
        const end = j === last - 1;
        const cell = end ? output[j] : `${output[j]}, `;
        const size = widths[j - i] - (end ? 2 : 0);
        row += right ? cell.padStart(size) : end ? cell : cell.padEnd(size);
      }
      rows.push(row);
    }
    if (extra > 0) rows.push(output[count]);
    return rows;
  };

  // One line when it fits, else one line for each entry.
  const join = (output, base, open, close, context, level, array) => {
    let entries = output;
    if (array !== null && output.length > 6) entries = columns(output, context, array);
    const head = base === "" ? "" : `${base} `;
    if (context.depthNow - level < COMPACT && entries.length === output.length) {
      const start = output.length + context.indent + open.length + base.length + 10;
      const total = entries.reduce((sum, entry) => sum + entry.length, entries.length + start);
      if (total + entries.length <= BREAK_LENGTH + entries.length && !base.includes("\n")) {
        const line = entries.join(", ");
        if (!line.includes("\n")) return `${head}${open} ${line} ${close}`;
      }
    }
    const indent = `\n${" ".repeat(context.indent)}`;
    return `${head}${open}${indent}  ${entries.join(`,${indent}  `)}${indent}${close}`;
  };

  const property = (object, key, context, level) => {
    const own = Object.getOwnPropertyDescriptor(object, key);
    let text;
    if (own === undefined || own.get === undefined && own.set === undefined) {
      context.indent += 2;
      text = format1(own === undefined ? object[key] : own.value, context, level);
      context.indent -= 2;
    } else {
      text = own.get === undefined ? "[Setter]" : own.set === undefined ? "[Getter]" : "[Getter/Setter]";
    }
    const name = typeof key === "symbol" ? String(key) : IDENTIFIER.test(key) ? key : quote(key);
    return `${name}: ${text}`;
  };

  const more = (rest) => `... ${rest} more item${rest === 1 ? "" : "s"}`;
  const listed = (items, length, context, level, show) => {
    context.indent += 2;
    const output = [];
    let count = 0;
    for (const item of items) {
      if (count++ >= ITEMS_MAX) break;
      output.push(show(item));
    }
    context.indent -= 2;
    if (length > ITEMS_MAX) output.push(more(length - ITEMS_MAX));
    return output;
  };

  const arrayEntries = (array, context, level) => {
    const output = [];
    context.indent += 2;
    let index = 0;
    while (index < array.length && output.length < ITEMS_MAX) {
      if (Object.hasOwn(array, index)) {
        output.push(format1(array[index], context, level));
        index++;
      } else {
        const from = index;
        while (index < array.length && !Object.hasOwn(array, index)) index++;
        output.push(index - from === 1 ? "<1 empty item>" : `<${index - from} empty items>`);
      }
    }
    context.indent -= 2;
    if (index < array.length) output.push(more(array.length - index));
    return output;
  };

  const errorBase = (error, context) => {
    const hasStack = typeof error.stack === "string" && error.stack !== "";
    const text = hasStack ? error.stack : `[${Error.prototype.toString.call(error)}]`;
    return text.replaceAll("\n", `\n${" ".repeat(context.indent)}`);
  };

  const INDEX = /^(0|[1-9][0-9]*)$/;

  // An object: what it is, its braces, its entries, its own properties.
  const formatObject = (value, context, level) => {
    const name = constructorOf(value);
    const tag = tagOf(value, name);
    let keys = keysOf(value);
    let base = "";
    let [open, close] = ["{", "}"];
    let array = null;
    let entries = () => [];
    if (Array.isArray(value)) {
      open = `${name === "Array" && tag === "" ? "" : prefix(name, tag, "Array", `(${value.length})`)}[`;
      close = "]";
      keys = keys.filter((key) => typeof key === "symbol" || !INDEX.test(key));
      if (value.length === 0 && keys.length === 0) return `${open}]`;
      array = value;
      entries = () => arrayEntries(value, context, level);
    } else if (value instanceof Set) {
      open = `${prefix(name, tag, "Set", `(${value.size})`)}{`;
      if (value.size === 0 && keys.length === 0) return `${open}}`;
      entries = () => listed(value, value.size, context, level, (item) => format1(item, context, level));
    } else if (value instanceof Map) {
      open = `${prefix(name, tag, "Map", `(${value.size})`)}{`;
      if (value.size === 0 && keys.length === 0) return `${open}}`;
      entries = () =>
        listed(
          value,
          value.size,
          context,
          level,
          ([key, item]) => `${format1(key, context, level)} => ${format1(item, context, level)}`,
        );
    } else if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
      open = `${prefix(name, tag, "TypedArray", `(${value.length})`)}[`;
      close = "]";
      keys = keys.filter((key) => typeof key === "symbol" || !INDEX.test(key));
      if (value.length === 0 && keys.length === 0) return `${open}]`;
      array = Array.from(value.subarray(0, ITEMS_MAX + 1));
      entries = () => listed(value, value.length, context, level, (item) => primitive(item, context));
    } else if (typeof value === "function") {
      base = functionBase(value, name, tag);
      if (keys.length === 0) return base;
    } else if (value instanceof RegExp) {
      base = RegExp.prototype.toString.call(value);
      if (keys.length === 0) return base;
    } else if (value instanceof Date) {
      base = Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
      if (keys.length === 0) return base;
    } else if (value instanceof Error) {
      keys = keys.filter((key) =>
        key !== "stack" && key !== "message" && !(key === "name" && value.stack?.includes(value.name))
      );
      base = errorBase(value, context);
      // Not enumerable, but a part of the story.
      const hidden = ["cause", "errors"].filter((key) => Object.hasOwn(value, key) && !keys.includes(key));
      entries = () => hidden.map((key) => `[${key}]: ${property(value, key, context, level).slice(key.length + 2)}`);
      if (keys.length === 0 && hidden.length === 0) return base;
    } else if (value instanceof Promise) {
      open = `${prefix(name, tag, "Promise")}{`;
      entries = () => {
        const [status, result] = native.promiseState(value);
        if (status === "pending") return ["<pending>"];
        context.indent += 2;
        const text = format1(result, context, level);
        context.indent -= 2;
        return [status === "rejected" ? `<rejected> ${text}` : text];
      };
    } else if (value instanceof WeakMap || value instanceof WeakSet) {
      open = `${prefix(name, tag, "WeakMap")}{`;
      entries = () => ["<items unknown>"];
    } else if (value instanceof ArrayBuffer) {
      open = `${prefix(name, tag, "ArrayBuffer")}{`;
      entries = () => {
        const shown = Array.from(
          new Uint8Array(value).subarray(0, ITEMS_MAX),
          (byte) => byte.toString(16).padStart(2, "0"),
        );
        const rest = value.byteLength > ITEMS_MAX ? ` ... ${value.byteLength - ITEMS_MAX} more bytes` : "";
        return [`[Uint8Contents]: <${shown.join(" ")}${rest}>`, `byteLength: ${value.byteLength}`];
      };
    } else if (value instanceof DataView) {
      open = `${prefix(name, tag, "DataView")}{`;
      entries = () =>
        ["byteLength", "byteOffset", "buffer"].map((key) => {
          context.indent += 2;
          const text = format1(value[key], context, level);
          context.indent -= 2;
          return `${key}: ${text}`;
        });
    } else if (
      value instanceof Number || value instanceof String || value instanceof Boolean || value instanceof BigInt ||
      value instanceof Symbol
    ) {
      if (value instanceof String) keys = keys.filter((key) => typeof key === "symbol" || !INDEX.test(key));
      base = `[${value.constructor.name}: ${primitive(value.valueOf(), context)}]`;
      if (keys.length === 0) return base;
    } else if (Object.prototype.toString.call(value) === "[object Arguments]") {
      open = "[Arguments] [";
      close = "]";
      array = Array.from(value);
      keys = keys.filter((key) => typeof key === "symbol" || !INDEX.test(key));
      entries = () => arrayEntries(array, context, level);
    } else {
      open = name === "Object" && tag === "" ? "{" : `${prefix(name, tag, "Object")}{`;
      if (keys.length === 0) return `${open}}`;
    }

    if (level > context.depth) {
      const label = prefix(name, tag, Array.isArray(value) ? "Array" : "Object").slice(0, -1);
      return name === null ? label : `[${label}]`;
    }
    context.seen.push(value);
    context.depthNow = level;
    const output = [...entries(), ...keys.map((key) => property(value, key, context, level))];
    context.seen.pop();
    const reference = context.circular.get(value);
    if (reference !== undefined) {
      const mark = `<ref *${reference}>`;
      if (base === "") open = `${mark} ${open}`;
      else base = `${mark} ${base}`;
    }
    return join(output, base, open, close, context, level, array);
  };

  // A value at a level; entries of lists come here with the level of their list.
  const format1 = (value, context, level) => formatAt(value, context, level + 1);
  const formatAt = (value, context, level) => {
    if (value === null || (typeof value !== "object" && typeof value !== "function")) return primitive(value, context);
    const own = value[custom] ?? value[nodeCustom];
    if (typeof own === "function" && own !== inspect) {
      const nested = (inner, options) =>
        inspect(inner, { ...options, depth: context.depth - level, indent: context.indent });
      const shown = value[custom] === own
        ? own.call(value, nested, { depth: context.depth })
        : own.call(value, context.depth - level, {}, nested);
      return typeof shown === "string" ? shown : formatAt(shown, context, level);
    }
    if (context.seen.includes(value)) {
      if (!context.circular.has(value)) context.circular.set(value, context.circular.size + 1);
      return `[Circular *${context.circular.get(value)}]`;
    }
    return formatObject(value, context, level);
  };

  const inspect = (value, options = {}) => {
    const context = {
      depth: options?.depth ?? DEPTH,
      indent: options?.indent ?? 0,
      depthNow: 0,
      seen: [],
      circular: new Map(),
    };
    if (options?.depth === null) context.depth = Infinity;
    return formatAt(value, context, 0).toWellFormed();
  };

  const number = (
    value,
    parse,
  ) => (typeof value === "bigint" ? `${value}n` : typeof value === "symbol" ? "NaN" : `${parse(value)}`);

  // The arguments of one call of console.log as text.
  const format = (args) => {
    let next = 0;
    let text = "";
    if (typeof args[0] === "string" && args.length > 1) {
      next = 1;
      text = args[0].replace(/%[sdifoOjc%]/g, (directive) => {
        if (directive === "%%") return "%";
        if (next >= args.length) return directive;
        const value = args[next++];
        switch (directive) {
          case "%s":
            return typeof value === "string" || (typeof value === "object" && value !== null)
              ? String(value)
              : inspect(value);
          case "%d":
          case "%i":
            return number(value, (v) => (typeof v === "object" ? NaN : parseInt(v, 10)));
          case "%f":
            return number(value, (v) => (typeof v === "object" ? NaN : parseFloat(v)));
          case "%j":
            return JSON.stringify(value);
          case "%c":
            return "";
          default:
            return inspect(value);
        }
      });
    } else if (typeof args[0] === "string") {
      next = 1;
      text = args[0];
    }
    for (; next < args.length; next++) {
      const value = args[next];
      text += `${next === 0 ? "" : " "}${typeof value === "string" ? value : inspect(value)}`;
    }
    return text.toWellFormed();
  };

  const describeUncaught = (error) => (typeof error === "string" ? quote(error.toWellFormed()) : inspect(error));

  return { inspect, format, describeUncaught, custom };
});
