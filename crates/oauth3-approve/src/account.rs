//! What an owner is shown of sign-ins, for every channel alike: who, where, and what it allows.
//!
//! Names of accounts come from identity providers. They are bounded here and nothing invisible is left in them.

use crate::visible;
use oauth3_core::{Account, ApiId, Connection, SignInRecord, SignInSetup, SignInState};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Longest text of a provider's that is shown in one piece, in characters.
const MAX_SHOWN_CHARS: usize = 200;
/// Most characters of a list of scopes; what does not fit is counted.
const MAX_SCOPES_CHARS: usize = 1200;

/// What is known of identity providers, in words.
pub trait ProviderWords: Send + Sync + fmt::Debug {
    /// The name that people know.
    fn title(&self, provider: &str) -> Option<String>;
    /// What a scope allows, in words that follow "may".
    fn scope(&self, provider: &str, scope: &str) -> Option<String>;
}

/// The connections that people sign in at, and where each sign-in stands.
#[derive(Debug, Clone)]
pub struct SignIns {
    /// Every connection.
    pub connections: Vec<Connection>,
    /// Every sign-in that ever was begun.
    pub records: Vec<SignInRecord>,
    /// What providers are called.
    pub words: Arc<dyn ProviderWords>,
}

/// One connection that people sign in at.
#[derive(Debug, Clone)]
pub struct SignIn<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its owner signs in.
    pub setup: &'a SignInSetup,
    /// Where it stands.
    pub record: SignInRecord,
    words: &'a dyn ProviderWords,
}

impl SignIns {
    /// The sign-in of a connection; none when there is no such connection, or it takes a key.
    #[must_use]
    pub fn of(&self, api: &ApiId) -> Option<SignIn<'_>> {
        let connection = self.connections.iter().find(|connection| connection.api == *api)?;
        self.look(connection)
    }

    /// Every one, by name.
    pub fn all(&self) -> impl Iterator<Item = SignIn<'_>> {
        self.connections.iter().filter_map(|connection| self.look(connection))
    }

    fn look<'a>(&'a self, connection: &'a Connection) -> Option<SignIn<'a>> {
        let setup = connection.sign_in.as_ref()?;
        let found = self.records.iter().find(|record| record.connection == connection.api);
        let record = found.map_or_else(|| SignInRecord::new(connection.api.clone()), SignInRecord::clone);
        Some(SignIn { name: connection.api.name(), setup, record, words: &*self.words })
    }
}

impl SignIn<'_> {
    /// The provider as people know it; of any other one, where it is.
    #[must_use]
    pub fn provider(&self) -> String {
        let title = self.words.title(&self.setup.provider);
        let title = title.unwrap_or_else(|| bounded(&self.setup.provider));
        let place = ["issuer", "token_endpoint", "domain"].iter().find_map(|name| self.setup.parameters.get(*name));
        match place {
            Some(place) => format!("{title} ({})", bounded(place)),
            None => title,
        }
    }

    /// Which sign-in its token is got from, and how; none for a connection with a sign-in of its own.
    #[must_use]
    pub fn from(&self) -> Option<String> {
        self.setup.from.as_ref().map(|from| bounded(&from.shown()))
    }

    /// Who is or was signed in.
    #[must_use]
    pub fn account(&self) -> Option<String> {
        self.record.account.as_ref().map(shown)
    }

    /// What was granted, or else what is asked for.
    #[must_use]
    pub fn scopes(&self) -> &BTreeSet<String> {
        let known = self.record.state == SignInState::SignedIn && !self.record.granted.is_empty();
        if known { &self.record.granted } else { &self.setup.scopes }
    }

    /// What one scope allows, with its name.
    #[must_use]
    pub fn scope(&self, scope: &str) -> String {
        match self.words.scope(&self.setup.provider, scope) {
            Some(says) => format!("{} ({says})", bounded(scope)),
            None => bounded(scope),
        }
    }

    /// Each of these scopes with what it allows; what would be too long is counted.
    #[must_use]
    pub fn allows(&self, scopes: &BTreeSet<String>) -> Vec<String> {
        let mut left = MAX_SCOPES_CHARS;
        let mut lines = Vec::new();
        for scope in scopes {
            let line = self.scope(scope);
            let length = line.chars().count();
            if length > left {
                lines.push(format!("and {} more", scopes.len() - lines.len()));
                break;
            }
            left -= length;
            lines.push(line);
        }
        lines
    }

    /// Who is signed in and what may be done, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let who = match (&self.record.state, self.account()) {
            (SignInState::SignedIn, Some(account)) => format!("{} account {account}", self.provider()),
            (SignInState::SignedIn, None) => format!("{} account", self.provider()),
            (_, Some(account)) => format!("{}, last account {account}", self.provider()),
            (_, None) => self.provider(),
        };
        let who = match self.from() {
            Some(from) => format!("{who} · {from}"),
            None => who,
        };
        let scopes = self.allows(self.scopes());
        if scopes.is_empty() { who } else { format!("{who} · scopes: {}", scopes.join(", ")) }
    }
}

/// Who it is, safe to be shown.
#[must_use]
pub fn shown(account: &Account) -> String {
    bounded(&account.shown())
}

/// A text of a provider's, in one line, bounded.
pub(crate) fn bounded(text: &str) -> String {
    let line = visible::one_line(text);
    if line.chars().count() <= MAX_SHOWN_CHARS {
        return line;
    }
    line.chars().take(MAX_SHOWN_CHARS).chain(['…']).collect()
}
