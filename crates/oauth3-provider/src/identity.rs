//! Those that people sign in with: an embedded file.

use crate::derived::Derives;
use crate::endpoint::Endpoint;
use crate::server::{AccountShape, AuthorizationServer, ClientAuth, Protocol, RevocationStyle, Rotation, SecretNeed};
use crate::template::{self, TemplateError};
use oauth3_core::Host;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Table;

const EMBEDDED: &str = include_str!("../identities.toml");
/// Most scopes of one connection.
pub const MAX_SCOPES: usize = 64;
/// Longest scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 256;

/// Why a provider or its parameters were refused. Fit for the owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The file is wrong.
    #[error("identities: {0}")]
    File(String),
    /// A parameter that it needs is missing.
    #[error("{provider} needs {name}: {says}")]
    Missing {
        /// The provider's title.
        provider: String,
        /// The parameter.
        name: String,
        /// What it is.
        says: String,
    },
    /// A parameter that it does not have.
    #[error("{provider} has no parameter {name}")]
    Unknown {
        /// The provider's title.
        provider: String,
        /// The parameter.
        name: String,
    },
    /// A parameter of the wrong form.
    #[error("{name}: {why}")]
    Value {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that is no scope (RFC 6749 §3.3), or too many of them.
    #[error(
        "a scope is 1 to {MAX_SCOPE_BYTES} printable characters without spaces, quotes and backslashes; at most {MAX_SCOPES} of them"
    )]
    Scope,
    /// A scope that the provider does not grant in a device flow.
    #[error(
        "{provider} does not grant {scope} to a device; it grants {allowed}. Use a sign-in in the browser on this machine for it"
    )]
    DeviceScope {
        /// The provider's title.
        provider: String,
        /// The scope.
        scope: String,
        /// Those that it grants.
        allowed: String,
    },
}

/// A parameter that the owner fills in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it is, in a few words.
    pub says: String,
    /// Its form.
    pub form: ParameterForm,
    /// What it is when the owner says nothing.
    pub default: Option<String>,
    /// Whether it may be absent.
    #[serde(default)]
    pub optional: bool,
}

/// What may be written for a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterForm {
    /// Letters, digits, `-`, `_`, `.`.
    Segment,
    /// `host` or `host:port`.
    Host,
    /// `host[:port][/path]`, without `https://`.
    Base,
    /// A whole address.
    Address,
    /// An identifier that goes into a request, not into an address.
    Text,
}

/// Scopes that are asked for together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeSet {
    /// Its name in commands.
    pub name: String,
    /// What it allows and what not, in a sentence.
    pub says: String,
    /// The scopes.
    pub scopes: Vec<String>,
}

/// How git over HTTPS takes an access token: as the password of a user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitAccess {
    /// The host of the repositories.
    pub host: String,
    /// The user.
    pub user: String,
}

/// One provider of sign-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    /// The name in commands.
    pub name: String,
    /// The name that people know.
    pub title: String,
    /// The documentation that its entry is from.
    pub docs: String,
    /// What the owner fills in, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Whether its clients have a secret.
    pub client_secret: SecretNeed,
    /// Which of the parameters goes into requests as `audience`.
    pub audience: Option<String>,
    /// The scopes that it grants in a device flow; `None`: any.
    pub device_scopes: Option<Vec<String>>,
    /// Scopes to choose from.
    pub sets: Vec<ScopeSet>,
    /// The variables in which programs of this provider look for an access token.
    pub variables: Vec<String>,
    /// How git signs in with an access token.
    pub git: Option<GitAccess>,
    /// How further tokens are got from a sign-in.
    pub derives: Vec<Derives>,
    entry: Entry,
}

/// A provider with the owner's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedIdentity {
    /// Where and how to sign in.
    pub server: AuthorizationServer,
    /// Where endpoints are to be discovered before that (RFC 8414, OpenID Connect Discovery).
    pub discover: Option<String>,
    /// The API that its tokens are usually for.
    pub api: Option<String>,
    /// The hosts that tokens go to unless the owner says otherwise.
    pub hosts: Vec<Host>,
    /// `audience` of requests.
    pub audience: Option<String>,
}

/// Providers of sign-ins by name.
#[derive(Debug, Clone)]
pub struct Identities(BTreeMap<String, IdentityProvider>);

impl Identities {
    /// Those that come with oauth3.
    ///
    /// # Errors
    /// Never in a build whose tests passed.
    pub fn embedded() -> Result<Self, IdentityError> {
        Self::parse(EMBEDDED)
    }

