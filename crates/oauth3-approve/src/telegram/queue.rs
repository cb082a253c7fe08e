//! What is waiting to be delivered, and how fast it may go out.

use super::html::Html;
use super::notes::{Action, Prompt};
use oauth3_core::{ApiId, RequestId};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most answers that wait; the oldest gives way. Cards are not among them.
const MAX_ANSWERS: usize = 200;
/// Messages that may go out at once before the pace of the chat counts.
const BURST: f64 = 5.0;
/// Pace after that: Telegram allows about one a second in a private chat and 20 a minute in a group.
const PRIVATE_INTERVAL: Duration = Duration::from_millis(1050);
const GROUP_INTERVAL: Duration = Duration::from_secs(3);

/// One thing to be delivered.
#[derive(Debug)]
pub(crate) enum Job {
    /// Show this request as it stands.
    Card(RequestId),
    /// Show the sign-in of this connection as it stands.
    SignIn(ApiId),
    /// Say something.
    Say(Say),
    /// Replace a message of ours and take its buttons off.
    Settle { message_id: i32, html: Html },
    /// Delete a message.
    Delete { chat_id: i64, message_id: i32 },
}

/// An answer or a question.
#[derive(Debug)]
pub(crate) struct Say {
    pub(crate) chat_id: i64,
    pub(crate) html: Html,
    pub(crate) and: And,
}

/// What comes with it.
#[derive(Debug)]
pub(crate) enum And {
    Nothing,
    /// Buttons: label and action; one tap uses them all up.
    Buttons(Vec<(String, Action)>),
    /// A forced reply, and what it means.
    Ask(Prompt),
}

#[derive(Default)]
struct Waiting {
    answers: VecDeque<Job>,
    sign_ins: VecDeque<ApiId>,
    cards: VecDeque<RequestId>,
}

/// The queue. Adding never blocks.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
}

impl Queue {
    /// Adds a job; a card or a sign-in that waits already waits once.
    pub(crate) fn add(&self, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match job {
            Job::Card(id) if waiting.cards.contains(&id) => {}
            Job::Card(id) => waiting.cards.push_back(id),
            Job::SignIn(id) if waiting.sign_ins.contains(&id) => {}
            Job::SignIn(id) => waiting.sign_ins.push_back(id),
            answer => {
                if waiting.answers.len() >= MAX_ANSWERS {
                    tracing::warn!("telegram: too many answers wait; the oldest was dropped");
                    waiting.answers.pop_front();
                }
                waiting.answers.push_back(answer);
            }
        }
        drop(waiting);
        self.added.notify_one();
    }

    /// Puts a job back to where it was taken from.
    pub(crate) fn put_back(&self, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match job {
            Job::Card(id) if waiting.cards.contains(&id) => {}
            Job::Card(id) => waiting.cards.push_front(id),
            Job::SignIn(id) if waiting.sign_ins.contains(&id) => {}
            Job::SignIn(id) => waiting.sign_ins.push_front(id),
            answer => waiting.answers.push_front(answer),
        }
    }

    /// The next job; waits for one.
    pub(crate) async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            self.added.notified().await;
        }
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = waiting.answers.pop_front();
        // A code is good for minutes; a card waits longer.
        let answer = answer.or_else(|| waiting.sign_ins.pop_front().map(Job::SignIn));
        answer.or_else(|| waiting.cards.pop_front().map(Job::Card))
    }
}

/// Keeps to the pace of the chat, without delaying the first few messages.
pub(crate) struct Pace {
    left: f64,
    interval: Duration,
    counted_at: Instant,
}

impl Pace {
    pub(crate) fn new(chat_id: i64) -> Self {
        let interval = if chat_id < 0 { GROUP_INTERVAL } else { PRIVATE_INTERVAL };
        Self { left: BURST, interval, counted_at: Instant::now() }
    }

    /// Waits until one more message may go out.
    pub(crate) async fn wait(&mut self) {
        self.count();
        if self.left < 1.0 {
            tokio::time::sleep(self.interval.mul_f64(1.0 - self.left)).await;
            self.count();
        }
        self.left = (self.left - 1.0).max(0.0);
    }

    fn count(&mut self) {
        let now = Instant::now();
        let gained = now.duration_since(self.counted_at).as_secs_f64() / self.interval.as_secs_f64();
        self.left = (self.left + gained).min(BURST);
        self.counted_at = now;
    }
}
