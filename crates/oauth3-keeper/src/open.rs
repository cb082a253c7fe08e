//! Opens a run: reads the request, decides again, records, takes it, and only then unseals.

use crate::audit::Audit;
use crate::capture::Capture;
use crate::reveal::Revealed;
use crate::runs::{Run, Runs};
use crate::shards::Shards;
use crate::sign_in::SignIns;
use crate::variables::variables;
use crate::watch::Watch;
use oauth3_core::{
    AuditEvent, AuditKind, Clock, Digest, Execution, Fault, LaneFds, OpenedRun, RequestId, Reveal, SecretName, Status,
    Store,
};
use oauth3_dial::Dialer;
use oauth3_inject::{Means, lend, open_egress};
use oauth3_policy::{Basis, Decision, Permit, decide, gather};
use oauth3_vault::{Lease, Scrubber, Vault};
use std::sync::Arc;

/// What runs are opened with.
pub(crate) struct Opener {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dialer: Dialer,
    pub(crate) sign_ins: Arc<SignIns>,
    pub(crate) runs: Runs,
    pub(crate) shards: Arc<Shards>,
}

impl Opener {
    /// Opens the run of an approved request. Once per request: it is `executing` from then on, whatever happens.
    pub(crate) async fn open(&self, id: &RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        let opening = self.runs.begin(id)?;
        let execution = self.store.execution(id).await?.ok_or_else(|| Fault::NotFound("no such request".into()))?;
        let permit = self.permit(&execution).await?;
        let (audit, sign_ins) = (Arc::clone(&self.audit), Arc::clone(&self.sign_ins));
        let watch = Arc::new(Watch::new(audit, sign_ins, id.clone(), execution.intent.agent.clone()));
        self.take(execution, &permit, &watch).await?;
        let opened = self.serve(permit, lane, Arc::clone(&watch)).await;
        match opened.and_then(|(run, opened)| opening.opened(run).map(|()| opened)) {
            Ok(opened) => Ok(opened),
            Err(fault) => {
                let event = watch.event(AuditKind::RunClosed).with("opened", false).with("reason", fault.to_string());
                watch.record(&[event]).await?;
                Err(fault)
            }
        }
    }

    /// Checks that the stored bytes are those that were approved, and asks the PDP.
    async fn permit(&self, execution: &Execution) -> Result<Permit, Fault> {
        let intent = &execution.intent;
        let whole = Digest::of(&execution.code) == intent.code_digest && intent.digest() == execution.intent_digest;
        if !whole {
            tracing::error!(request = %execution.id, "a stored request is not what it was when it came in");
            return Err(Fault::DeniedByPolicy("the stored request was changed after it was made".into()));
        }
        // The PDP also permits what waits for its last secret; running starts from `approved` only.
        if execution.status == Status::AwaitingSecrets {
            return Err(Fault::DeniedByPolicy("it still waits for a secret".into()));
        }
        let gathered = gather(&*self.store, intent, Some(execution)).await?;
        match decide(&gathered.stored(execution, self.clock.now())) {
            Decision::Permit(permit) => Ok(permit),
            Decision::Ask(reason) => Err(Fault::DeniedByPolicy(reason.to_string())),
            Decision::Deny(reason) => Err(Fault::DeniedByPolicy(reason.to_string())),
        }
    }

    /// Records the run and takes the request, so that nobody can run it a second time.
    async fn take(&self, mut execution: Execution, permit: &Permit, watch: &Watch) -> Result<(), Fault> {
        let names = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>();
        let (basis, grant) = match permit.basis() {
            Basis::Verdict => ("verdict".to_owned(), None),
            Basis::Grant(id) => (id.to_string(), Some(id)),
        };
        let actor = format!("agent:{}", execution.intent.agent);
        let granted = grant.map(|id| watch.event_of(AuditKind::Granted, actor).with("grant_id", id.as_str()));
        let event = watch
            .event(AuditKind::RunOpened)
            .with("intent", permit.intent_digest().to_string())
            .with("code", execution.intent.code_digest.to_string())
            .with("secrets", names(&mut permit.secrets().iter().map(ToString::to_string)))
            .with("hosts", names(&mut permit.hosts().iter().map(ToString::to_string)))
            .with("basis", basis);
        let reveals = |name: &SecretName| watch.event(AuditKind::SecretRevealed).with("secret", name.as_str());
        let revealed = permit.revealed().iter().map(reveals);
        let events: Vec<AuditEvent> = granted.into_iter().chain([event]).chain(revealed).collect();
        execution.status = Status::Executing;
        execution.executed_at = Some(self.clock.now());
        if self.audit.append_and_move(&events, &execution, Status::Approved).await? {
            return Ok(());
        }
        Err(Fault::AlreadyDecided("this request is not approved any more, or ran before".into()))
    }

