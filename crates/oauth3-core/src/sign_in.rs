//! Sign-ins: accounts at identity providers whose tokens the keeper holds for a connection.

use crate::{ApiId, Host, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most scopes that one connection asks for.
pub const MAX_SCOPES: usize = 64;
/// Longest scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 256;
/// Longest client id, in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = 256;

/// How the owner of a connection signs in: everything that decides where its tokens come from and go to.
///
/// Tokens are sealed together with this; under another setup they do not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInSetup {
    /// The identity provider's name in the catalog; `generic` for any other.
    pub provider: String,
    /// What its addresses are made from, by name: a tenant, a domain, an issuer, endpoints.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The client id (RFC 6749 §2.2); empty where the provider gives one when it is asked.
    pub client_id: String,
    /// What is asked for (RFC 6749 §3.3): the ceiling of all that is ever done with the account.
    pub scopes: BTreeSet<String>,
    /// The hosts that access tokens may go to.
    pub hosts: BTreeSet<Host>,
    /// The sign-in that its access token is got from; none for a connection that people sign in at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Derived>,
}

/// Where a connection without a sign-in of its own has its access token from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derived {
    /// The connection that people sign in at.
    pub parent: ApiId,
    /// How.
    pub way: DerivedWay,
}

/// How an access token is got from another sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DerivedWay {
    /// The refresh token gives one with fewer scopes (RFC 6749 §6).
    FewerScopes,
    /// The access token is exchanged at the same server (RFC 8693 §2.1).
    Exchange {
        /// For whom it shall be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<String>,
        /// The address that it shall be used at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
    },
    /// Auth0's Token Vault gives one of another provider, to which the account is linked there.
    Vault {
        /// What that provider is called at Auth0, such as `google-oauth2`.
        connection: String,
    },
}

impl Derived {
    /// Where the token is from, in a few words.
    #[must_use]
    pub fn shown(&self) -> String {
        let parent = self.parent.name();
        match &self.way {
            DerivedWay::FewerScopes => format!("from {parent} with fewer scopes"),
            DerivedWay::Exchange { audience, resource } => {
                let target = audience.iter().chain(resource).cloned().collect::<Vec<_>>().join(", ");
                format!("from {parent} by exchange for {target}")
            }
            DerivedWay::Vault { connection } => format!("from {parent} by its link to {connection}"),
        }
    }
}

/// Who signed in, as the provider says. Texts are bounded, and without control or format characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The provider's own id of the account, which never changes: `sub` of an ID token (OpenID Connect Core §2).
    pub subject: String,
    /// The person's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address of mail, or the login name where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl Account {
    /// `NAME (EMAIL)`, or what there is of it, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        match (&self.name, &self.email) {
            (Some(name), Some(email)) => format!("{name} ({email})"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => format!("account {}", self.subject),
        }
    }
}

/// Where the owner goes, with which code. Never for an agent's eyes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The address to go to (`verification_uri`, RFC 8628 §3.2), or that of the sign-in itself (RFC 6749 §3.1).
    pub address: String,
    /// The code to be typed there; none where the address is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The address with the code in it (`verification_uri_complete`), for a QR code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_with_code: Option<String>,
}

/// A sign-in under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Who asked: `cli`, `telegram:42`, `agent:NAME`.
    pub asked_by: String,
    /// When it began.
    pub began_at: Timestamp,
    /// When it is too late.
    pub expires_at: Timestamp,
    /// Where the owner goes.
    pub prompt: Prompt,
    /// Another account than before signed in, and waits for the owner to say that this is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_account: Option<Account>,
}

/// Where a connection's sign-in stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignInState {
    /// Nobody signed in, or the owner signed out.
    SignedOut,
    /// There are tokens.
    SignedIn,
    /// The tokens are of no use any more; the sentence says why.
    Needed(String),
}

/// How an attempt ends that comes to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The person said no at the provider, or refused the account that signed in.
    Denied,
    /// Nobody signed in in time.
    Expired,
    /// The owner stopped it here.
    Cancelled,
    /// Anything else.
    Failed,
}

/// Why the last attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// When.
    pub at: Timestamp,
    /// How.
    pub end: AttemptEnd,
    /// A plain sentence.
    pub sentence: String,
}

/// All of a sign-in but its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInRecord {
    /// The connection.
    pub connection: ApiId,
    /// Counts changes; 1 is the first. A change is written over the version that it was made from, or not at all.
    pub version: u32,
    /// Where it stands.
    pub state: SignInState,
    /// Who signed in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// What was granted, as the provider said; empty when it said nothing, which means what was asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub granted: BTreeSet<String>,
    /// When the access token ends, if the provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether there is a refresh token.
    pub refreshable: bool,
    /// When the owner signed in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_in_at: Option<Timestamp>,
    /// When the access token was last refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Timestamp>,
    /// The refresh token is on its way to the provider since then. Written before it leaves, so that no refresh token
    /// is ever sent twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshing_since: Option<Timestamp>,
    /// A sign-in under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// What became of the last one that failed, until one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailedAttempt>,
    /// When a token was last lent. Kept beside the versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

impl SignInRecord {
    /// That of a connection at which nobody ever signed in; stored with the first change.
    #[must_use]
    pub const fn new(connection: ApiId) -> Self {
        Self {
            connection,
            version: 0,
            state: SignInState::SignedOut,
            account: None,
            granted: BTreeSet::new(),
            expires_at: None,
            refreshable: false,
            signed_in_at: None,
            refreshed_at: None,
            refreshing_since: None,
            attempt: None,
            failure: None,
            used_at: None,
        }
    }

    /// `signed_in`, `signed_out`, `sign_in_needed`, `pending` (a sign-in is under way), for agents and scripts.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (&self.attempt, &self.state) {
            (Some(_), _) => "pending",
            (None, SignInState::SignedIn) => "signed_in",
            (None, SignInState::SignedOut) => "signed_out",
            (None, SignInState::Needed(_)) => "sign_in_needed",
        }
    }
}

/// What the owner, or an agent by asking, wants done with a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignInOrder {
    /// Begin one, or join the one that is under way.
    Begin,
    /// Stop the one that is under way.
    Cancel,
    /// The other account that signed in is meant.
    KeepAccount,
    /// It is not: its tokens are revoked, and what was there stays.
    RefuseAccount,
    /// Revoke the tokens at the provider, then destroy them.
    SignOut,
}

/// What an agent may know of a connection: neither code nor account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Its name, without `api/`.
    pub name: String,
    /// Where it is.
    pub base_url: String,
    /// The identity provider; none for a connection that takes a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The connection whose sign-in its token is got from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// See [`SignInRecord::word`]; none for a connection that takes a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The scopes that were granted, or that are asked for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    /// Until when a sign-in that is under way waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What an agent that asks for a sign-in is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInAsked {
    /// The connection as it then is.
    pub view: ConnectionView,
    /// Where the owner was asked: names of channels, empty when only the command line can sign in.
    pub asked: Vec<String>,
}
