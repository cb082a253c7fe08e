//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::{
    Client, CodeGrant, DeviceGrant, DeviceStep, Failure, IdToken, Jwks, Metadata, RANDOM_BYTES, Reply, Sensitive,
    TokenKind, aws, read_refresh, read_revocation, read_tokens, read_userinfo, revoke, subject_at_refresh,
};
use oauth3_core::Timestamp;
use oauth3_provider::{AuthorizationServer, Endpoint, Identities};
use std::sync::OnceLock;

const STATUSES: [u16; 10] = [200, 200, 200, 204, 302, 400, 401, 428, 429, 503];
const TYPES: [Option<&str>; 4] =
    [None, Some("application/json"), Some("application/x-www-form-urlencoded"), Some("text/html; charset=utf-8")];
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const PARAMETERS: [(&str, &str); 8] = [
    ("account_id", "123456789012"),
    ("role_name", "ReadOnly"),
    ("domain", "id.test"),
    ("region", "eu-central-1"),
    ("start_url", "https://id.test/start"),
    ("issuer", "https://id.test"),
    ("device_endpoint", "https://id.test/device"),
    ("token_endpoint", "https://id.test/token"),
];

/// A client of each provider that comes with oauth3.
fn clients() -> &'static [Client] {
    static CLIENTS: OnceLock<Vec<Client>> = OnceLock::new();
    CLIENTS.get_or_init(make_clients)
}

fn make_clients() -> Vec<Client> {
    let identities = Identities::embedded().ok();
    let resolved = identities.iter().flat_map(Identities::providers).filter_map(|provider| {
        let given = PARAMETERS.iter().filter(|(name, _)| provider.parameters.contains_key(*name));
        provider.resolve(&given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).ok()
    });
    let client = |server: AuthorizationServer| Client {
        server,
        id: "client".to_owned(),
        secret: Some(Sensitive::copied("secret")),
        audience: None,
    };
    resolved.map(|resolved| client(resolved.server)).collect()
}

/// The first byte chooses a provider, the second status and type, the rest is a reply, read as everything that a reply
/// can be.
///
/// # Panics
/// When an error says more of the reply than a code, or a sign-in sends anything after its end.
pub fn oauth(data: &[u8]) {
    let [which, kind, body @ ..] = data else { return };
    let clients = clients();
    let Some(client) = clients.get(usize::from(*which) % clients.len().max(1)) else { return };
    let status = STATUSES.get(usize::from(*kind) % STATUSES.len()).copied().unwrap_or(200);
    let content_type = TYPES.get(usize::from(*kind) / STATUSES.len() % TYPES.len()).copied().flatten();
    let reply = Reply { status, content_type, retry_after: None, body };
    if let Ok(issuer) = Endpoint::parse("https://id.test") {
        told(Metadata::read(&issuer, &reply));
    }
    told(read_tokens(client, &reply, NOW));
    told(read_revocation(client, &reply));
    told(read_userinfo(client, &reply, None));
    told(aws::read_registered(client, &reply));
    told(aws::read_role_credentials(client, &reply));
    let _outcome = read_refresh(client, &reply, NOW);
    let _request = revoke(client, TokenKind::Access, &Sensitive::copied("token"));
    told(Jwks::read(&reply));
    if let Ok(text) = std::str::from_utf8(body) {
        let token = Sensitive::copied(text);
        let _subject = subject_at_refresh(client, &token);
        told(IdToken { token: &token, access_token: None, nonce: None }.verify(client, &Jwks::default(), NOW));
        if let Ok(mut grant) = CodeGrant::start(client, 1, &[], &[0; RANDOM_BYTES]) {
            told(grant.callback(client, text));
        }
    }
    if let Some((grant, _prompt)) = told(DeviceGrant::begin(client, &reply, NOW)) {
        sign_in(client, grant, &reply);
    }
    sign_in_with_known_code(client, &reply);
}

/// One sign-in whose code is fine, and every poll gets this reply.
fn sign_in_with_known_code(client: &Client, reply: &Reply<'_>) {
    let host = client.server.verification_hosts.first().map_or("id.test", String::as_str);
    let body = format!(
        "{{\"device_code\":\"d\",\"deviceCode\":\"d\",\"user_code\":\"u\",\"userCode\":\"u\",\"verification_uri\":\"https://{host}/\",\"verificationUri\":\"https://{host}/\"}}"
    );
    let first = Reply { status: 200, content_type: None, retry_after: None, body: body.as_bytes() };
    if let Ok((grant, _prompt)) = DeviceGrant::begin(client, &first, NOW) {
        sign_in(client, grant, reply);
    }
}

fn sign_in(client: &Client, mut grant: DeviceGrant, reply: &Reply<'_>) {
    let mut now = NOW;
    // At the least interval of a second, a code of an hour takes two steps for each, and ends before this.
    for _step in 0..8000 {
        match grant.next(client, now) {
            DeviceStep::Wait(until) => {
                assert!(until > now, "waits for what has passed");
                now = until;
            }
            DeviceStep::Send(_) => match grant.on_reply(client, reply, now) {
                DeviceStep::Wait(until) => assert!(until > now, "polls without a pause"),
                DeviceStep::Send(_) | DeviceStep::Done(_) | DeviceStep::Ended(_) => break,
            },
            DeviceStep::Ended(_) | DeviceStep::Done(_) => break,
        }
    }
    let end = grant.next(client, now);
    assert!(matches!(end, DeviceStep::Ended(Failure::Over)), "goes on after its end, or has none");
}

/// What came of reading. Errors are sentences of ours.
fn told<T>(outcome: Result<T, Failure>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(why) => {
            let sentence = why.to_string();
            assert!(sentence.is_ascii() && sentence.len() < 300, "{sentence}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn every_kept_input_holds() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/oauth");
        let mut kept = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            super::oauth(&std::fs::read(file.unwrap().path()).unwrap());
            kept += 1;
        }
        assert!(kept > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::oauth(&data);
        }

        #[test]
        fn anything_like_a_reply_holds(
            which in 0_u8..8,
            kind in 0_u8..40,
            text in "\\{(\"(error|access_token|accessToken|token_type|tokenType|expires_in|interval|scope|user_code|device_code|verification_uri|keys|issuer|sub|roleCredentials)\":(\"(authorization_pending|slow_down|AuthorizationPendingException|Bearer|a b|a,b|https://id.test/|1)\"|-?[0-9]{1,20}|1e9|null|\\[\"a\"\\]|\\{\\}|true),?){0,6}\\}?",
        ) {
            super::oauth(&[&[which, kind], text.as_bytes()].concat());
        }

        #[test]
        fn anything_like_a_form_holds(which in 0_u8..8, kind in 0_u8..40, text in "((error|access_token|token_type|state|code|iss)=?(slow_down|bearer|%2|%41|\\+|&|=|é)?&?){0,6}") {
            super::oauth(&[&[which, kind], text.as_bytes()].concat());
        }
    }
}
