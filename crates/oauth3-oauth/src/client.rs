//! A client as it is registered at an authorization server.

use crate::{Exchange, Failure, Sensitive};
use data_encoding::BASE64;
use oauth3_provider::{AuthorizationServer, ClientAuth, Endpoint, percent_encode};
use zeroize::Zeroizing;

/// Who we are to one authorization server. Made from what the owner configured; nothing of it is an agent's. For AWS
/// id and secret are those of [`crate::aws::Registered`].
#[derive(Debug)]
pub struct Client {
    /// The server.
    pub server: AuthorizationServer,
    /// `client_id`.
    pub id: String,
    /// `client_secret`, if it has one.
    pub secret: Option<Sensitive>,
    /// `audience` of requests, where the server has that parameter.
    pub audience: Option<String>,
}

impl Client {
    /// A form to the token endpoint or one beside it, with the client's id and secret where the server wants them
    /// (RFC 6749 §2.3.1).
    pub(crate) fn form(&self, url: Endpoint, fields: &[(&str, &str)]) -> Exchange {
        let mut fields = fields.to_vec();
        match (&self.secret, self.server.client_auth) {
            (None, _) => fields.push(("client_id", &self.id)),
            (Some(secret), ClientAuth::Basic) => {
                return Exchange::form(url, &fields).with_header("authorization", basic(&self.id, secret.expose()));
            }
            (Some(secret), ClientAuth::Post | ClientAuth::None) => {
                fields.extend([("client_id", self.id.as_str()), ("client_secret", secret.expose())]);
            }
        }
        Exchange::form(url, &fields)
    }

    /// An address that the server must have for what is to be done.
    pub(crate) fn endpoint(&self, endpoint: &Option<Endpoint>, what: &'static str) -> Result<Endpoint, Failure> {
        endpoint.clone().ok_or(Failure::NoEndpoint(what))
    }
}

/// `Basic` credentials; both parts are encoded as in a form first (RFC 6749 §2.3.1).
pub(crate) fn basic(id: &str, secret: &str) -> Sensitive {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    percent_encode(id, &mut pair);
    pair.push(':');
    percent_encode(secret, &mut pair);
    let mut field = Zeroizing::new(String::with_capacity(BASE64.encode_len(pair.len()) + 6));
    field.push_str("Basic ");
    BASE64.encode_append(pair.as_bytes(), &mut field);
    Sensitive::new(field)
}
