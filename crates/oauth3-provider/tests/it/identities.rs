//! Those that people sign in with: the file that comes along, and `vectors/identities.json`.

use oauth3_provider::{Endpoint, Identities, IdentityProvider, Protocol, SecretNeed};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn with(check: impl Fn(&IdentityProvider)) {
    Identities::embedded().unwrap().providers().for_each(check);
}

fn filled(provider: &IdentityProvider) -> BTreeMap<String, String> {
    let some = |name: &str| match name {
        "domain" => "example.okta.com",
        "region" => "eu-central-1",
        "start_url" | "issuer" | "device_endpoint" | "token_endpoint" => "https://id.test/start",
        "account_id" => "123456789012",
        "role_name" => "ReadOnly",
        other => panic!("{}: what is {other}?", provider.name),
    };
    let needed = provider.parameters.iter().filter(|(_, parameter)| !parameter.optional && parameter.default.is_none());
    needed.map(|(name, _)| (name.clone(), some(name).to_owned())).collect()
}

#[test]
fn endpoints_are_those_of_the_documentation() {
    let path = format!("{}/../../vectors/identities.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let all = Identities::embedded().unwrap();
    for case in &cases {
        let provider = all.provider(case["provider"].as_str().unwrap()).unwrap();
        let parameters = serde_json::from_value(case["parameters"].clone()).unwrap();
        let got = match provider.resolve(&parameters) {
            Err(why) => json!({ "error": why.to_string() }),
            Ok(resolved) => {
                let mut server = serde_json::to_value(&resolved.server).unwrap();
                server["hosts"] = json!(resolved.hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
                server["api"] = json!(resolved.api);
                server["audience"] = json!(resolved.audience);
                server["discover"] = json!(resolved.discover);
                // A case tells of those that it names.
                let named = case["then"].as_object().unwrap().keys();
                Value::Object(named.map(|name| (name.clone(), server[name].clone())).collect())
            }
        };
        assert_eq!(got, case["then"], "{}", case["name"]);
    }
    with(|provider| assert!(cases.iter().any(|case| case["provider"] == provider.name), "{}", provider.name));
}

#[test]
fn every_provider_can_be_signed_in_with_by_what_it_needs_at_least() {
    let names: Vec<String> =
        Identities::embedded().unwrap().providers().map(|provider| provider.name.clone()).collect();
    assert_eq!(names.join(" "), "auth0 aws generic github gitlab google microsoft okta");
    with(|provider| {
        let resolved = provider.resolve(&filled(provider)).unwrap();
        let (name, server) = (&provider.name, &resolved.server);
        assert!(provider.docs.starts_with("https://"), "{name}");
        let endpoints: [&Option<Endpoint>; 8] = [
            &server.device,
            &server.token,
            &server.authorization,
            &server.revocation,
            &server.userinfo,
            &server.jwks,
            &server.registration,
            &server.role_credentials,
        ];
        assert!(endpoints.iter().all(|endpoint| endpoint.as_ref().is_none_or(Endpoint::secure)), "{name}");
        if name == "generic" {
            return;
        }
        assert!(server.device.is_some() && server.token.is_some(), "{name}");
        assert!(!server.verification_hosts.is_empty(), "{name}: where codes are entered is pinned");
        assert_eq!(server.protocol == Protocol::AwsSso, server.registration.is_some(), "{name}");
        assert_eq!(server.jwks.is_some(), !server.issuers.is_empty(), "{name}: keys and issuer belong together");
        assert!(provider.client_secret != SecretNeed::Needed || name == "google", "{name}");
    });
}

#[test]
fn what_people_read_of_scopes_is_a_sentence_for_each() {
    with(|provider| {
        assert!(!provider.sets.is_empty(), "{}", provider.name);
        for set in &provider.sets {
            let place = format!("{} {}", provider.name, set.name);
            assert!(set.says.starts_with(|c: char| c.is_ascii_uppercase()) && set.says.ends_with('.'), "{place}");
            for scope in &set.scopes {
                let says = provider.says(scope).unwrap_or_else(|| panic!("{place}: nothing says what {scope} allows"));
                assert!(!says.ends_with('.') && says.is_ascii(), "{place}: {says}");
            }
            provider.check_scopes(&set.scopes, false).unwrap();
            // A set that no device gets says where it can be had.
            let device = provider.check_scopes(&set.scopes, true);
            assert_eq!(device.is_err(), set.says.contains("sign-in in the browser"), "{place}");
        }
        for (name, parameter) in &provider.parameters {
            let says = &parameter.says;
            assert!(!says.is_empty() && !says.ends_with('.'), "{} {name}: {says}", provider.name);
        }
    });
    let all = Identities::embedded().unwrap();
    let says = |provider: &str, scope: &str| all.provider(provider).unwrap().says(scope).map(str::to_owned);
    assert_eq!(says("microsoft", "https://graph.microsoft.com/Mail.Read").as_deref(), Some("read your mail"));
    let email = says("google", "https://www.googleapis.com/auth/userinfo.email");
    assert_eq!(email.as_deref(), Some("read your email address"));
    assert_eq!(says("github", "made-up"), None);
}

#[test]
fn scopes_that_a_device_does_not_get_are_refused_before_anything_is_sent() {
    let all = Identities::embedded().unwrap();
    let google = all.provider("google").unwrap();
    let mail = ["https://www.googleapis.com/auth/gmail.readonly".to_owned()];
    let why = google.check_scopes(&mail, true).unwrap_err().to_string();
    assert!(
        why.starts_with("Google does not grant https://www.googleapis.com/auth/gmail.readonly to a device"),
        "{why}"
    );
    assert!(why.contains("https://www.googleapis.com/auth/drive.file"), "{why}");
    google.check_scopes(&mail, false).unwrap();
    for scope in ["", "a b", "a\"b", "a\\b", "a\n", "é", &"s".repeat(257)] {
        assert!(google.check_scopes(&[scope.to_owned()], false).is_err(), "{scope:?}");
    }
    assert!(google.check_scopes(&vec!["s".to_owned(); 65], false).is_err());
}

#[test]
fn an_unknown_word_in_the_file_is_an_error() {
    // The file that comes along is read strictly, so that a word of it that is misspelt does not pass.
    with(|provider| {
        let mut unknown = filled(provider);
        unknown.insert("nonsense".to_owned(), "x".to_owned());
        let why = provider.resolve(&unknown).unwrap_err().to_string();
        assert_eq!(why, format!("{} has no parameter nonsense", provider.title));
    });
}
