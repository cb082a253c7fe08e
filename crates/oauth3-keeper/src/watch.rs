//! Writes down what the data plane of one run does.

use crate::audit::{ACTOR, Audit};
use crate::sign_in::SignIns;
use async_trait::async_trait;
use oauth3_core::{AgentName, AuditEvent, AuditKind, Fault, Host, RequestId, SecretName};
use oauth3_inject::Observer;
use oauth3_vault::SecretBytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Refusals of one run that are recorded; code in a loop must not fill the disk. The data plane bounds each kind
/// before, at less than this in all: a bound that one kind could use up would hide the others.
const MAX_RECORDED_REFUSALS: u32 = 256;
/// Longest text of a refusal that is recorded, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// The observer of one run.
pub(crate) struct Watch {
    audit: Arc<Audit>,
    id: RequestId,
    agent: AgentName,
    sign_ins: Arc<SignIns>,
    refusals: AtomicU32,
}

impl Watch {
    pub(crate) fn new(audit: Arc<Audit>, sign_ins: Arc<SignIns>, id: RequestId, agent: AgentName) -> Self {
        Self { audit, id, agent, sign_ins, refusals: AtomicU32::new(0) }
    }

    /// An event about this run, by the keeper.
    pub(crate) fn event(&self, kind: AuditKind) -> AuditEvent {
        self.event_of(kind, ACTOR)
    }

    /// An event about this run, by somebody else.
    pub(crate) fn event_of(&self, kind: AuditKind, actor: impl Into<String>) -> AuditEvent {
        AuditEvent::new(kind, actor).request(&self.id).agent(&self.agent)
    }

    /// Writes them down, all or nothing.
    pub(crate) async fn record(&self, events: &[AuditEvent]) -> Result<(), Fault> {
        self.audit.append(events).await
    }
}

#[async_trait]
impl Observer for Watch {
    async fn secret_used(&self, secret: &SecretName, host: &Host) -> Result<(), ()> {
        let event = self.event(AuditKind::SecretUsed).with("secret", secret.as_str()).with("host", host.to_string());
        self.audit.append(&[event]).await.map_err(|fault| {
            tracing::error!(request = %self.id, %fault, "the use of a secret cannot be recorded; it is refused");
        })
    }

    async fn newer_token(&self, token: &SecretName, version: u32, refused: bool) -> Option<(u32, SecretBytes)> {
        match self.sign_ins.newer(token, version, refused).await {
            Ok(newer) => newer,
            Err(fault) => {
                // The host says what it thinks of the token that is there.
                tracing::info!(request = %self.id, %fault, "a token was not renewed");
                None
            }
        }
    }

    async fn refused(&self, host: &str, reason: &str, placeholder: bool) {
        if self.refusals.fetch_add(1, Ordering::Relaxed) >= MAX_RECORDED_REFUSALS {
            return;
        }
        let short = |text: &str| text.chars().take(MAX_TEXT_CHARS).collect::<String>();
        let event = self.event(AuditKind::EgressRefused).with("host", short(host)).with("reason", short(reason));
        // Only where it is so: most rows have nothing to do with a secret.
        let event = if placeholder { event.with("placeholder", true) } else { event };
        if let Err(fault) = self.audit.append(&[event]).await {
            tracing::error!(request = %self.id, %fault, "a refusal cannot be recorded");
        }
    }
}
