// What stands in front of a provider: hands everything on as it is, and remembers what was said about tokens.

import { createServer, request as send } from 'node:http';
import { once } from 'node:events';

/** Listens on a free loopback port. `handOnTo(port)` begins the handing on; `said` has each exchange at an endpoint that
 *  `paths` names: { at, asked, status, answered }, `at` in milliseconds, `asked` and `answered` as objects. */
export async function tap(paths) {
  const said = [];
  let behind;
  const onward = async (request, reply) => {
    const at = Date.now();
    const { method, headers, url: path } = request;
    const body = await all(request);
    const sent = send({ host: '127.0.0.1', port: behind, method, path, headers });
    sent.end(body);
    const [answer] = await once(sent, 'response');
    const text = await all(answer);
    if (paths.includes(path)) {
      const asked = Object.fromEntries(new URLSearchParams(body.toString()));
      said.push({ at, asked, status: answer.statusCode, answered: text.length ? JSON.parse(text) : {} });
    }
    reply.writeHead(answer.statusCode, answer.rawHeaders);
    reply.end(text);
  };
  // Where nobody is behind it (yet), there is no answer.
  const front = createServer((request, reply) => onward(request, reply).catch(() => reply.destroy()));
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  return { port: front.address().port, said, handOnTo: (port) => (behind = port) };
}

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}
