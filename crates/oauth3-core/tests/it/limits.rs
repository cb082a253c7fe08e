//! Limits: what may be named, what the owner allows, and requests from before there were so many.

use oauth3_core::{AskedLimits, Ceilings, Grant, Intent, Limit, Limits, SubmissionError, Timestamp};
use std::collections::BTreeMap;

/// An intent as the first version stored it, and the digest that it stored beside it.
const OLD: &str = r#"{"agent":"bot","skill_id":"skill",
    "code_digest":"5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b","runtime":"deno",
    "secrets":["API_KEY"],"hosts":["api.example.com"],
    "limits":{"timeout_ms":30000,"memory_mb":256,"output_bytes":1048576,"processes":64}}"#;
const OLD_DIGEST: &str = "059e5b4000db430b55995303ff0cf8ce28591b95854902082977c167e65891d2";
/// The digest of the same with today's standard limits.
const NEW_DIGEST: &str = "3def02289bf84de6e41d10441dc91db1f35cacedf677b3c7abd0e77311951ca6";

fn asked(named: &[(&str, f64)]) -> Result<AskedLimits, SubmissionError> {
    let named: BTreeMap<String, f64> = named.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    AskedLimits::parse(&named)
}

const CEILINGS: Ceilings =
    Ceilings { most: Limits { timeout_ms: 600_000, cpu_ms: 900_000, ..Limits::STANDARD }, default_timeout_ms: 30_000 };

#[test]
fn a_request_from_before_keeps_its_digest_also_when_it_is_written_anew() {
    let old: Intent = serde_json::from_str(OLD).unwrap();
    assert_eq!(old.digest().to_string(), OLD_DIGEST);
    let anew: Intent = serde_json::from_str(&serde_json::to_string(&old).unwrap()).unwrap();
    assert_eq!((anew.digest().to_string(), &anew), (OLD_DIGEST.to_owned(), &old));
    // What bounded it then bounds it now: the CPU by the clock, the network by nothing that anybody would meet.
    assert_eq!((old.limits.cpu_ms, old.limits.egress_mb), (30_000, 1 << 20));
}

#[test]
fn a_grant_from_before_covers_what_it_covered_and_no_more() {
    let old = format!(
        r#"{{"id":"grt_1","intent":{OLD},"trust":"forever","granted_at":1,"expires_at":null,"revoked_at":null,"granted_by":"cli"}}"#
    );
    let grant: Grant = serde_json::from_str(&old).unwrap();
    let covers = |intent: &Intent| grant.covers(intent, Timestamp::from_millis(5));
    assert!(covers(&serde_json::from_str(OLD).unwrap()));
    let new = Intent { limits: Limits::STANDARD, ..grant.intent.clone() };
    assert_eq!(new.digest().to_string(), NEW_DIGEST);
    assert!(!covers(&new));
}

#[test]
fn what_a_grant_covers_says_which_secrets_are_revealed() {
    let old: Intent = serde_json::from_str(OLD).unwrap();
    let new = Intent { limits: Limits::STANDARD, ..old.clone() };
    for before in [old, new] {
        let text = serde_json::to_string(&before).unwrap();
        assert!(!text.contains("revealed"), "what reveals nothing is stored as it always was: {text}");
        let after = Intent { revealed: before.secrets.clone(), ..before.clone() };
        let read: Intent = serde_json::from_str(&serde_json::to_string(&after).unwrap()).unwrap();
        assert_eq!(read, after);
        assert_ne!(after.digest(), before.digest());
    }
}

#[test]
fn what_is_no_limit_or_no_figure_of_one_is_refused() {
    for (name, value) in [
        ("memory_mb", 0.0),
        ("memory_mb", -1.0),
        ("memory_mb", 64.5),
        ("memory_mb", f64::NAN),
        ("memory_mb", f64::INFINITY),
        ("memory_mb", 1e300),
        ("cpu_seconds", 0.0),
        ("cpu_seconds", -5.0),
        ("cpu_seconds", 0.00001),
        ("processes", 0.0),
        ("file_mb", 65.0),
        ("open_files", 15.0),
        ("output_bytes", 0.0),
        ("egress_mb", 0.0),
        ("egress_requests", -0.0),
        ("timeout", 5.0),
        ("Memory_mb", 64.0),
        ("", 1.0),
    ] {
        let error = asked(&[(name, value)]).unwrap_err();
        assert!(matches!(&error, SubmissionError::Invalid(text) if text.contains(name)), "{name} {value}: {error}");
    }
}

#[test]
fn a_request_gets_what_it_names_up_to_the_owners_ceilings() {
    let of = |timeout_ms, named: &[(&str, f64)]| CEILINGS.limits(timeout_ms, &asked(named).unwrap());
    assert_eq!(of(None, &[]).unwrap(), Limits { cpu_ms: 60_000, ..Limits::STANDARD });
    assert_eq!(of(None, &[]).unwrap(), CEILINGS.usual());
    let named = [("memory_mb", 128.0), ("cpu_seconds", 0.5), ("processes", 3.0), ("egress_requests", 7.0)];
    let want = Limits { memory_mb: 128, cpu_ms: 500, processes: 3, egress_requests: 7, ..Limits::STANDARD };
    assert_eq!(of(None, &named).unwrap(), want);
    // CPU time follows the clock, up to its ceiling.
    assert_eq!(of(Some(2_000), &[]).unwrap().cpu_ms, 4_000);
    assert_eq!(of(Some(600_000), &[]).unwrap().cpu_ms, 900_000);
    for limit in Limit::ALL {
        let most = limit.in_its_unit(limit.of(&CEILINGS.most));
        let got = of(None, &[(limit.as_str(), most)]).unwrap();
        assert_eq!(limit.of(&got), limit.of(&CEILINGS.most), "{limit}");
        let above = Ceilings { most: Limits { file_mb: 32, open_files: 256, ..CEILINGS.most }, ..CEILINGS };
        let most = limit.in_its_unit(limit.of(&above.most));
        let error = above.limits(None, &asked(&[(limit.as_str(), most + 1.0)]).unwrap()).unwrap_err().to_string();
        assert!(error.contains(limit.as_str()) && error.contains(&most.to_string()), "{error}");
    }
    assert!(of(Some(600_001), &[]).unwrap_err().to_string().contains("600 seconds"));
}
