//! What is sent to identity providers.

use super::SignIns;
use super::kept::{Registered, Secret};
use super::state::Held;
use oauth3_core::{Account, Fault, HttpPort as _, HttpRequest, HttpResponse, SignInSetup, Timestamp};
use oauth3_oauth::{
    Client, Exchange, Failure, IdToken, Jwks, MAX_REPLY_BYTES, Metadata, Reply, Sensitive, TokenSet, aws, discover,
    read_userinfo, userinfo,
};
use oauth3_provider::{Endpoint, IdentityProvider, ResolvedIdentity};
use std::time::Duration;

/// Longest for one exchange with an identity provider.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much longer than now a registered client must be good to begin a sign-in with it.
const REGISTERED_SPARE: Duration = Duration::from_secs(24 * 3600);

/// Why something with an identity provider came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It said so, or said nothing that can be used.
    Failed(Failure),
    /// There was no reply; why, in a sentence.
    NoReply(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::NoReply(why) => write!(f, "the provider cannot be reached: {why}"),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(trouble.to_string())
    }
}

impl SignIns {
    /// The provider of a setup, and what its parameters make of it.
    pub(super) fn identity(&self, setup: &SignInSetup) -> Result<(&IdentityProvider, ResolvedIdentity), Fault> {
        let unknown = || Fault::InvalidRequest(format!("there is no identity provider {}", setup.provider));
        let provider = self.identities.provider(&setup.provider).ok_or_else(unknown)?;
        let resolved = provider.resolve(&setup.parameters).map_err(|error| Fault::InvalidRequest(error.to_string()))?;
        Ok((provider, resolved))
    }

    /// Who we are to the provider, with all that it says of itself.
    pub(super) async fn client(&self, held: &Held) -> Result<Client, Trouble> {
        let no_provider = |fault: Fault| {
            tracing::warn!(%fault, connection = %held.record.connection, "a sign-in's setup does not hold");
            Trouble::Failed(Failure::NoEndpoint("usable setup"))
        };
        let (_, resolved) = self.identity(&held.setup).map_err(no_provider)?;
        let mut server = resolved.server;
        if let Some(issuer) = &resolved.discover {
            let issuer = Endpoint::parse(issuer).map_err(|_| Failure::NoEndpoint("usable issuer"))?;
            self.discover(&held.setup, &issuer).await?.fill(&mut server);
        }
        let (id, secret) = match &held.kept.registered {
            Some(registered) => (registered.id.clone(), Some(&registered.secret)),
            None => (held.setup.client_id.clone(), held.kept.client_secret.as_ref()),
        };
        let secret = secret.map(|secret| Sensitive::copied(secret.0.expose()));
        Ok(Client { server, id, secret, audience: resolved.audience })
    }

    async fn discover(&self, setup: &SignInSetup, issuer: &Endpoint) -> Result<Metadata, Trouble> {
        let mut trouble = Trouble::Failed(Failure::Field("metadata"));
        for exchange in discover(issuer)? {
            match self.send(setup, exchange).await.and_then(|got| Ok(Metadata::read(issuer, &reply(&got))?)) {
                Ok(metadata) => return Ok(metadata),
                // Metadata that was found and refused says more than metadata that is not there.
                Err(Trouble::Failed(Failure::NotOauth(_))) => {}
                Err(other) => trouble = other,
            }
        }
        Err(trouble)
    }

    /// Has AWS make a client for us, when the one that is there does not last.
    pub(super) async fn register(&self, held: &mut Held, now: Timestamp) -> Result<(), Trouble> {
        let lasts = |registered: &Registered| registered.expires_at > now.plus(REGISTERED_SPARE);
        if !self.is_aws(&held.setup) || held.kept.registered.as_ref().is_some_and(lasts) {
            return Ok(());
        }
        let client = self.client(held).await?;
        let scopes: Vec<String> = held.setup.scopes.iter().cloned().collect();
        let got = self.send(&held.setup, aws::register(&client, &scopes)?).await?;
        let aws::Registered { id, secret, expires_at } = aws::read_registered(&client, &reply(&got))?;
        held.kept.registered = Some(Registered { id, secret: Secret(secret), expires_at });
        Ok(())
    }

    /// Who signed in; nothing where the provider does not say.
    pub(super) async fn account(
        &self,
        held: &Held,
        client: &Client,
        tokens: &TokenSet,
        nonce: Option<&str>,
    ) -> Result<Option<Account>, Trouble> {
        let mut account = None;
        if let (Some(token), Some(jwks), false) =
            (&tokens.id_token, &client.server.jwks, client.server.issuers.is_empty())
        {
            let got = self.send(&held.setup, Jwks::request(jwks)).await?;
            let keys = Jwks::read(&reply(&got))?;
            let token = IdToken { token, access_token: Some(&tokens.access_token), nonce };
            account = Some(token.verify(client, &keys, self.clock.now())?);
        }
        let named = account.as_ref().is_some_and(|account| account.name.is_some() && account.email.is_some());
        if let (false, Some(exchange)) = (named, userinfo(client, &tokens.access_token)) {
            let got = self.send(&held.setup, exchange).await?;
            match read_userinfo(client, &reply(&got), account.as_ref()) {
                Ok(read) => account = Some(read),
                // The ID token said who it is; that there is no more to be had is no reason to fail.
                Err(Failure::NotOauth(_) | Failure::Refused(_)) if account.is_some() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(account)
    }

    /// Sends one request, once.
    pub(super) async fn send(&self, setup: &SignInSetup, exchange: Exchange) -> Result<HttpResponse, Trouble> {
        let Exchange { method, url, headers, body } = exchange;
        // What the owner named may be in the owner's own network; what a provider names besides may not.
        let place = |text: &String| Endpoint::parse(text).is_ok_and(|named| named.host() == url.host());
        let request = HttpRequest {
            method,
            url: url.as_str().to_owned(),
            headers: headers.into_iter().map(|(name, value)| (name, value.expose().to_owned().into())).collect(),
            body: body.map(|body| body.expose().as_bytes().to_vec()).unwrap_or_default().into(),
            timeout: EXCHANGE_TIMEOUT,
            max_reply_bytes: MAX_REPLY_BYTES,
            owner_configured: setup.parameters.values().any(place),
        };
        self.http.send(request).await.map_err(Trouble::NoReply)
    }
}

/// A reply as the protocol code takes it.
pub(super) fn reply(got: &HttpResponse) -> Reply<'_> {
    Reply {
        status: got.status,
        content_type: got.content_type.as_deref(),
        retry_after: got.retry_after.map(Duration::from_secs),
        body: &got.body,
    }
}
