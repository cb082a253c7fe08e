const r = new Response("héllo", { status: 201, headers: { "X-A": "1" } });
console.log(r.status, r.ok, r.headers.get("content-type"), r.bodyUsed, await r.text(), r.bodyUsed);
try {
  await r.text();
} catch (e) {
  console.log(e.name);
}
console.log(
  await Response.json({ a: 1 }).json(),
  await new Response(new URLSearchParams("a=1")).text(),
  await (await new Response("x").blob()).text(),
  (await new Response("abc").arrayBuffer()).byteLength,
  await new Response("q").bytes(),
);
const rc = new Response("clone");
const rc2 = rc.clone();
console.log(await rc.text(), await rc2.text());
const rq = new Request("https://a.b/c", { method: "post", body: "x", headers: [["A", "b"]] });
console.log(
  rq.method,
  rq.url,
  rq.headers.get("a"),
  rq.headers.get("content-type"),
  await rq.clone().text(),
  await rq.text(),
);
for (
  const bad of [
    () => new Request("rel"),
    () => new Request("https://a", { body: "x" }),
    () => new Response("x", { status: 99 }),
    () => new Response("x", { status: 204 }),
    () => new Headers({ "bad name": "x" }),
    () => new Headers({ a: "b\nc" }),
  ]
) {
  try {
    bad();
    console.log("no");
  } catch (e) {
    console.log(e.name);
  }
}
const h = new Headers({ B: "2", a: "1" });
h.append("a", "3");
h.append("Set-Cookie", "x=1");
h.append("set-cookie", "y=2");
h.delete("b");
console.log([...h], h.getSetCookie(), h.has("A"));
h.set("a", " t ");
console.log(h.get("A"));
const fd = new FormData();
fd.append("f", "v");
fd.append("file", new File(["data"], "n.txt", { type: "text/plain" }));
const fr = new Response(fd);
console.log(fr.headers.get("content-type")?.split(";")[0]);
const back = await fr.formData();
console.log(back.get("f"), await (back.get("file") as File).text(), (back.get("file") as File).name);
console.log(
  (await new Response("a=1&b=x+y", { headers: { "content-type": "application/x-www-form-urlencoded" } })
    .formData()).get("b"),
);
console.log(
  await (await fetch("data:text/plain;base64,aGk=")).text(),
  (await fetch("data:,x%20y")).headers.get("content-type"),
);
