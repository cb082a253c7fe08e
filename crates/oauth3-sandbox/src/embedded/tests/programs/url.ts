const u = new URL("../x/./y?b=2&a=1#f", "https://user:pw@Example.com:8443/a/b/c");
console.log(u.href, u.origin, u.pathname);
u.port = "443";
u.hash = "";
u.searchParams.append("c", "d e&");
u.searchParams.sort();
u.pathname = "/ü";
u.protocol = "http";
console.log(u.href, [...u.searchParams]);
u.search = "?z=1";
console.log(u.searchParams.get("z"), u.searchParams.size, String(u.searchParams));
u.host = "h:1";
u.hostname = "i";
console.log(JSON.stringify({ u }));
try {
  new URL("nope");
} catch (e) {
  console.log(e.name, e.message);
}
console.log(URL.canParse("a:b"), URL.canParse("x"), URL.parse("x"));
const sp = new URLSearchParams({ a: "1", b: "2" });
sp.append("a", "3");
sp.delete("b");
sp.set("n", "é");
console.log(sp.toString(), sp.getAll("a"), sp.has("a", "3"), sp.has("b"), [...sp.keys()], sp.size);
sp.forEach((v, k) => console.log(k, v));
console.log(new URLSearchParams("?x=%20+y&x").toString(), new URLSearchParams([["q", "1"]]).get("q"));
