//! Where an issuer's endpoints are (RFC 8414, OpenID Connect Discovery 1.0).

use crate::fields::json_body;
use crate::{Exchange, Failure, Reply};
use oauth3_provider::{AuthorizationServer, ClientAuth, Endpoint};
use serde::Deserialize;

/// What [`Endpoint::host`] calls this machine.
const LOOPBACK: &str = "localhost";

/// An issuer's metadata, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    issuer: String,
    device: Option<Endpoint>,
    token: Option<Endpoint>,
    authorization: Option<Endpoint>,
    revocation: Option<Endpoint>,
    userinfo: Option<Endpoint>,
    jwks: Option<Endpoint>,
    client_auth: ClientAuth,
    says_issuer: bool,
}

/// The requests to be tried, in this order: OpenID Connect's address and RFC 8414's. The first that
/// [`Metadata::read`] takes is the answer.
///
/// # Errors
/// When an address would grow too long.
pub fn discover(issuer: &Endpoint) -> Result<[Exchange; 2], Failure> {
    let text = issuer.as_str().trim_end_matches('/');
    let scheme_end = text.find("://").map_or(0, |at| at + 3);
    let path_at = text.get(scheme_end..).and_then(|rest| rest.find('/')).map_or(text.len(), |at| at + scheme_end);
    let (origin, path) = text.split_at(path_at);
    let get = |url: String| Endpoint::parse(&url).map(Exchange::get).map_err(|_| Failure::TooLong);
    Ok([
        get(format!("{text}/.well-known/openid-configuration"))?,
        get(format!("{origin}/.well-known/oauth-authorization-server{path}"))?,
    ])
}

impl Metadata {
    /// Reads the reply to one of them. The issuer in it must be the one that was asked, byte for byte (RFC 8414
    /// §3.3), and endpoints are reached by TLS unless the issuer itself is on this machine without.
    ///
    /// # Errors
    /// When it is no metadata, of another issuer, or an endpoint is not safe.
    pub fn read(issuer: &Endpoint, reply: &Reply<'_>) -> Result<Self, Failure> {
        let body = json_body(reply)?;
        if !(200..300).contains(&reply.status) {
            return Err(Failure::NotOauth(reply.status));
        }
        let document: Document = serde_json::from_str(body).map_err(|_| Failure::Field("metadata"))?;
        if document.issuer != issuer.as_str() {
            return Err(Failure::Issuer);
        }
        let endpoint = |text: Option<String>, what: &'static str| -> Result<Option<Endpoint>, Failure> {
            let Some(text) = text else { return Ok(None) };
            let endpoint = Endpoint::parse(&text).map_err(|_| Failure::Insecure(what))?;
            // Others' metadata says nothing about this machine.
            let here = endpoint.host().name() == LOOPBACK && issuer.host().name() != LOOPBACK;
            let fine = !here && (endpoint.secure() || !issuer.secure());
            if fine { Ok(Some(endpoint)) } else { Err(Failure::Insecure(what)) }
        };
        let pkce = document.code_challenge_methods_supported.as_ref();
        let no_pkce = pkce.is_some_and(|methods| !methods.iter().any(|method| method == "S256"));
        let methods = document.token_endpoint_auth_methods_supported.unwrap_or_default();
        let knows = |method: &str| methods.iter().any(|known| known == method);
        let client_auth = match () {
            // RFC 8414 §2: basic where nothing is said.
            () if methods.is_empty() || knows("client_secret_basic") => ClientAuth::Basic,
            () if knows("client_secret_post") => ClientAuth::Post,
            () => ClientAuth::None,
        };
        Ok(Self {
            issuer: document.issuer,
            device: endpoint(document.device_authorization_endpoint, "device endpoint")?,
            token: endpoint(document.token_endpoint, "token endpoint")?,
            // Without PKCE there is no sign-in in the browser.
            authorization: endpoint(document.authorization_endpoint, "authorization endpoint")?.filter(|_| !no_pkce),
            revocation: endpoint(document.revocation_endpoint, "revocation endpoint")?,
            userinfo: endpoint(document.userinfo_endpoint, "userinfo endpoint")?,
            jwks: endpoint(document.jwks_uri, "address of its keys")?,
            client_auth,
            says_issuer: document.authorization_response_iss_parameter_supported,
        })
    }

    /// Fills in what the server does not have yet. What the owner configured stays.
    pub fn fill(self, server: &mut AuthorizationServer) {
        if !server.issuers.contains(&self.issuer) {
            server.issuers.push(self.issuer);
        }
        // The two belong together: how a client shows its secret is of the token endpoint.
        if server.token.is_none() {
            server.client_auth = self.client_auth;
            server.token = self.token;
        }
        server.device = server.device.take().or(self.device);
        server.authorization = server.authorization.take().or(self.authorization);
        server.revocation = server.revocation.take().or(self.revocation);
        server.userinfo = server.userinfo.take().or(self.userinfo);
        server.jwks = server.jwks.take().or(self.jwks);
        server.says_issuer |= self.says_issuer;
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    device_authorization_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint: Option<String>,
    #[serde(default)]
    authorization_endpoint: Option<String>,
    #[serde(default)]
    revocation_endpoint: Option<String>,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    jwks_uri: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}
