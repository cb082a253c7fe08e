//! From what came in to one intent: the code is fetched, the effective set made, the limits set.

use crate::{Broker, skill_source};
use oauth3_core::{
    AgentName, AuditEvent, Digest, Draft, Execution, Fault, Intent, RequestId, Resolved, Runtime, Skill, Source,
    Status, SubmissionError, Timestamp,
};
use std::time::Duration;

/// A request that is well-formed and not yet decided.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) intent: Intent,
    description: String,
    skill_url: Option<String>,
    code: Vec<u8>,
    /// What the code imports from elsewhere, to be kept beside it.
    pub(crate) layer: Option<Vec<u8>>,
    args: serde_json::Map<String, serde_json::Value>,
}

impl Broker {
    /// Reads a draft; fetches its code when that is elsewhere.
    pub(crate) async fn take_in(&self, agent: &AgentName, draft: Draft) -> Result<Order, Fault> {
        let mut draft = self.compose_command(agent, draft).await?;
        let source = std::mem::replace(&mut draft.source, Source::Inline(Vec::new()));
        let (code, skill_url) = skill_source::code_of(&*self.ports.http, source).await?;
        let resolved = draft.resolve(&code).map_err(refusal)?;
        let runtime = self.runtime(&resolved)?;
        let limits = self.config.ceilings.limits(resolved.timeout_ms, &resolved.limits).map_err(refusal)?;
        // What was fetched is said here and by nobody else.
        if Skill::read(&code).map_err(refusal)?.packages().is_some() {
            return Err(Fault::InvalidRequest("code cannot say itself what was fetched for it".to_owned()));
        }
        let (code, layer) = match self.granted_imports(agent, &resolved, runtime, &code).await? {
            Some(granted) => (granted, None),
            None => self.imports(runtime, code).await?,
        };
        let stored = if resolved.secrets.is_empty() { Vec::new() } else { self.ports.store.secrets().await? };
        let revealed = stored.into_iter().filter(|secret| secret.uses.reveal.is_on()).map(|secret| secret.name);
        let revealed = revealed.filter(|name| resolved.secrets.contains(name)).collect();
        let intent = Intent {
            agent: agent.clone(),
            skill_id: resolved.skill_id,
            code_digest: Digest::of(&code),
            runtime,
            secrets: resolved.secrets,
            revealed,
            hosts: resolved.hosts,
            limits,
            access: None,
        };
        Ok(Order { intent, description: resolved.description, skill_url, code, layer, args: resolved.args })
    }

    fn runtime(&self, resolved: &Resolved) -> Result<Runtime, Fault> {
        let runner = &self.ports.runner;
        let wanted = resolved.runtime.unwrap_or_else(|| match runner.default_runtime() {
            default if runner.has(default) => default,
            _ => Runtime::Embedded,
        });
        if runner.has(wanted) {
            return Ok(wanted);
        }
        let there: Vec<&str> = Runtime::ALL.into_iter().filter(|r| runner.has(*r)).map(Runtime::as_str).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Err(Fault::UnknownRuntime(format!("runtime {wanted} is not installed here; there is: {there}")))
    }
}

impl Order {
    /// One for the use of an API: its terms stand where code would.
    pub(crate) fn of_access(intent: Intent, description: String, terms: Vec<u8>) -> Self {
        Self { intent, description, skill_url: None, code: terms, layer: None, args: serde_json::Map::new() }
    }

    /// The request as it is first stored.
    pub(crate) fn into_execution(self, now: Timestamp, pending_for: Duration) -> Result<Execution, Fault> {
        let id = RequestId::random().ok_or_else(no_randomness)?;
        Ok(Execution {
            id,
            intent_digest: self.intent.digest(),
            intent: self.intent,
            description: self.description,
            skill_url: self.skill_url,
            code: self.code,
            args: self.args,
            status: Status::Pending,
            created_at: now,
            expires_at: now.plus(pending_for),
            approved_at: None,
            executed_at: None,
            finished_at: None,
            trust: None,
            grant_id: None,
            trusted: false,
            decided_by: None,
            result: None,
            error: None,
            notified_at: None,
        })
    }
}

/// What the audit says about an intent: names and digests.
pub(crate) fn described(event: AuditEvent, intent: &Intent) -> AuditEvent {
    let secrets: Vec<&str> = intent.secrets.iter().map(|name| name.as_str()).collect();
    let hosts: Vec<String> = intent.hosts.iter().map(ToString::to_string).collect();
    let revealed: Vec<&str> = intent.revealed.iter().map(|name| name.as_str()).collect();
    // Only where it is so: most requests reveal nothing.
    let event = if revealed.is_empty() { event } else { event.with("revealed", revealed) };
    event
        .agent(&intent.agent)
        .with("skill_id", intent.skill_id.as_str())
        .with("code_digest", intent.code_digest.to_string())
        .with("intent_digest", intent.digest().to_string())
        .with("runtime", intent.runtime.as_str())
        .with("secrets", secrets)
        .with("hosts", hosts)
}

pub(crate) fn no_randomness() -> Fault {
    Fault::Unavailable("the system has no randomness to give".to_owned())
}

pub(crate) fn refusal(error: SubmissionError) -> Fault {
    let text = error.to_string();
    match error {
        SubmissionError::Conflict(_) => Fault::ConflictingMetadata(text),
        SubmissionError::UnknownRuntime(_) => Fault::UnknownRuntime(text),
        SubmissionError::TooLarge { .. } => Fault::TooLarge(text),
        SubmissionError::Name(_) | SubmissionError::Invalid(_) => Fault::InvalidRequest(text),
    }
}
