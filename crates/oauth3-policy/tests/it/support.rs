//! Intents and grants to decide on.

use oauth3_core::{
    AgentName, Digest, Grant, GrantId, Host, Intent, Limits, Runtime, SecretName, SkillId, Timestamp, Trust,
};

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

pub(crate) fn intent() -> Intent {
    Intent {
        agent: AgentName::parse("bot").unwrap(),
        skill_id: SkillId::parse("weather").unwrap(),
        code_digest: Digest::of(b"code"),
        runtime: Runtime::Embedded,
        secrets: [secret("API_KEY")].into(),
        revealed: Default::default(),
        hosts: [Host::parse("api.example.com").unwrap()].into(),
        limits: Limits { processes: 32, ..Limits::STANDARD },
        access: None,
    }
}

pub(crate) fn grant(intent: Intent, trust: Trust, granted_at: i64, expires_at: Option<i64>) -> Grant {
    Grant {
        id: GrantId::parse("grt_1").unwrap(),
        intent,
        trust,
        granted_at: at(granted_at),
        expires_at: expires_at.map(at),
        revoked_at: None,
        granted_by: "cli".into(),
    }
}
