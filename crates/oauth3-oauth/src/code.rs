//! A sign-in in the browser of this machine: authorization code (RFC 6749 §4.1) with PKCE (RFC 7636) and a redirect to
//! loopback (RFC 8252 §7.3).

use crate::fields::decode;
use crate::{Client, ErrorCode, Exchange, Failure, MAX_TOKEN_BYTES, Sensitive};
use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64URL_NOPAD;
use oauth3_provider::Endpoint;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// How many random bytes a sign-in takes: 32 each for state, verifier and nonce.
pub const RANDOM_BYTES: usize = 96;
/// Longest query of a redirect, in bytes.
const MAX_QUERY_BYTES: usize = 64 * 1024;

/// One sign-in in the browser.
pub struct CodeGrant {
    url: Endpoint,
    redirect_uri: String,
    state: Sensitive,
    verifier: Sensitive,
    nonce: String,
    over: bool,
}

/// Without the address: its state lets an answer pass for one of this sign-in.
impl fmt::Debug for CodeGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeGrant(…)")
    }
}

impl CodeGrant {
    /// Begins one. The caller listens on 127.0.0.1 at this port; `random` is fresh and used once.
    ///
    /// # Errors
    /// When the server has no authorization endpoint, or the address grows too long.
    pub fn start(client: &Client, port: u16, scopes: &[String], random: &[u8; RANDOM_BYTES]) -> Result<Self, Failure> {
        let endpoint = client.endpoint(&client.server.authorization, "authorization endpoint")?;
        let part = |at: usize| BASE64URL_NOPAD.encode(random.get(at..at + 32).unwrap_or_default());
        let (state, verifier, nonce) = (Sensitive::new(part(0)), Sensitive::new(part(32)), part(64));
        let hash = digest::digest(&digest::SHA256, verifier.expose().as_bytes());
        let challenge = BASE64URL_NOPAD.encode(hash.as_ref());
        let redirect_uri = format!("http://127.0.0.1:{port}/callback");
        let scope = scopes.join(" ");
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &client.id),
            ("redirect_uri", &redirect_uri),
            ("state", state.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            // Whether an ID token will come is the server's choice; others ignore it (RFC 6749 §3.1).
            ("nonce", &nonce),
        ];
        if !scope.is_empty() {
            query.push(("scope", &scope));
        }
        query.extend(client.audience.as_deref().map(|audience| ("audience", audience)));
        query
            .extend(client.server.authorization_parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let url = endpoint.with_query(&query).map_err(|_| Failure::TooLong)?;
        Ok(Self { url, redirect_uri, state, verifier, nonce, over: false })
    }

    /// The address that the browser opens.
    #[must_use]
    pub const fn url(&self) -> &Endpoint {
        &self.url
    }

    /// The path that the browser comes back to.
    #[must_use]
    pub const fn callback_path(&self) -> &'static str {
        "/callback"
    }

    /// The nonce that the ID token must have.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Reads the query that the browser came back with, and makes the request that turns the code into tokens. What is
    /// not of this sign-in ([`Failure::State`]) changes nothing: somebody else may have called. Anything else ends it.
    ///
    /// # Errors
    /// When it was declined, or the answer is of another sign-in or server.
    pub fn callback(&mut self, client: &Client, query: &str) -> Result<Exchange, Failure> {
        if self.over {
            return Err(Failure::Over);
        }
        let fields = parameters(query).ok_or(Failure::State)?;
        let state = fields.get("state").map_or("", |state| state.as_str());
        if constant_time::verify_slices_are_equal(state.as_bytes(), self.state.expose().as_bytes()).is_err() {
            return Err(Failure::State);
        }
        self.over = true;
        // RFC 9207: a code of another server must not go to this one. Where the owner named endpoints and no issuer,
        // there is nothing to compare with.
        match fields.get("iss") {
            Some(issuer) if !client.server.issuers.is_empty() && !client.server.is_issuer(issuer, None) => {
                return Err(Failure::Issuer);
            }
            None if client.server.says_issuer => return Err(Failure::Issuer),
            _ => {}
        }
        if let Some(error) = fields.get("error") {
            return Err(match error.as_str() {
                "access_denied" | "authorization_declined" => Failure::Denied,
                other => Failure::Refused(ErrorCode::new(other)),
            });
        }
        let code = fields.get("code").filter(|code| (1..=MAX_TOKEN_BYTES).contains(&code.len()));
        let code = code.ok_or(Failure::Field("code"))?;
        let url = client.endpoint(&client.server.token, "token endpoint")?;
        Ok(client.form(
            url,
            &[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", &self.redirect_uri),
                ("code_verifier", self.verifier.expose()),
            ],
        ))
    }
}

/// The parameters of a query; `None` when one is there twice or cannot be read.
fn parameters(query: &str) -> Option<BTreeMap<String, Zeroizing<String>>> {
    if query.len() > MAX_QUERY_BYTES {
        return None;
    }
    let mut fields = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if fields.insert(decode(name)?.to_string(), decode(value)?).is_some() {
            return None;
        }
    }
    Some(fields)
}
