//! Names that people and agents choose, each checked once, where it enters.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of any kind, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Variables that change how a program is loaded or where it looks things up. A secret or an
/// argument of such a name would steer the runtime instead of the skill.
const LOADER_NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "PWD",
    "OLDPWD",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PS4",
    "TMPDIR",
    "TERM",
    "LANG",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NODE_USE_ENV_PROXY",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYLIB",
    "RUBYOPT",
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "GCONV_PATH",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "MALLOC_TRACE",
    "TZDIR",
    "NLSPATH",
    "LOCPATH",
    "GETCONF_DIR",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "SSLKEYLOGFILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "CURL_HOME",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SKILL_ARGS",
    "NO_COLOR",
    "FORCE_COLOR",
    "V8_FLAGS",
];

/// Beginnings of such names.
const LOADER_PREFIXES: &[&str] =
    &["LD_", "DYLD_", "PYTHON", "DENO_", "GIT_", "OAUTH3_", "ARG_", "GLIBC_", "MALLOC_", "NPM_CONFIG_"];

/// Why a name was refused. The text is fit for the agent and the owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// An identifier of the wrong form.
    #[error("an id here looks like {0}…")]
    Id(&'static str),
    /// An agent's name of the wrong form.
    #[error("an agent's name is 1 to 64 of a-z, 0-9, '.', '_', '-' and begins with a letter or digit")]
    Agent,
    /// A skill id of the wrong form.
    #[error("skill_id is 1 to 128 of letters, digits, '.', '_', '-', '/', ':', '@' and begins with a letter or digit")]
    Skill,
    /// A secret's name of the wrong form.
    #[error(
        "a secret's name looks like OPENAI_API_KEY (A-Z, 0-9 and '_', beginning with a letter, at most 128) or connection:NAME"
    )]
    Secret,
    /// A secret's name that a loader or runtime would act on.
    #[error("{0} steers a loader or runtime and cannot name a secret")]
    Reserved(String),
    /// An argument's name of the wrong form.
    #[error("an argument's name is a letter or '_' and then letters, digits and '_', at most 128")]
    Arg,
    /// No runtime of that name exists.
    #[error("runtime is one of embedded, deno, node, python, shell")]
    Runtime,
    /// Neither a provider nor a connection.
    #[error("an API is written v1/PROVIDER or api/CONNECTION, with 1 to 64 of a-z, 0-9, '.', '_', '-' as its name")]
    Api,
    /// Not a model's name or the beginning of one.
    #[error("a model is a name such as gpt-4o, or the beginning of one with a * at its end")]
    Model,
    /// Not an amount of money.
    #[error("money is written in dollars, such as 2.50")]
    Usd,
    /// Not a tag.
    #[error("a tag is 1 to 64 of a-z, 0-9, '.', '_', '-' and begins with a letter or digit")]
    Tag,
    /// No place for a key.
    #[error("a key goes to bearer, scheme:WORD, header:NAME, query:NAME or sigv4:SERVICE:REGION")]
    KeyPlace,
    /// Not a plain host name.
    #[error("{0:?} is not a plain host name such as api.example.com or api.example.com:8443")]
    Host(String),
    /// Not a host of the owner's list for agents.
    #[error(
        "{0:?} is neither a host such as files.example or files.example:8443 nor all below one, such as *.mirror.example"
    )]
    HostPattern(String),
}

macro_rules! checked_name {
    ($(#[$meta:meta])* $name:ident, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps.
            ///
            /// # Errors
            /// When the text does not have the form that [`InvalidName`] describes.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> Result<(), InvalidName> = $check;
                check(text).map(|()| Self(text.into()))
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }
    };
}

checked_name!(
    /// The client: one agent, as the owner named it. `owner` is the owner's own command line.
    AgentName,
    |t| {
        let fine = (1..=64).contains(&t.len())
            && t.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        fine.then_some(()).ok_or(InvalidName::Agent)
    }
);

impl AgentName {
    /// The owner's own command line, when it submits code with `oauth3 run`.
    pub const OWNER: &'static str = "owner";
}

checked_name!(
    /// What the agent calls the thing that it wants to run.
    SkillId,
    |t| {
        let fine = (1..=MAX_NAME_BYTES).contains(&t.len())
            && t.starts_with(|c: char| c.is_ascii_alphanumeric())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b));
        fine.then_some(()).ok_or(InvalidName::Skill)
    }
);

