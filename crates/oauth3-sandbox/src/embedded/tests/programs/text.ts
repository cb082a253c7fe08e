console.log(
  new TextEncoder().encode("é€😀\ud800"),
  new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0xc3, 0xa9, 0xff, 0xe2, 0x82])),
);
const d = new TextDecoder();
console.log(
  d.decode(new Uint8Array([0xe2, 0x82]), { stream: true }) + "|" +
    d.decode(new Uint8Array([0xac]), { stream: true }) + "|" + d.decode(),
);
try {
  new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff]));
} catch (e) {
  console.log(e.name, e.message);
}
try {
  new TextDecoder("nope");
} catch (e) {
  console.log(e.name);
}
console.log(new TextEncoder().encodeInto("aé😀", new Uint8Array(4)));
console.log(btoa("hello"), atob(" aGVs bG8="), btoa(""), atob(""), btoa("\xff\xfe"));
for (const bad of ["a", "a*==", "ab=c"]) {
  try {
    console.log(atob(bad));
  } catch (e) {
    console.log(e.name, e instanceof DOMException);
  }
}
try {
  btoa("€");
} catch (e) {
  console.log(e.name);
}
