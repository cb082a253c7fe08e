//! A permit is spent: one run, from a sandbox to a result.

use crate::Broker;
use crate::broker::patiently;
use crate::making::{Making, Seated};
use crate::runs::{EndReason, Ticket};
use oauth3_core::{
    AuditEvent, AuditKind, Execution, Exit, ExitReason, Fault, Job, OpenedRun, RequestId, RunOutput, RunResult, Status,
};
use oauth3_policy::Permit;
use std::time::Duration;

/// Refused connections that are told to the agent; the audit has them all.
const MAX_REFUSALS_TOLD: usize = 20;

/// Tries to store how a run ended, and the pause between them.
const STORE_TRIES: u32 = 5;
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// How a run came to its end.
#[derive(Debug, Clone)]
enum Outcome {
    /// The code ended, or a limit ended it.
    Ran(Exit, RunOutput),
    /// Somebody ended it; with what it wrote so far, if it had begun.
    Ended(EndReason, Option<RunOutput>),
    /// It did not begin.
    NotRun(Fault),
    /// It ran, and the keeper did not give its output.
    Lost,
}

impl Broker {
    /// Begins a run that was permitted and stored as approved. Registered when this returns, so that whoever
    /// takes the right away from now on finds it.
    pub(crate) fn begin_run(&self, permit: Permit, execution: Execution) {
        let making = self.make_sandbox(&permit, &execution);
        self.begin_run_in(making, permit, execution);
    }

    /// [`Broker::begin_run`] in a sandbox that is being made already.
    pub(crate) fn begin_run_in(&self, making: Making, permit: Permit, execution: Execution) {
        let ticket = self.runs.begin(&execution);
        if let Some(broker) = self.me() {
            // Not among the broker's own tasks: it ends by its ticket, in order, and never by being dropped.
            tokio::spawn(async move { broker.carry_out(making, permit, execution, ticket).await });
        }
    }

    async fn carry_out(&self, making: Making, permit: Permit, execution: Execution, mut ticket: Ticket) {
        let id = execution.id.clone();
        let outcome = self.run(making, permit, &execution, &mut ticket).await;
        drop(execution);
        for _ in 1..STORE_TRIES {
            match self.store_outcome(&id, outcome.clone()).await {
                Ok(()) => return,
                Err(fault) => tracing::warn!(request = %id, %fault, "the end of a run is not stored yet"),
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
        if let Err(fault) = self.store_outcome(&id, outcome).await {
            tracing::error!(request = %id, %fault, "the end of a run is lost; the next start marks it failed");
        }
    }

    /// Sandbox, keeper, code, keeper, in this order. The permit's conditions are all that the run is made of.
    async fn run(&self, mut making: Making, permit: Permit, execution: &Execution, ticket: &mut Ticket) -> Outcome {
        if *permit.intent_digest() != execution.intent_digest {
            return Outcome::NotRun(Fault::DeniedByPolicy("the permit is for something else".to_owned()));
        }
        let made = tokio::select! {
            biased;
            reason = ticket.ended() => Err(reason),
            made = making.made() => Ok(made),
        };
        let (mut lane, _seat) = match made {
            Ok(Ok(Seated { lane, seat })) => (lane, seat),
            Ok(Err(fault)) => return Outcome::NotRun(fault),
            Err(reason) => {
                making.stop().await;
                return Outcome::Ended(reason, None);
            }
        };
        let fds = match lane.take_fds() {
            Ok(fds) => fds,
            Err(fault) => return Outcome::NotRun(fault),
        };
        // Not to be interrupted: once asked to open, the keeper is told to close.
        let opened = match patiently(self.ports.keeper.open_run(&execution.id, fds)).await {
            Ok(opened) => opened,
            Err(fault) => {
                drop(lane);
                let _ = patiently(self.ports.keeper.close_run(&execution.id)).await;
                return Outcome::NotRun(fault);
            }
        };

        let job = job(&permit, execution, opened);
        let exit = tokio::select! {
            biased;
            // The lane's future is dropped before this goes on, and the sandbox is gone with it.
            reason = ticket.ended() => Err(reason),
            (exit, ()) = async { tokio::join!(lane.run(job), self.announce(&execution.id)) } => Ok(exit),
        };
        match (exit, patiently(self.ports.keeper.close_run(&execution.id)).await) {
            (Ok(exit), Ok(output)) => Outcome::Ran(exit, output),
            (Err(reason), output) => Outcome::Ended(reason, output.ok()),
            (Ok(_), Err(_)) => Outcome::Lost,
        }
    }

    /// The keeper has moved the request to `executing`; tell those who wait.
    async fn announce(&self, id: &RequestId) {
        match self.load(id).await {
            Ok(execution) => self.changed(&execution),
            Err(fault) => tracing::warn!(request = %id, %fault, "a start could not be announced"),
        }
    }

    async fn store_outcome(&self, id: &RequestId, outcome: Outcome) -> Result<(), Fault> {
        let execution = self.load(id).await?;
        let (status, result, error) = match outcome {
            Outcome::Ran(exit, output) => ran(&exit, output, &execution),
            Outcome::Ended(reason, output) => {
                let cancelled = reason == EndReason::Cancelled;
                if cancelled {
                    let event = AuditEvent::new(AuditKind::Cancelled, crate::submit::actor(&execution.intent.agent));
                    self.record_if_possible(event.request(id).agent(&execution.intent.agent)).await;
                }
                let status = if cancelled { Status::Cancelled } else { Status::Failed };
                (
                    status,
                    output.map(|output| unfinished(output, &execution, self.now())),
                    Some(reason.sentence().to_owned()),
                )
            }
            Outcome::NotRun(Fault::DeniedByPolicy(text)) => (Status::Failed, None, Some(format!("denied: {text}"))),
            Outcome::NotRun(fault) => (Status::Failed, None, Some(format!("failed: it could not be run: {fault}"))),
            Outcome::Lost => {
                let text = "interrupted: the keeper stopped and its output is lost; it is not run again";
                (Status::Failed, None, Some(text.to_owned()))
            }
        };
        self.finish(execution, status, result, error).await.map(drop)
    }
}

/// What the code gets: its bytes, placeholders by name, and its arguments.
fn job(permit: &Permit, execution: &Execution, opened: OpenedRun) -> Job {
    let mut env: Vec<(String, String)> = opened
        .placeholders
        .into_iter()
        .filter(|(name, _)| permit.secrets().contains(name))
        .map(|(name, placeholder)| (name.into(), placeholder))
        .collect();
    env.push(("SKILL_ARGS".to_owned(), serde_json::Value::Object(execution.args.clone()).to_string()));
    env.extend(execution.args.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("ARG_{name}"), text)
    }));
    Job { code: execution.code.clone(), env, ca_pem: opened.ca_pem }
}

