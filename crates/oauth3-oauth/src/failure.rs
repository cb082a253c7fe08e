//! What went wrong, in sentences for the owner.

use std::fmt;

/// Longest error code that is shown, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// Why a step did not come to what it should. Each is a plain sentence; no token, and nothing of a server's reply but
/// its error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Somebody said no.
    #[error("the sign-in was declined")]
    Denied,
    /// Nobody finished it in time.
    #[error("the code has expired; start the sign-in again")]
    Expired,
    /// This sign-in has ended before.
    #[error("this sign-in has ended; start another")]
    Over,
    /// The server said no, with its code.
    #[error("the provider refused: {}", explain(.0))]
    Refused(ErrorCode),
    /// It said that it cannot at the moment.
    #[error("the provider has trouble at the moment (HTTP status {0})")]
    Unavailable(u16),
    /// A redirect where there must be none.
    #[error("the provider sent us to another address, which is not followed; check the configured endpoints")]
    Redirect,
    /// A page, or anything else that is no reply of OAuth.
    #[error(
        "what answered is no OAuth server (HTTP status {0}); check the configured endpoints, or whether a proxy is between"
    )]
    NotOauth(u16),
    /// Too much.
    #[error("the provider's reply is larger than {} KiB and was not read", crate::MAX_REPLY_BYTES / 1024)]
    TooLarge,
    /// A field is missing or of the wrong form.
    #[error("the provider's reply has no usable {0}")]
    Field(&'static str),
    /// Not a bearer token.
    #[error("the provider gave a token that is not of the type Bearer, which cannot be used")]
    TokenType,
    /// The server has no such endpoint.
    #[error("the provider has no {0}; name it when the connection is added")]
    NoEndpoint(&'static str),
    /// AWS's client must register first: [`crate::aws::register`].
    #[error("oauth3 is not registered as a client there yet")]
    NotRegistered,
    /// The address where the code is to be entered is none of the provider's.
    #[error("the provider names an address for entering the code that is not its own; the sign-in was stopped")]
    VerificationAddress,
    /// Metadata, or an answer in the browser, of another issuer.
    #[error("what came is of another issuer than the configured one")]
    Issuer,
    /// Metadata that leads elsewhere.
    #[error("the metadata names an address that is not reached by TLS or cannot be read: the {0}")]
    Insecure(&'static str),
    /// What came back is not of this sign-in.
    #[error("the answer from the browser does not belong to this sign-in; start it again")]
    State,
    /// The ID token does not hold.
    #[error("the provider's ID token was refused: {0}")]
    IdToken(&'static str),
    /// The ID token is signed with a key that is not in the set; the set may be fetched once more.
    #[error("the provider's ID token is signed with a key that the provider does not publish")]
    UnknownKey,
    /// The account's endpoint spoke of somebody else.
    #[error("the provider named two different accounts for one sign-in; it was stopped")]
    Account,
    /// A request that would become too long.
    #[error("there are too many or too long scopes for one request")]
    TooLong,
}

impl Failure {
    /// Whether the same may be tried again after a while.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::NotOauth(_) | Self::Redirect | Self::TooLarge => true,
            Self::Refused(code) => code.is_transient(),
            _ => false,
        }
    }
}

/// A server's error code (RFC 6749 §5.2): letters, `_`, `-`, `.`; what is not, is `unknown`. No code has digits, and hardly
/// any token that a server says again in place of one does without.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorCode(String);

impl ErrorCode {
    pub(crate) fn new(text: &str) -> Self {
        let fine = |byte: u8| byte.is_ascii_alphabetic() || b"_-.".contains(&byte);
        let known = (1..=MAX_CODE_BYTES).contains(&text.len()) && text.bytes().all(fine);
        Self(if known { text } else { "unknown" }.to_owned())
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it says that the server cannot at the moment.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.as_str(),
            "server_error"
                | "temporarily_unavailable"
                | "internal_server"
                | "too_many_requests"
                | "rate_limit_exceeded"
                | "slow_down"
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a code means for the owner, and the code.
fn explain(code: &ErrorCode) -> String {
    let meaning = match code.as_str() {
        "invalid_client" | "incorrect_client_credentials" => {
            "it does not know this client id, or the client secret is wrong"
        }
        "unauthorized_client" => "this client may not sign in this way; allow it in the client's settings there",
        "device_flow_disabled" => {
            "the device flow is not enabled for this client; enable it in the app's settings there"
        }
        "unsupported_grant_type" => "it does not know this kind of sign-in",
        "invalid_scope" => "one of the scopes does not exist or is not for this client",
        "invalid_grant" | "bad_refresh_token" | "token_revoked" => {
            "the sign-in is no longer good: it was used up, revoked or has expired"
        }
        "invalid_request" => "something in the request is missing or not known to it",
        "invalid_target" => "it does not know the API that the token is for",
        "interaction_required" | "login_required" | "consent_required" | "mfa_required" => {
            "it wants to see you again before it goes on"
        }
        "incorrect_device_code" | "bad_verification_code" => "it does not know the code of this sign-in",
        "slow_down" | "too_many_requests" | "rate_limit_exceeded" => "it was asked too often",
        "server_error" | "temporarily_unavailable" | "internal_server" => "it has trouble at the moment",
        "resource_not_found" => "it does not know this account or role",
        "unauthorized" | "invalid_token" | "insufficient_scope" => "the token is not, or no longer, good for this",
        "access_denied" => "access was denied",
        other if other.starts_with("federated_connection") => "the account has no usable link to the other service",
        _ => "it gave no reason that is known here",
    };
    format!("{meaning} ({code})")
}
