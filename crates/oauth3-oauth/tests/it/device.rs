//! Sign-ins by code: from the first request to their end.

use crate::cases::{at, check, client, failure, relative, request, texts, tokens, with_reply, without_null};
use oauth3_core::Timestamp;
use oauth3_oauth::{Client, DeviceGrant, DeviceStep, Failure, Sensitive};
use serde_json::{Value, json};

#[test]
fn a_sign_in_by_code_goes_as_documented() {
    check("device", run);
}

#[test]
fn quirks_of_providers_are_known() {
    check("device-providers", run);
}

#[test]
fn what_real_servers_reply_is_understood() {
    check("device-servers", run);
}

#[test]
fn a_hostile_provider_ends_the_sign_in_with_a_sentence() {
    check("device-hostile", run);
}

/// A case has the first reply and then polls. What comes of it: the first request, the prompt, and of each poll when it
/// was sent, what was sent (the first time), and what its reply led to.
fn run(case: &Value) -> Value {
    let client = client(case);
    let mut told = json!({});
    match DeviceGrant::start(&client, &texts(&case["scopes"])) {
        Ok(exchange) => told["start"] = request(&exchange),
        Err(why) => return failure(&why),
    }
    let begun = with_reply(&case["reply"], |reply| DeviceGrant::begin(&client, reply, at(&json!(0))));
    let (mut grant, prompt) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            told["failure"] = json!(why.to_string());
            return told;
        }
    };
    told["prompt"] = without_null(json!({
        "user_code": prompt.user_code.as_str(),
        "verification_uri": prompt.verification_uri.as_str(),
        "verification_uri_complete": prompt.verification_uri_complete.as_ref().map(|uri| uri.as_str()),
        "expires_at": relative(prompt.expires_at),
    }));
    if case["restart"] == true {
        // What is kept of it over a restart is enough to go on.
        let (device_code, interval) = grant.kept();
        let device_code = Sensitive::copied(device_code.expose());
        grant = DeviceGrant::resume(device_code, interval, prompt.expires_at, at(&json!(0)));
    }
    let mut now = at(&json!(0));
    let mut polls = Vec::new();
    for poll in case["polls"].as_array().into_iter().flatten() {
        polls.push(one(&client, &mut grant, poll, &mut now, polls.is_empty()));
    }
    told["polls"] = json!(polls);
    told
}

fn one(client: &Client, grant: &mut DeviceGrant, poll: &Value, now: &mut Timestamp, first: bool) -> Value {
    let mut told = json!({});
    let mut step = grant.next(client, *now);
    if let DeviceStep::Wait(until) = step {
        assert!(until > *now);
        // Not a moment earlier.
        let before = Timestamp::from_millis(until.millis() - 1);
        assert!(matches!(grant.next(client, before), DeviceStep::Wait(same) if same == until));
        *now = until;
        told["at"] = json!(relative(until));
        step = grant.next(client, until);
    }
    match step {
        DeviceStep::Send(exchange) if first => told["request"] = request(&exchange),
        DeviceStep::Send(_) => {}
        DeviceStep::Ended(why) => {
            told["ended"] = json!(why.to_string());
            return told;
        }
        other => panic!("{other:?}"),
    }
    // Nothing else is sent meanwhile.
    assert!(matches!(grant.next(client, *now), DeviceStep::Wait(_)));
    if let Some(late) = poll["reply_at"].as_u64() {
        *now = at(&json!(late));
    }
    let step = match &poll["reply"] {
        Value::Null => grant.on_fault(*now),
        reply => with_reply(reply, |reply| grant.on_reply(client, reply, *now)),
    };
    match step {
        DeviceStep::Wait(until) => told["wait"] = json!((until.millis() - now.millis()) / 1000),
        DeviceStep::Done(set) => told["done"] = tokens(&set),
        DeviceStep::Ended(why) => told["ended"] = json!(why.to_string()),
        DeviceStep::Send(_) => panic!("sends again at once"),
    }
    if told.get("wait").is_none() {
        // Over is over: no poll, and no late reply, changes anything.
        assert!(matches!(grant.next(client, *now), DeviceStep::Ended(Failure::Over)));
        assert!(matches!(grant.on_fault(*now), DeviceStep::Ended(Failure::Over)));
    }
    told
}
