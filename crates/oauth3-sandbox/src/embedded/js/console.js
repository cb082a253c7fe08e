// The less used methods of the console.
(function (native, need, { print, state }) {
  const { inspect, format } = need("inspect");
  const counts = new Map();
  const starts = new Map();
  const elapsed = (label) => {
    const milliseconds = performance.now() - starts.get(label);
    return milliseconds >= 1000 ? `${(milliseconds / 1000).toFixed(3)}s` : `${Math.round(milliseconds)}ms`;
  };
  const known = (label) => {
    if (starts.has(label)) return true;
    print(2, [`Timer '${label}' does not exist`]);
    return false;
  };

  const group = (...args) => {
    if (args.length > 0) print(1, args);
    state.groups += "  ";
  };
  const trace = (...args) => {
    const head = args.length > 0 ? `Trace: ${format(args)}` : "Trace";
    const frames = new Error().stack.split("\n").slice(1).join("\n");
    print(2, [`${head}\n${frames}`]);
  };

  // A table with one line per entry of `data`, and a column "Values" for entries that are no objects.
  const table = (data, only) => {
    if (typeof data !== "object" || data === null) return print(1, [data]);
    const isMap = data instanceof Map;
    const isSet = data instanceof Set;
    const rows = isMap
      ? [...data.values()].map((value, index) => [index, value])
      : isSet
      ? [...data].map((value, index) => [index, value])
      : Object.entries(data);
    const keys = isMap ? [...data.keys()] : null;
    const columns = [];
    let hasValues = false;
    for (const [, value] of rows) {
      if (typeof value !== "object" || value === null) hasValues = true;
      else for (const key of Object.keys(value)) if (!columns.includes(key)) columns.push(key);
    }
    const shown = only ?? columns;
    const show = (value) => inspect(value, { depth: 1 });
    const head = [
      isMap || isSet ? "(iter idx)" : "(idx)",
      ...(isMap ? ["Key"] : []),
      ...shown,
      ...(hasValues ? ["Values"] : []),
    ];
    const body = rows.map(([key, value], row) => {
      const isObject = typeof value === "object" && value !== null;
      return [
        String(key),
        ...(isMap ? [show(keys[row])] : []),
        ...shown.map((column) => (isObject && Object.hasOwn(value, column) ? show(value[column]) : "")),
        ...(hasValues ? [isObject ? "" : show(value)] : []),
      ];
    });
    const widths = head.map((name, column) => Math.max(name.length, ...body.map((line) => line[column].length)));
    const numeric = head.map((_, column) => body.every((line) => /^-?[\d.]+$/.test(line[column])));
    const rule = (left, middle, right) => left + widths.map((width) => "─".repeat(width + 2)).join(middle) + right;
    const line = (cells, right) =>
      `│${
        cells.map((cell, column) => ` ${right[column] ? cell.padStart(widths[column]) : cell.padEnd(widths[column])} `)
          .join("│")
      }│`;
    const lines = [
      rule("┌", "┬", "┐"),
      line(head, []),
      rule("├", "┼", "┤"),
      ...body.map((cells) => line(cells, numeric)),
      rule("└", "┴", "┘"),
    ];
    print(1, [lines.join("\n")]);
  };

  return {
    assert(condition, ...args) {
      if (condition) return;
      if (args.length === 0) print(2, ["Assertion failed"]);
      else if (typeof args[0] === "string") print(2, [`Assertion failed: ${args[0]}`, ...args.slice(1)]);
      else print(2, ["Assertion failed:", ...args]);
    },
    clear() {},
    count(label = "default") {
      counts.set(`${label}`, (counts.get(`${label}`) ?? 0) + 1);
      print(1, [`${label}: ${counts.get(`${label}`)}`]);
    },
    countReset(label = "default") {
      counts.delete(`${label}`);
    },
    dir: (value, options) => print(1, [inspect(value, options)]),
    dirxml: (...args) => print(1, args),
    group,
    groupCollapsed: group,
    groupEnd() {
      state.groups = state.groups.slice(2);
    },
    table,
    time(label = "default") {
      starts.set(`${label}`, performance.now());
    },
    timeLog(label = "default", ...args) {
      if (known(`${label}`)) print(1, [`${label}: ${elapsed(`${label}`)}`, ...args]);
    },
    timeEnd(label = "default") {
      if (!known(`${label}`)) return;
      print(1, [`${label}: ${elapsed(`${label}`)}`]);
      starts.delete(`${label}`);
    },
    timeStamp() {},
    trace,
  };
});
