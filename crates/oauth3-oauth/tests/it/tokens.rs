//! ID tokens, signed by others' libraries.

use crate::cases::{account, at, check, client, failure, with_reply};
use oauth3_oauth::{IdToken, Jwks, Sensitive};
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
