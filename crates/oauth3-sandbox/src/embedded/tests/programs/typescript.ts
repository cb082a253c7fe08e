enum Color {
  Red,
  Green = 5,
  Blue,
}
namespace NS {
  export const v = 1;
}
class PP {
  constructor(private x: number, readonly y = 2) {}
  sum() {
    return this.x + this.y;
  }
}
abstract class AB<T> {
  declare z: T;
  abstract q(): void;
}
const sat = { a: 1 } satisfies object;
const as1 = <any> sat as unknown as number;
type X = string;
function over(a: string): void;
function over(a: any) {}
let nn!: number;
const id = <T>(x: T): T => x;
console.log(
  Color.Blue,
  Color[5],
  NS.v,
  new PP(1).sum(),
  id<string>("g"),
  as1,
  import.meta.main,
  typeof import.meta.url,
);
{
  using res = {
    [Symbol.dispose]() {
      console.log("disposed");
    },
  };
  console.log("using");
}
console.log(
  [1, 2, 3].at(-1),
  Object.groupBy([1, 2, 3], (x) => x % 2 ? "odd" : "even"),
  [3, 1].toSorted(),
  "x".padStart(3),
  "a-b".replaceAll("-", "+"),
  await Array.fromAsync([1]),
  new Set([1]).union(new Set([2])),
  structuredClone(1) ?? 2,
  2 ** 10,
  1_000,
  /(?<y>\d+)/.exec("a12")?.groups?.y,
  new Error("x", { cause: 1 }).cause,
  Array.isArray([]),
  typeof globalThis,
  Number("0x1f"),
  (1234.5).toFixed(2),
  new Date(0).toISOString(),
);
