process.stdout.write("raw\n");
await Deno.stdout.write(new TextEncoder().encode("bytes\n"));
process.env.NEWVAR = "1";
console.log(Deno.env.get("NEWVAR"), Deno.env.has("NOPE"), Deno.env.get("NOPE"), process.env.NOPE);
console.log("NEWVAR" in process.env, Object.keys(process.env).includes("NEWVAR"), Deno.env.toObject().NEWVAR);
delete process.env.NEWVAR;
console.log(
  Deno.env.has("NEWVAR"),
  Deno.args,
  process.argv.length,
  Deno.build.os,
  typeof Deno.version.deno,
  process.platform,
);
const path = `/tmp/oauth3-embedded-${crypto.randomUUID()}`;
Deno.writeTextFileSync(path, "x");
await Deno.writeTextFile(path, "y", { append: true });
console.log(await Deno.readTextFile(path), Deno.readFileSync(path));
Deno.removeSync(path);
try {
  await Deno.readTextFile(path);
} catch (e) {
  console.log((e as Error).name, e instanceof Deno.errors.NotFound);
}
setTimeout(() => {
  console.log("before exit");
  try {
    Deno.exit(7);
  } finally {
    console.log("finally must not run");
  }
}, 5);
setTimeout(() => console.log("after exit"), 6);