    fn parse(text: &str) -> Result<Self, IdentityError> {
        let tables: Table = text.parse().map_err(|why: toml::de::Error| IdentityError::File(why.to_string()))?;
        let mut providers = BTreeMap::new();
        for (name, table) in tables {
            let entry =
                Entry::deserialize(table).map_err(|why| IdentityError::File(format!("[{name}]: {}", why.message())))?;
            providers.insert(name.clone(), entry.into_provider(name));
        }
        Ok(Self(providers))
    }

    /// The provider of that name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&IdentityProvider> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn providers(&self) -> impl Iterator<Item = &IdentityProvider> {
        self.0.values()
    }
}

impl IdentityProvider {
    /// Fills the owner's parameters in.
    ///
    /// # Errors
    /// When one is missing, unknown, or of the wrong form.
    pub fn resolve(&self, given: &BTreeMap<String, String>) -> Result<ResolvedIdentity, IdentityError> {
        let values = self.values(given)?;
        let entry = &self.entry;
        let text = |template: &Option<String>| -> Result<Option<String>, IdentityError> {
            template.as_deref().map(|text| template::fill(text, &values)).transpose().map_err(wrong)
        };
        let address = |template: &Option<String>| -> Result<Option<Endpoint>, IdentityError> {
            let filled = text(template)?.filter(|filled| !filled.is_empty());
            filled.map(|filled| Endpoint::parse(&filled)).transpose().map_err(|why| wrong_value("address", &why))
        };
        let texts = |templates: &[String]| -> Result<Vec<String>, IdentityError> {
            let filled = templates.iter().map(|text| template::fill(text, &values).map_err(wrong));
            filled.filter(|text| !matches!(text, Ok(text) if text.is_empty())).collect()
        };
        let tenant = values.get("tenant").map(|tenant| entry.tenants.get(tenant).unwrap_or(tenant));
        let server = AuthorizationServer {
            title: self.title.clone(),
            protocol: entry.protocol,
            issuers: texts(&entry.issuers)?,
            tenant: tenant.filter(|tenant| is_uuid(tenant)).cloned(),
            device: address(&entry.device)?,
            token: address(&entry.token)?,
            authorization: address(&entry.authorization)?,
            authorization_parameters: entry.authorization_parameters.clone(),
            registration: address(&entry.registration)?,
            revocation: address(&entry.revocation)?,
            revocation_style: entry.revocation_style,
            userinfo: address(&entry.userinfo)?,
            account_shape: entry.account_shape,
            jwks: address(&entry.jwks)?,
            role_credentials: address(&entry.role_credentials)?,
            start_url: address(&entry.start_url)?,
            client_auth: entry.client_auth,
            secretless_device: entry.secretless_device,
            verification_hosts: texts(&entry.verification_hosts)?.into_iter().map(host_of).collect(),
            rotation: entry.rotation,
            scope_prefix: entry.scope_prefix.clone(),
            scope_aliases: entry.scope_aliases.clone(),
            unsaid_scopes: entry.unsaid_scopes.clone(),
            says_issuer: false,
        };
        let hosts =
            texts(&entry.hosts)?.into_iter().map(|host| Host::parse(&host_of(host))).collect::<Result<Vec<_>, _>>();
        Ok(ResolvedIdentity {
            server,
            discover: text(&entry.discover)?.filter(|issuer| !issuer.is_empty()),
            api: text(&entry.api)?,
            hosts: hosts.map_err(|why| wrong_value("hosts", &why))?,
            audience: self.audience.as_ref().and_then(|name| values.get(name)).cloned(),
        })
    }

