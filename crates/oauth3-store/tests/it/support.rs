//! A store in a folder of its own, and things to put into it.

use oauth3_core::{
    AgentName, AuditMac, Digest, DigestBuilder, Execution, Grant, GrantId, Host, Intent, Limits, RequestId, Reveal,
    Runtime, SealedSecret, SecretName, SecretRecord, SkillId, Status, Timestamp, Trust, Uses,
};
use oauth3_store::SqliteStore;
use std::path::PathBuf;
use tempfile::TempDir;

pub(crate) struct Files {
    pub(crate) folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.folder.path().join("data/oauth3.db")
    }

    pub(crate) fn head(&self) -> PathBuf {
        self.folder.path().join("data/audit_head")
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.db(), &self.head()).await.unwrap()
    }

    /// Does what somebody with the file and an SQLite shell could do.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        use sqlx::{ConnectOptions as _, Connection as _};
        let mut raw = sqlx::sqlite::SqliteConnectOptions::new().filename(self.db()).connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
    }
}

/// A keyed digest that is good enough to tell two keys apart.
pub(crate) struct TestMac(pub(crate) &'static str);

impl AuditMac for TestMac {
    fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        *DigestBuilder::new(self.0).field(bytes).finish().as_bytes()
    }
}

pub(crate) const KEY: TestMac = TestMac("the keeper's key");

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

pub(crate) fn secret_name(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

pub(crate) fn intent(agent_name: &str, code: &[u8]) -> Intent {
    Intent {
        agent: agent(agent_name),
        skill_id: SkillId::parse("weather").unwrap(),
        code_digest: Digest::of(code),
        runtime: Runtime::Embedded,
        secrets: [secret_name("API_KEY")].into(),
        revealed: Default::default(),
        hosts: [Host::parse("api.example.com").unwrap(), Host::parse("b.example.com:8443").unwrap()].into(),
        limits: Limits { processes: 32, ..Limits::STANDARD },
        access: None,
    }
}

pub(crate) fn execution(agent_name: &str, code: &[u8]) -> Execution {
    let intent = intent(agent_name, code);
    let args = serde_json::json!({"zebra": 1, "ant": {"b": [true, null], "a": "\u{e9}"}});
    Execution {
        id: RequestId::random().unwrap(),
        intent_digest: intent.digest(),
        intent,
        description: "asks for the weather".into(),
        skill_url: Some("https://example.com/skill.ts".into()),
        code: code.to_vec(),
        args: args.as_object().unwrap().clone(),
        status: Status::Pending,
        created_at: at(1_000),
        expires_at: at(901_000),
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

pub(crate) fn grant(agent_name: &str, code: &[u8], trust: Trust) -> Grant {
    let granted_at = at(2_000);
    Grant {
        id: GrantId::random().unwrap(),
        intent: intent(agent_name, code),
        trust,
        granted_at,
        expires_at: trust.lifetime().map(|l| granted_at.plus(l)),
        revoked_at: None,
        granted_by: "cli".into(),
    }
}

pub(crate) fn sealed(name: &str, version: u32, sealed: &[u8]) -> SealedSecret {
    SealedSecret {
        record: SecretRecord {
            name: secret_name(name),
            hosts: [Host::parse("api.example.com:8443").unwrap()].into(),
            uses: uses(version),
            version,
            created_at: at(10),
            updated_at: at(10 + i64::from(version)),
        },
        sealed: sealed.to_vec(),
    }
}

/// Others for each version.
fn uses(version: u32) -> Uses {
    let reveal = if version > 1 { Reveal::Once } else { Reveal::Never };
    Uses { rules: ["api.example.com:8443 GET /a/**".parse().unwrap()].into(), reveal, ..Uses::default() }
}
