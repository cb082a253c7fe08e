//! ID tokens, signed by others' libraries.

use crate::cases::{account, at, check, client, failure, with_reply};
use data_encoding::BASE64URL_NOPAD;
use oauth3_oauth::{IdToken, Jwks, Sensitive, subject_at_refresh};
use serde_json::json;

#[test]
fn an_id_token_is_of_the_issuer_for_this_client_and_of_now() {
    check("id-token", verify);
}

#[test]
fn a_token_of_another_kind_issuer_or_client_is_no_id_token() {
    check("id-token-confusion", verify);
}

#[test]
fn what_real_servers_sign_is_taken() {
    check("id-token-servers", verify);
}

/// Its signature is not looked at: it came from the token endpoint itself.
#[test]
fn an_id_token_at_a_refresh_says_whose_it_is_or_nothing() {
    let okta = json!({ "client": { "provider": "okta", "parameters": { "domain": "example.okta.com" } } });
    let client = client(&okta);
    let said = |token: &str| subject_at_refresh(&client, &Sensitive::copied(token));
    let token = |claims: &serde_json::Value| format!("e30.{}.x", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    let issuer = "https://example.okta.com";
    assert_eq!(said(&token(&json!({ "iss": issuer, "sub": "ann" }))).as_deref(), Some("ann"));
    for nothing in
        [json!({ "iss": "https://id.test", "sub": "ann" }), json!({ "iss": issuer }), json!({ "sub": "ann" })]
    {
        assert_eq!(said(&token(&nothing)), None, "{nothing}");
    }
    for nothing in ["", "opaque", "a.b.c", "e30.e30.e30.e30.e30"] {
        assert_eq!(said(nothing), None, "{nothing}");
    }
}

fn verify(case: &serde_json::Value) -> serde_json::Value {
    let client = client(case);
    let token = Sensitive::copied(case["token"].as_str().unwrap());
    let access_token = case["access_token"].as_str().map(Sensitive::copied);
    let keys = with_reply(&json!({ "status": 200, "body": case["keys"] }), Jwks::read);
    let keys = match keys {
        Ok(keys) => keys,
        Err(why) => return failure(&why),
    };
    let check = IdToken { token: &token, access_token: access_token.as_ref(), nonce: case["nonce"].as_str() };
    let now = case["now"].as_i64().map_or(at(&json!(0)), |now| oauth3_core::Timestamp::from_millis(now * 1000));
    match check.verify(&client, &keys, now) {
        Ok(found) => account(&found),
        Err(why) => failure(&why),
    }
}
