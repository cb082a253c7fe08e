// Starts npm's oidc-provider on a free loopback port, and the browser of whoever signs in at it.
//
//     node identity_server.mjs FOLDER     (FOLDER has the package in its node_modules)
//
// Prints one line of JSON: { issuer, browser, token }, the last being its token endpoint. `GET browser?user_code=…&login=…`
// goes through the provider's own pages as that person and says yes; with `&deny=1` it says no. `GET browser/api`
// answers who an access token is of, as an API would that asks the provider; `GET browser/said` what its device and
// token endpoints were asked and answered. Ends when its standard input does.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { tap } from './token_tap.mjs';

const folder = process.argv[2];
const lifetime = Number(process.env.ACCESS_TOKEN_SECONDS);
const codes = Number(process.env.CODE_SECONDS);
const { default: Provider } = await import(
  pathToFileURL(join(folder, 'node_modules/oidc-provider/lib/index.js')).href
);

const web = createServer();
web.listen(0, '127.0.0.1');
await once(web, 'listening');
const front = await tap(['/device/auth', '/token']);
front.handOnTo(web.address().port);
const issuer = `http://127.0.0.1:${front.port}`;

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'oauth3',
      token_endpoint_auth_method: 'none',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token', EXCHANGE],
      response_types: [],
      redirect_uris: [],
      application_type: 'native',
      scope: 'openid offline_access email profile mail.read mail.send',
    },
    {
      client_id: 'oauth3-browser',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
      application_type: 'native',
      scope: 'openid offline_access email profile mail.read',
    },
  ],
  scopes: ['openid', 'offline_access', 'email', 'profile', 'mail.read', 'mail.send'],
  claims: { openid: ['sub'], email: ['email'], profile: ['name'] },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, name: id[0].toUpperCase() + id.slice(1) }),
  }),
  rotateRefreshToken: true,
  issueRefreshToken: (_ctx, client, code) =>
    client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  ttl: { AccessToken: lifetime, DeviceCode: codes, RefreshToken: 3600, Grant: 3600, IdToken: 3600, Interaction: 600, Session: 600 },
  cookies: { keys: ['for tests'] },
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
  },
});
// RFC 8693: an access token for one with fewer scopes.
provider.registerGrantType(
  EXCHANGE,
  async (ctx) => {
    const { params, client } = ctx.oidc;
    const subject = await provider.AccessToken.find(params.subject_token);
    const refuse = (error) => Object.assign(ctx, { status: 400, body: { error } });
    if (!subject?.isValid || subject.clientId !== client.clientId) return refuse('invalid_request');
    if (params.subject_token_type !== ACCESS_TOKEN || params.requested_token_type !== ACCESS_TOKEN) {
      return refuse('invalid_request');
    }
    if (params.audience !== 'backend') return refuse('invalid_target');
    const scopes = params.scope?.split(' ') ?? [...subject.scopes];
    if (!scopes.every((scope) => subject.scopes.has(scope))) return refuse('invalid_scope');
    const { accountId, grantId, claims } = subject;
    const token = new provider.AccessToken({ accountId, grantId, claims, client, gty: EXCHANGE, scope: scopes.join(' ') });
    ctx.body = {
      access_token: await token.save(),
      issued_token_type: ACCESS_TOKEN,
      token_type: 'Bearer',
      expires_in: token.expiration,
      scope: token.scope,
    };
  },
  ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'scope'],
);
web.on('request', provider.callback());

/** Follows pages with cookies, filling in each form, until one says that it is done. */
async function visit(start, forms) {
  const cookies = new Map();
  let next = { url: start };
  for (let step = 0; step < 12 && next; step += 1) {
    const body = next.form && new URLSearchParams(next.form).toString();
    const reply = await fetch(next.url, {
      method: body === undefined ? 'GET' : 'POST',
      body,
      redirect: 'manual',
      headers: {
        cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
        ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
      },
    });
    for (const cookie of reply.headers.getSetCookie()) {
      const [pair] = cookie.split(';');
      cookies.set(pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1));
    }
    const page = await reply.text();
    const location = reply.headers.get('location');
    if (location && !location.startsWith(issuer) && !location.startsWith('/')) return location;
    if (location) next = { url: new URL(location, issuer).href };
    else next = forms(page, next.url);
  }
  return null;
}

const action = (page) => new URL(page.match(/<form[^>]* action="([^"]+)"/)[1], issuer).href;
const field = (page, name) => page.match(new RegExp(`name="${name}" value="([^"]+)"`))?.[1];

function answers(login, deny, code) {
  return (page, url) => {
    if (page.includes('name="xsrf"')) {
      const xsrf = field(page, 'xsrf');
      return { url: `${issuer}/device`, form: { xsrf, user_code: code, ...(deny ? { abort: 'yes' } : { confirm: 'yes' }) } };
    }
    if (page.includes('name="login"')) return { url: action(page), form: { prompt: 'login', login, password: 'any' } };
    if (page.includes('value="consent"')) return { url: action(page), form: { prompt: 'consent' } };
    return null;
  };
}

const browser = createServer(async (request, reply) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  const [code, login] = [url.searchParams.get('user_code'), url.searchParams.get('login')];
  try {
    if (url.pathname === '/api') {
      const who = await fetch(`${issuer}/me`, { headers: { authorization: request.headers.authorization ?? '' } });
      reply.statusCode = who.status;
      return reply.end(await who.text());
    }
    if (url.pathname === '/said') return reply.end(JSON.stringify(front.said));
    if (url.searchParams.has('address')) {
      const back = await visit(url.searchParams.get('address'), answers(login, false, ''));
      const shown = back && (await fetch(back));
      return reply.end(shown ? await shown.text() : 'nothing came back');
    }
    await visit(`${issuer}/device?user_code=${code}`, answers(login, url.searchParams.has('deny'), code));
    reply.end('done');
  } catch (error) {
    reply.statusCode = 500;
    reply.end(String(error?.stack ?? error));
  }
});
browser.listen(0, '127.0.0.1');
await once(browser, 'listening');
const token = `http://127.0.0.1:${web.address().port}/token`;
console.log(JSON.stringify({ issuer, browser: `http://127.0.0.1:${browser.address().port}`, token }));
// Nobody reads on.
process.stdout.on('error', () => {});
process.stdin.resume().on('end', () => process.exit(0));
