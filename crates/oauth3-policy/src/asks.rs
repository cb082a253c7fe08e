//! What an agent may ask for at all, before anybody is asked.

use oauth3_core::{AgentName, AttemptEnd, FailedAttempt, Timestamp};
use std::time::Duration;

/// How long an agent cannot have the owner asked again after a sign-in that he let pass, stopped or refused: an agent
/// could wear him out with them.
const SIGN_IN_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Whether a program may be asked for as a command: those on the owner's list, and for the owner any.
#[must_use]
pub fn may_ask_for_command(program: &str, listed: &[String], agent: &AgentName) -> bool {
    agent.as_str() == AgentName::OWNER || listed.iter().any(|allowed| allowed == program)
}

/// How much longer an agent must not have the owner asked to sign in; `None` when it may. `last` is what became of the
/// last sign-in, when it came to nothing; one that failed by itself is nobody's no.
#[must_use]
pub fn sign_in_pause(last: Option<&FailedAttempt>, now: Timestamp) -> Option<Duration> {
    let turned_down = last.filter(|failure| failure.end != AttemptEnd::Failed)?;
    SIGN_IN_PAUSE.checked_sub(now.since(turned_down.at)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_asks_for_listed_programs_only() {
        let listed = ["gh".to_owned()];
        let agent = |name: &str| AgentName::parse(name).unwrap();
        assert!(may_ask_for_command("gh", &listed, &agent("agent")));
        assert!(!may_ask_for_command("ghost", &listed, &agent("agent")));
        assert!(!may_ask_for_command("", &[], &agent("agent")));
        assert!(may_ask_for_command("curl", &listed, &agent(AgentName::OWNER)));
    }

    #[test]
    fn after_a_no_an_agent_waits() {
        let at = Timestamp::from_millis(1_000_000);
        let failed = |end| FailedAttempt { at, end, sentence: String::new() };
        let later = |seconds| at.plus(Duration::from_secs(seconds));
        for end in [AttemptEnd::Denied, AttemptEnd::Expired, AttemptEnd::Cancelled] {
            assert_eq!(sign_in_pause(Some(&failed(end)), later(60)), Some(Duration::from_secs(240)));
            assert_eq!(sign_in_pause(Some(&failed(end)), later(299)), Some(Duration::from_secs(1)));
            assert_eq!(sign_in_pause(Some(&failed(end)), later(300)), None);
        }
        assert_eq!(sign_in_pause(Some(&failed(AttemptEnd::Failed)), at), None);
        assert_eq!(sign_in_pause(None, at), None);
    }
}
