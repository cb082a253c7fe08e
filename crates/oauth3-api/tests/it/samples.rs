//! Values that look like real ones.

use oauth3_core::{
    AgentName, Digest, Execution, Host, Intent, Limits, RequestId, RunResult, Runtime, SecretName, SecretRecord,
    SkillId, Status, Timestamp,
};

/// A point in time with milliseconds, to see that the outside gets seconds.
pub(crate) const CREATED: i64 = 1_700_000_000_999;

pub(crate) fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

pub(crate) fn execution(agent_name: &str, status: Status) -> Execution {
    let code = b"console.log(1)".to_vec();
    let intent = Intent {
        agent: agent(agent_name),
        skill_id: SkillId::parse("sample").unwrap(),
        code_digest: Digest::of(&code),
        runtime: Runtime::Embedded,
        secrets: [SecretName::parse("A_KEY").unwrap()].into(),
        revealed: Default::default(),
        hosts: [Host::parse("api.example.com").unwrap()].into(),
        limits: Limits::STANDARD,
        access: None,
    };
    let created_at = Timestamp::from_millis(CREATED);
    Execution {
        id: RequestId::random().unwrap(),
        intent_digest: intent.digest(),
        intent,
        description: "a sample".into(),
        skill_url: None,
        code,
        args: serde_json::Map::new(),
        status,
        created_at,
        expires_at: Timestamp::from_millis(CREATED + 900_000),
        approved_at: None,
        executed_at: None,
        finished_at: None,
        trust: None,
        grant_id: None,
        trusted: false,
        decided_by: None,
        result: None,
        error: None,
        notified_at: None,
    }
}

pub(crate) fn result(exit_code: i32) -> RunResult {
    RunResult {
        stdout: "out\n".into(),
        stderr: "err\n".into(),
        exit_code,
        duration_ms: 1234,
        truncated: false,
        usage: None,
    }
}

pub(crate) fn secret() -> SecretRecord {
    SecretRecord {
        name: SecretName::parse("A_KEY").unwrap(),
        hosts: [Host::parse("api.example.com").unwrap()].into(),
        uses: Default::default(),
        version: 1,
        created_at: Timestamp::from_millis(CREATED),
        updated_at: Timestamp::from_millis(CREATED),
    }
}
