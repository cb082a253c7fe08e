// Sign-ins by clients that others wrote, at the stand-ins for their providers:
// identity_clients.mjs MODULES PORT CA PROVIDER. MODULES is the folder with node_modules.
//
// Every name leads to the port on this machine, where the certificates of CA hold. Each sign-in is pending once, then
// Ann's, then declined. Prints what the client found, as JSON.
import { readFileSync } from "node:fs";
import { globalAgent, request as send } from "node:https";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { pathToFileURL } from "node:url";

const [modules, port, caFile, provider] = process.argv.slice(2);
const ca = readFileSync(caFile);
const load = (name) => import(pathToFileURL(createRequire(`${modules}/`).resolve(name)).href);
const DEVICE = "urn:ietf:params:oauth:grant-type:device_code";

globalAgent.createConnection = ({ host: servername }) => connect({ host: "127.0.0.1", port, servername, ca });
globalThis.fetch = async (input, init) => {
  const request = new Request(input, init);
  const url = new URL(request.url);
  const body = Buffer.from(await request.arrayBuffer());
  const headers = { ...Object.fromEntries(request.headers), "content-length": body.length };
  return new Promise((resolve, reject) => {
    const sent = send(url, { method: request.method, headers }, async (reply) => {
      const parts = [];
      for await (const part of reply) parts.push(part);
      const empty = [204, 205, 304].includes(reply.statusCode);
      const { statusCode: status, headers } = reply;
      resolve(new Response(empty ? null : Buffer.concat(parts), { status, headers }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
};

const failure = (promise, code) => promise.then(() => null, (error) => code(error) ?? String(error));

async function auth0() {
  const { AuthenticationClient } = await load("auth0");
  const domain = "example.eu.auth0.com";
  const clientId = "nZ8JDrV8Hklf3JumewRl2ke3ovPZn5Ho";
  const clientSecret = "auth0-S3cret_of-the-client";
  const { oauth } = new AuthenticationClient({ domain, clientId, clientSecret });
  // The client has no device flow; its steps are the documented ones, as a form and as JSON.
  const post = (path, fields) =>
    fetch(`https://${domain}${path}`, { method: "POST", body: new URLSearchParams(fields) }).then((reply) => reply.json());
  const signIn = async () => {
    const scope = "openid profile email offline_access";
    const begun = await post("/oauth/device/code", { client_id: clientId, scope, audience: "https://api.example.com/" });
    for (;;) {
      await sleep(begun.interval * 1000);
      const fields = { client_id: clientId, client_secret: clientSecret, grant_type: DEVICE, device_code: begun.device_code };
      const tokens = await post("/oauth/token", fields);
      if (tokens.error !== "authorization_pending") return tokens;
    }
  };
  const first = await signIn();
  // It checks the ID token by the published keys.
  const second = (await oauth.refreshTokenGrant({ refresh_token: first.refresh_token })).data;
  const { error: denied } = await signIn();
  await oauth.revokeRefreshToken({ token: second.refresh_token });
  const ended = await failure(oauth.refreshTokenGrant({ refresh_token: second.refresh_token }), (error) => error.error);
  const { name } = JSON.parse(Buffer.from(second.id_token.split(".")[1], "base64url"));
  return { name, renewed: second.access_token !== first.access_token, denied, ended };
}

async function github() {
  const methods = await load("@octokit/oauth-methods");
  const client = { clientType: "github-app", clientId: "Iv1.8a61f9b3a7aba766" };
  const clientSecret = "0123456789abcdef0123456789abcdef01234567";
  const code = (error) => error.response?.data.error;
  const signIn = async () => {
    const { data: begun } = await methods.createDeviceCode(client);
    for (;;) {
      await sleep(begun.interval * 1000);
      try {
        return (await methods.exchangeDeviceCode({ ...client, code: begun.device_code })).authentication;
      } catch (error) {
        if (code(error) !== "authorization_pending") throw error;
      }
    }
  };
  const first = await signIn();
  const renew = (refreshToken) => methods.refreshToken({ ...client, clientSecret, refreshToken });
  const { authentication: second } = await renew(first.refreshToken);
  const denied = await failure(signIn(), code);
  const { status } = await methods.deleteToken({ ...client, clientSecret, token: second.token });
  const lasts = new Date(second.expiresAt) > new Date();
  const ended = await failure(renew("ghr_of-nobody"), code);
  return { renewed: second.token !== first.token && lasts, denied, revoked: status, ended };
}

async function openid(issuer, paths, clientId, auth, scope) {
  const client = await load("openid-client");
  const at = (path) => new URL(path, issuer.endsWith("/default") ? issuer : `${issuer}/`).href;
  const endpoints = Object.entries(paths).map(([name, path]) => [name, at(path)]);
  const config = new client.Configuration({ issuer, ...Object.fromEntries(endpoints) }, clientId, {}, auth(client));
  client.enableNonRepudiationChecks(config);
  const signIn = async () => {
    const begun = await client.initiateDeviceAuthorization(config, { scope });
    return client.pollDeviceAuthorizationGrant(config, begun);
  };
  const first = await signIn();
  const second = await client.refreshTokenGrant(config, first.refresh_token);
  const { email: account } = await client.fetchUserInfo(config, second.access_token, first.claims().sub);
  const denied = await failure(signIn(), (error) => error.error);
  await client.tokenRevocation(config, second.refresh_token);
  const ended = await failure(client.refreshTokenGrant(config, second.refresh_token), (error) => error.error);
  return { name: first.claims().name, account, renewed: second.access_token !== first.access_token, denied, ended };
}

const okta = () =>
  openid(
    "https://example.okta.com/oauth2/default",
    {
      device_authorization_endpoint: "default/v1/device/authorize",
      token_endpoint: "default/v1/token",
      userinfo_endpoint: "default/v1/userinfo",
      revocation_endpoint: "default/v1/revoke",
      jwks_uri: "default/v1/keys",
    },
    "0oa2hl2inow5Uqc6c357",
    (client) => client.ClientSecretBasic("okta-S3cret_of-the-client"),
    "openid profile email offline_access",
  );

const gitlab = () =>
  openid(
    "https://gitlab.com",
    {
      device_authorization_endpoint: "oauth/authorize_device",
      token_endpoint: "oauth/token",
      userinfo_endpoint: "oauth/userinfo",
      revocation_endpoint: "oauth/revoke",
      jwks_uri: "oauth/discovery/keys",
    },
    "4a50fd4e09a0b8ee6a8c1f0c5a3c4f5e",
    (client) => client.None(),
    "openid profile email read_api",
  );

console.log(JSON.stringify(await { auth0, github, gitlab, okta }[provider]()));
