console.log("%%", 1);
console.log("100%%");
console.log(
  "%s %d %i %f %j %o %O %c x",
  "a",
  "42.5",
  42.9,
  "1.5",
  { a: 1 },
  [1, { b: 2 }],
  { c: { d: {} } },
  "css",
);
console.log("%s", { a: { b: 1 } }, "%s %d", Symbol("q"), 5n);
console.log("%d %i", "abc", {});
console.log("%s %s", "only");
console.log("%s %s", null, undefined, class A {}, -0);
console.log("%s", [1, [2, [3]]], new Error("x").message);
console.log([
  1.5,
  -0,
  NaN,
  Infinity,
  1n,
  true,
  null,
  undefined,
  Symbol("s"),
  "str'q",
  'dq"',
  `both'"`,
  "a\nb",
  "tab\t\\",
]);
console.log({
  "a-b": 1,
  2: 3,
  f() {},
  g: () => {},
  async h() {},
  *i() {},
  async *j() {},
  C: class {},
  D: class Foo extends Map {},
  [Symbol("k")]: 1,
  get x() {
    return 1;
  },
  set y(v) {},
  get z() {
    return 1;
  },
  set z(v) {},
});
console.log([, 1, , , 2], [undefined], new Array(5), []);
console.log({}, Object.create(null), Object.assign(Object.create(null), { a: 1 }));
class P {
  constructor() {
    this.x = 1;
  }
}
class Q extends P {}
console.log(new P(), new Q(), [new P()], { p: new Q() }, new (class {})());
console.log(
  new Map([[{ a: 1 }, new Set([1, [2]])], ["k", new Map()]]),
  new Set(),
  new WeakMap(),
  new WeakSet(),
);
const c: any = { name: "c", list: [] };
c.self = c;
c.list.push(c);
console.log(c);
console.log(new Date(0), [new Date(NaN)], /re/g, [/x/i]);
console.log(Promise.resolve(1), Promise.reject(new Error("no")).catch(() => {}) && 1, new Promise(() => {}), {
  p: Promise.resolve({ a: 1 }),
});
console.log(
  new Uint8Array([1, 2, 3]),
  new Float64Array(2),
  new ArrayBuffer(4),
  new DataView(new ArrayBuffer(2)),
);
console.log(Array.from({ length: 120 }, (_, i) => i));
console.log(Array.from({ length: 30 }, (_, i) => "item" + i));
console.log(Array.from({ length: 7 }, (_, i) => "x".repeat(i)));
console.log(Array.from({ length: 27 }, (_, i) => ({ id: i })));
console.log(new Set(Array.from({ length: 120 }, (_, i) => i)).size, "x".repeat(5), ["x".repeat(100), "y"]);
console.log({ a: "x".repeat(60), b: "y".repeat(20), c: 1 });
console.log({ a: { b: { c: { d: { e: { f: 1 } } } } } }, [[[[[[1]]]]]]);
console.log(new Number(1), new String("s"), new Boolean(false), Object(Symbol("z")), Object(1n));
console.log([null, undefined, function named() {}, () => {}, class X {}, Math.max, console.log]);
console.log({
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1700000000,
  model: "gpt-4",
  choices: [{
    index: 0,
    message: { role: "assistant", content: "Hello! How can I help you today?" },
    logprobs: null,
    finish_reason: "stop",
  }],
  usage: {
    prompt_tokens: 9,
    completion_tokens: 9,
    total_tokens: 18,
    details: { cached: 0, deep: { x: [1, { y: 2 }] } },
  },
});
console.log([{ a: 1, b: 2 }, { a: 3, b: 4 }], [["a", 1], ["b", 2]], { x: [], y: {}, z: [[]] });
console.log(new Headers({ a: "b", "Content-Type": "x" }), new URLSearchParams("a=1&b=2"));
console.log(new URL("https://u:p@ex.com:81/p?q=1#h"));
console.log("a", 1, "b", null, undefined, true, ["s"], -0, 1n);
console.log();
console.log("");
console.log(undefined);
console.log(" lead", "  two");
const o = {
  toString() {
    return "custom";
  },
  [Symbol.toStringTag]: "Tagged",
};
console.log(o, `${o}`);
console.log(Object.assign(() => {}, { a: 1 }), Object.assign(function nm() {}, { b: 2 }));
console.log({ e: new Map([["deep", { a: { b: { c: {} } } }]]) });
console.log(process.argv.length > 0, typeof process.env, Deno.args);
console.log(new Proxy({ a: 1 }, {}), new Proxy([1], {}), new Proxy(() => {}, {}));
console.log(["a".repeat(20), "b".repeat(20), "c".repeat(20), "d".repeat(20)], [
  1.25,
  22.5,
  333.125,
  4,
  5,
  6,
  7,
]);
console.log({ k: "line1\nline2", emoji: "é😀", ctl: "\x00\x1b" });
console.log(new Blob(["abc"], { type: "text/plain" }), new AbortController().signal, new Event("x").type);
