//! What a skill imports from elsewhere: fetched before the owner is asked, and not again once it was granted.

use crate::Broker;
use oauth3_core::{AgentName, Digest, Fault, Grant, Packages, Resolved, Runtime, Skill, Status};
use oauth3_skill::ImportError;
use std::collections::BTreeSet;
use std::time::Duration;

/// Time for everything that a skill imports from elsewhere.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(120);

impl Broker {
    /// The code as the owner granted it, with what it imports pinned in it, when those files are still here as they
    /// were: then nothing is fetched. Whether the grant covers the rest of the request is decided later.
    pub(crate) async fn granted_imports(
        &self,
        agent: &AgentName,
        resolved: &Resolved,
        runtime: Runtime,
        code: &[u8],
    ) -> Result<Option<Vec<u8>>, Fault> {
        let rules = &self.config.imports;
        if !rules.allow_something() || !matches!(runtime, Runtime::Deno | Runtime::Node) {
            return Ok(None);
        }
        let (store, now) = (&self.ports.store, self.now());
        let stands = |grant: &Grant| grant.revoked_at.is_none() && grant.expires_at.is_none_or(|at| now < at);
        for grant in store.grants().await?.into_iter().filter(stands) {
            let intent = &grant.intent;
            if intent.agent != *agent
                || intent.skill_id != resolved.skill_id
                || intent.runtime != runtime
                || intent.access.is_some()
            {
                continue;
            }
            let Some(granted) = store.code(&intent.code_digest).await? else { continue };
            let Some(packages) = packages(&granted).filter(|packages| rules.cover(packages)) else { continue };
            let layer = packages.layer;
            let same = oauth3_skill::with_packages(code, runtime, packages).is_some_and(|code| code == granted);
            if same && Digest::of(&granted) == intent.code_digest && self.keeps(&layer).await? {
                return Ok(Some(granted));
            }
        }
        Ok(None)
    }

    /// The code with what it imports from elsewhere pinned in it, and those files.
    pub(crate) async fn imports(&self, runtime: Runtime, code: Vec<u8>) -> Result<(Vec<u8>, Option<Vec<u8>>), Fault> {
        let rules = &self.config.imports;
        let work = oauth3_skill::resolve_imports(&*self.ports.http, rules, runtime, &code);
        let Ok(resolved) = tokio::time::timeout(IMPORT_TIMEOUT, work).await else {
            return Err(Fault::SkillFetchFailed("the imports took too long to fetch".to_owned()));
        };
        match resolved {
            Ok(None) => Ok((code, None)),
            Ok(Some(resolved)) => Ok((resolved.code, Some(resolved.layer))),
            Err(error @ ImportError::Refused(_)) => Err(Fault::InvalidRequest(error.to_string())),
            Err(error @ ImportError::Fetch(_)) => Err(Fault::SkillFetchFailed(error.to_string())),
            Err(error @ ImportError::TooLarge(_)) => Err(Fault::TooLarge(error.to_string())),
        }
    }

    /// What requests that are not over yet import.
    pub(crate) async fn needed_layers(&self) -> Result<BTreeSet<Digest>, Fault> {
        let open = [Status::Pending, Status::AwaitingSecrets, Status::Approved, Status::Executing];
        let open = self.ports.store.executions(&open, u32::MAX).await?;
        Ok(open.iter().filter_map(|execution| packages(&execution.code)).map(|packages| packages.layer).collect())
    }

    /// Whether these files are still here, as they were.
    async fn keeps(&self, layer: &Digest) -> Result<bool, Fault> {
        Ok(self.ports.store.layer(layer).await?.is_some_and(|bytes| Digest::of(&bytes) == *layer))
    }
}

/// What stored code imports from elsewhere, if anything.
fn packages(code: &[u8]) -> Option<Packages> {
    Skill::read(code).ok()?.packages().cloned()
}
