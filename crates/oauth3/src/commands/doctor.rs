//! `doctor`: one line for each part, with the mend.

use super::Outcome;
use crate::config::ImportsSection;
use crate::output::{Output, green, red, wrapped};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::wiring;
use anyhow::Result;
use oauth3_core::{HttpPort, HttpRequest, OwnerPort, SignInState};
use oauth3_dial::{Dialer, HttpClient};
use oauth3_sandbox::{Enclosure, enclose};
use serde::Serialize;
use std::time::Duration;

/// Longest wait for a peer to answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// A program that every machine has and that does nothing.
const TRIAL: &str = "true";
/// Where the details begin on a terminal.
const DETAIL_COLUMN: usize = 19;
/// Largest answer of a peer that is read, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    /// Not needed for the main job, so not a failure.
    optional: bool,
    detail: String,
    mend: String,
}

/// Checks everything; fails when something that is needed is missing.
pub(crate) async fn doctor(settings: Result<Settings>, out: Output) -> Result<Outcome> {
    let mut checks = Vec::new();
    match settings {
        Err(error) => {
            checks.push(bad("configuration", format!("{error:#}"), "mend oauth3.toml or the variable it names"))
        }
        Ok(settings) => {
            let file = settings.config_file.as_ref().map_or("defaults".into(), |f| f.display().to_string());
            checks.push(good("configuration", file));
            keeper(&settings, &mut checks).await;
            sandbox(&settings, &mut checks).await;
            wrap(&mut checks).await;
            peers(&settings, &mut checks).await;
        }
    }
    let failed = checks.iter().any(|c| !c.ok && !c.optional);
    if out.is_json() {
        out.json(&serde_json::json!({ "ok": !failed, "checks": checks }));
    } else {
        for check in &checks {
            let mark = if check.ok {
                green("✓")
            } else if check.optional {
                "·".into()
            } else {
                red("✗")
            };
            let mend = if check.ok || check.mend.is_empty() { String::new() } else { format!(" — {}", check.mend) };
            let width = out.width().map_or(usize::MAX, |width| width.saturating_sub(DETAIL_COLUMN));
            for (n, line) in wrapped(&format!("{}{mend}", check.detail), width).into_iter().enumerate() {
                let head = if n == 0 { format!("{mark} {:<16} ", check.name) } else { " ".repeat(DETAIL_COLUMN) };
                out.line(head + &line);
            }
        }
    }
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

async fn keeper(settings: &Settings, checks: &mut Vec<Check>) {
    if !settings.home.is_initialised() {
        checks.push(bad("data directory", format!("{} is empty", settings.home.dir().display()), "run `oauth3 init`"));
        return;
    }
    checks.push(good("data directory", settings.home.dir().display().to_string()));
    match Owner::reach(settings).await {
        Err(error) => checks.push(bad("keeper", format!("{error:#}"), "see its own message above")),
        Ok(owner) => {
            let gateway = if owner.running().is_ok() { "runs" } else { "does not run" };
            checks.push(Check {
                optional: true,
                ..line("gateway", owner.running().is_ok(), gateway, "start it with `oauth3 serve`")
            });
            checks.push(good("keeper", "unlocks the vault".into()));
            match owner.port().overview().await {
                Ok(state) => {
                    let detail = format!("answers; {} open, {} running", state.open_requests, state.running);
                    checks.push(good("store", detail));
                    checks.push(line(
                        "kill switch",
                        !state.kill_switch,
                        if state.kill_switch { "on" } else { "off" },
                        "`oauth3 kill-switch off`",
                    ));
                }
                Err(fault) => checks.push(bad("store", fault.to_string(), "is the disk full, or the file another's?")),
            }
            sign_ins(owner.port(), checks).await;
            match owner.port().verify_audit().await {
                Ok(report) => {
                    let detail = report.fault.clone().unwrap_or_else(|| format!("holds, {} rows", report.rows));
                    checks.push(line(
                        "audit chain",
                        report.fault.is_none(),
                        &detail,
                        "somebody changed the database; keep a copy and look",
                    ));
                }
                Err(fault) => checks.push(bad("audit chain", fault.to_string(), "")),
            }
        }
    }
}

/// A line for each connection that nobody is signed in at.
async fn sign_ins(port: &dyn OwnerPort, checks: &mut Vec<Check>) {
    let Ok(sign_ins) = super::sign_ins::look(port).await else { return };
    for sign_in in sign_ins.all().filter(|sign_in| sign_in.record.state != SignInState::SignedIn) {
        let detail = format!("{}: {}", sign_in.name, super::sign_ins::state(&sign_in.record));
        let mend = format!("`oauth3 login {}`", sign_in.name);
        checks.push(Check { optional: true, ..line("sign-in", false, &detail, &mend) });
    }
}

async fn sandbox(settings: &Settings, checks: &mut Vec<Check>) {
    checks.push(good("executor", settings.config.executor.clone()));
    match wiring::probe(settings).await {
        Err(error) => checks.push(bad("sandbox", format!("{error:#}"), "")),
        Ok(probes) => {
            for probe in probes {
                // Only the sandbox itself is needed; its extra walls and the runtimes are as they are found.
                let optional = probe.name != "sandbox";
                checks.push(Check { name: probe.name, ok: probe.ok, optional, detail: probe.detail, mend: probe.mend });
            }
        }
    }
}

/// Whether `oauth3 wrap` can give a program a network of its own.
async fn wrap(checks: &mut Vec<Check>) {
    let trial = |helper| Enclosure {
        helper,
        command: vec![TRIAL.into()],
        variables: Vec::new(),
        ports: Vec::new(),
        hide: Vec::new(),
    };
    let outcome = match std::env::current_exe() {
        Ok(helper) => match enclose(trial(helper)).await {
            Ok((mut child, _)) => child.wait().await.map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    };
    let detail = outcome.as_ref().err().cloned().unwrap_or_else(|| "a program gets a network of its own".to_owned());
    checks.push(Check { optional: true, ..line("wrap", outcome.is_ok(), &detail, "") });
}

async fn peers(settings: &Settings, checks: &mut Vec<Check>) {
    let client = wiring::dial(settings).and_then(|config| Ok(HttpClient::new(Dialer::new(config)?)));
    let client = match client {
        Ok(client) => client,
        Err(error) => return checks.push(bad("outward", format!("{error:#}"), "mend [egress] extra_ca")),
    };
    let telegram = match wiring::telegram(settings) {
        Some(config) if config.chat_id == 0 => bad(
            "telegram",
            "a token but no chat".into(),
            "while `oauth3 serve` runs, send /id to the bot; then set TELEGRAM_CHAT_ID to its answer",
        ),
        Some(config) if config.chat_id < 0 && config.owner_ids.is_empty() => {
            bad("telegram", "a group in which nobody may decide".into(), "set TELEGRAM_OWNER_IDS")
        }
        Some(config) => {
            let url = format!("{}/bot{}/getMe", config.api_url, config.token.reveal());
            let answer = client.send(request("GET", url)).await;
            let ok = answer.as_ref().is_ok_and(|a| a.status == 200);
            let detail = answer.map_or_else(|e| e, |a| format!("answers {}", a.status));
            line("telegram", ok, &detail, "is the token right, and the api_url reachable?")
        }
        None => Check {
            optional: true,
            ..bad(
                "telegram",
                "not configured".into(),
                "set TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID to approve on the phone",
            )
        },
    };
    checks.push(telegram);
    checks.push(imports(&settings.config.imports));
    let notify = &settings.config.notify;
    if !notify.openclaw_url.is_empty() {
        let url = format!("{}/health", notify.openclaw_url.trim_end_matches('/'));
        let answer = client.send(request("GET", url)).await;
        let ok = answer.is_ok();
        checks.push(line(
            "openclaw",
            ok,
            &answer.map_or_else(|e| e, |_| "reachable".into()),
            "is its gateway running?",
        ));
    } else if notify.command.is_empty() && notify.webhook_url.is_empty() {
        checks.push(Check {
            optional: true,
            ..bad("notifications", "none".into(), "agents poll; [notify] wakes them instead")
        });
    } else {
        checks.push(good("notifications", "configured".into()));
    }
}

/// Which of the sources of imports are allowed, and where they are. That none is, is how it begins.
fn imports(imports: &ImportsSection) -> Check {
    if imports.allow.is_empty() {
        let mend = "skills bring all of their code; [imports] allow lets them name pinned packages (docs/skills.md)";
        return Check { optional: true, ..bad("imports", "none allowed".into(), mend) };
    }
    let place = |source: &String| match source.as_str() {
        "npm" => format!("npm from {}", imports.npm_registry),
        "jsr" => format!("jsr from {}", imports.jsr_registry),
        other => other.to_owned(),
    };
    good("imports", format!("allowed: {}", imports.allow.iter().map(place).collect::<Vec<_>>().join(", ")))
}

fn request(method: &'static str, url: String) -> HttpRequest {
    HttpRequest {
        method,
        url,
        headers: vec![],
        body: vec![].into(),
        timeout: PEER_TIMEOUT,
        max_reply_bytes: MAX_REPLY_BYTES,
        owner_configured: true,
    }
}

fn line(name: &str, ok: bool, detail: &str, mend: &str) -> Check {
    Check { name: name.into(), ok, optional: false, detail: detail.into(), mend: mend.into() }
}

fn good(name: &str, detail: String) -> Check {
    line(name, true, &detail, "")
}

fn bad(name: &str, detail: String, mend: &str) -> Check {
    line(name, false, &detail, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_imported_is_told_with_its_place() {
        let none = imports(&ImportsSection::default());
        assert!(!none.ok && none.optional && none.mend.contains("[imports] allow"));
        let section = ImportsSection {
            allow: vec!["npm".into(), "https".into()],
            npm_registry: "https://npm.example".into(),
            ..ImportsSection::default()
        };
        assert_eq!(imports(&section).detail, "allowed: npm from https://npm.example, https");
    }
}
