//! What was used of one grant, against its budget.

use oauth3_core::{Budget, MicroUsd, Tally, Timestamp};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Seconds in a minute and in a day.
const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * 60;

/// A budget that is spent: what, and when trying again makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    /// In a sentence for the agent.
    pub(crate) sentence: String,
    /// In seconds; none when waiting does not help.
    pub(crate) retry_after: Option<u64>,
}

/// Counts the calls, tokens and money of one grant.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// What happened in each second of the last minute in which anything did.
    seconds: VecDeque<Second>,
    day: i64,
    tokens_of_day: u64,
    usd_of_day: MicroUsd,
    usd: MicroUsd,
}

#[derive(Debug)]
struct Second {
    at: i64,
    calls: u32,
    tokens: u64,
}

/// The day of a time, counted from the Unix epoch, UTC.
pub(crate) fn day_of(now: Timestamp) -> i64 {
    now.unix_seconds().div_euclid(DAY)
}

impl Meter {
    /// One that goes on from what the store has: the sums of `day`, and of all days.
    pub(crate) fn from_sums(day: i64, of_day: &Tally, of_all: &Tally) -> Self {
        Self(Mutex::new(Used {
            seconds: VecDeque::new(),
            day,
            tokens_of_day: of_day.tokens(),
            usd_of_day: of_day.usd,
            usd: of_all.usd,
        }))
    }

    /// Counts a call in, unless something is spent. Calls that go on are counted when they end, so a budget of tokens
    /// or money can be overrun by what is under way.
    pub(crate) fn enter(&self, budget: &Budget, now: Timestamp) -> Result<(), Spent> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.advance(now);
        let second = now.unix_seconds();
        let (calls, tokens) = used.seconds.iter().fold((0u32, 0u64), |(calls, tokens), second| {
            (calls.saturating_add(second.calls), tokens.saturating_add(second.tokens))
        });
        let oldest = used.seconds.front().map_or(second, |first| first.at);
        let next_minute = Some(u64::try_from(oldest + MINUTE - second).unwrap_or(1).max(1));
        let next_day = Some(u64::try_from((used.day + 1) * DAY - second).unwrap_or(1).max(1));
        let spent = |sentence: String, retry_after| Err(Spent { sentence, retry_after });
        let over = |limit: Option<u64>, used: u64| limit.filter(|limit| used >= *limit);
        if let Some(limit) = over(budget.requests_per_minute.map(u64::from), u64::from(calls)) {
            return spent(format!("this grant allows {limit} requests a minute"), next_minute);
        }
        if let Some(limit) = over(budget.tokens_per_minute, tokens) {
            return spent(format!("this grant allows {limit} tokens a minute"), next_minute);
        }
        if let Some(limit) = over(budget.tokens_per_day, used.tokens_of_day) {
            return spent(format!("this grant allows {limit} tokens a day"), next_day);
        }
        if let Some(limit) = over(budget.usd_per_day.map(|usd| usd.0), used.usd_of_day.0) {
            return spent(format!("this grant allows {} a day", MicroUsd(limit)), next_day);
        }
        if let Some(limit) = over(budget.usd_total.map(|usd| usd.0), used.usd.0) {
            return spent(format!("this grant allowed {} in all, and they are spent", MicroUsd(limit)), None);
        }
        used.count(second, 1, 0);
        Ok(())
    }

    /// Counts what a call used.
    pub(crate) fn spend(&self, tally: &Tally, now: Timestamp) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.advance(now);
        used.tokens_of_day = used.tokens_of_day.saturating_add(tally.tokens());
        used.usd_of_day = used.usd_of_day.plus(tally.usd);
        used.usd = used.usd.plus(tally.usd);
        used.count(now.unix_seconds(), 0, tally.tokens());
    }
}

impl Used {
    /// Forgets what is more than a minute old, and begins a new day where one began.
    fn advance(&mut self, now: Timestamp) {
        let second = now.unix_seconds();
        while self.seconds.front().is_some_and(|first| first.at <= second - MINUTE) {
            self.seconds.pop_front();
        }
        let day = day_of(now);
        if day > self.day {
            (self.day, self.tokens_of_day, self.usd_of_day) = (day, 0, MicroUsd(0));
        }
    }

    /// Adds to this second; to the newest there is, when the clock went back.
    fn count(&mut self, second: i64, calls: u32, tokens: u64) {
        match self.seconds.back_mut().filter(|last| last.at >= second) {
            Some(last) => {
                last.calls = last.calls.saturating_add(calls);
                last.tokens = last.tokens.saturating_add(tokens);
            }
            None => self.seconds.push_back(Second { at: second, calls, tokens }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn tally(tokens: u64, micros: u64) -> Tally {
        Tally { calls: 1, tokens_in: tokens, usd: MicroUsd(micros), ..Tally::default() }
    }

    #[test]
    fn calls_within_any_minute_are_counted() {
        let meter = Meter::default();
        let budget = Budget { requests_per_minute: Some(2), ..Budget::default() };
        assert!(meter.enter(&budget, at(1000)).is_ok());
        assert!(meter.enter(&budget, at(1030)).is_ok());
        let spent = meter.enter(&budget, at(1059)).unwrap_err();
        assert_eq!(spent.retry_after, Some(1), "{}", spent.sentence);
        assert!(meter.enter(&budget, at(1060)).is_ok());
        assert!(meter.enter(&budget, at(1061)).is_err());
    }

    #[test]
    fn tokens_and_money_are_bounded_by_day_and_in_all() {
        let (morning, evening, next_day) = (at(10 * DAY), at(10 * DAY + 80_000), at(11 * DAY));
        for (budget, tally, again) in [
            (Budget { tokens_per_minute: Some(10), ..Budget::default() }, tally(10, 0), at(10 * DAY + 60)),
            (Budget { tokens_per_day: Some(10), ..Budget::default() }, tally(10, 0), next_day),
            (Budget { usd_per_day: Some(MicroUsd(5)), ..Budget::default() }, tally(0, 5), next_day),
        ] {
            let meter = Meter::default();
            assert!(meter.enter(&budget, morning).is_ok());
            meter.spend(&tally, morning);
            assert!(meter.enter(&budget, morning).is_err(), "{budget:?}");
            assert!(meter.enter(&budget, again).is_ok(), "{budget:?}");
        }
        let meter = Meter::from_sums(10, &tally(3, 0), &tally(9, 7));
        let total = Budget { usd_total: Some(MicroUsd(8)), ..Budget::default() };
        assert!(meter.enter(&total, evening).is_ok());
        meter.spend(&tally(0, 1), evening);
        assert_eq!(meter.enter(&total, next_day).unwrap_err().retry_after, None);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_anew() {
        let meter = Meter::default();
        let budget = Budget { tokens_per_day: Some(1), ..Budget::default() };
        meter.spend(&tally(1, 0), at(11 * DAY));
        assert!(meter.enter(&budget, at(10 * DAY)).is_err());
    }
}
