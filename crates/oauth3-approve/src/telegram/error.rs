//! What can go wrong between us and the Bot API.

use oauth3_core::Fault;

/// Why something was not delivered. Holds no address, no text of a message, and no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TelegramError {
    /// No reply; the sentence names the host only.
    #[error("no answer: {0}")]
    Network(String),
    /// A reply that is not the Bot API's.
    #[error("the server's answer (HTTP {0}) is not one of the Bot API; check [telegram] api_url")]
    Malformed(u16),
    /// HTTP 429.
    #[error("too many messages; asked to wait {retry_after} s")]
    TooMany {
        /// How long to wait, in seconds.
        retry_after: u64,
    },
    /// HTTP 401, or 404 for a token of no bot.
    #[error("the bot token is not accepted; get a new one from @BotFather and set TELEGRAM_BOT_TOKEN")]
    Unauthorized,
    /// HTTP 409: somebody else polls with this token, or a webhook is set.
    #[error("another program uses this bot token; oauth3 needs a bot of its own")]
    Conflict,
    /// The message is there no more, or cannot be edited any more.
    #[error("the message is gone")]
    MessageGone,
    /// The chat does not exist or does not let the bot write.
    #[error("the chat cannot be written to; check [telegram] chat_id and send /start to the bot")]
    ChatUnreachable,
    /// Any other refusal: our message is at fault.
    #[error("the server refused the message (HTTP {0})")]
    Refused(u16),
    /// HTTP 5xx.
    #[error("the server is in trouble (HTTP {0})")]
    Server(u16),
    /// Our own store or broker does not answer.
    #[error("oauth3 itself: {0}")]
    Local(#[from] Fault),
    /// The system gives no randomness.
    #[error("the system has no randomness to give")]
    NoRandomness,
}

impl TelegramError {
    /// Sorts a refusal by its code and description.
    pub(crate) fn from_refusal(code: u16, description: &str, retry_after: Option<u64>) -> Self {
        /// Waited when a 429 does not say how long, in seconds.
        const DEFAULT_RETRY_AFTER: u64 = 5;
        let text = description.to_ascii_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        match code {
            429 => Self::TooMany { retry_after: retry_after.unwrap_or(DEFAULT_RETRY_AFTER) },
            401 | 404 => Self::Unauthorized,
            409 => Self::Conflict,
            500.. => Self::Server(code),
            _ if says(&[
                "message to edit not found",
                "can't be edited",
                "message_id_invalid",
                "to delete not found",
            ]) =>
            {
                Self::MessageGone
            }
            403 => Self::ChatUnreachable,
            _ if says(&["chat not found", "chat was upgraded", "chat was deactivated", "not enough rights"]) => {
                Self::ChatUnreachable
            }
            _ => Self::Refused(code),
        }
    }

    /// Whether the same call may work later without anybody's doing.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Network(_)
                | Self::Malformed(_)
                | Self::TooMany { .. }
                | Self::Unauthorized
                | Self::Conflict
                | Self::ChatUnreachable
                | Self::Server(_)
                | Self::Local(_)
                | Self::NoRandomness
        )
    }
}