/// The final state of code that came to its end.
fn ran(exit: &Exit, mut output: RunOutput, execution: &Execution) -> (Status, Option<RunResult>, Option<String>) {
    let refusals = std::mem::take(&mut output.refusals);
    let limits = &execution.intent.limits;
    let error = match exit.reason {
        ExitReason::Exited if exit.code == 0 => None,
        ExitReason::Exited => Some(format!("failed: the code ended with exit code {}", exit.code)),
        ExitReason::TimedOut => Some(format!("timeout: ended after {} ms", limits.timeout_ms)),
        ExitReason::OutOfMemory => Some(format!("failed: it needed more than {} MiB of memory", limits.memory_mb)),
        ExitReason::NotStarted => {
            let why = exit.error.as_deref().unwrap_or("the sandbox could not be built");
            Some(format!("failed: it could not be started: {why}"))
        }
    };
    let error = error.map(|text| if refusals.is_empty() { text } else { format!("{text}; {}", told(&refusals)) });
    let status = if error.is_none() { Status::Success } else { Status::Failed };
    append_refusals(&mut output, &refusals);
    (status, Some(output.into_result(exit)), error)
}

/// What a run that somebody ended wrote so far.
fn unfinished(mut output: RunOutput, execution: &Execution, now: oauth3_core::Timestamp) -> RunResult {
    let refusals = std::mem::take(&mut output.refusals);
    append_refusals(&mut output, &refusals);
    let duration = execution.executed_at.map(|at| now.since(at)).unwrap_or_default();
    // 128 plus SIGKILL, as when a shell reports it.
    output.into_result(&Exit { code: 137, reason: ExitReason::Exited, duration, error: None })
}

/// Says on stderr what the egress refused, for code that swallowed the answer.
fn append_refusals(output: &mut RunOutput, refusals: &[String]) {
    for refusal in refusals.iter().take(MAX_REFUSALS_TOLD) {
        if !output.stderr.is_empty() && !output.stderr.ends_with('\n') {
            output.stderr.push('\n');
        }
        output.stderr.push_str("[oauth3] ");
        output.stderr.push_str(refusal);
        output.stderr.push('\n');
    }
}

fn told(refusals: &[String]) -> String {
    refusals.iter().take(MAX_REFUSALS_TOLD).map(String::as_str).collect::<Vec<_>>().join("; ")
}
