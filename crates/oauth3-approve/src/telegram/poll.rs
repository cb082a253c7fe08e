//! Reads updates and acts on them, one after the other.

use super::Shared;
use super::error::TelegramError;
use super::notes::Offset;
use super::wire::Update;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// First and longest pause after a failed poll. The longest is short: a chat that is back should answer soon.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Pause when the token is refused or used elsewhere: only the owner can mend that.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
/// Shortest time from one empty poll to the next; some servers answer at once instead of waiting.
const SHORTEST_EMPTY_POLL: Duration = Duration::from_millis(500);
/// How long an offset is good for. After a week without updates Telegram numbers them anew (Bot API, Update).
const OFFSET_LIFETIME: Duration = Duration::from_secs(6 * 24 * 60 * 60);
/// Numbers of handled updates that are remembered, for servers that send one twice.
const REMEMBERED: usize = 256;

/// Runs until aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut poller = Poller { bot_name: None, next: None, handled: VecDeque::new() };
    let mut pause = FIRST_PAUSE;
    while let Err(error) = poller.read_offset(&shared).await {
        tracing::warn!(%error, "telegram: cannot read how far updates were handled");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    pause = FIRST_PAUSE;
    loop {
        shared.drop_expired_values();
        let begun = Instant::now();
        match poller.once(&shared).await {
            Ok(handled) => {
                pause = FIRST_PAUSE;
                if handled == 0 {
                    tokio::time::sleep_until(begun + SHORTEST_EMPTY_POLL).await;
                }
            }
            Err(error) => {
                shared.polls.store(false, Ordering::Release);
                tracing::warn!(%error, "telegram: polling failed and will be tried again");
                let wait = match error {
                    TelegramError::TooMany { retry_after } => Duration::from_secs(retry_after.clamp(1, 60)),
                    TelegramError::Unauthorized | TelegramError::Conflict => REFUSED_PAUSE,
                    _ => pause,
                };
                tokio::time::sleep(wait).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

struct Poller {
    bot_name: Option<String>,
    next: Option<i64>,
    handled: VecDeque<i64>,
}

impl Poller {
    async fn read_offset(&mut self, shared: &Shared) -> Result<(), TelegramError> {
        let noted = shared.notes.offset().await?;
        self.next = noted.filter(|o| shared.clock.now().since(o.at) < OFFSET_LIFETIME).map(|o| o.next);
        Ok(())
    }

    /// One poll, and everything that it brought. Returns how many updates were new.
    async fn once(&mut self, shared: &Shared) -> Result<usize, TelegramError> {
        if self.bot_name.is_none() {
            let me = shared.client.get_me().await?;
            self.bot_name = Some(me.username.unwrap_or_default());
        }
        // The first poll, and the first after a failure, does not wait: it tells that the server answers.
        let wait = shared.polls.load(Ordering::Acquire);
        let updates = shared.client.get_updates(self.next, wait).await?;
        shared.up();
        let mut new = 0;
        for numbered in updates {
            if self.handled.contains(&numbered.id) {
                continue;
            }
            new += 1;
            match numbered.update {
                Some(update) => self.act(shared, update).await,
                None => {
                    tracing::warn!(update = numbered.id, "telegram: an update could not be read and was passed over")
                }
            }
            self.done(shared, numbered.id).await;
        }
        Ok(new)
    }

    async fn act(&self, shared: &Shared, update: Update) {
        if let Some(callback) = update.callback_query {
            shared.tapped(callback).await;
        } else if let Some(message) = update.message {
            shared.written(message, self.bot_name.as_deref()).await;
        }
    }

    /// Notes after acting and not before: acting twice does no harm (a nonce is used up, a value is
    /// deleted again), but a typed value that is never seen would stay in the chat.
    async fn done(&mut self, shared: &Shared, id: i64) {
        if self.handled.len() >= REMEMBERED {
            self.handled.pop_front();
        }
        self.handled.push_back(id);
        self.next = Some(id.saturating_add(1));
        let offset = Offset { next: id.saturating_add(1), at: shared.clock.now() };
        if let Err(error) = shared.notes.set_offset(offset).await {
            tracing::warn!(%error, "telegram: cannot note how far updates were handled");
        }
    }
}

impl Shared {
    /// A call that the poll task made got no answer: waiting for the next poll to say so could take too long.
    pub(crate) fn down_on(&self, error: &TelegramError) {
        if matches!(error, TelegramError::Network(_)) {
            self.polls.store(false, Ordering::Release);
        }
    }

    /// The server answers.
    fn up(&self) {
        if !self.polls.swap(true, Ordering::AcqRel) {
            tracing::info!("telegram: connected");
            self.recovered.notify_one();
        }
    }
}
