//! Reading of vectors, and what of an outcome they tell.

use oauth3_core::{Account, Timestamp};
use oauth3_oauth::{Client, Exchange, Failure, Reply, Sensitive, TokenSet};
use oauth3_provider::{AuthorizationServer, Identities};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// When every case begins: 2026-11-27 12:00:00 UTC.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_780_800_000);

/// Gives each case of a file to a function, and compares what it makes of it with what the file says should come.
pub(crate) fn check(file: &str, outcome: impl Fn(&Value) -> Value) {
    let path = format!("{}/../../vectors/oauth/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty(), "{file}");
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        assert!(case["source"].is_string(), "{file}: {name}: say where it is from");
        assert_eq!(outcome(case), case["then"], "{file}: {name}");
    }
}

/// The client of a case: `provider` and `parameters` make the server, and `server` changes single fields of it.
pub(crate) fn client(case: &Value) -> Client {
    let said = &case["client"];
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    let parameters: BTreeMap<String, String> = serde_json::from_value(or(&said["parameters"], json!({}))).unwrap();
    let identities = Identities::embedded().unwrap();
    let provider = identities.provider(said["provider"].as_str().unwrap()).unwrap();
    let resolved = provider.resolve(&parameters).unwrap();
    let mut server = serde_json::to_value(&resolved.server).unwrap();
    for (name, value) in said["server"].as_object().into_iter().flatten() {
        server[name] = value.clone();
    }
    let server: AuthorizationServer = serde_json::from_value(server).unwrap();
    let secret = text("secret").map(Sensitive::new);
    Client { server, id: text("id").unwrap_or("client-1".to_owned()), secret, audience: resolved.audience }
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn at(seconds: &Value) -> Timestamp {
    START.plus(Duration::from_secs(seconds.as_u64().unwrap_or(0)))
}

fn seconds(time: Timestamp) -> i64 {
    (time.millis() - START.millis()) / 1000
}

/// Hands a reply of a case to a function.
pub(crate) fn with_reply<T>(reply: &Value, read: impl FnOnce(&Reply<'_>) -> T) -> T {
    let body = match &reply["body"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        // What is too long to be written down.
        Value::Object(long) if long.contains_key("repeat") => {
            let part = |name: &str| long[name].as_str().unwrap();
            let times = usize::try_from(long["times"].as_u64().unwrap()).unwrap();
            [part("before"), &part("repeat").repeat(times), part("after")].concat()
        }
        object => object.to_string(),
    };
    let default = if reply["body"].is_object() { Some("application/json") } else { None };
    read(&Reply {
        status: u16::try_from(reply["status"].as_u64().unwrap()).unwrap(),
        content_type: reply["type"].as_str().or(default),
        retry_after: reply["retry_after"].as_u64().map(Duration::from_secs),
        body: body.as_bytes(),
    })
}

/// A request as vectors show it. `accept` and the type of the body are the same in all and are checked here.
pub(crate) fn request(exchange: &Exchange) -> Value {
    let mut shown = Map::new();
    shown.insert("method".to_owned(), json!(exchange.method));
    shown.insert("url".to_owned(), json!(exchange.url.as_str()));
    let mut headers = Map::new();
    let mut kind = None;
    for (name, value) in &exchange.headers {
        match *name {
            "accept" => assert_eq!(value.expose(), "application/json"),
            "content-type" => kind = Some(value.expose().to_owned()),
            name => {
                headers.insert(name.to_owned(), json!(value.expose()));
            }
        }
    }
    if !headers.is_empty() {
        shown.insert("headers".to_owned(), Value::Object(headers));
    }
    if let Some(body) = &exchange.body {
        let (name, value) = match kind.as_deref() {
            Some("application/json") => ("json", serde_json::from_str(body.expose()).unwrap()),
            Some("application/x-www-form-urlencoded") => ("form", form(body.expose())),
            kind => panic!("a body of the type {kind:?}"),
        };
        shown.insert(name.to_owned(), value);
    }
    Value::Object(shown)
}

pub(crate) fn form(text: &str) -> Value {
    let mut fields = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        let read = |text: &str| {
            assert!(!text.contains('+'), "a plus sign, which not every server reads as a space");
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
                bytes.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap() } else { byte });
            }
            String::from_utf8(bytes).unwrap()
        };
        assert!(fields.insert(read(name), json!(read(value))).is_none(), "{name} is there twice");
    }
    Value::Object(fields)
}

/// Tokens as vectors show them: times in seconds from the start, nothing where there is nothing.
pub(crate) fn tokens(tokens: &TokenSet) -> Value {
    let expose = |token: &Option<Sensitive>| token.as_ref().map(|token| token.expose().to_owned());
    without_null(json!({
        "access_token": tokens.access_token.expose(),
        "refresh_token": expose(&tokens.refresh_token),
        "id_token": expose(&tokens.id_token),
        "expires_at": tokens.expires_at.map(seconds),
        "refresh_expires_at": tokens.refresh_expires_at.map(seconds),
        "granted": tokens.granted,
    }))
}

pub(crate) fn account(account: &Account) -> Value {
    let Account { subject, name, email } = account;
    without_null(json!({ "subject": subject, "name": name, "email": email }))
}

pub(crate) fn without_null(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    }
}

/// A failure is its sentence.
pub(crate) fn failure(why: &Failure) -> Value {
    json!({ "failure": why.to_string() })
}

pub(crate) fn or(value: &Value, other: Value) -> Value {
    if value.is_null() { other } else { value.clone() }
}

pub(crate) fn relative(time: Timestamp) -> i64 {
    seconds(time)
}
