//! Tells the owner when code tried to take a secret where it may not go.

use super::Shared;
use super::error::TelegramError;
use super::html::Html;
use crate::card::{Card, Refused};
use crate::visible;
use oauth3_core::{Execution, RequestId, Timestamp};
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

/// Most refusals of one run that are counted; the audit keeps no more of them.
const MAX_COUNTED: u32 = 256;
/// Most messages within [`WINDOW`]; code in a loop must not fill the chat. Every card has its count all the same.
const MAX_ALARMS: usize = 5;
const WINDOW: Duration = Duration::from_secs(600);
/// Longest sentence in a message, in characters.
const MAX_SENTENCE_CHARS: usize = 200;

/// What was told lately: when, and about which request.
#[derive(Default)]
pub(super) struct Alarms(VecDeque<(Timestamp, RequestId)>);

impl Alarms {
    /// Whether to tell of this request now. Each once, and not too many of them.
    fn admit(&mut self, id: &RequestId, now: Timestamp) -> bool {
        self.0.retain(|(at, _)| now.since(*at) < WINDOW);
        if self.0.len() >= MAX_ALARMS || self.0.iter().any(|(_, told)| told == id) {
            return false;
        }
        self.0.push_back((now, id.clone()));
        true
    }
}

impl Shared {
    /// What the egress refused to a request that is over. Tells the owner if a placeholder was among it and the
    /// request ended just now.
    pub(super) async fn refused(&self, execution: &Execution) -> Result<Refused, TelegramError> {
        if !execution.status.is_final() || execution.executed_at.is_none() {
            return Ok(Refused::default());
        }
        let rows = self.notes.0.refusals(&execution.id, MAX_COUNTED).await?;
        let refused = Refused::of(&rows);
        let now = self.clock.now();
        let recent = execution.finished_at.is_some_and(|at| now.since(at) < WINDOW);
        if let Some(worst) = refused.worst.as_ref().filter(|_| recent) {
            let admitted = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).admit(&execution.id, now);
            if admitted {
                self.tell(message(execution, worst));
            }
        }
        Ok(refused)
    }
}

fn message(execution: &Execution, worst: &str) -> Html {
    let sentence: String = visible::one_line(worst).chars().take(MAX_SENTENCE_CHARS).collect();
    Html::new()
        .bold("⚠️ Code tried to take a secret where it may not go")
        .end()
        .field("Agent", execution.intent.agent.as_str())
        .field("Skill", execution.intent.skill_id.as_str())
        .field("Request", execution.id.as_str())
        .code(&sentence)
        .end()
        .text("It was refused. More: oauth3 audit")
}

impl Card {
    /// With what the egress refused.
    pub(super) fn with(mut self, refused: &Refused) -> Self {
        self.refused = refused.count;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_told_once_and_a_flood_is_bounded() {
        let mut alarms = Alarms::default();
        let ids: Vec<RequestId> = (0..9).map(|_| RequestId::random().unwrap()).collect();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert!(alarms.admit(&ids[0], at(0)) && !alarms.admit(&ids[0], at(1)));
        assert_eq!(ids.iter().filter(|id| alarms.admit(id, at(2))).count(), MAX_ALARMS - 1);
        assert!(!alarms.admit(&ids[8], at(3)));
        assert!(alarms.admit(&ids[8], at(2000)), "later there is room again");
    }
}
