const hex = (b: ArrayBuffer) => [...new Uint8Array(b)].map((x) => x.toString(16).padStart(2, "0")).join("");
for (const a of ["SHA-1", "SHA-256", "SHA-384", "SHA-512"]) {
  console.log(a, hex(await crypto.subtle.digest(a, new TextEncoder().encode("abc"))).slice(0, 32));
}
const key = await crypto.subtle.importKey(
  "raw",
  new TextEncoder().encode("key"),
  { name: "HMAC", hash: "SHA-256" },
  true,
  ["sign", "verify"],
);
const sig = await crypto.subtle.sign(
  "HMAC",
  key,
  new TextEncoder().encode("The quick brown fox jumps over the lazy dog"),
);
console.log(
  hex(sig),
  await crypto.subtle.verify("HMAC", key, sig, new TextEncoder().encode("x")),
  await crypto.subtle.exportKey("jwk", key),
);
console.log(
  crypto.getRandomValues(new Uint8Array(8)).length,
  /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()),
);
try {
  await crypto.subtle.digest("MD5", new Uint8Array());
} catch (e) {
  console.log(e.name);
}
