// Starts Debian's glewlwyd on a free loopback port, with one user and one client, and that user's browser.
//
//     node glewlwyd_server.mjs FOLDER     (an empty folder for its files)
//
// Prints one line of JSON: { issuer, browser, token }, the last being its token endpoint. `GET browser?user_code=…` says
// yes as the user does on the pages. With `&deny=1` the sign-in is disabled, with `&end=1` it ends before its time: both
// in the database, for no page has a button for either. `GET browser/said` answers what its device and token endpoints
// were asked and answered. Ends, and ends glewlwyd, when its standard input does.

import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tap } from './token_tap.mjs';

const folder = process.argv[2];
const front = await tap(['/api/oidc/device_authorization', '/api/oidc/token']);
const free = createServer();
free.listen(0, '127.0.0.1');
await once(free, 'listening');
const port = free.address().port;
free.close();
await once(free, 'close');

front.handOnTo(port);
const base = `http://127.0.0.1:${front.port}`;
const database = join(folder, 'glewlwyd.db');
function sql(input) {
  const done = spawnSync('sqlite3', ['-cmd', '.timeout 10000', database], { input });
  if (done.status !== 0) throw new Error(`sqlite3: ${done.stderr}`);
}
sql(readFileSync('/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3'));
const config = readFileSync('/usr/share/glewlwyd/templates/glewlwyd-debian.conf.properties', 'utf8')
  .replace('port=4593', `port=${port}\nbind_address="127.0.0.1"`)
  .replace('_G_EXTRNAL_URL_', base)
  .replace('log_mode="file"', 'log_mode="console"')
  .replace(/@include.*/, `database={type="sqlite3" path="${database}"};`);
writeFileSync(join(folder, 'glewlwyd.conf'), config);
const server = spawn('glewlwyd', [`--config-file=${join(folder, 'glewlwyd.conf')}`], { stdio: 'ignore' });
// It misses a TERM that comes while it starts, and its files are nobody's afterwards.
process.on('exit', () => server.kill('SIGKILL'));
server.on('exit', (code) => process.exit(code ?? 1));

/** A session with cookies. */
function session() {
  let cookie = '';
  return async (method, path, body) => {
    const reply = await fetch(`${base}/api/${path}`, {
      method,
      redirect: 'manual',
      headers: { cookie, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    const [first] = reply.headers.getSetCookie();
    if (first) [cookie] = first.split(';');
    if (reply.status >= 400) throw new Error(`${method} ${path}: ${reply.status} ${await reply.text()}`);
    return reply;
  };
}

const admin = session();
for (let tries = 0; ; tries += 1) {
  try {
    await admin('POST', 'auth/', { username: 'admin', password: 'password' });
    break;
  } catch (error) {
    if (tries === 200) throw error;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
const off = Object.fromEntries(['token', 'none', 'password', 'code'].map((kind) => [`auth-type-${kind}-enabled`, false]));
const on = Object.fromEntries(['client', 'refresh', 'device', 'id-token'].map((kind) => [`auth-type-${kind}-enabled`, true]));
await admin('POST', 'mod/plugin/', {
  module: 'oidc',
  name: 'oidc',
  display_name: 'OIDC',
  parameters: {
    iss: `${base}/api/oidc`,
    'jwt-type': 'sha',
    'jwt-key-size': '256',
    key: '0123456789abcdef0123456789abcdef',
    'access-token-duration': Number(process.env.ACCESS_TOKEN_SECONDS),
    'refresh-token-duration': 3600,
    'code-duration': 60,
    'refresh-token-rolling': true,
    'refresh-token-one-use': 'always',
    'allow-non-oidc': true,
    ...off,
    ...on,
    'device-authorization-expiration': Number(process.env.CODE_SECONDS),
    'device-authorization-interval': 3,
    'subject-type': 'public',
    'introspection-revocation-allowed': true,
    'introspection-revocation-allow-target-client': true,
    'introspection-revocation-auth-scope': [],
    'request-parameter-allow': false,
    'pkce-allowed': false,
    scope: [],
    'additional-parameters': [],
    claims: [],
    'secret-type': 'pairwise',
    'client-cert-source': 'TLS',
  },
});
await admin('PUT', 'mod/plugin/oidc/enable');
await admin('POST', 'scope/', { name: 'api.read', display_name: 'read', description: 'read', password_required: false, scheme: {} });
await admin('POST', 'user/?source=database', {
  username: 'ann',
  password: 'password1',
  name: 'Ann',
  email: 'ann@example.com',
  scope: ['api.read', 'openid'],
  enabled: true,
});
await admin('POST', 'client/?source=database', {
  client_id: 'oauth3',
  name: 'oauth3',
  confidential: false,
  authorization_type: ['device_authorization', 'refresh_token'],
  redirect_uri: [],
  scope: ['api.read'],
  enabled: true,
});

const browser = createServer(async (request, reply) => {
  const url = new URL(request.url, base);
  const code = url.searchParams.get('user_code');
  try {
    if (url.pathname === '/said') return reply.end(JSON.stringify(front.said));
    if (url.searchParams.has('deny')) sql('UPDATE gpo_device_authorization SET gpoda_status = 3');
    if (url.searchParams.has('end')) sql('UPDATE gpo_device_authorization SET gpoda_expires_at = 0');
    if (url.searchParams.has('deny') || url.searchParams.has('end')) return reply.end('done');
    const user = session();
    await user('POST', 'auth/', { username: 'ann', password: 'password1' });
    await user('PUT', 'auth/grant/oauth3', { scope: 'api.read' });
    await user('GET', `oidc/device?code=${code}&g_continue`);
    reply.end('done');
  } catch (error) {
    reply.statusCode = 500;
    reply.end(String(error));
  }
});
browser.listen(0, '127.0.0.1');
await once(browser, 'listening');
const token = `http://127.0.0.1:${port}/api/oidc/token`;
console.log(
  JSON.stringify({ issuer: `${base}/api/oidc`, browser: `http://127.0.0.1:${browser.address().port}`, token }),
);
process.stdin.resume().on('end', () => process.exit(0));
