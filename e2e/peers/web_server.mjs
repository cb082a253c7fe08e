// Node's own HTTPS server, HTTP/2 and HTTP/1.1: node web_server.mjs CERT KEY. Prints its port, then a line for each request.
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";

const [cert, key] = process.argv.slice(2).map((path) => readFileSync(path));
const line = Buffer.from("x".repeat(63) + "\n");
const piece = Buffer.concat(Array(1024).fill(line));
let waiting = [];

async function down(response, bytes) {
  for (let sent = 0; sent < bytes; sent += piece.length) {
    if (!response.write(piece)) await new Promise((resolve) => response.once("drain", resolve));
  }
  response.end();
}

// A client that breaks off is no reason to end.
process.on("unhandledRejection", () => {});

const server = createSecureServer({ cert, key, allowHTTP1: true }, async (request, response) => {
  const url = new URL(request.url, "https://localhost");
  const seen = { path: url.pathname, version: request.httpVersion, authorization: request.headers.authorization ?? "" };
  console.log(JSON.stringify(seen));
  if (url.pathname === "/down") return down(response, Number(url.searchParams.get("bytes")));
  if (url.pathname === "/events") {
    response.setHeader("content-type", "text/event-stream");
    response.write(`data: ${seen.authorization}\n\n`);
    await new Promise((resolve) => waiting.push(resolve));
    return response.end("data: two\n\n");
  }
  if (url.pathname === "/go") {
    waiting.forEach((resolve) => resolve());
    waiting = [];
  }
  let bytes = 0;
  for await (const chunk of request) bytes += chunk.length;
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ ...seen, bytes }));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
