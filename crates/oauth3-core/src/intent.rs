//! What is asked for: the thing that is shown, hashed, decided on and run.

use crate::{Access, AgentName, Digest, DigestBuilder, Host, Limits, Runtime, SecretName, SkillId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Labels of the digest: four limits; all limits; revealed secrets too; the use of an API.
const FIRST: &str = "oauth3 intent v1";
const SECOND: &str = "oauth3 intent v2";
const THIRD: &str = "oauth3 intent v3";
const ACCESS: &str = "oauth3 access v1";

/// Everything that a standing grant binds. Change one part and the digest differs.
///
/// Arguments are not in it: a grant covers the code whatever its arguments are, and the approval
/// card shows those of the request at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Who asks.
    pub agent: AgentName,
    /// What the agent calls it.
    pub skill_id: SkillId,
    /// Digest of all bytes that will run.
    pub code_digest: Digest,
    /// What runs them.
    pub runtime: Runtime,
    /// The secrets whose placeholders the code gets.
    pub secrets: BTreeSet<SecretName>,
    /// Those of them whose real values it gets instead, as the owner had said when it was asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revealed: BTreeSet<SecretName>,
    /// The hosts that it may talk to.
    pub hosts: BTreeSet<Host>,
    /// What it may use.
    pub limits: Limits,
    /// The use of an API that is asked for in place of a run; then the code is its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

impl Intent {
    /// The digest that grants and approvals are keyed by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let hosts: Vec<String> = self.hosts.iter().map(|h| format!("{}:{}", h.name(), h.port())).collect();
        let limits = &self.limits;
        // A request that an earlier version could have stored keeps the digest that was stored with it. Each label
        // covers exactly what those before it cannot say, so no two intents share a digest.
        let label = match (&self.access, self.revealed.is_empty(), limits.is_of_first_version()) {
            (Some(_), ..) => ACCESS,
            (None, true, true) => FIRST,
            (None, true, false) => SECOND,
            (None, false, _) => THIRD,
        };
        let mut digest = DigestBuilder::new(label)
            .field(self.agent.as_ref())
            .field(self.skill_id.as_ref())
            .field(self.code_digest.as_bytes())
            .field(self.runtime.as_str().as_bytes())
            .list(self.secrets.iter())
            .list(hosts.iter())
            .number(limits.timeout_ms)
            .number(limits.memory_mb)
            .number(limits.output_bytes)
            .number(u64::from(limits.processes));
        if label != FIRST {
            digest = digest
                .number(limits.cpu_ms)
                .number(limits.file_mb)
                .number(limits.open_files)
                .number(limits.egress_mb)
                .number(limits.egress_requests);
        }
        if label == THIRD || label == ACCESS {
            digest = digest.list(self.revealed.iter());
        }
        if let Some(access) = &self.access {
            // The form of JSON is the type's own, so it is the same each time.
            digest = digest.field(serde_json::to_string(access).unwrap_or_default().as_bytes());
        }
        digest.finish()
    }
}