/// What the name of a connection's access token begins with.
const CONNECTION_PREFIX: &str = "connection:";

checked_name!(
    /// A secret's name, which is also the variable that holds its placeholder; or `connection:NAME`, the current
    /// access token of a connection that its owner signed in to, whose variable is `NAME_TOKEN`.
    SecretName,
    |t| {
        if let Some(connection) = t.strip_prefix(CONNECTION_PREFIX) {
            crate::ApiId::connection(connection)?;
            return SecretName::parse(&variable_of(connection)).map(drop);
        }
        let fine = (1..=MAX_NAME_BYTES).contains(&t.len())
            && t.starts_with(|c: char| c.is_ascii_uppercase())
            && t.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !fine {
            return Err(InvalidName::Secret);
        }
        if LOADER_NAMES.contains(&t) || LOADER_PREFIXES.iter().any(|p| t.starts_with(p)) {
            return Err(InvalidName::Reserved(t.to_owned()));
        }
        Ok(())
    }
);

/// The variable of a connection's access token.
fn variable_of(connection: &str) -> String {
    let upper = connection.to_ascii_uppercase().replace(['-', '.'], "_");
    // A variable's name begins with a letter.
    let digit = if upper.starts_with(|c: char| c.is_ascii_digit()) { "C" } else { "" };
    format!("{digit}{upper}_TOKEN")
}

impl SecretName {
    /// The access token of a connection.
    ///
    /// # Errors
    /// When its variable would steer a loader or runtime.
    pub fn of_connection(connection: &crate::ApiId) -> Result<Self, InvalidName> {
        Self::parse(&format!("{CONNECTION_PREFIX}{}", connection.name()))
    }

    /// The connection whose access token it names; none for an ordinary secret.
    #[must_use]
    pub fn connection(&self) -> Option<crate::ApiId> {
        crate::ApiId::connection(self.0.strip_prefix(CONNECTION_PREFIX)?).ok()
    }

    /// The variable in which code finds it.
    #[must_use]
    pub fn variable(&self) -> String {
        match self.0.strip_prefix(CONNECTION_PREFIX) {
            Some(connection) => variable_of(connection),
            None => self.as_str().to_owned(),
        }
    }
}

checked_name!(
    /// The name of an argument; it reaches the code as `ARG_<name>`.
    ArgName,
    |t| {
        let fine = (1..=MAX_NAME_BYTES).contains(&t.len())
            && t.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        fine.then_some(()).ok_or(InvalidName::Arg)
    }
);

/// What runs the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// QuickJS inside oauth3 itself; JavaScript and TypeScript; nothing to install.
    Embedded,
    /// Deno, found on the PATH or by configuration.
    Deno,
    /// Node.js.
    Node,
    /// CPython 3.
    Python,
    /// The system's POSIX shell, `/bin/sh`, with the system's programs.
    Shell,
}

impl Runtime {
    /// Every runtime, in the order that lists show them.
    pub const ALL: [Self; 5] = [Self::Embedded, Self::Deno, Self::Node, Self::Python, Self::Shell];

    /// The name that requests and configuration use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Deno => "deno",
            Self::Node => "node",
            Self::Python => "python",
            Self::Shell => "shell",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Runtime {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(InvalidName::Runtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_connection_has_a_variable_of_its_own() {
        for (name, variable) in
            [("my-mail", "MY_MAIL_TOKEN"), ("github", "GITHUB_TOKEN"), ("a.b_c", "A_B_C_TOKEN"), ("365", "C365_TOKEN")]
        {
            let api = crate::ApiId::connection(name).unwrap();
            let secret = SecretName::of_connection(&api).unwrap();
            assert_eq!(secret.as_str(), format!("connection:{name}"));
            assert_eq!((secret.connection(), secret.variable().as_str()), (Some(api), variable));
        }
        let plain = SecretName::parse("API_KEY").unwrap();
        assert_eq!((plain.connection(), plain.variable().as_str()), (None, "API_KEY"));
        for name in ["connection:", "connection:A", "connection:a/b", "connection:ld", "connection:git", "Connection:a"]
        {
            assert!(SecretName::parse(name).is_err(), "{name}");
        }
    }
}
