//! Which tokens may be got from a sign-in that is there already: never ones with more than it has.

use crate::server::AuthorizationServer;
use crate::{Identities, IdentityProvider};
use oauth3_core::{Derived, DerivedWay, MAX_SCOPE_BYTES, SignInSetup};
use serde::Deserialize;
use std::collections::BTreeSet;

/// How a provider gives further tokens for a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Derives {
    /// A refresh may ask for fewer scopes (RFC 6749 §6), and leaves those of the refresh token as they are.
    FewerScopes,
    /// RFC 8693, with an access token as the subject.
    Exchange,
    /// Auth0's Token Vault.
    Vault,
}

impl Identities {
    /// Checks a setup whose token is got from the sign-in of `parent`.
    ///
    /// # Errors
    /// A sentence for the owner, with the mend.
    pub fn check_derived(&self, setup: &SignInSetup, from: &Derived, parent: &SignInSetup) -> Result<(), String> {
        let name = from.parent.name();
        if parent.from.is_some() {
            return Err(format!("{name} has no sign-in of its own; name the connection that people sign in at"));
        }
        if (&setup.provider, &setup.parameters, &setup.client_id)
            != (&parent.provider, &parent.parameters, &parent.client_id)
        {
            return Err(format!("{name} was defined anew; define this connection anew too, with --from {name}"));
        }
        let provider = self.provider(&setup.provider).ok_or_else(|| format!("there is no {}", setup.provider))?;
        let scopes: Vec<String> = setup.scopes.iter().cloned().collect();
        provider.check_scopes(&scopes, false).map_err(|why| why.to_string())?;
        provider.check_way(&from.way)?;
        if matches!(from.way, DerivedWay::Vault { .. }) {
            // Another provider's scopes: they are those of the account that is linked, and have nothing of this one's.
            return Ok(());
        }
        if from.way == DerivedWay::FewerScopes && setup.scopes.is_empty() {
            return Err(format!("name with --scope which of the scopes of {name} it shall have"));
        }
        let server = provider.resolve(&setup.parameters).map_err(|why| why.to_string())?.server;
        match server.beyond(&parent.scopes, &setup.scopes).as_slice() {
            [] => Ok(()),
            more => {
                Err(format!("{name} does not ask for {}; what is derived from it cannot have more", more.join(", ")))
            }
        }
    }
}

