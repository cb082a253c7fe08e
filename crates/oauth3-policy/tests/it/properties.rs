//! What must hold whatever the facts.

use crate::support::at;
use oauth3_core::{
    AgentName, Digest, Grant, GrantId, Host, Intent, Limits, Runtime, SecretName, SkillId, Status, Trust,
};
use oauth3_policy::{Basis, Decision, Facts, Load, Stage, decide};
use proptest::collection::btree_set;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;

/// Few of each, so that two of them often meet.
fn intents() -> impl Strategy<Value = Intent> {
    let secrets = btree_set(select(vec!["A", "B", "C"]), 0..3);
    let hosts = btree_set(select(vec!["a.example", "b.example", "a.example:8443"]), 0..3);
    let limits = (1u64..4, 1u64..4, 1u64..4, 1u32..4);
    (
        select(vec!["bot", "bot2"]),
        select(vec!["s", "s2"]),
        0u8..3,
        select(Runtime::ALL.to_vec()),
        secrets,
        hosts,
        limits,
        proptest::bool::weighted(0.3),
    )
        .prop_map(|(agent, skill, code, runtime, secrets, hosts, limits, reveals)| Intent {
            agent: AgentName::parse(agent).unwrap(),
            skill_id: SkillId::parse(skill).unwrap(),
            code_digest: Digest::of(&[code]),
            runtime,
            revealed: secrets.iter().filter(|_| reveals).map(|s| SecretName::parse(s).unwrap()).collect(),
            secrets: secrets.into_iter().map(|s| SecretName::parse(s).unwrap()).collect(),
            hosts: hosts.into_iter().map(|h| Host::parse(h).unwrap()).collect(),
            limits: Limits {
                timeout_ms: limits.0,
                memory_mb: limits.1,
                output_bytes: limits.2,
                processes: limits.3,
                ..Limits::STANDARD
            },
            access: None,
        })
}

fn trusts() -> impl Strategy<Value = Trust> {
    select(vec![Trust::Once, Trust::Day, Trust::Forever])
}

fn stages() -> impl Strategy<Value = Stage> {
    let load = (0u32..4, 0u32..4, 0u32..4, 0u32..4).prop_map(|(calls, per_minute, open, max)| {
        Stage::Submitted(Load {
            calls_last_minute: calls,
            calls_per_minute: per_minute,
            open_requests: open,
            open_requests_max: max,
        })
    });
    let stored = (
        select(Status::ALL.to_vec()),
        proptest::option::of(trusts()),
        proptest::option::of(0i64..10),
        0i64..10,
        any::<bool>(),
        any::<bool>(),
    );
    let stored = stored.prop_map(|(status, trust, approved, expires, trusted, grant_revoked)| Stage::Stored {
        status,
        trust,
        approved_at: approved.map(at),
        expires_at: at(expires),
        trusted,
        grant_revoked,
    });
    prop_oneof![load, stored]
}

/// Everything that facts are made of, owned. The grant is often, and not always, one of the intent itself.
#[derive(Debug, Clone)]
struct Case {
    intent: Intent,
    now: i64,
    kill_switch: bool,
    agent_active: bool,
    grant: Option<Grant>,
    missing: Vec<SecretName>,
    revealed: BTreeSet<SecretName>,
    reveal_once: bool,
    stage: Stage,
}

