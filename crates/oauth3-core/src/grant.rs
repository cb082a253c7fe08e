//! Verdicts and standing grants.

use crate::{GrantId, Intent, InvalidName, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How far the owner trusts what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trust {
    /// This request only.
    #[serde(rename = "once")]
    Once,
    /// The same intent for 24 hours.
    #[serde(rename = "24h")]
    Day,
    /// The same intent until revoked.
    #[serde(rename = "forever")]
    Forever,
}

impl Trust {
    /// The name that the outside uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Day => "24h",
            Self::Forever => "forever",
        }
    }

    /// How long a grant of this trust stands: `None` without end, zero when it leaves none.
    #[must_use]
    pub const fn lifetime(self) -> Option<Duration> {
        match self {
            Self::Once => Some(Duration::ZERO),
            Self::Day => Some(Duration::from_secs(24 * 60 * 60)),
            Self::Forever => None,
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Trust {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        [Self::Once, Self::Day, Self::Forever]
            .into_iter()
            .find(|t| t.as_str() == text)
            .ok_or(InvalidName::Id("once, 24h or forever; not "))
    }
}

/// What the owner said about one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Run it.
    Approve {
        /// And how far beyond this once.
        trust: Trust,
    },
    /// Do not.
    Deny {
        /// The owner's reason, shown to the agent.
        reason: Option<String>,
    },
}

/// A standing grant: the owner's word for every request of one intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// What it covers, in full, so that lists can show it.
    pub intent: Intent,
    /// 24h or forever; never once.
    pub trust: Trust,
    /// When the owner gave it.
    pub granted_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When the owner took it back.
    pub revoked_at: Option<Timestamp>,
    /// The identity that gave it, such as `cli` or `telegram:42`.
    pub granted_by: String,
}

impl Grant {
    /// Whether it covers this intent now: the very same, in every part. The PDP asks this; nothing else should.
    #[must_use]
    pub fn covers(&self, intent: &Intent, now: Timestamp) -> bool {
        self.trust != Trust::Once
            && self.revoked_at.is_none()
            && self.expires_at.is_none_or(|at| now < at)
            && self.granted_at <= now
            && self.intent == *intent
    }
}
