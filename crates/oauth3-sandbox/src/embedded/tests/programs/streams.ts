const rs = new ReadableStream({
  start(c) {
    c.enqueue("a");
    c.enqueue("b");
    c.close();
  },
});
const out = [];
for await (const x of rs) out.push(x);
console.log(out, rs.locked);
const [t1, t2] = ReadableStream.from([1, 2, 3]).tee();
const rd = async (s) => {
  const o = [];
  for await (const x of s) o.push(x);
  return o;
};
console.log(await Promise.all([rd(t1), rd(t2)]));
console.log(
  await rd(
    ReadableStream.from([new Uint8Array([0xe2, 0x82]), new Uint8Array([0xac])]).pipeThrough(
      new TextDecoderStream(),
    ).pipeThrough(
      new TransformStream({
        transform(c, k) {
          k.enqueue(c + "!");
        },
        flush(k) {
          k.enqueue("end");
        },
      }),
    ),
  ),
);
const sink: string[] = [];
await ReadableStream.from(["x", "y"]).pipeTo(
  new WritableStream({
    write(c) {
      sink.push(c);
    },
    close() {
      sink.push("closed");
    },
  }),
);
console.log(sink);
const er = new ReadableStream({
  pull(c) {
    c.error(new Error("src"));
  },
});
try {
  await er.getReader().read();
} catch (e) {
  console.log(e.message);
}
