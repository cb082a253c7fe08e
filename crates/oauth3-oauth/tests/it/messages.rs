//! Single messages and their replies.

use crate::cases::{account, at, check, client, failure, relative, request, texts, tokens, with_reply};
use oauth3_core::Account;
use oauth3_oauth::{
    CodeGrant, Failure, Metadata, RANDOM_BYTES, Refreshed, Sensitive, TokenExchange, TokenKind, TokenType, aws,
    discover, read_refresh, read_revocation, read_token_exchange, read_tokens, read_userinfo, refresh, revoke,
    userinfo,
};
use oauth3_provider::Endpoint;
use serde_json::{Value, json};

fn outcome<T>(result: Result<T, Failure>, shown: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(value) => shown(value),
        Err(why) => failure(&why),
    }
}

fn sensitive(value: &Value) -> Sensitive {
    Sensitive::copied(value.as_str().unwrap_or_default())
}

#[test]
fn a_refresh_gives_new_tokens_ends_or_waits() {
    check("refresh", |case| {
        let client = client(case);
        let sent = refresh(&client, &sensitive(&case["refresh_token"]), &texts(&case["scopes"]));
        let read = with_reply(&case["reply"], |reply| read_refresh(&client, reply, at(&json!(0))));
        let came = match read {
            Refreshed::Done(set) => json!({ "done": tokens(&set) }),
            Refreshed::Ended(why) => json!({ "ended": why.to_string() }),
            Refreshed::Later { why, asked } => {
                json!({ "later": why.to_string(), "asked": asked.map(|time| time.as_secs()) })
            }
        };
        json!({ "request": outcome(sent, |exchange| request(&exchange)), "outcome": came })
    });
}

#[test]
fn a_token_is_given_back() {
    check("revoke", |case| {
        let client = client(case);
        let kind = if case["kind"] == "access" { TokenKind::Access } else { TokenKind::Refresh };
        let sent = revoke(&client, kind, &sensitive(&case["token"]));
        let mut told =
            json!({ "request": outcome(sent, |exchange| exchange.map_or(Value::Null, |exchange| request(&exchange))) });
        if !case["reply"].is_null() {
            let read = with_reply(&case["reply"], |reply| read_revocation(&client, reply));
            told["outcome"] = outcome(read, |()| json!("gone"));
        }
        told
    });
}

#[test]
fn metadata_is_of_the_issuer_that_was_asked_and_leads_nowhere_unsafe() {
    check("discovery", |case| {
        let issuer = Endpoint::parse(case["issuer"].as_str().unwrap()).unwrap();
        let asked = discover(&issuer).unwrap();
        for exchange in &asked {
            assert_eq!(exchange.method, "GET");
        }
        let mut client = client(case);
        let read = with_reply(&case["reply"], |reply| Metadata::read(&issuer, reply));
        let read = outcome(read, |metadata| {
            metadata.fill(&mut client.server);
            let server = serde_json::to_value(&client.server).unwrap();
            let shown = [
                "issuers",
                "device",
                "token",
                "authorization",
                "revocation",
                "userinfo",
                "jwks",
                "client_auth",
                "says_issuer",
            ];
            Value::Object(shown.iter().map(|name| ((*name).to_owned(), server[*name].clone())).collect())
        });
        json!({ "requests": asked.iter().map(|exchange| exchange.url.as_str()).collect::<Vec<_>>(), "outcome": read })
    });
}

#[test]
fn one_token_is_exchanged_for_another() {
    check("exchange", |case| {
        let client = client(case);
        let kind = |value: &Value| match value.as_str()? {
            "access" => Some(TokenType::Access),
            "refresh" => Some(TokenType::Refresh),
            "id" => Some(TokenType::Id),
            "jwt" => Some(TokenType::Jwt),
            other => panic!("{other}"),
        };
        let (subject, actor) = (sensitive(&case["subject"][0]), sensitive(&case["actor"][0]));
        let scopes = texts(&case["scopes"]);
        let exchange = TokenExchange {
            subject: (&subject, kind(&case["subject"][1]).unwrap()),
            actor: kind(&case["actor"][1]).map(|kind| (&actor, kind)),
            requested: kind(&case["requested"]),
            audience: case["audience"].as_str(),
            resource: case["resource"].as_str(),
            scopes: &scopes,
            connection: case["connection"].as_str(),
        };
        let sent = exchange.request(&client);
        let read = with_reply(&case["reply"], |reply| read_token_exchange(&client, reply, at(&json!(0))));
        json!({
            "request": outcome(sent, |exchange| request(&exchange)),
            "outcome": outcome(read, |set| tokens(&set)),
        })
    });
}

#[test]
fn a_sign_in_in_the_browser_is_bound_to_itself() {
    check("code", |case| {
        let client = client(case);
        let random: [u8; RANDOM_BYTES] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let mut grant = match CodeGrant::start(&client, 49_152, &texts(&case["scopes"]), &random) {
            Ok(grant) => grant,
            Err(why) => return failure(&why),
        };
        let mut told = json!({ "open": grant.url().as_str() });
        let mut came = Vec::new();
        for query in texts(&case["callbacks"]) {
            came.push(outcome(grant.callback(&client, &query), |exchange| request(&exchange)));
        }
        told["callbacks"] = json!(came);
        if !case["reply"].is_null() {
            let read = with_reply(&case["reply"], |reply| read_tokens(&client, reply, at(&json!(0))));
            told["outcome"] = outcome(read, |set| tokens(&set));
        }
        told
    });
}

#[test]
fn aws_registers_us_and_gives_credentials_of_a_role() {
    check("aws", |case| {
        let client = client(case);
        if case["call"] == "register" {
            let sent = aws::register(&client, &texts(&case["scopes"]));
            let read = with_reply(&case["reply"], |reply| aws::read_registered(&client, reply));
            return json!({
                "request": outcome(sent, |exchange| request(&exchange)),
                "outcome": outcome(read, |registered| json!({
                    "id": registered.id,
                    "secret": registered.secret.expose(),
                    "expires_at": relative(registered.expires_at),
                })),
            });
        }
        let text = |name: &str| case[name].as_str().unwrap_or_default();
        let token = sensitive(&case["access_token"]);
        let sent = aws::role_credentials(&client, &token, text("account_id"), text("role_name"));
        let read = with_reply(&case["reply"], |reply| aws::read_role_credentials(&client, reply));
        json!({
            "request": outcome(sent, |exchange| request(&exchange)),
            "outcome": outcome(read, |role| json!({
                "access_key_id": role.access_key_id.expose(),
                "secret_access_key": role.secret_access_key.expose(),
                "session_token": role.session_token.expose(),
                "expires_at": relative(role.expires_at),
            })),
        })
    });
}

#[test]
fn the_account_is_read_and_must_be_the_one_of_the_id_token() {
    check("userinfo", |case| {
        let client = client(case);
        let sent = userinfo(&client, &sensitive(&case["access_token"]));
        let known = case["known"].as_str();
        let known = known.map(|subject| Account { subject: subject.to_owned(), name: None, email: None });
        let read = with_reply(&case["reply"], |reply| read_userinfo(&client, reply, known.as_ref()));
        json!({
            "request": sent.map_or(Value::Null, |exchange| request(&exchange)),
            "outcome": outcome(read, |read| account(&read)),
        })
    });
}

#[test]
fn scopes_are_compared_with_what_was_asked_for() {
    check("scopes", |case| {
        let difference = client(case).server.compare_scopes(&texts(&case["asked"]), &texts(&case["granted"]));
        json!({ "missing": difference.missing, "extra": difference.extra })
    });
}
