//! The port, query by query.

use crate::error::unavailable;
use crate::sign_ins::write_secret;
use crate::{SqliteStore, audit, layers, rows};
use async_trait::async_trait;
use oauth3_core::{
    AgentName, AgentRecord, ApiId, ApiKey, AuditEvent, AuditMac, AuditRow, ChainReport, Connection, Digest, Execution,
    Fault, Grant, GrantId, RequestId, SealedSecret, SealedSignIn, SecretName, SecretRecord, SignInRecord, Standing,
    Status, Store, Tag, Timestamp, TokenChange, TokenHash, TokenId, UsageRow,
};
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use std::collections::BTreeSet;

/// One statement with its values.
pub(crate) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// The one setting.
const KILL_SWITCH: &str = "kill_switch";

/// An execution with its code, to be followed by a condition.
macro_rules! executions {
    ($condition:literal) => {
        concat!("SELECT e.*, c.bytes FROM executions e JOIN code c USING (code_hash) ", $condition)
    };
}

fn json(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|_| unavailable("a value cannot be written as JSON"))
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::millis)
}

fn one<T>(row: Option<SqliteRow>, read: fn(&SqliteRow) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    row.as_ref().map(read).transpose()
}

/// The move of a request from one status to another. What was submitted (intent, code, arguments) is never written over.
fn transition(execution: &Execution, from: Status) -> Result<Statement<'_>, Fault> {
    Ok(sqlx::query(
        "UPDATE executions SET status = ?3, trust_level = ?4, grant_id = ?5, trusted = ?6, decided_by = ?7,
           expires_at = ?8, approved_at = ?9, executed_at = ?10, finished_at = ?11, duration_ms = ?12,
           result = ?13, error = ?14, notified_at = ?15
         WHERE request_id = ?1 AND status = ?2",
    )
    .bind(execution.id.as_str())
    .bind(from.as_str())
    .bind(execution.status.as_str())
    .bind(execution.trust.map(|t| t.as_str()))
    .bind(execution.grant_id.as_ref().map(|id| id.as_str()))
    .bind(execution.trusted)
    .bind(&execution.decided_by)
    .bind(execution.expires_at.millis())
    .bind(millis(execution.approved_at))
    .bind(millis(execution.executed_at))
    .bind(millis(execution.finished_at))
    .bind(execution.result.as_ref().map(|r| i64::try_from(r.duration_ms).unwrap_or(i64::MAX)))
    .bind(execution.result.as_ref().map(json).transpose()?)
    .bind(&execution.error)
    .bind(millis(execution.notified_at)))
}

fn no_agent(name: &AgentName) -> Fault {
    Fault::NotFound(format!("there is no active agent {name}; see: oauth3 agent list"))
}

#[async_trait]
impl Store for SqliteStore {
    async fn check(&self) -> Result<(), Fault> {
        sqlx::query("SELECT count(*) FROM settings").fetch_one(&self.pool).await.map(drop).map_err(unavailable)
    }

