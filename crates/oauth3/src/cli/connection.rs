//! `oauth3 connection …`, `login`, `logout` and `status`.

use super::{GrantArgs, key_value};
use clap::{Args, Subcommand};
use oauth3_core::{Host, KeyPlace, Rule, SecretName};
use std::collections::BTreeMap;

/// `oauth3 connection …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionCommand {
    /// Define one, or define it anew
    Add(Box<ConnectionAdd>),
    /// List them, with who is signed in
    List,
    /// Remove one, with its keys; who is signed in is signed out
    Remove {
        /// Its name
        name: String,
    },
    /// Show the identity providers that people sign in with, what they need, and their scopes
    #[command(visible_alias = "scopes")]
    Providers {
        /// The provider; none: all of them
        provider: Option<String>,
    },
    /// Let an agent use one without asking
    Grant {
        /// Its name
        name: String,
        /// Who and how much
        #[command(flatten)]
        grant: GrantArgs,
    },
}

/// `oauth3 connection add …`
#[derive(Debug, Args)]
pub(crate) struct ConnectionAdd {
    /// Its name: it is at /api/NAME/ of the proxy, and connection:NAME among secrets
    pub name: String,
    /// Where it is, such as `https://crm.example.com/rest` [default with --provider: the provider's API, else the first --host]
    #[arg(long, value_name = "URL", required_unless_present_any = ["provider", "from"])]
    pub base_url: Option<String>,
    /// The stored secret that is its key, for every agent
    #[arg(long, conflicts_with = "people")]
    pub secret: Option<SecretName>,
    /// Where its key goes: bearer, scheme:WORD, header:NAME, query:NAME or sigv4:SERVICE:REGION [default: bearer; for a sign-in at AWS sigv4 as its host says]
    #[arg(long = "in", value_name = "PLACE")]
    pub place: Option<KeyPlace>,
    /// A request that may be made at all, such as "crm.example.com GET /rest/people/*"; give several times
    #[arg(long = "allow", visible_alias = "rule", value_name = "RULE")]
    pub rules: Vec<Rule>,
    /// People sign in with this provider: see `oauth3 connection providers`
    #[arg(long, group = "people")]
    pub provider: Option<String>,
    /// Its token is got from the sign-in of this connection, with the scopes that --scope names
    #[arg(long, group = "people", value_name = "CONNECTION")]
    pub from: Option<String>,
    /// With --from: by exchange for audience=API or resource=URL (RFC 8693), or for the token of an account that is linked at Auth0, such as connection=google-oauth2
    #[arg(long = "exchange", requires = "from", value_name = "NAME=VALUE", value_parser = key_value)]
    pub exchange: Vec<(String, String)>,
    /// How they do
    #[command(flatten)]
    pub sign_in: SignInArgs,
}

/// How people sign in at a connection.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --provider (--scope, --scope-set and --host also with --from)")]
pub(crate) struct SignInArgs {
    /// The id of the app that you registered at the provider
    #[arg(long, requires = "provider", value_name = "ID")]
    pub client_id: Option<String>,
    /// Read the app's secret from standard input; one trailing newline is dropped
    #[arg(long, requires = "provider", conflicts_with = "client_secret_from_env")]
    pub client_secret_stdin: bool,
    /// Read the app's secret from this variable
    #[arg(long, requires = "provider", value_name = "VAR")]
    pub client_secret_from_env: Option<String>,
    /// A scope to ask for; give several times
    #[arg(long = "scope", requires = "people", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// A set of scopes by its name, such as mail-read; give several times [default: the provider's first, your name]
    #[arg(long = "scope-set", requires = "people", value_name = "NAME")]
    pub scope_sets: Vec<String>,
    /// A host that tokens may go to; give several times [default: the provider's API, or those of --from]
    #[arg(long = "host", requires = "people", value_name = "HOST")]
    pub hosts: Vec<Host>,
    /// generic: the issuer, whose metadata has the endpoints
    #[arg(long, requires = "provider", value_name = "URL")]
    issuer: Option<String>,
    /// generic: where a sign-in by code starts (RFC 8628)
    #[arg(long, requires = "provider", value_name = "URL")]
    device_endpoint: Option<String>,
    /// generic: where tokens come from
    #[arg(long, requires = "provider", value_name = "URL")]
    token_endpoint: Option<String>,
    /// generic: where a sign-in in the browser of this machine starts
    #[arg(long, requires = "provider", value_name = "URL")]
    authorization_endpoint: Option<String>,
    /// generic: where tokens are revoked (RFC 7009)
    #[arg(long, requires = "provider", value_name = "URL")]
    revocation_endpoint: Option<String>,
    /// generic: who is signed in
    #[arg(long, requires = "provider", value_name = "URL")]
    userinfo_endpoint: Option<String>,
    /// microsoft: consumers, organizations, common, or a tenant's id [default: consumers]
    #[arg(long, requires = "provider")]
    tenant: Option<String>,
    /// auth0, okta: your domain there
    #[arg(long, requires = "provider")]
    domain: Option<String>,
    /// aws: the region of the Identity Center
    #[arg(long, requires = "provider")]
    region: Option<String>,
    /// aws: the address of the access portal
    #[arg(long, requires = "provider", value_name = "URL")]
    start_url: Option<String>,
    /// aws: the account whose role is used
    #[arg(long, requires = "provider", value_name = "ID")]
    account_id: Option<String>,
    /// aws: that role
    #[arg(long, requires = "provider", value_name = "NAME")]
    role_name: Option<String>,
    /// auth0, generic: the API that the token is for
    #[arg(long, requires = "provider")]
    audience: Option<String>,
    /// Anything else that `connection providers` names, such as base=git.example.com; give several times
    #[arg(long = "parameter", requires = "provider", value_name = "NAME=VALUE", value_parser = key_value)]
    others: Vec<(String, String)>,
}

impl SignInArgs {
    /// What the provider's addresses are made from, by the names that its entry has.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        let named = [
            ("issuer", &self.issuer),
            ("device_endpoint", &self.device_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("authorization_endpoint", &self.authorization_endpoint),
            ("revocation_endpoint", &self.revocation_endpoint),
            ("userinfo_endpoint", &self.userinfo_endpoint),
            ("tenant", &self.tenant),
            ("domain", &self.domain),
            ("region", &self.region),
            ("start_url", &self.start_url),
            ("account_id", &self.account_id),
            ("role_name", &self.role_name),
            ("audience", &self.audience),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        named.chain(self.others.iter().cloned()).collect()
    }
}

/// `oauth3 login …`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The connection
    pub name: String,
    /// Begin, print the code, and do not wait
    #[arg(long)]
    pub no_wait: bool,
    /// Also when somebody is signed in: to another account, or for other scopes
    #[arg(long)]
    pub again: bool,
    /// Use another account than before without asking
    #[arg(long)]
    pub any_account: bool,
    /// Stop the sign-in that is under way
    #[arg(long, conflicts_with_all = ["no_wait", "again", "any_account"])]
    pub cancel: bool,
}
