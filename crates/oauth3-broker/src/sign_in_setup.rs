//! Whether a connection's sign-in can work at all, before anything is stored.

use oauth3_core::{ApiId, Connection, Host, MAX_CLIENT_ID_BYTES, SecretName, SignInSetup};
use oauth3_provider::{Identities, Protocol};

/// Checks a setup. `base` is the host of the connection's own address.
///
/// # Errors
/// A sentence for the owner, with the mend.
pub(crate) fn check(
    identities: &Identities,
    api: &ApiId,
    setup: &SignInSetup,
    base: &Host,
    known: &[Connection],
) -> Result<(), String> {
    let name = SecretName::of_connection(api).map_err(|why| format!("{}: {why}; choose another name", api.name()))?;
    let same = |other: &&Connection| {
        let taken = SecretName::of_connection(&other.api).is_ok_and(|other| other.variable() == name.variable());
        other.api != *api && other.sign_in.is_some() && taken
    };
    if let Some(other) = known.iter().find(same) {
        let text = format!("code finds {} in {} already; choose another name", other.api.name(), name.variable());
        return Err(text);
    }
    if let Some(from) = &setup.from {
        let parent = known.iter().find(|other| other.api == from.parent && other.api != *api);
        let parent = parent.and_then(|parent| parent.sign_in.as_ref());
        let name = from.parent.name();
        let parent = parent.ok_or_else(|| format!("there is no connection {name} that people sign in at"))?;
        identities.check_derived(setup, from, parent)?;
        return check_hosts(setup, base);
    }
    let provider = identities.provider(&setup.provider).ok_or_else(|| {
        let names: Vec<&str> = identities.providers().map(|provider| provider.name.as_str()).collect();
        format!("there is no provider {:?}; there are {}", setup.provider, names.join(", "))
    })?;
    let resolved = provider.resolve(&setup.parameters).map_err(|why| why.to_string())?;
    let scopes: Vec<String> = setup.scopes.iter().cloned().collect();
    let by_code = resolved.server.device.is_some() && resolved.server.authorization.is_none();
    provider.check_scopes(&scopes, by_code).map_err(|why| why.to_string())?;
    if resolved.discover.is_none() && resolved.server.token.is_none() {
        let text = "name --issuer, or --device-endpoint and --token-endpoint: nothing says where to sign in";
        return Err(text.to_owned());
    }
    let fine = setup.client_id.len() <= MAX_CLIENT_ID_BYTES && setup.client_id.bytes().all(|b| b.is_ascii_graphic());
    let registers_itself = resolved.server.protocol == Protocol::AwsSso;
    if !fine || setup.client_id.is_empty() != registers_itself {
        let docs = &provider.docs;
        return Err(if registers_itself {
            "AWS gives a client id by itself; leave --client-id out".to_owned()
        } else {
            format!("name --client-id, the id of the app that you registered at {} ({docs})", provider.title)
        });
    }
    check_hosts(setup, base)
}

fn check_hosts(setup: &SignInSetup, base: &Host) -> Result<(), String> {
    if setup.hosts.contains(base) {
        return Ok(());
    }
    Err(format!("tokens may not go to {base}, where the connection is; add --host {base}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn setup(provider: &str, parameters: &[(&str, &str)]) -> SignInSetup {
        SignInSetup {
            provider: provider.to_owned(),
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            client_id: "client".to_owned(),
            scopes: BTreeSet::from(["openid".to_owned()]),
            hosts: BTreeSet::from([Host::parse("api.example.com").unwrap()]),
            from: None,
        }
    }

    fn tried(setup: &SignInSetup, known: &[Connection]) -> Result<(), String> {
        let identities = Identities::embedded().unwrap();
        check(
            &identities,
            &ApiId::connection("my-mail").unwrap(),
            setup,
            &Host::parse("api.example.com").unwrap(),
            known,
        )
    }

    #[test]
    fn a_setup_that_cannot_work_is_refused_with_the_mend() {
        let issuer = [("issuer", "https://login.example.com")];
        assert_eq!(tried(&setup("generic", &issuer), &[]), Ok(()));
        assert_eq!(tried(&setup("microsoft", &[]), &[]), Ok(()));
        let refused = |setup: &SignInSetup, says: &str| {
            let text = tried(setup, &[]).unwrap_err();
            assert!(text.contains(says), "{text}");
        };
        refused(&setup("mircosoft", &[]), "there are auth0, aws");
        refused(&setup("generic", &[]), "--issuer");
        refused(&setup("auth0", &[]), "domain");
        refused(&setup("microsoft", &issuer), "no parameter issuer");
        refused(&SignInSetup { client_id: String::new(), ..setup("generic", &issuer) }, "--client-id");
        refused(&SignInSetup { scopes: ["a b".to_owned()].into(), ..setup("generic", &issuer) }, "a scope is");
        refused(&SignInSetup { hosts: BTreeSet::new(), ..setup("generic", &issuer) }, "--host api.example.com");
        let aws = [
            ("region", "eu-central-1"),
            ("start_url", "https://a.awsapps.com/start"),
            ("account_id", "123456789012"),
            ("role_name", "ReadOnly"),
        ];
        refused(&setup("aws", &aws), "leave --client-id out");
        assert_eq!(tried(&SignInSetup { client_id: String::new(), ..setup("aws", &aws) }, &[]), Ok(()));
    }

    #[test]
    fn two_connections_never_share_a_variable() {
        let other = |name: &str, sign_in: Option<SignInSetup>| Connection {
            api: ApiId::connection(name).unwrap(),
            base_url: "https://api.example.com".to_owned(),
            place: oauth3_core::KeyPlace::Bearer,
            rules: BTreeSet::new(),
            sign_in,
            created_at: oauth3_core::Timestamp::from_millis(0),
        };
        let mine = SignInSetup { parameters: BTreeMap::new(), ..setup("microsoft", &[]) };
        assert!(tried(&mine, &[other("my.mail", Some(mine.clone()))]).unwrap_err().contains("MY_MAIL_TOKEN"));
        assert_eq!(tried(&mine, &[other("my.mail", None), other("my-mail", Some(mine.clone()))]), Ok(()));
    }
}