    async fn insert_agent(
        &self,
        name: &AgentName,
        id: &TokenId,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let done = sqlx::query(
            "INSERT INTO agents (name, token_id, token_hash, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(&id.0)
        .bind(hash.0.to_string())
        .bind(now.millis())
        .execute(&self.pool)
        .await
        .map_err(unavailable)?;
        if done.rows_affected() == 0 {
            return Err(Fault::Exists(format!("there is or was an agent {name}; choose another name")));
        }
        Ok(())
    }

    async fn replace_token(
        &self,
        name: &AgentName,
        id: &TokenId,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let done = sqlx::query(
            "UPDATE agents SET token_id = ?2, token_hash = ?3, rotated_at = ?4 WHERE name = ?1 AND revoked_at IS NULL",
        )
        .bind(name.as_str())
        .bind(&id.0)
        .bind(hash.0.to_string())
        .bind(now.millis())
        .execute(&self.pool)
        .await
        .map_err(unavailable)?;
        if done.rows_affected() == 0 { Err(no_agent(name)) } else { Ok(()) }
    }

    async fn revoke_agent(&self, name: &AgentName, now: Timestamp) -> Result<(), Fault> {
        let done = sqlx::query("UPDATE agents SET revoked_at = coalesce(revoked_at, ?2) WHERE name = ?1")
            .bind(name.as_str())
            .bind(now.millis())
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        if done.rows_affected() == 0 { Err(no_agent(name)) } else { Ok(()) }
    }

    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault> {
        let found = sqlx::query("SELECT * FROM agents ORDER BY name").fetch_all(&self.pool).await;
        found.map_err(unavailable)?.iter().map(rows::agent).collect()
    }

    async fn agent(&self, name: &AgentName) -> Result<Option<AgentRecord>, Fault> {
        let found = sqlx::query("SELECT * FROM agents WHERE name = ?1").bind(name.as_str());
        one(found.fetch_optional(&self.pool).await.map_err(unavailable)?, rows::agent)
    }

    async fn agent_by_token(&self, id: &TokenId) -> Result<Option<(AgentRecord, TokenHash)>, Fault> {
        let found = sqlx::query("SELECT * FROM agents WHERE token_id = ?1").bind(&id.0);
        one(found.fetch_optional(&self.pool).await.map_err(unavailable)?, |row| {
            Ok((rows::agent(row)?, rows::token_hash(row)?))
        })
    }

    async fn set_agent_seen(&self, name: &AgentName, at: Timestamp) -> Result<(), Fault> {
        sqlx::query("UPDATE agents SET last_seen_at = ?2 WHERE name = ?1 AND coalesce(last_seen_at, ?2) <= ?2")
            .bind(name.as_str())
            .bind(at.millis())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(unavailable)
    }

    async fn active_agents(&self) -> Result<Vec<(AgentRecord, TokenId, TokenHash)>, Fault> {
        self.all_active_agents().await
    }

    async fn set_agent_tags(&self, name: &AgentName, tags: &BTreeSet<Tag>) -> Result<(), Fault> {
        if self.write_agent_tags(name, tags).await? { Ok(()) } else { Err(no_agent(name)) }
    }

    async fn put_api_key(&self, key: &ApiKey) -> Result<(), Fault> {
        self.write_api_key(key).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, Fault> {
        self.all_api_keys().await
    }

    async fn remove_api_key(&self, api: &ApiId, secret: &SecretName) -> Result<bool, Fault> {
        self.delete_api_key(api, secret).await
    }

    async fn put_connection(&self, connection: &Connection) -> Result<(), Fault> {
        self.write_connection(connection).await
    }

    async fn connections(&self) -> Result<Vec<Connection>, Fault> {
        self.all_connections().await
    }

    async fn remove_connection(&self, api: &ApiId) -> Result<bool, Fault> {
        self.delete_connection(api).await
    }

    async fn add_usage(&self, rows: &[UsageRow]) -> Result<(), Fault> {
        self.sum_usage(rows).await
    }

    async fn usage(&self, since_day: i64) -> Result<Vec<UsageRow>, Fault> {
        self.usage_since(since_day).await
    }

    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        self.all_sign_ins().await
    }

    async fn sealed_sign_in(&self, connection: &ApiId) -> Result<Option<SealedSignIn>, Fault> {
        self.one_sign_in(connection).await
    }

    async fn put_sign_in(&self, next: &SealedSignIn, from: u32, token: TokenChange<'_>) -> Result<bool, Fault> {
        self.write_sign_in(next, from, token).await
    }

    async fn set_sign_in_used(&self, connection: &ApiId, at: Timestamp) -> Result<(), Fault> {
        self.write_sign_in_used(connection, at).await
    }

    async fn put_secret(&self, secret: &SealedSecret) -> Result<(), Fault> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        write_secret(&mut connection, secret).await
    }

