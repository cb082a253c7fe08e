//! Nothing prints what lets somebody in.

use crate::cases::{START, client};
use oauth3_oauth::{
    CodeGrant, DeviceGrant, RANDOM_BYTES, Reply, Sensitive, TokenExchange, TokenKind, TokenType, aws, read_refresh,
    refresh, revoke, userinfo,
};
use serde_json::json;
use std::fmt::Debug;

/// What is secret in all that follows.
const CANARY: &str = "canary";

fn silent(what: &dyn Debug) {
    let printed = format!("{what:?} {what:#?}");
    assert!(!printed.contains(CANARY), "{printed}");
}

#[test]
fn nothing_prints_a_token() {
    let token = Sensitive::copied(CANARY);
    assert_eq!((format!("{token:?}").as_str(), token.expose()), ("Sensitive(…)", CANARY));
    let parameters = json!({ "domain": "example.auth0.com" });
    let client = client(&json!({ "client": { "provider": "auth0", "parameters": parameters, "secret": CANARY } }));
    silent(&client);
    silent(&refresh(&client, &token, &[]).unwrap());
    silent(&revoke(&client, TokenKind::Refresh, &token).unwrap());
    silent(&userinfo(&client, &token));
    let exchange = TokenExchange {
        subject: (&token, TokenType::Access),
        actor: Some((&token, TokenType::Jwt)),
        requested: None,
        audience: None,
        resource: None,
        scopes: &[],
        connection: None,
    };
    silent(&exchange);
    silent(&exchange.request(&client).unwrap());

    let body = json!({ "access_token": CANARY, "refresh_token": CANARY, "id_token": CANARY, "token_type": "Bearer" });
    let body = body.to_string();
    let reply = Reply { status: 200, content_type: None, retry_after: None, body: body.as_bytes() };
    silent(&reply);
    silent(&read_refresh(&client, &reply, START));

    let body = json!({
        "device_code": CANARY,
        "user_code": CANARY,
        "verification_uri": "https://example.auth0.com/activate",
        "verification_uri_complete": "https://example.auth0.com/activate?user_code=canary",
    });
    let body = body.to_string();
    let reply = Reply { status: 200, content_type: None, retry_after: None, body: body.as_bytes() };
    let (mut grant, prompt) = DeviceGrant::begin(&client, &reply, START).unwrap();
    silent(&grant);
    silent(&prompt);
    silent(&grant.next(&client, START.plus(std::time::Duration::from_secs(5))));

    let mut grant = CodeGrant::start(&client, 1, &[], &[7; RANDOM_BYTES]).unwrap();
    let query = grant.url().target();
    let state = query.split("state=").nth(1).unwrap().split('&').next().unwrap();
    assert!(!format!("{grant:?}").contains(state));
    silent(&grant.callback(&client, &format!("code={CANARY}&state={state}")).unwrap());

    let part = |name: &str| format!("\"{name}\":\"{CANARY}\"");
    let body = format!(
        "{{\"roleCredentials\":{{{},{},{},\"expiration\":1}}}}",
        part("accessKeyId"),
        part("secretAccessKey"),
        part("sessionToken")
    );
    let reply = Reply { status: 200, content_type: None, retry_after: None, body: body.as_bytes() };
    silent(&aws::read_role_credentials(&client, &reply).unwrap());
    let body = format!("{{\"client_id\":\"a\",{},\"client_secret_expires_at\":1}}", part("client_secret"));
    let reply = Reply { status: 200, content_type: None, retry_after: None, body: body.as_bytes() };
    silent(&aws::read_registered(&client, &reply).unwrap());
}
