//! Agent tokens.

use oauth3_core::AgentToken;
use proptest::prelude::*;

#[test]
fn a_token_reads_back_and_no_other_matches() {
    let (one, other) = (AgentToken::random().unwrap(), AgentToken::random().unwrap());
    let read = AgentToken::parse(one.reveal()).unwrap();
    assert!(read.hash().matches(&one.hash()));
    assert_eq!(read.id(), one.id());
    assert!(!other.hash().matches(&one.hash()));
    assert!(!format!("{one:?}").contains(one.reveal()));
    for damaged in [&one.reveal()[1..], &one.reveal()[..one.reveal().len() - 1], &one.reveal().to_uppercase()] {
        assert!(AgentToken::parse(damaged).is_none(), "{damaged}");
    }
}

proptest! {
    #[test]
    fn junk_is_no_token(text in "\\PC{0,120}") {
        prop_assert!(AgentToken::parse(&text).is_none());
    }
}