impl IdentityProvider {
    fn check_way(&self, way: &DerivedWay) -> Result<(), String> {
        let (title, name) = (&self.title, &self.name);
        let (kind, texts, mend) = match way {
            DerivedWay::FewerScopes => (
                Derives::FewerScopes,
                Vec::new(),
                format!("define one with a sign-in of its own and these scopes: --provider {name} --scope …"),
            ),
            DerivedWay::Exchange { audience, resource } => (
                Derives::Exchange,
                audience.iter().chain(resource).collect(),
                format!("define one with a sign-in of its own: --provider {name}"),
            ),
            DerivedWay::Vault { connection } => {
                (Derives::Vault, vec![connection], "sign in at the other provider itself".to_owned())
            }
        };
        let fine =
            |text: &&String| (1..=MAX_SCOPE_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if kind != Derives::FewerScopes && (texts.is_empty() || !texts.iter().all(fine)) {
            let text = "--exchange names an audience, a resource or a connection: printable characters without spaces";
            return Err(text.to_owned());
        }
        if self.derives.contains(&kind) {
            return Ok(());
        }
        let what = match kind {
            Derives::FewerScopes => "gives no token with fewer scopes for a sign-in that is there",
            Derives::Exchange => "does not exchange its tokens (RFC 8693)",
            Derives::Vault => "has no Token Vault; only Auth0 has",
        };
        Err(format!("{title} {what}; {mend}"))
    }
}

impl AuthorizationServer {
    /// The scopes that are not among those that are allowed. One that this server may give without a word counts as
    /// allowed when it was asked for at all.
    #[must_use]
    pub fn beyond(&self, allowed: &BTreeSet<String>, scopes: &BTreeSet<String>) -> Vec<String> {
        let list = |scopes: &BTreeSet<String>| scopes.iter().cloned().collect::<Vec<_>>();
        self.compare_scopes(&list(allowed), &list(scopes)).extra
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::{ApiId, Host};

    fn setup(provider: &str, parameters: &[(&str, &str)], scopes: &[&str]) -> SignInSetup {
        SignInSetup {
            provider: provider.to_owned(),
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            client_id: "client".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            hosts: BTreeSet::from([Host::parse("api.example.com").unwrap()]),
            from: None,
        }
    }

    fn tried(parent: &SignInSetup, scopes: &[&str], way: DerivedWay) -> Result<(), String> {
        let from = Derived { parent: ApiId::connection("my-mail").unwrap(), way };
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let derived = SignInSetup { scopes, from: Some(from.clone()), ..parent.clone() };
        Identities::embedded().unwrap().check_derived(&derived, &from, parent)
    }

    fn exchange(audience: &str) -> DerivedWay {
        DerivedWay::Exchange { audience: Some(audience.to_owned()), resource: None }
    }

    #[test]
    fn nothing_derived_asks_for_more_than_its_parent() {
        let microsoft = setup("microsoft", &[], &["Mail.Read", "Mail.Send", "offline_access"]);
        let refused = |scopes: &[&str], way: DerivedWay, says: &str| {
            let text = tried(&microsoft, scopes, way).unwrap_err();
            assert!(text.contains(says), "{text}");
        };
        assert_eq!(tried(&microsoft, &["Mail.Read"], DerivedWay::FewerScopes), Ok(()));
        assert_eq!(tried(&microsoft, &["https://graph.microsoft.com/mail.read"], DerivedWay::FewerScopes), Ok(()));
        refused(&["Mail.Read", "Files.Read"], DerivedWay::FewerScopes, "does not ask for Files.Read");
        refused(&["openid"], DerivedWay::FewerScopes, "does not ask for openid");
        refused(&[], DerivedWay::FewerScopes, "--scope");
        refused(&["Mail.Read"], exchange("a"), "does not exchange its tokens");
        let generic = setup("generic", &[("issuer", "https://id.example.com")], &["read", "write"]);
        assert_eq!(tried(&generic, &["read"], exchange("backend")), Ok(()));
        assert_eq!(tried(&generic, &[], exchange("backend")), Ok(()));
        assert!(tried(&generic, &["admin"], exchange("backend")).unwrap_err().contains("admin"));
        assert!(tried(&generic, &["read"], exchange("a b")).unwrap_err().contains("--exchange"));
        let none = DerivedWay::Exchange { audience: None, resource: None };
        assert!(tried(&generic, &["read"], none).unwrap_err().contains("--exchange"));
    }

    #[test]
    fn a_provider_that_gives_no_fewer_scopes_is_refused_with_the_mend() {
        for (provider, parameters, says) in [
            ("google", &[][..], "--provider google"),
            ("github", &[], "--provider github"),
            // Doorkeeper gives a refresh token with the fewer scopes only, and the sign-in would have lost the others.
            ("gitlab", &[], "--provider gitlab"),
        ] {
            let text = tried(&setup(provider, parameters, &["a", "b"]), &["a"], DerivedWay::FewerScopes).unwrap_err();
            assert!(text.contains(says) && text.contains("fewer scopes"), "{text}");
        }
        let vault = || DerivedWay::Vault { connection: "google-oauth2".to_owned() };
        assert!(
            tried(&setup("okta", &[("domain", "a.okta.com")], &["a"]), &[], vault()).unwrap_err().contains("Auth0")
        );
        let auth0 = setup("auth0", &[("domain", "a.auth0.com")], &["openid"]);
        assert_eq!(tried(&auth0, &["https://www.googleapis.com/auth/calendar"], vault()), Ok(()));
    }

    #[test]
    fn a_parent_is_the_sign_in_that_it_was() {
        let parent = setup("generic", &[("issuer", "https://id.example.com")], &["a", "b"]);
        let from = Derived { parent: ApiId::connection("my-mail").unwrap(), way: DerivedWay::FewerScopes };
        let derived = SignInSetup { from: Some(from.clone()), scopes: ["a".to_owned()].into(), ..parent.clone() };
        let identities = Identities::embedded().unwrap();
        assert_eq!(identities.check_derived(&derived, &from, &parent), Ok(()));
        type Edit = fn(&mut SignInSetup);
        let edits: [(Edit, &str); 4] = [
            (|s| s.provider = "okta".to_owned(), "anew"),
            (|s| drop(s.parameters.insert("issuer".to_owned(), "https://evil.example".to_owned())), "anew"),
            (|s| s.client_id = "other".to_owned(), "anew"),
            (|s| s.scopes = ["b".to_owned()].into(), "does not ask for a"),
        ];
        for (edit, says) in edits {
            let mut other = parent.clone();
            edit(&mut other);
            let text = identities.check_derived(&derived, &from, &other).unwrap_err();
            assert!(text.contains(says), "{text}");
        }
        let text = identities.check_derived(&derived, &from, &derived).unwrap_err();
        assert!(text.contains("no sign-in of its own"), "{text}");
    }
}
