//! Keys, connections and usage of APIs, query by query.

use crate::error::unavailable;
use crate::sign_ins::delete_sign_in;
use crate::{SqliteStore, rows};
use oauth3_core::{
    AgentName, AgentRecord, ApiId, ApiKey, Connection, Fault, GrantId, MicroUsd, SecretName, Tag, Tally, TokenHash,
    TokenId, UsageRow,
};
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeSet;

impl SqliteStore {
    pub(crate) async fn all_active_agents(&self) -> Result<Vec<(AgentRecord, TokenId, TokenHash)>, Fault> {
        let found = sqlx::query("SELECT * FROM agents WHERE revoked_at IS NULL ORDER BY name").fetch_all(&self.pool);
        let read =
            |row: &SqliteRow| Ok((rows::agent(row)?, TokenId(rows::column(row, "token_id")?), rows::token_hash(row)?));
        found.await.map_err(unavailable)?.iter().map(read).collect()
    }

    pub(crate) async fn write_agent_tags(&self, name: &AgentName, tags: &BTreeSet<Tag>) -> Result<bool, Fault> {
        let done = sqlx::query("UPDATE agents SET tags = ?2 WHERE name = ?1 AND revoked_at IS NULL")
            .bind(name.as_str())
            .bind(text(tags)?)
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn write_api_key(&self, key: &ApiKey) -> Result<(), Fault> {
        sqlx::query(
            "INSERT INTO api_keys (api, secret, agent, tag, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (api, secret) DO UPDATE SET agent = ?3, tag = ?4, created_at = ?5",
        )
        .bind(key.api.as_str())
        .bind(key.secret.as_str())
        .bind(key.agent.as_ref().map(|agent| agent.as_str()))
        .bind(key.tag.as_ref().map(|tag| tag.as_str()))
        .bind(key.created_at.millis())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(unavailable)
    }

    pub(crate) async fn all_api_keys(&self) -> Result<Vec<ApiKey>, Fault> {
        let found = sqlx::query("SELECT * FROM api_keys ORDER BY id").fetch_all(&self.pool).await;
        found.map_err(unavailable)?.iter().map(api_key).collect()
    }

    pub(crate) async fn delete_api_key(&self, api: &ApiId, secret: &SecretName) -> Result<bool, Fault> {
        let done = sqlx::query("DELETE FROM api_keys WHERE api = ?1 AND secret = ?2")
            .bind(api.as_str())
            .bind(secret.as_str())
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn write_connection(&self, connection: &Connection) -> Result<(), Fault> {
        sqlx::query(
            "INSERT INTO connections (api, base_url, place, rules, created_at, sign_in) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (api) DO UPDATE SET base_url = ?2, place = ?3, rules = ?4, created_at = ?5, sign_in = ?6",
        )
        .bind(connection.api.as_str())
        .bind(&connection.base_url)
        .bind(text(&connection.place)?)
        .bind(text(&connection.rules)?)
        .bind(connection.created_at.millis())
        .bind(connection.sign_in.as_ref().map(text).transpose()?)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(unavailable)
    }

    pub(crate) async fn all_connections(&self) -> Result<Vec<Connection>, Fault> {
        let found = sqlx::query("SELECT * FROM connections ORDER BY api").fetch_all(&self.pool).await;
        found.map_err(unavailable)?.iter().map(connection).collect()
    }

    pub(crate) async fn delete_connection(&self, api: &ApiId) -> Result<bool, Fault> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let keys = sqlx::query("DELETE FROM api_keys WHERE api = ?1").bind(api.as_str());
        keys.execute(&mut *tx).await.map_err(unavailable)?;
        delete_sign_in(&mut tx, api).await?;
        let done = sqlx::query("DELETE FROM connections WHERE api = ?1").bind(api.as_str());
        let done = done.execute(&mut *tx).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn sum_usage(&self, sums: &[UsageRow]) -> Result<(), Fault> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        for row in sums {
            let tally = &row.tally;
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            sqlx::query(
                "INSERT INTO usage (day, agent, api, model, grant_id, calls, failed, estimated, tokens_in, tokens_out,
                   micro_usd, millis)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT (day, agent, api, model, grant_id) DO UPDATE SET calls = calls + ?6, failed = failed + ?7,
                   estimated = estimated + ?8, tokens_in = tokens_in + ?9, tokens_out = tokens_out + ?10,
                   micro_usd = micro_usd + ?11, millis = millis + ?12",
            )
            .bind(row.day)
            .bind(row.agent.as_str())
            .bind(row.api.as_str())
            .bind(&row.model)
            .bind(row.grant_id.as_ref().map_or("", |id| id.as_str()))
            .bind(number(tally.calls))
            .bind(number(tally.failed))
            .bind(number(tally.estimated))
            .bind(number(tally.tokens_in))
            .bind(number(tally.tokens_out))
            .bind(number(tally.usd.0))
            .bind(number(tally.millis))
            .execute(&mut *tx)
            .await
            .map_err(unavailable)?;
        }
        tx.commit().await.map_err(unavailable)
    }

    pub(crate) async fn usage_since(&self, day: i64) -> Result<Vec<UsageRow>, Fault> {
        let found = sqlx::query("SELECT * FROM usage WHERE day >= ?1 ORDER BY day, agent, api, model, grant_id");
        found.bind(day).fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(usage).collect()
    }
}

fn text(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|_| unavailable("a value cannot be written as JSON"))
}

fn api_key(row: &SqliteRow) -> Result<ApiKey, Fault> {
    Ok(ApiKey {
        api: rows::parsed(row, "api")?,
        secret: rows::parsed(row, "secret")?,
        agent: rows::parsed_or_none(row, "agent")?,
        tag: rows::parsed_or_none(row, "tag")?,
        created_at: rows::time(row, "created_at")?,
    })
}

fn connection(row: &SqliteRow) -> Result<Connection, Fault> {
    Ok(Connection {
        api: rows::parsed(row, "api")?,
        base_url: rows::column(row, "base_url")?,
        place: rows::json(row, "place")?,
        rules: rows::json(row, "rules")?,
        sign_in: rows::json_or_none(row, "sign_in")?,
        created_at: rows::time(row, "created_at")?,
    })
}

fn usage(row: &SqliteRow) -> Result<UsageRow, Fault> {
    let count = |name| Ok::<_, Fault>(u64::try_from(rows::column::<i64>(row, name)?).unwrap_or_default());
    let grant: String = rows::column(row, "grant_id")?;
    Ok(UsageRow {
        day: rows::column(row, "day")?,
        agent: rows::parsed(row, "agent")?,
        api: rows::parsed(row, "api")?,
        model: rows::column(row, "model")?,
        grant_id: GrantId::parse(&grant).ok(),
        tally: Tally {
            calls: count("calls")?,
            failed: count("failed")?,
            estimated: count("estimated")?,
            tokens_in: count("tokens_in")?,
            tokens_out: count("tokens_out")?,
            usd: MicroUsd(count("micro_usd")?),
            millis: count("millis")?,
        },
    })
}
