//! Counts each agent's calls within the last minute, in memory.

use oauth3_core::{AgentName, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The window.
const WINDOW: Duration = Duration::from_secs(60);
/// Agents that are remembered before idle ones are forgotten.
const MAX_AGENTS: usize = 1_000;

/// Sliding windows, one per agent. Calls beyond the limit are not counted, so that an agent that keeps
/// trying gets through again as soon as the window allows.
#[derive(Debug, Default)]
pub(crate) struct RateLimiter(Mutex<HashMap<AgentName, Window>>);

#[derive(Debug, Default)]
struct Window {
    calls: VecDeque<Timestamp>,
    /// Whether a refusal was reported since the last call that was let through.
    reported: bool,
}

/// Whether a call is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is; so many within the last minute, this one included.
    Within(u32),
    /// It is not.
    Over {
        /// When trying again makes sense, in seconds; at least 1.
        retry_after: u64,
        /// Whether this is the first refusal in a row.
        first: bool,
    },
}

impl RateLimiter {
    /// Counts one call.
    pub(crate) fn count(&self, agent: &AgentName, limit: u32, now: Timestamp) -> Pace {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_AGENTS && !windows.contains_key(agent) {
            windows.retain(|_, window| window.calls.back().is_some_and(|last| now.since(*last) < WINDOW));
        }
        let window = windows.entry(agent.clone()).or_default();
        // A clock that was set back empties the window, too, rather than locking the agent out.
        while window.calls.front().is_some_and(|first| now.since(*first) >= WINDOW || *first > now) {
            window.calls.pop_front();
        }
        let calls = u32::try_from(window.calls.len()).unwrap_or(u32::MAX);
        if calls < limit {
            window.calls.push_back(now);
            window.reported = false;
            return Pace::Within(calls.saturating_add(1));
        }
        let wait = window.calls.front().map_or(WINDOW, |first| WINDOW.saturating_sub(now.since(*first)));
        let first = !std::mem::replace(&mut window.reported, true);
        Pace::Over { retry_after: wait.as_millis().div_ceil(1_000).try_into().unwrap_or(1).max(1), first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_slides() {
        let rate = RateLimiter::default();
        let (bot, other) = (AgentName::parse("bot").unwrap(), AgentName::parse("other").unwrap());
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        assert_eq!(rate.count(&bot, 2, at(0)), Pace::Within(1));
        assert_eq!(rate.count(&bot, 2, at(30_000)), Pace::Within(2));
        assert_eq!(rate.count(&bot, 2, at(40_500)), Pace::Over { retry_after: 20, first: true });
        assert_eq!(rate.count(&bot, 2, at(59_999)), Pace::Over { retry_after: 1, first: false });
        assert_eq!(rate.count(&other, 2, at(59_999)), Pace::Within(1));
        assert_eq!(rate.count(&bot, 2, at(60_000)), Pace::Within(2));
        assert_eq!(rate.count(&bot, 2, at(60_001)), Pace::Over { retry_after: 30, first: true });
        assert_eq!(rate.count(&bot, 0, at(500_000)), Pace::Over { retry_after: 60, first: false });
        // The clock was set back.
        assert_eq!(rate.count(&bot, 2, at(-500_000)), Pace::Within(1));
    }
}
