//! Takes values in.

use crate::audit::Audit;
use crate::reveal;
use oauth3_core::{AuditEvent, AuditKind, Clock, Fault, MAX_HOSTS, NewSecret, SealedSecret, SecretRecord, Store, Uses};
use oauth3_inject::check_value;
use oauth3_vault::{SecretBytes, Vault};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Largest value, in bytes (64 KiB). The smallest has one byte.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Longest name of who gave a value, in bytes.
const MAX_BY_BYTES: usize = 128;

/// Seals values and stores them.
pub(crate) struct Secrets {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) clock: Arc<dyn Clock>,
    /// One change at a time, so that each version is sealed once.
    pub(crate) turn: Mutex<()>,
}

impl Secrets {
    /// Seals and stores a value, recorded before.
    pub(crate) async fn put(&self, new: NewSecret, value: SecretBytes) -> Result<(), Fault> {
        check(&new, &value)?;
        let _turn = self.turn.lock().await;
        let known = self.store.sealed_secret(&new.name).await?;
        let now = self.clock.now();
        let record = match (known, new.replace) {
            (Some(_), false) => {
                let text = format!("there is a secret {}; rotate or remove it", new.name);
                return Err(Fault::Exists(text));
            }
            (None, true) => return Err(Fault::NotFound(format!("there is no secret {}; add it", new.name))),
            (None, false) => SecretRecord {
                name: new.name,
                hosts: new.hosts,
                uses: Uses::default().changed(&new.uses),
                version: 1,
                created_at: now,
                updated_at: now,
            },
            (Some(old), true) => {
                let old = self.genuine(old)?;
                SecretRecord {
                    hosts: if new.hosts.is_empty() { old.hosts } else { new.hosts },
                    uses: old.uses.changed(&new.uses),
                    version: old.version.checked_add(1).ok_or_else(|| Fault::TooLarge("too many versions".into()))?,
                    updated_at: now,
                    ..old
                }
            }
        };
        record.uses.check(&record.hosts).map_err(Fault::InvalidRequest)?;
        if record.uses.reveal.is_on() {
            reveal::check(&value)?;
        }
        check_value(&record.uses.kind, &value).map_err(|error| Fault::InvalidRequest(error.to_string()))?;
        let sealed = self.vault.seal(&record, &value).map_err(|error| {
            tracing::error!(%error, "a value cannot be sealed");
            Fault::Unavailable("the value cannot be sealed".into())
        })?;
        drop(value);
        let hosts: Vec<String> = record.hosts.iter().map(ToString::to_string).collect();
        let event = AuditEvent::new(AuditKind::SecretChanged, new.by)
            .with("change", if new.replace { "rotated" } else { "added" })
            .with("secret", record.name.as_str())
            .with("version", record.version)
            .with("hosts", hosts);
        let event = match serde_json::to_value(&record.uses) {
            Ok(uses) if !record.uses.is_default() => event.with("uses", uses),
            _ => event,
        };
        self.audit.append(&[event]).await?;
        self.store.put_secret(&SealedSecret { record, sealed }).await
    }

    /// The record, if nobody edited it: what a new value inherits must be what the owner said for the old one.
    fn genuine(&self, old: SealedSecret) -> Result<SecretRecord, Fault> {
        self.vault.unseal(&old).map_err(|error| {
            tracing::error!(%error, "a secret cannot be rotated");
            let text = "was changed in the database, or sealed with another key; remove it and add it anew";
            Fault::InvalidRequest(format!("{} {text}", old.record.name))
        })?;
        Ok(old.record)
    }
}

fn check(new: &NewSecret, value: &SecretBytes) -> Result<(), Fault> {
    if let Some(connection) = new.name.connection() {
        let name = connection.name();
        let text = format!("the token of a connection comes by signing in to it: oauth3 login {name}");
        return Err(Fault::InvalidRequest(text));
    }
    if value.is_empty() {
        return Err(Fault::InvalidRequest("the value is empty".into()));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(Fault::TooLarge(format!("a value has at most {MAX_VALUE_BYTES} bytes")));
    }
    if new.hosts.len() > MAX_HOSTS {
        return Err(Fault::InvalidRequest(format!("a secret is bound to at most {MAX_HOSTS} hosts")));
    }
    if new.by.is_empty() || new.by.len() > MAX_BY_BYTES || !new.by.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::InvalidRequest("who gives the value has no proper name".into()));
    }
    Ok(())
}