impl Case {
    fn decide(&self) -> Decision {
        decide(&Facts {
            intent: std::sync::Arc::new(self.intent.clone()),
            now: at(self.now),
            kill_switch: self.kill_switch,
            agent_active: self.agent_active,
            grant: self.grant.as_ref(),
            missing: &self.missing,
            revealed: &self.revealed,
            reveal_once: self.reveal_once,
            stage: self.stage,
        })
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let times = (0i64..10, proptest::option::of(0i64..10), proptest::option::weighted(0.2, 0i64..10));
    let grant = proptest::option::weighted(0.8, (any::<bool>(), intents(), trusts(), times));
    let missing = prop_oneof![Just(vec![]), Just(vec![SecretName::parse("A").unwrap()])];
    let reveal = (proptest::bool::weighted(0.8), any::<bool>());
    (intents(), 0i64..10, any::<bool>(), any::<bool>(), grant, missing, reveal, stages()).prop_map(
        |(intent, now, kill_switch, agent_active, grant, missing, (as_asked, once), stage)| {
            let revealed = if as_asked { intent.revealed.clone() } else { BTreeSet::from(["B".parse().unwrap()]) };
            let reveal_once = once && !revealed.is_empty();
            let grant = grant.map(|(same, other, trust, (granted, expires, revoked))| Grant {
                id: GrantId::parse("grt_1").unwrap(),
                intent: if same { intent.clone() } else { other },
                trust,
                granted_at: at(granted),
                expires_at: expires.map(at),
                revoked_at: revoked.map(at),
                granted_by: "cli".into(),
            });
            Case { intent, now, kill_switch, agent_active, grant, missing, revealed, reveal_once, stage }
        },
    )
}

/// What is changed, and how.
type Change = (&'static str, fn(&mut Intent));

/// Each changes one field, to something else.
fn changes() -> Vec<Change> {
    vec![
        ("agent", |i| i.agent = AgentName::parse(&format!("{}x", i.agent.as_str())).unwrap()),
        ("skill_id", |i| i.skill_id = SkillId::parse(&format!("{}x", i.skill_id.as_str())).unwrap()),
        // One bit of the digest is enough.
        ("code", |i| {
            let mut bytes = *i.code_digest.as_bytes();
            bytes[31] ^= 1;
            i.code_digest = Digest::from_bytes(bytes);
        }),
        ("runtime", |i| i.runtime = if i.runtime == Runtime::Deno { Runtime::Node } else { Runtime::Deno }),
        ("a secret more", |i| assert!(i.secrets.insert(SecretName::parse("D").unwrap()))),
        ("other secrets", |i| {
            i.secrets = i
                .secrets
                .iter()
                .map(|s| SecretName::parse(&format!("{}X", s.as_str())).unwrap())
                .chain(SecretName::parse("Z"))
                .collect()
        }),
        ("one that is revealed", |i| {
            let name = SecretName::parse("F").unwrap();
            i.secrets.insert(name.clone());
            i.revealed.insert(name);
        }),
        ("revealed or not", |i| {
            i.secrets.insert(SecretName::parse("G").unwrap());
            i.revealed = if i.revealed == i.secrets { Default::default() } else { i.secrets.clone() };
        }),
        ("a host more", |i| assert!(i.hosts.insert(Host::parse("c.example").unwrap()))),
        ("other ports", |i| {
            i.hosts = i
                .hosts
                .iter()
                .map(|h| Host::parse(&format!("{}:9", h.name())).unwrap())
                .chain(Host::parse("z.example:9"))
                .collect()
        }),
        ("a secret named as a host", |i| {
            i.secrets.insert(SecretName::parse("E").unwrap());
            i.hosts.insert(Host::parse("e").unwrap());
        }),
        ("timeout", |i| i.limits.timeout_ms += 1),
        ("memory", |i| i.limits.memory_mb += 1),
        ("output", |i| i.limits.output_bytes += 1),
        ("processes", |i| i.limits.processes += 1),
        ("CPU time", |i| i.limits.cpu_ms += 1),
        ("size of files", |i| i.limits.file_mb += 1),
        ("open files", |i| i.limits.open_files += 1),
        ("network bytes", |i| i.limits.egress_mb += 1),
        ("network requests", |i| i.limits.egress_requests += 1),
        ("the limits of a request of the first version", |i| {
            i.limits.cpu_ms = i.limits.timeout_ms;
            i.limits.egress_mb = 1 << 20;
            i.limits.egress_requests = 1_000_000_000;
        }),
        ("limits swapped", |i| {
            i.limits.timeout_ms += 100;
            std::mem::swap(&mut i.limits.timeout_ms, &mut i.limits.memory_mb);
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_permitted_or_asked_under_the_kill_switch_or_for_an_inactive_agent(case in cases()) {
        for (kill_switch, agent_active) in [(true, true), (true, false), (false, false)] {
            let case = Case { kill_switch, agent_active, ..case.clone() };
            prop_assert!(matches!(case.decide(), Decision::Deny(_)), "{case:?}");
        }
    }

    #[test]
    fn a_permit_has_its_reason_and_carries_exactly_what_was_asked_for(case in cases()) {
        // Facts that often permit.
        let case = Case { kill_switch: false, agent_active: true, ..case };
        if let Decision::Permit(permit) = case.decide() {
            prop_assert_eq!(permit.intent_digest(), case.intent.digest());
            prop_assert_eq!(permit.secrets(), &case.intent.secrets);
            prop_assert_eq!(permit.revealed(), &case.intent.revealed);
            prop_assert_eq!(permit.hosts(), &case.intent.hosts);
            prop_assert_eq!(permit.limits(), &case.intent.limits);
            prop_assert!(case.missing.is_empty());
            let covered = case.grant.as_ref().is_some_and(|grant| {
                grant.intent == case.intent
                    && grant.trust != Trust::Once
                    && grant.revoked_at.is_none()
                    && grant.granted_at <= at(case.now)
                    && grant.expires_at.is_none_or(|end| at(case.now) < end)
            });
            match case.stage {
                Stage::Submitted(load) => {
                    prop_assert!(covered && load.calls_last_minute <= load.calls_per_minute);
                }
                Stage::Stored { status, trust, approved_at, expires_at, trusted, grant_revoked } => {
                    prop_assert!(matches!(status, Status::Approved | Status::AwaitingSecrets));
                    let approved_at = approved_at.unwrap();
                    prop_assert!(approved_at < expires_at && approved_at <= at(case.now));
                    if trusted {
                        prop_assert!(covered);
                    } else {
                        prop_assert!(trust == Some(Trust::Once) || !grant_revoked);
                    }
                    prop_assert!(trust.is_some());
                }
            }
            let by_grant = matches!(case.stage, Stage::Submitted(_) | Stage::Stored { trusted: true, .. });
            prop_assert_eq!(matches!(permit.basis(), Basis::Grant(_)), by_grant);
            // Real values: those that were asked for, and under more trust than once only where the owner allows it.
            let now: BTreeSet<_> = case.revealed.intersection(&case.intent.secrets).cloned().collect();
            prop_assert_eq!(permit.revealed(), &now);
            let once = matches!(case.stage, Stage::Stored { trusted: false, trust: Some(Trust::Once), .. });
            prop_assert_eq!(permit.is_for_once(), once);
            prop_assert!(once || !case.reveal_once);
        }
    }

    #[test]
    fn changing_any_field_changes_the_digest(intent in intents()) {
        for (what, change) in changes() {
            let mut changed = intent.clone();
            change(&mut changed);
            prop_assert_ne!(&changed, &intent, "{}", what);
            prop_assert_ne!(changed.digest(), intent.digest(), "{}", what);
        }
    }

    #[test]
    fn two_intents_share_a_digest_only_when_they_are_the_same(one in intents(), two in intents()) {
        prop_assert_eq!(one == two, one.digest() == two.digest());
    }

    #[test]
    fn a_grant_that_is_gone_never_permits_a_request_that_was_not_shown(case in cases()) {
        let case = Case { kill_switch: false, agent_active: true, grant: None, ..case };
        if let Decision::Permit(permit) = case.decide() {
            prop_assert_eq!(permit.basis(), &Basis::Verdict);
            let own_verdict = matches!(case.stage, Stage::Stored { trusted: false, .. });
            prop_assert!(own_verdict);
        }
    }
}
