//! What cards look like.

use crate::world::{ceilings, execution, finished, record, with_secrets};
use oauth3_approve::{Card, render_text};
use oauth3_core::{Execution, RequestId, SecretName, Status, Trust};
use serde_json::json;

fn full() -> Execution {
    let mut execution = with_secrets(&["OPENAI_API_KEY", "OTHER_KEY"]);
    execution.id = RequestId::parse("req_aaaabbbbccccdddd").unwrap();
    execution.description = "Asks a model; \u{202e}see <b>this</b>\nnext".to_owned();
    execution.skill_url = Some("https://example.com/skill.ts".to_owned());
    execution.args.insert("prompt".to_owned(), json!("Hello\nworld"));
    execution
}

fn card(execution: &Execution) -> String {
    let stored = [record("OPENAI_API_KEY", &["api.example.com", "files.example.com:8443"])];
    render_text(&Card::new(execution, &stored, &[SecretName::parse("OTHER_KEY").unwrap()], &ceilings()))
}

#[test]
fn a_pending_card() {
    insta::assert_snapshot!(card(&full()));
}

#[test]
fn headlines() {
    let mut lines = String::new();
    for status in Status::ALL {
        let mut execution = full();
        execution.decided_by = Some("telegram:42".to_owned());
        execution.trust = Some(Trust::Day);
        let execution = match status {
            Status::Success => finished(execution, 0),
            Status::Failed => finished(execution, 3),
            _ => Execution { status, ..execution },
        };
        let headline = card(&execution).lines().next().unwrap().to_owned();
        lines.push_str(&format!("{status}: {headline}\n"));
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn the_least_card() {
    let mut execution = execution();
    execution.id = RequestId::parse("req_aaaabbbbccccdddd").unwrap();
    execution.description.clear();
    execution.intent.hosts.clear();
    insta::assert_snapshot!(render_text(&Card::new(&execution, &[], &[], &ceilings())));
}

#[tokio::test]
async fn the_message() {
    let world = crate::world::World::new().await;
    world.broker.secrets.lock().unwrap().push(record("OPENAI_API_KEY", &["api.example.com"]));
    let id = world.submit(full());
    let card = world.card(&id, "Approval wanted").await;
    let sent = world.bot_api.traffic().into_iter().find_map(|t| match t {
        e2e::telegram_emulator::Traffic::Call { method, params, .. } if method == "sendMessage" => Some(params),
        _ => None,
    });
    let labels: Vec<_> = card.buttons.iter().map(|(label, _)| label.as_str()).collect();
    let text = sent.unwrap()["text"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(format!("{text}\n\n{labels:?}"));
}
