//! What was refused within a run: bounded, and each kind by itself, so that noise cannot push out what matters.

use crate::limits::MAX_REFUSALS;

/// Why something was refused; the most serious first, which is also the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A placeholder was on its way to a host that its secret is not bound to. Audited.
    Astray,
    /// The run used more of the network than it may. Audited.
    OverLimit,
    /// The code asked for what it may not have. Audited.
    Denied,
    /// Something that the code needs did not work, or it asked for a name that is not there. Not audited.
    Failed,
}

/// What became of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Kept.
    New,
    /// It was there before.
    Known,
    /// Counted only, for there are too many of its kind; the first time this happens to the kind.
    FirstOver,
    /// Counted only.
    Over,
}

/// The refusals of a run.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    astray: OfKind,
    over_limit: OfKind,
    denied: OfKind,
    failed: OfKind,
}

#[derive(Debug, Default)]
struct OfKind {
    sentences: Vec<String>,
    more: u64,
}

impl Kind {
    /// Whether the owner should hear of it.
    pub(crate) const fn audited(self) -> bool {
        matches!(self, Self::Astray | Self::OverLimit | Self::Denied)
    }
}

impl Refusals {
    /// Keeps a sentence, unless it is known or there are too many of its kind.
    pub(crate) fn keep(&mut self, kind: Kind, sentence: String) -> Noted {
        let of_kind = match kind {
            Kind::Astray => &mut self.astray,
            Kind::OverLimit => &mut self.over_limit,
            Kind::Denied => &mut self.denied,
            Kind::Failed => &mut self.failed,
        };
        if of_kind.sentences.contains(&sentence) {
            return Noted::Known;
        }
        if of_kind.sentences.len() < MAX_REFUSALS {
            of_kind.sentences.push(sentence);
            return Noted::New;
        }
        of_kind.more = of_kind.more.saturating_add(1);
        if of_kind.more == 1 { Noted::FirstOver } else { Noted::Over }
    }

    /// The sentences, the most serious first, and a count of those that were not kept.
    pub(crate) fn sentences(&self) -> impl Iterator<Item = String> + '_ {
        let kinds = [&self.astray, &self.over_limit, &self.denied, &self.failed];
        let more: u64 = kinds.iter().fold(0, |sum, kind| sum.saturating_add(kind.more));
        let more = (more > 0).then(|| format!("and {more} more"));
        kinds.into_iter().flat_map(|kind| kind.sentences.iter().cloned()).chain(more)
    }
}
