//! Prices: which model has which, and what a call comes to.

use oauth3_core::MicroUsd;
use oauth3_provider::{Catalog, Prices, Usage};
use proptest::prelude::*;

fn cost(provider: &str, model: &str, usage: &Usage) -> u64 {
    Prices::embedded().unwrap().price(provider, model).unwrap().cost(usage).0
}

fn tokens(tokens_in: u64, tokens_out: u64) -> Usage {
    Usage { tokens_in, tokens_out, ..Usage::default() }
}

#[test]
fn a_dated_name_has_the_price_of_the_undated_one() {
    let prices = Prices::embedded().unwrap();
    for (provider, dated, undated) in [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5-x"),
        ("bedrock", "global.anthropic.claude-opus-5-5", "anthropic.claude-opus-5-5"),
        ("azure", "gpt-4o", "gpt-4o-2024-11-20"),
    ] {
        let found = prices.price(provider, dated);
        assert!(found.is_some() && found == prices.price(provider, undated), "{dated}");
    }
    assert_ne!(prices.price("openai", "gpt-4o-2024-05-13"), prices.price("openai", "gpt-4o"));
    assert_ne!(prices.price("openai", "gpt-4o-mini"), prices.price("openai", "gpt-4o"));
    for (provider, model) in [
        ("openai", "gpt-99"),
        ("openai", "gpt-4o-ultra"),
        ("openai", ""),
        ("anthropic", "claude-sonnet-4-5-2025092"),
        ("nobody", "gpt-4o"),
    ] {
        assert_eq!(prices.price(provider, model), None, "{model}");
    }
    assert!(prices.price("ollama", "whatever:7b").is_some());
}

#[test]
fn every_table_is_of_a_provider() {
    let catalog = Catalog::embedded().unwrap();
    let prices = Prices::embedded().unwrap();
    let names: Vec<&str> = prices.providers().collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(catalog.provider(name).is_some(), "{name}");
    }
}

#[test]
fn costs_are_exact_and_round_up() {
    assert_eq!(cost("openai", "gpt-4o", &tokens(1_000_000, 1_000_000)), 12_500_000);
    assert_eq!(cost("openai", "gpt-4o", &tokens(1, 0)), 3); // 2.5
    assert_eq!(cost("openai", "gpt-4o-mini", &tokens(1, 1)), 1); // 0.15 + 0.6
    assert_eq!(cost("openai", "gpt-4o", &tokens(0, 0)), 0);
    assert_eq!(cost("ollama", "llama3", &tokens(1_000, 1_000)), 0);
    assert_eq!(cost("bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", &tokens(10, 10)), 33 + 165);
    let cached = Usage { cached_in: 400, ..tokens(1_000, 100) };
    assert_eq!(cost("openai", "gpt-4o", &cached), 600 * 5 / 2 + 400 * 5 / 4 + 1_000);
    let written = Usage { cached_in: 1_000, cache_written: 2_000, cache_written_hour: 500, ..tokens(4_000, 0) };
    // 1 000 plain at 3, 1 000 read at 0.3, 1 500 written at 3.75, 500 for an hour at 6.
    assert_eq!(cost("anthropic", "claude-sonnet-4-5", &written), 3_000 + 300 + 5_625 + 3_000);
}

#[test]
fn long_calls_have_prices_of_their_own() {
    assert_eq!(cost("google", "gemini-2.5-pro", &tokens(200_000, 1_000)), 250_000 + 10_000);
    assert_eq!(cost("google", "gemini-2.5-pro", &tokens(200_001, 1_000)), 500_003 + 15_000);
    // What is written to a cache costs more in proportion: 0.125 becomes 0.625.
    let written = Usage { cache_written: 100_000, ..tokens(100_001, 0) };
    assert_eq!(cost("anthropic", "claude-haiku-5-5", &written), 62_500 + 1);
}

#[test]
fn the_owners_table_replaces_single_models() {
    let prices = Prices::embedded().unwrap();
    let before = prices.price("openai", "gpt-4o");
    let text = "[openai]\n\"gpt-4.1\" = { in = 7, out = 0.5 }\n[mine]\n\"*\" = { in = 1 }\n\"big*\" = { in = 2 }\n[same]\ntogether = \"mine\"";
    let prices = prices.overridden(text).unwrap();
    assert_eq!(prices.price("openai", "gpt-4.1").unwrap().cost(&tokens(1_000_000, 1_000_000)), MicroUsd(7_500_000));
    assert_eq!(prices.price("openai", "gpt-4o"), before);
    assert_eq!(prices.price("mine", "bigger").unwrap().cost(&tokens(1_000, 0)), MicroUsd(2_000));
    assert_eq!(prices.price("together", "small").unwrap().cost(&tokens(1_000, 9)), MicroUsd(1_000));
    assert_eq!(prices.price("azure", "gpt-4o"), before);
}

#[test]
fn what_is_wrong_in_the_owners_table_is_named() {
    for (text, words) in [
        ("[openai]\n\"gpt-4o\" = { inn = 1 }", &["[openai] gpt-4o", "inn"][..]),
        ("[openai]\n\"gpt-4o\" = { in = -1 }", &["[openai] gpt-4o", "USD"]),
        ("[openai]\n\"gpt-4o\" = { in = nan }", &["[openai] gpt-4o", "USD"]),
        ("[openai]\n\"gpt-4o\" = { in = 1, out = 1e9 }", &["[openai] gpt-4o", "USD"]),
        ("[openai]\n\"gpt-4o\" = { out = 1 }", &["[openai] gpt-4o", "`in`"]),
        ("[openai]\n\"gpt-4o\" = 5", &["[openai] gpt-4o"]),
        ("[same]\nazure = 5", &["[same] azure"]),
        ("openai = 5", &["[openai]"]),
        ("x", &["prices:"]),
    ] {
        let why = Prices::embedded().unwrap().overridden(text).unwrap_err().to_string();
        assert!(words.iter().all(|word| why.contains(word)), "{text}: {why}");
    }
}

#[test]
fn dollars_are_shown_with_six_places() {}

proptest! {
    #[test]
    fn no_usage_overflows_and_more_never_costs_less(numbers in any::<[u64; 5]>(), more in any::<u64>()) {
        let [tokens_in, tokens_out, cached_in, cache_written, cache_written_hour] = numbers;
        let usage = Usage { tokens_in, tokens_out, cached_in, cache_written, cache_written_hour, ..Usage::default() };
        for (provider, model) in [("anthropic", "claude-haiku-5-5"), ("openai", "gpt-5.6"), ("openai", "o1-pro")] {
            let low = cost(provider, model, &usage);
            let usage = Usage { tokens_out: tokens_out.saturating_add(more), ..usage.clone() };
            prop_assert!(cost(provider, model, &usage) >= low);
        }
    }
}
