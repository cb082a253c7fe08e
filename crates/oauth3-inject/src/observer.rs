//! Who is told what the data plane does.

use async_trait::async_trait;
use oauth3_core::{Host, SecretName};
use oauth3_vault::SecretBytes;

/// Hears of uses and refusals; the keeper writes them into the audit chain.
#[async_trait]
pub trait Observer: Send + Sync {
    /// A secret is about to leave for a host; awaited before it does, once per secret, host and run.
    ///
    /// # Errors
    /// When it could not be recorded: then the request is refused and nothing leaves.
    async fn secret_used(&self, secret: &SecretName, host: &Host) -> Result<(), ()>;

    /// The access token of a connection and its version, when it is not this version any more: renewed because it
    /// ends soon, or because an API has just `refused` it. Nothing when there is no other.
    async fn newer_token(&self, _token: &SecretName, _version: u32, _refused: bool) -> Option<(u32, SecretBytes)> {
        None
    }

    /// Something was refused. `host` is what the code named, cleaned; `reason` is a sentence without values;
    /// `placeholder` says that it is about a secret's placeholder where that may not be.
    /// Each distinct refusal of a run is told once, and at most 64 of a kind.
    async fn refused(&self, host: &str, reason: &str, placeholder: bool);
}
