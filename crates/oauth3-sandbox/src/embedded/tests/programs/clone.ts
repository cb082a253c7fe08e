const sc = structuredClone({
  d: new Date(1),
  m: new Map([[1, new Set([2])]]),
  e: new RangeError("r"),
  u: new Uint8Array([1, 2]),
  n: [1, , 3],
  r: /x/g,
  big: 1n,
});
console.log({ ...sc, e: undefined }, sc.e instanceof RangeError, sc.e.message);
const cyc: any = { a: [] };
cyc.me = cyc;
const cc = structuredClone(cyc);
console.log(cc.me === cc, cc !== cyc);
try {
  structuredClone({ f() {} });
} catch (e) {
  console.log(e.name, e.code);
}
const b = new Blob(["ab", new Uint8Array([99]), new Blob(["d"])], { type: "Text/Plain" });
console.log(b.size, b.type, await b.text(), await b.slice(1, 3).text());
