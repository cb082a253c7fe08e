queueMicrotask(() => console.log("micro"));
setTimeout((a, b) => console.log("timer", a, b), 1, "A", "B");
try {
  setTimeout("console.log('text')" as unknown as () => void, 2);
} catch (e) {
  console.log((e as Error).name);
}
clearTimeout(setTimeout(() => console.log("never"), 1));
Promise.resolve().then(() => console.log("then"));
await new Promise<void>((resolve) => {
  let count = 0;
  const id = setInterval(() => {
    console.log("interval", ++count);
    if (count === 3) {
      clearInterval(id);
      resolve();
    }
  }, 3);
});
const order: number[] = [];
await Promise.all([30, 10, 20].map((ms) =>
  new Promise<void>((r) =>
    setTimeout(() => {
      order.push(ms);
      r();
    }, ms)
  )
));
console.log(order, performance.now() > 0);
Deno.unrefTimer(setTimeout(() => console.log("does not keep the program alive"), 100000));
setTimeout(() => console.log("last"), 1);
console.log("end of module");
