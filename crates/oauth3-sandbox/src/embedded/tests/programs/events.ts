const et = new EventTarget();
et.addEventListener("x", (e) => console.log("got", e.type, (e as CustomEvent).detail), { once: true });
console.log(et.dispatchEvent(new CustomEvent("x", { detail: 5 })), et.dispatchEvent(new Event("x")));
const ac = new AbortController();
ac.signal.addEventListener("abort", () => console.log("aborted", ac.signal.reason.name));
ac.abort();
ac.abort();
try {
  ac.signal.throwIfAborted();
} catch (e) {
  console.log(e.name, e.message, e.code);
}
const to = AbortSignal.timeout(1);
await new Promise((r) => setTimeout(r, 20));
console.log(to.aborted, to.reason.name);
console.log(AbortSignal.any([AbortSignal.abort("why")]).reason);