    /// Which messages it speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.entry.protocol
    }

    /// What a scope allows, in a few words.
    #[must_use]
    pub fn says(&self, scope: &str) -> Option<&str> {
        let plain = self.entry.scope_aliases.get(scope).map_or(scope, String::as_str);
        let prefix = self.entry.scope_prefix.as_deref();
        let short = prefix.and_then(|prefix| plain.strip_prefix(prefix)).unwrap_or(plain);
        self.entry.scopes.get(short).map(String::as_str)
    }

    /// Checks scopes before anything is sent. `device`: whether they are for a device flow.
    ///
    /// # Errors
    /// When one is none, or a device does not get it.
    pub fn check_scopes(&self, scopes: &[String], device: bool) -> Result<(), IdentityError> {
        let token = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        let fine = |scope: &String| (1..=MAX_SCOPE_BYTES).contains(&scope.len()) && scope.bytes().all(token);
        if scopes.len() > MAX_SCOPES || !scopes.iter().all(fine) {
            return Err(IdentityError::Scope);
        }
        if let (true, Some(allowed)) = (device, &self.device_scopes)
            && let Some(scope) = scopes.iter().find(|scope| !allowed.contains(scope))
        {
            let (provider, scope, allowed) = (self.title.clone(), scope.clone(), allowed.join(", "));
            return Err(IdentityError::DeviceScope { provider, scope, allowed });
        }
        Ok(())
    }

    fn values(&self, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, IdentityError> {
        if let Some(name) = given.keys().find(|name| !self.parameters.contains_key(*name)) {
            return Err(IdentityError::Unknown { provider: self.title.clone(), name: name.clone() });
        }
        let mut values = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let Some(value) = given.get(name).or(parameter.default.as_ref()) else {
                if parameter.optional {
                    continue;
                }
                let (provider, name, says) = (self.title.clone(), name.clone(), parameter.says.clone());
                return Err(IdentityError::Missing { provider, name, says });
            };
            parameter.form.check(value).map_err(|why| IdentityError::Value { name: name.clone(), why })?;
            values.insert(name.clone(), value.clone());
        }
        Ok(values)
    }
}

impl ParameterForm {
    fn check(self, value: &str) -> Result<(), String> {
        let told = |ok: bool, why: &str| if ok { Ok(()) } else { Err(why.to_owned()) };
        match self {
            Self::Segment => told(template::is_segment(value), "letters, digits, '-', '_' and '.'"),
            Self::Host => Host::parse(value).map(drop).map_err(|why| why.to_string()),
            Self::Base => {
                let fine = !value.contains(['?', '@']) && !value.ends_with('/');
                Endpoint::parse(&format!("https://{value}")).map_err(|why| why.to_string())?;
                told(fine, "a host name and perhaps a path, without https:// and without a slash at the end")
            }
            Self::Address => Endpoint::parse(value).map(drop).map_err(|why| why.to_string()),
            Self::Text => {
                let fine = (1..=MAX_SCOPE_BYTES).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
                told(fine, "printable characters without spaces")
            }
        }
    }
}

fn wrong(why: TemplateError) -> IdentityError {
    IdentityError::File(why.to_string())
}

fn wrong_value(name: &str, why: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Value { name: name.to_owned(), why: why.to_string() }
}

/// The host of an address; a host stays as it is.
fn host_of(text: String) -> String {
    Endpoint::parse(&text).map_or(text, |address| address.host().to_string())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    title: String,
    docs: String,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    /// What words for a tenant mean.
    #[serde(default)]
    tenants: BTreeMap<String, String>,
    #[serde(default)]
    client_secret: SecretNeed,
    #[serde(default)]
    client_auth: ClientAuth,
    #[serde(default)]
    secretless_device: bool,
    audience: Option<String>,
    discover: Option<String>,
    #[serde(default)]
    issuers: Vec<String>,
    device: Option<String>,
    token: Option<String>,
    authorization: Option<String>,
    #[serde(default)]
    authorization_parameters: BTreeMap<String, String>,
    registration: Option<String>,
    revocation: Option<String>,
    #[serde(default)]
    revocation_style: RevocationStyle,
    userinfo: Option<String>,
    #[serde(default)]
    account_shape: AccountShape,
    jwks: Option<String>,
    role_credentials: Option<String>,
    start_url: Option<String>,
    #[serde(default)]
    verification_hosts: Vec<String>,
    #[serde(default)]
    rotation: Rotation,
    scope_prefix: Option<String>,
    #[serde(default)]
    scope_aliases: BTreeMap<String, String>,
    #[serde(default)]
    unsaid_scopes: Vec<String>,
    device_scopes: Option<Vec<String>>,
    api: Option<String>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    variables: Vec<String>,
    git: Option<GitAccess>,
    #[serde(default)]
    derives: Vec<Derives>,
    #[serde(default)]
    sets: Vec<ScopeSet>,
    #[serde(default)]
    scopes: BTreeMap<String, String>,
}

impl Entry {
    fn into_provider(self, name: String) -> IdentityProvider {
        IdentityProvider {
            name,
            title: self.title.clone(),
            docs: self.docs.clone(),
            parameters: self.parameters.clone(),
            client_secret: self.client_secret,
            audience: self.audience.clone(),
            device_scopes: self.device_scopes.clone(),
            sets: self.sets.clone(),
            variables: self.variables.clone(),
            git: self.git.clone(),
            derives: self.derives.clone(),
            entry: self,
        }
    }
}
