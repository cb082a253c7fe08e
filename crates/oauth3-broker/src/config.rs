//! What a broker is made from.

use oauth3_core::{AgentName, Budget, Ceilings, Clock, Credential, HttpPort, Keeper, Runner, Store};
use oauth3_provider::{Catalog, Identities};
use oauth3_skill::ImportRules;
use std::sync::Arc;
use std::time::Duration;

/// The owner's bounds. All but `runs` are bounds on each agent or request.
#[derive(Clone)]
pub struct BrokerConfig {
    /// How long a request waits for a verdict and for missing secrets; after that, silence is a no.
    pub pending_for: Duration,
    /// Calls that one agent may make within a minute; dry runs and granted runs count.
    pub requests_per_minute: u32,
    /// Open requests that one agent may have.
    pub pending_per_agent: u32,
    /// The most that a request may ask for, and what one gets that does not ask.
    pub ceilings: Ceilings,
    /// Sandboxes that run at once; more wait their turn as `approved`.
    pub runs: u32,
    /// The agent that calls without a token act as, if any.
    pub anonymous_agent: Option<AgentName>,
    /// What skills may import from elsewhere.
    pub imports: ImportRules,
    /// The APIs that are known by name.
    pub catalog: Arc<Catalog>,
    /// How much of an API an agent gets that asked for it itself.
    pub api_budget: Budget,
    /// Those that people sign in with.
    pub identities: Arc<Identities>,
    /// The programs that agents may name as a command, by their bare names.
    pub commands: Vec<String>,
    /// How agents are woken.
    pub wake: WakeConfig,
}

/// How agents are woken when a request reaches its final state. Each that is set is used.
#[derive(Debug, Clone, Default)]
pub struct WakeConfig {
    /// Base address of an OpenClaw gateway, and its hook token.
    pub openclaw: Option<(String, Credential)>,
    /// A program and its arguments, in which `{request_id}` and `{status}` are replaced; no shell. Empty: none.
    pub command: Vec<String>,
    /// Address of a webhook, and the key that its calls are signed with.
    pub webhook: Option<(String, Credential)>,
}

/// The parts that the broker works through.
#[derive(Clone)]
pub struct Ports {
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// The keeper process.
    pub keeper: Arc<dyn Keeper>,
    /// Builds sandboxes.
    pub runner: Arc<dyn Runner>,
    /// Speaks to the outside: skills and wake calls.
    pub http: Arc<dyn HttpPort>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BrokerConfig")
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}