    async fn sealed_secret(&self, name: &SecretName) -> Result<Option<SealedSecret>, Fault> {
        let found = sqlx::query("SELECT * FROM secrets WHERE name = ?1").bind(name.as_str());
        one(found.fetch_optional(&self.pool).await.map_err(unavailable)?, rows::sealed_secret)
    }

    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        let found = sqlx::query("SELECT name, hosts, uses, version, created_at, updated_at FROM secrets ORDER BY name");
        found.fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(rows::secret).collect()
    }

    async fn remove_secret(&self, name: &SecretName) -> Result<(), Fault> {
        let done = sqlx::query("DELETE FROM secrets WHERE name = ?1").bind(name.as_str());
        let done = done.execute(&self.pool).await.map_err(unavailable)?;
        if done.rows_affected() == 0 {
            return Err(Fault::NotFound(format!("there is no secret {name}; see: oauth3 secret list")));
        }
        Ok(())
    }

    async fn put_layer(&self, digest: &Digest, layer: &[u8], needed: &BTreeSet<Digest>) -> Result<(), Fault> {
        layers::put(&self.pool, digest, layer, needed).await
    }

    async fn layer(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
        layers::get(&self.pool, digest).await
    }

    async fn code(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
        let found = sqlx::query_scalar("SELECT bytes FROM code WHERE code_hash = ?1").bind(digest.to_string());
        found.fetch_optional(&self.pool).await.map_err(unavailable)
    }

    async fn insert_execution(&self, execution: &Execution) -> Result<(), Fault> {
        let intent = &execution.intent;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        sqlx::query(
            "INSERT INTO code (code_hash, bytes) VALUES (?4, ?24) ON CONFLICT DO NOTHING;
             INSERT INTO executions (request_id, agent, skill_id, code_hash, intent_digest, intent, description,
               skill_url, args, status, trust_level, grant_id, trusted, decided_by, created_at, expires_at,
               approved_at, executed_at, finished_at, duration_ms, result, error, notified_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
               ?21, ?22, ?23)",
        )
        .bind(execution.id.as_str())
        .bind(intent.agent.as_str())
        .bind(intent.skill_id.as_str())
        .bind(intent.code_digest.to_string())
        .bind(execution.intent_digest.to_string())
        .bind(json(intent)?)
        .bind(&execution.description)
        .bind(&execution.skill_url)
        .bind(json(&execution.args)?)
        .bind(execution.status.as_str())
        .bind(execution.trust.map(|t| t.as_str()))
        .bind(execution.grant_id.as_ref().map(|id| id.as_str()))
        .bind(execution.trusted)
        .bind(&execution.decided_by)
        .bind(execution.created_at.millis())
        .bind(execution.expires_at.millis())
        .bind(millis(execution.approved_at))
        .bind(millis(execution.executed_at))
        .bind(millis(execution.finished_at))
        .bind(execution.result.as_ref().map(|r| i64::try_from(r.duration_ms).unwrap_or(i64::MAX)))
        .bind(execution.result.as_ref().map(json).transpose()?)
        .bind(&execution.error)
        .bind(millis(execution.notified_at))
        .bind(&execution.code)
        .execute(&mut *tx)
        .await
        .map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)
    }

    async fn execution(&self, id: &RequestId) -> Result<Option<Execution>, Fault> {
        let found = sqlx::query(executions!("WHERE request_id = ?1")).bind(id.as_str());
        one(found.fetch_optional(&self.pool).await.map_err(unavailable)?, rows::execution)
    }

    async fn executions(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault> {
        let found = if statuses.is_empty() {
            sqlx::query(executions!("ORDER BY e.id DESC LIMIT ?1")).bind(limit)
        } else {
            sqlx::query(executions!("WHERE status IN (SELECT value FROM json_each(?2)) ORDER BY e.id DESC LIMIT ?1"))
                .bind(limit)
                .bind(json(&statuses)?)
        };
        Ok(rows::readable(&found.fetch_all(&self.pool).await.map_err(unavailable)?, rows::execution))
    }

    async fn unnotified(&self, limit: u32) -> Result<Vec<Execution>, Fault> {
        let found = sqlx::query(executions!(
            "WHERE notified_at IS NULL AND status IN ('success', 'failed', 'denied', 'expired', 'cancelled')
             ORDER BY e.id LIMIT ?1"
        ));
        Ok(rows::readable(&found.bind(limit).fetch_all(&self.pool).await.map_err(unavailable)?, rows::execution))
    }

    async fn open_count(&self, agent: &AgentName) -> Result<u32, Fault> {
        sqlx::query_scalar(
            "SELECT count(*) FROM executions WHERE agent = ?1 AND status IN ('pending', 'awaiting_secrets')",
        )
        .bind(agent.as_str())
        .fetch_one(&self.pool)
        .await
        .map_err(unavailable)
    }

    async fn transition(&self, execution: &Execution, from: Status) -> Result<bool, Fault> {
        let done = transition(execution, from)?.execute(&self.pool).await.map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    async fn set_notified(&self, id: &RequestId, at: Timestamp) -> Result<(), Fault> {
        sqlx::query("UPDATE executions SET notified_at = ?2 WHERE request_id = ?1")
            .bind(id.as_str())
            .bind(at.millis())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(unavailable)
    }

    async fn insert_grant(&self, grant: &Grant) -> Result<(), Fault> {
        let intent = &grant.intent;
        sqlx::query(
            "INSERT INTO approvals (grant_id, agent, skill_id, code_hash, intent_digest, intent, trust_level,
               approved_at, approved_by, expires_at, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .bind(grant.id.as_str())
        .bind(intent.agent.as_str())
        .bind(intent.skill_id.as_str())
        .bind(intent.code_digest.to_string())
        .bind(intent.digest().to_string())
        .bind(json(intent)?)
        .bind(grant.trust.as_str())
        .bind(grant.granted_at.millis())
        .bind(&grant.granted_by)
        .bind(millis(grant.expires_at))
        .bind(millis(grant.revoked_at))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(unavailable)
    }

    /// One statement: it stands on the path of each request, and sees one moment.
    async fn standing(
        &self,
        agent: &AgentName,
        intent_digest: &Digest,
        grant: Option<&GrantId>,
    ) -> Result<Standing, Fault> {
        let found = sqlx::query(
            "SELECT
               (SELECT value FROM settings WHERE name = ?4) AS kill_switch,
               EXISTS (SELECT 1 FROM agents WHERE name = ?1 AND revoked_at IS NULL) AS agent_active,
               (SELECT count(*) FROM executions
                 WHERE agent = ?1 AND status IN ('pending', 'awaiting_secrets')) AS open_requests,
               ?3 IS NOT NULL AND NOT EXISTS
                 (SELECT 1 FROM approvals WHERE grant_id = ?3 AND revoked_at IS NULL) AS grant_revoked,
               newest.*
             FROM (SELECT 1) LEFT JOIN (
               SELECT * FROM approvals WHERE intent_digest = ?2 AND revoked_at IS NULL ORDER BY id DESC LIMIT 1
             ) AS newest",
        );
        let found = found
            .bind(agent.as_str())
            .bind(intent_digest.to_string())
            .bind(grant.map(GrantId::as_str))
            .bind(KILL_SWITCH)
            .fetch_one(&self.pool)
            .await
            .map_err(unavailable)?;
        rows::standing(&found)
    }

    async fn grant(&self, id: &GrantId) -> Result<Option<Grant>, Fault> {
        let found = sqlx::query("SELECT * FROM approvals WHERE grant_id = ?1").bind(id.as_str());
        one(found.fetch_optional(&self.pool).await.map_err(unavailable)?, rows::grant)
    }

    async fn grants(&self) -> Result<Vec<Grant>, Fault> {
        let found = sqlx::query("SELECT * FROM approvals ORDER BY id DESC").fetch_all(&self.pool).await;
        Ok(rows::readable(&found.map_err(unavailable)?, rows::grant))
    }

    async fn revoke_grant(&self, id: &GrantId, now: Timestamp) -> Result<bool, Fault> {
        let done = sqlx::query("UPDATE approvals SET revoked_at = ?2 WHERE grant_id = ?1 AND revoked_at IS NULL")
            .bind(id.as_str())
            .bind(now.millis())
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    async fn kill_switch(&self) -> Result<bool, Fault> {
        let value: Option<String> = sqlx::query_scalar("SELECT value FROM settings WHERE name = ?1")
            .bind(KILL_SWITCH)
            .fetch_optional(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(rows::is_on(value.as_deref()))
    }

    async fn set_kill_switch(&self, on: bool) -> Result<(), Fault> {
        sqlx::query("INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")
            .bind(KILL_SWITCH)
            .bind(if on { "on" } else { "off" })
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(unavailable)
    }

    async fn note(&self, channel: &str, key: &str) -> Result<Option<serde_json::Value>, Fault> {
        let value: Option<String> = sqlx::query_scalar("SELECT value FROM notes WHERE channel = ?1 AND key = ?2")
            .bind(channel)
            .bind(key)
            .fetch_optional(&self.pool)
            .await
            .map_err(unavailable)?;
        value.map(|v| serde_json::from_str(&v).map_err(|_| unavailable("a note cannot be read"))).transpose()
    }

    async fn notes(&self, channel: &str, prefix: &str) -> Result<Vec<(String, serde_json::Value)>, Fault> {
        let found: Vec<(String, String)> = sqlx::query_as(
            "SELECT key, value FROM notes WHERE channel = ?1 AND substr(key, 1, length(?2)) = ?2 ORDER BY key",
        )
        .bind(channel)
        .bind(prefix)
        .fetch_all(&self.pool)
        .await
        .map_err(unavailable)?;
        let parse = |text: String| serde_json::from_str(&text).map_err(|_| unavailable("a note cannot be read"));
        found.into_iter().map(|(key, value)| Ok((key, parse(value)?))).collect()
    }

    async fn set_note(&self, channel: &str, key: &str, value: Option<&serde_json::Value>) -> Result<(), Fault> {
        let query = match value {
            Some(value) => sqlx::query(
                "INSERT INTO notes (channel, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (channel, key) DO UPDATE SET value = ?3",
            )
            .bind(channel)
            .bind(key)
            .bind(json(value)?),
            None => sqlx::query("DELETE FROM notes WHERE channel = ?1 AND key = ?2").bind(channel).bind(key),
        };
        query.execute(&self.pool).await.map(drop).map_err(unavailable)
    }

    async fn append_audit(&self, events: &[AuditEvent], at: Timestamp, mac: &dyn AuditMac) -> Result<i64, Fault> {
        let appended = audit::append(self, events, at, mac, None).await?;
        appended.ok_or_else(|| unavailable("an audit append came to nothing"))
    }

    async fn append_audit_and_transition(
        &self,
        events: &[AuditEvent],
        at: Timestamp,
        mac: &dyn AuditMac,
        execution: &Execution,
        from: Status,
    ) -> Result<bool, Fault> {
        let appended = audit::append(self, events, at, mac, Some(transition(execution, from)?)).await?;
        Ok(appended.is_some())
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        let found = sqlx::query("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2").bind(seq).bind(limit);
        found.fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(rows::audit).collect()
    }

    async fn refusals(&self, id: &RequestId, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        let found =
            sqlx::query("SELECT * FROM audit WHERE kind = 'egress_refused' AND request_id = ?1 ORDER BY seq LIMIT ?2");
        let found = found.bind(id.as_str()).bind(limit).fetch_all(&self.pool).await.map_err(unavailable)?;
        found.iter().map(rows::audit).collect()
    }

    async fn audit_head(&self) -> Result<i64, Fault> {
        sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM audit").fetch_one(&self.pool).await.map_err(unavailable)
    }

    async fn verify_audit(&self, mac: &dyn AuditMac) -> Result<ChainReport, Fault> {
        audit::verify(self, mac).await
    }
}
