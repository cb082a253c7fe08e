//! A permit is spent: one run, from a sandbox to a result.

use crate::Broker;
use crate::broker::patiently;
use crate::making::{Making, Seated};
use crate::runs::{EndReason, Ticket};
use crate::settle::finished;
use oauth3_core::{
    AuditEvent, AuditKind, Digest, Execution, Exit, ExitReason, Fault, Job, Limit, OpenedRun, RequestId, RunOutput,
    RunResult, Skill, Status,
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
    /// The code ended, or a limit ended it; with the request as it ran, if that was read.
    Ran(Exit, RunOutput, Option<Box<Execution>>),
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
        if permit.intent_digest() != execution.intent_digest {
            return Outcome::NotRun(Fault::DeniedByPolicy("the permit is for something else".to_owned()));
        }
        let layer = match self.layer(execution).await {
            Ok(layer) => layer,
            Err(fault) => return Outcome::NotRun(fault),
        };
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
                let _ = patiently(self.ports.keeper.close_run(&execution.id, Vec::new())).await;
                return Outcome::NotRun(fault);
            }
        };

        let job = job(execution, layer, opened);
        let exit = tokio::select! {
            biased;
            // The lane's future is dropped before this goes on, and the sandbox is gone with it.
            reason = ticket.ended() => Err(reason),
            ended = async { tokio::join!(lane.run(job), self.announce(&execution.id)) } => Ok(ended),
        };
        // The keeper records the end of the run and what comes of it as one.
        let then = match &exit {
            Ok((exit, _)) => vec![finished(execution, status_of(exit), Some(exit))],
            Err(reason) => ended(execution, *reason),
        };
        match (exit, patiently(self.ports.keeper.close_run(&execution.id, then)).await) {
            (Ok((exit, running)), Ok(output)) => Outcome::Ran(exit, output, running.map(Box::new)),
            (Err(reason), output) => Outcome::Ended(reason, output.ok()),
            (Ok(_), Err(_)) => Outcome::Lost,
        }
    }

    /// The files that the code imports from elsewhere, as they were when it was approved: their digest is in the code.
    async fn layer(&self, execution: &Execution) -> Result<Vec<u8>, Fault> {
        let skill = Skill::read(&execution.code).map_err(|error| Fault::DeniedByPolicy(error.to_string()))?;
        let Some(packages) = skill.packages() else { return Ok(Vec::new()) };
        let layer = self.ports.store.layer(&packages.layer).await?.unwrap_or_default();
        if Digest::of(&layer) == packages.layer {
            return Ok(layer);
        }
        tracing::error!(request = %execution.id, "stored imports are not what they were when they came in");
        Err(Fault::DeniedByPolicy("the stored imports were changed after they were approved".to_owned()))
    }

    /// The keeper has moved the request to `executing`; tell those who wait. Gives the request as it is now.
    async fn announce(&self, id: &RequestId) -> Option<Execution> {
        match self.load(id).await {
            Ok(execution) => {
                self.changed(&execution);
                Some(execution)
            }
            Err(fault) => {
                tracing::warn!(request = %id, %fault, "a start could not be announced");
                None
            }
        }
    }

    async fn store_outcome(&self, id: &RequestId, outcome: Outcome) -> Result<(), Fault> {
        let (execution, outcome) = match outcome {
            // Nobody but this run changes it while it runs, and if somebody did, nothing is written over that.
            Outcome::Ran(exit, output, Some(running)) => (*running, Outcome::Ran(exit, output, None)),
            other => (self.load(id).await?, other),
        };
        let done = match outcome {
            Outcome::Ran(exit, output, _) => {
                let (status, result, error) = ran(&exit, output, &execution);
                self.finish_recorded(execution, status, result, error).await
            }
            Outcome::Ended(reason, output) => {
                if output.is_none() {
                    for event in ended(&execution, reason) {
                        self.record_if_possible(event).await;
                    }
                }
                let result = output.map(|output| unfinished(output, &execution, self.now()));
                self.finish_recorded(execution, status_of_ended(reason), result, Some(reason.sentence().to_owned()))
                    .await
            }
            Outcome::NotRun(Fault::DeniedByPolicy(text)) => self.fail(execution, format!("denied: {text}")).await,
            Outcome::NotRun(fault) => self.fail(execution, format!("failed: it could not be run: {fault}")).await,
            Outcome::Lost => {
                let text = "interrupted: the keeper stopped and its output is lost; it is not run again";
                self.fail(execution, text.to_owned()).await
            }
        };
        done.map(drop)
    }
}