    /// Unseals what the permit names and serves the lane.
    async fn serve(&self, permit: Permit, lane: LaneFds, watch: Arc<Watch>) -> Result<(Run, OpenedRun), Fault> {
        let mut leases = Vec::with_capacity(permit.secrets().len());
        for name in permit.secrets() {
            leases.extend(self.lend(name, &permit).await?);
        }
        let mut placeholders = variables(&leases, permit.revealed());
        let values = Revealed::new(&leases, permit.revealed())?;
        let revealed = values.names();
        let scrubber = Scrubber::new(&leases);
        let limit = permit.limits().output_bytes;
        let LaneFds { listeners, stdout, stderr, reveal } = lane;
        let capture = |pipe| {
            Capture::start(pipe, &scrubber, limit).map_err(|error| {
                tracing::error!(kind = %error.kind(), "a lane's pipe cannot be read");
                Fault::Unavailable("the sandbox's pipes cannot be read".into())
            })
        };
        let (stdout, stderr) = (capture(stdout)?, capture(stderr)?);
        let observer = Arc::clone(&watch);
        let (dialer, clock, leases) = (self.dialer.clone(), Arc::clone(&self.clock), leases.into());
        let means = Means { dialer, observer, clock, threads: self.shards.all() };
        let open = || open_egress(permit, leases, scrubber.clone(), listeners, means);
        let egress = self.shards.on_next(open).map_err(|error| {
            tracing::error!(%error, "an egress cannot be opened");
            Fault::Unavailable("the sandbox's network cannot be served".into())
        })?;
        // Last: all that could still go wrong went well, and the record is written.
        let delivery = values.deliver(reveal).map_err(|error| {
            tracing::error!(kind = %error.kind(), "a lane's pipe cannot be written");
            Fault::Unavailable("the sandbox's pipes cannot be written".into())
        })?;
        placeholders.extend_from_slice(egress.variables());
        let opened = OpenedRun { placeholders, revealed, ca_pem: egress.ca_pem().to_owned() };
        Ok((Run { egress, stdout, stderr, scrubber, watch, delivery }, opened))
    }

    async fn lend(&self, name: &SecretName, permit: &Permit) -> Result<Vec<Lease>, Fault> {
        if name.connection().is_some() {
            self.sign_ins.fresh(name).await?;
        }
        let sealed = self.store.sealed_secret(name).await?;
        let sealed = sealed.ok_or_else(|| Fault::DeniedByPolicy(format!("{name} was removed meanwhile")))?;
        let value = self.vault.unseal(&sealed).map_err(|error| {
            tracing::error!(%error, "a secret cannot be lent");
            Fault::Unavailable(format!("{name} cannot be unsealed; set it again"))
        })?;
        // What the decision was made from could have been edited; what a value unseals with is what the owner said.
        let (reveal, shown) = (sealed.record.uses.reveal, permit.revealed().contains(name));
        if reveal.is_on() != shown || (reveal == Reveal::Once && !permit.is_for_once()) {
            return Err(Fault::DeniedByPolicy(format!("{name} is not revealed as it was approved; ask again")));
        }
        let (now, run) = (self.clock.now(), permit.limits().timeout());
        let mut leases = lend(&sealed.record, value, now, run).map_err(|error| {
            tracing::error!(%error, "a secret cannot be lent");
            Fault::Unavailable(format!("{name}: {error}"))
        })?;
        if reveal.is_on() {
            // Code that holds the value can send it to each of them: all may know it, and their replies are scrubbed.
            leases.iter_mut().for_each(|lease| lease.hosts.extend(permit.hosts().iter().cloned()));
        }
        Ok(leases)
    }
}
