const show = (e: any) => console.log(e.name, "|", e.message, "|", e.stack.split("\n")[0]);
class MyErr extends Error {
  code = "X";
  constructor(m: string) {
    super(m);
    this.name = "MyErr";
  }
}
show(new MyErr("mine"));
show(new DOMException("dom", "AbortError"));
for (
  const f of [
    () => (undefined as any).x,
    () => (globalThis as any).nope(),
    () => new Array(-1),
    () => JSON.parse("{bad"),
    () => decodeURIComponent("%"),
    () => BigInt("x"),
    () => {
      throw new TypeError("own");
    },
  ]
) {
  try {
    f();
  } catch (e) {
    console.log((e as Error).name, (e as Error).stack!.includes("\n    at "));
  }
}
const bare = new Error("bare");
bare.stack = undefined;
console.log(bare, [bare]);
const given = Object.assign(new Error("props"), { status: 404, data: { a: 1 } });
given.stack = "Error: props\n    at there";
console.log(given);
console.log({ given });
const chain = new Error("outer", { cause: bare });
chain.stack = "Error: outer\n    at here";
console.log(chain);
const both = new AggregateError([bare, bare], "agg");
both.stack = "AggregateError: agg\n    at here";
console.log(both);
console.log(Error("x") instanceof Error, new Error("m", { cause: 1 }).cause, String(new RangeError("r")));
