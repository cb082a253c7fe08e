//! The certificate authorities of agents, each of which only its own agent is to trust.

use crate::backing::Backing;
use crate::refuse::Refused;
use oauth3_core::AgentName;
use oauth3_dial::crypto_provider;
use oauth3_inject::{Authority, RENEW_AFTER};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio_rustls::rustls::ServerConfig;

/// What is spoken inside a tunnel (RFC 7301).
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// Those that were asked for. Nothing of them is stored: each is derived when it is needed.
#[derive(Default)]
pub(crate) struct Authorities(Mutex<HashMap<AgentName, (Instant, Made)>>);

/// One of them.
#[derive(Clone)]
pub(crate) struct Made {
    /// How its agent's TLS is ended.
    pub(crate) tls: Arc<ServerConfig>,
    /// Its certificate, PEM.
    pub(crate) pem: Arc<str>,
}

impl Authorities {
    /// The authority of an agent.
    pub(crate) fn of(&self, backing: &dyn Backing, agent: &AgentName) -> Result<Made, Refused> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Leaves do not live for ever, and agents come and go.
        made.retain(|_, (since, _)| since.elapsed() < RENEW_AFTER);
        if let Some((_, one)) = made.get(agent) {
            return Ok(one.clone());
        }
        let failed = |error: oauth3_inject::InjectError| {
            tracing::error!(%error, "an agent's certificate authority cannot be made");
            Refused::unavailable("the certificate authority of this agent cannot be made")
        };
        let provider = Arc::new(crypto_provider());
        let authority = Authority::of_agent(&provider, &backing.authority_seed(agent)?, agent).map_err(failed)?;
        let authority = Arc::new(authority);
        let tls = Arc::new(authority.server_config(provider, &PROTOCOLS).map_err(failed)?);
        let one = Made { tls, pem: authority.pem().into() };
        made.insert(agent.clone(), (Instant::now(), one.clone()));
        Ok(one)
    }
}
