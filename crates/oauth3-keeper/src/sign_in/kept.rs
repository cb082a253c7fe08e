//! What is sealed of a sign-in, besides the access token, which stands among the secrets.

use oauth3_core::{Account, Timestamp};
use oauth3_oauth::Sensitive;
use oauth3_vault::SecretBytes;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// Room for what is written, in bytes (64 KiB): growing would leave copies behind.
const USUAL_BYTES: usize = 64 << 10;

/// Refresh token, client secret, and what a sign-in under way needs.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Kept {
    /// The client secret that the owner gave.
    pub(super) client_secret: Option<Secret>,
    /// The client that AWS made for us.
    pub(super) registered: Option<Registered>,
    pub(super) refresh_token: Option<Secret>,
    /// AWS: the access token of the session, from which credentials of roles are made.
    pub(super) session: Option<Session>,
    /// A sign-in by code under way.
    pub(super) device: Option<Device>,
    /// Tokens of another account than before, until the owner says that this is meant.
    pub(super) waiting: Option<Waiting>,
}

/// A token or code as it is sealed.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) Sensitive);

/// A client that registered itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Registered {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) expires_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) token: Secret,
    pub(super) expires_at: Option<Timestamp>,
}

/// What a sign-in by code goes on with after a restart.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) code: Secret,
    pub(super) interval_seconds: u64,
}

/// Tokens that are there, and not used yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) account: Account,
    pub(super) access_token: Secret,
    pub(super) refresh_token: Option<Secret>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) granted: BTreeSet<String>,
}

impl Kept {
    /// To be sealed.
    pub(super) fn write(&self) -> Result<SecretBytes, serde_json::Error> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
        serde_json::to_writer(&mut *bytes, self)?;
        Ok(SecretBytes::new(bytes))
    }

    /// What was sealed.
    pub(super) fn read(bytes: &SecretBytes) -> Result<Self, serde_json::Error> {
        bytes.with(|bytes| serde_json::from_slice(bytes))
    }

    /// What stays when the tokens go.
    pub(super) fn without_tokens(self) -> Self {
        Self { client_secret: self.client_secret, registered: self.registered, ..Self::default() }
    }
}

impl Secret {
    pub(super) fn copied(from: &Sensitive) -> Self {
        Self(Sensitive::copied(from.expose()))
    }
}

impl Serialize for Secret {
    /// The one place where tokens are written: into what is sealed next.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_prints_nothing() {
        let secret = |text: &str| Some(Secret(Sensitive::copied(text)));
        let kept = Kept {
            client_secret: secret("canary-client"),
            refresh_token: secret("canary-refresh"),
            device: Some(Device { code: Secret(Sensitive::copied("canary-device")), interval_seconds: 5 }),
            ..Kept::default()
        };
        assert!(!format!("{kept:?}").contains("canary"));
        let back = Kept::read(&kept.write().unwrap()).unwrap();
        assert_eq!(back.refresh_token.unwrap().0.expose(), "canary-refresh");
        assert_eq!(back.device.unwrap().code.0.expose(), "canary-device");
        let left = kept.without_tokens();
        assert_eq!(left.client_secret.unwrap().0.expose(), "canary-client");
        assert!(left.refresh_token.is_none() && left.device.is_none());
    }
}
