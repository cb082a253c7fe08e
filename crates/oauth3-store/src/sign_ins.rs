//! Sign-ins, query by query.

use crate::error::unavailable;
use crate::{SqliteStore, rows};
use oauth3_core::{ApiId, Fault, SealedSecret, SealedSignIn, SecretName, SignInRecord, Timestamp, TokenChange};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

impl SqliteStore {
    pub(crate) async fn all_sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        let found = sqlx::query("SELECT version, record, used_at FROM sign_ins ORDER BY connection");
        found.fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(record).collect()
    }

    pub(crate) async fn one_sign_in(&self, connection: &ApiId) -> Result<Option<SealedSignIn>, Fault> {
        let found = sqlx::query("SELECT * FROM sign_ins WHERE connection = ?1").bind(connection.as_str());
        let row = found.fetch_optional(&self.pool).await.map_err(unavailable)?;
        row.map(|row| Ok(SealedSignIn { record: record(&row)?, sealed: rows::column(&row, "sealed")? })).transpose()
    }

    pub(crate) async fn write_sign_in(
        &self,
        next: &SealedSignIn,
        from: u32,
        token: TokenChange<'_>,
    ) -> Result<bool, Fault> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let SignInRecord { connection, version, .. } = &next.record;
        // What stands in a column of its own is not written twice.
        let text = SignInRecord { used_at: None, ..next.record.clone() };
        let text = serde_json::to_string(&text).map_err(|_| unavailable("a sign-in cannot be written as JSON"))?;
        let query = if from == 0 {
            "INSERT INTO sign_ins (connection, version, record, sealed) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (connection) DO NOTHING"
        } else {
            "UPDATE sign_ins SET version = ?2, record = ?3, sealed = ?4 WHERE connection = ?1 AND version = ?5"
        };
        let written = sqlx::query(query).bind(connection.as_str()).bind(version).bind(text).bind(&next.sealed);
        let written = if from == 0 { written } else { written.bind(from) };
        if written.execute(&mut *tx).await.map_err(unavailable)?.rows_affected() == 0 {
            return Ok(false);
        }
        match token {
            TokenChange::Keep => {}
            TokenChange::Put(secret) => write_secret(&mut tx, secret).await?,
            TokenChange::Remove => delete_token(&mut tx, connection).await?,
        }
        tx.commit().await.map_err(unavailable)?;
        Ok(true)
    }

    pub(crate) async fn write_sign_in_used(&self, connection: &ApiId, at: Timestamp) -> Result<(), Fault> {
        let done = sqlx::query("UPDATE sign_ins SET used_at = ?2 WHERE connection = ?1").bind(connection.as_str());
        done.bind(at.millis()).execute(&self.pool).await.map(drop).map_err(unavailable)
    }
}

/// Destroys what is left of the sign-in of a connection that goes.
pub(crate) async fn delete_sign_in(connection: &mut SqliteConnection, api: &ApiId) -> Result<(), Fault> {
    let done = sqlx::query("DELETE FROM sign_ins WHERE connection = ?1").bind(api.as_str());
    done.execute(&mut *connection).await.map_err(unavailable)?;
    delete_token(connection, api).await
}

async fn delete_token(connection: &mut SqliteConnection, api: &ApiId) -> Result<(), Fault> {
    // Where such a name cannot be, no token is.
    let Ok(name) = SecretName::of_connection(api) else { return Ok(()) };
    let done = sqlx::query("DELETE FROM secrets WHERE name = ?1").bind(name.as_str());
    done.execute(connection).await.map(drop).map_err(unavailable)
}

pub(crate) async fn write_secret(connection: &mut SqliteConnection, secret: &SealedSecret) -> Result<(), Fault> {
    let record = &secret.record;
    let text =
        |value: Result<String, serde_json::Error>| value.map_err(|_| unavailable("a value cannot be written as JSON"));
    sqlx::query(
        "INSERT INTO secrets (name, hosts, uses, version, encrypted_value, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (name) DO UPDATE SET hosts = ?2, uses = ?3, version = ?4, encrypted_value = ?5,
           created_at = ?6, updated_at = ?7",
    )
    .bind(record.name.as_str())
    .bind(text(serde_json::to_string(&record.hosts))?)
    .bind(text(serde_json::to_string(&record.uses))?)
    .bind(record.version)
    .bind(&secret.sealed)
    .bind(record.created_at.millis())
    .bind(record.updated_at.millis())
    .execute(connection)
    .await
    .map(drop)
    .map_err(unavailable)
}

fn record(row: &SqliteRow) -> Result<SignInRecord, Fault> {
    let record: SignInRecord = rows::json(row, "record")?;
    Ok(SignInRecord { version: rows::column(row, "version")?, used_at: rows::time_or_none(row, "used_at")?, ..record })
}