/// What the audit says of a run that somebody ended.
fn ended(execution: &Execution, reason: EndReason) -> Vec<AuditEvent> {
    let cancelled = (reason == EndReason::Cancelled).then(|| {
        let event = AuditEvent::new(AuditKind::Cancelled, crate::submit::actor(&execution.intent.agent));
        event.request(&execution.id).agent(&execution.intent.agent)
    });
    cancelled.into_iter().chain([finished(execution, status_of_ended(reason), None)]).collect()
}

fn status_of_ended(reason: EndReason) -> Status {
    if reason == EndReason::Cancelled { Status::Cancelled } else { Status::Failed }
}

/// Only code that came to its own end, with 0, succeeded.
fn status_of(exit: &Exit) -> Status {
    if exit.reason == ExitReason::Exited && exit.code == 0 { Status::Success } else { Status::Failed }
}

/// What the code gets: its bytes, placeholders by name, and its arguments.
fn job(execution: &Execution, layer: Vec<u8>, opened: OpenedRun) -> Job {
    let mut env: Vec<(String, String)> =
        opened.placeholders.into_iter().map(|(name, placeholder)| (name.into(), placeholder)).collect();
    env.push(("SKILL_ARGS".to_owned(), serde_json::Value::Object(execution.args.clone()).to_string()));
    env.extend(execution.args.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("ARG_{name}"), text)
    }));
    Job { code: execution.code.clone(), layer, env, revealed: opened.revealed, ca_pem: opened.ca_pem }
}

/// The final state of code that came to its end.
fn ran(exit: &Exit, mut output: RunOutput, execution: &Execution) -> (Status, Option<RunResult>, Option<String>) {
    let refusals = std::mem::take(&mut output.refusals);
    let limits = &execution.intent.limits;
    let error = match exit.reason {
        ExitReason::Exited if exit.code == 0 => None,
        ExitReason::Exited => Some(format!("failed: the code ended with exit code {}", exit.code)),
        ExitReason::TimedOut => Some(format!("timeout: ended after {} ms", limits.timeout_ms)),
        ExitReason::OutOfCpu => {
            let seconds = Limit::CpuSeconds.in_its_unit(limits.cpu_ms);
            Some(format!("failed: it used more than {seconds} CPU seconds"))
        }
        ExitReason::OutOfMemory => Some(format!("failed: it needed more than {} MiB of memory", limits.memory_mb)),
        ExitReason::NotStarted => {
            let why = exit.error.as_deref().unwrap_or("the sandbox could not be built");
            Some(format!("failed: it could not be started: {why}"))
        }
    };
    let error = error.map(|text| if refusals.is_empty() { text } else { format!("{text}; {}", told(&refusals)) });
    append_refusals(&mut output, &refusals);
    (status_of(exit), Some(output.into_result(exit)), error)
}

/// What a run that somebody ended wrote so far.
fn unfinished(mut output: RunOutput, execution: &Execution, now: oauth3_core::Timestamp) -> RunResult {
    let refusals = std::mem::take(&mut output.refusals);
    append_refusals(&mut output, &refusals);
    let duration = execution.executed_at.map(|at| now.since(at)).unwrap_or_default();
    // 128 plus SIGKILL, as when a shell reports it.
    let exit = Exit { code: 137, reason: ExitReason::Exited, duration, cpu_ms: None, memory_bytes: None, error: None };
    output.into_result(&exit)
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
