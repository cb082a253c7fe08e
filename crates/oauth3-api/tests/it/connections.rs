//! Connections as agents see them, and asking the owner to sign in.

use crate::agent_port::Server;
use oauth3_core::{ConnectionView, Fault, SignInAsked, Timestamp};
use serde_json::json;

fn view(status: &str) -> ConnectionView {
    ConnectionView {
        name: "my-mail".into(),
        base_url: "https://graph.example.com/v1.0".into(),
        provider: Some("microsoft".into()),
        from: None,
        status: Some(status.into()),
        scopes: ["Mail.Read".to_owned()].into(),
        expires_at: (status == "pending").then(|| Timestamp::from_millis(1_790_000_900_500)),
    }
}

fn keyed() -> ConnectionView {
    ConnectionView {
        name: "crm".into(),
        base_url: "https://crm.example.com".into(),
        provider: None,
        from: None,
        status: None,
        scopes: [].into(),
        expires_at: None,
    }
}

#[tokio::test]
async fn connections_are_listed_and_looked_at_without_an_account() {
    let server = Server::start().await;
    assert_eq!(server.get("/connections").await.json(), json!({ "connections": [] }));
    let derived = ConnectionView { name: "narrow".into(), from: Some("my-mail".into()), ..view("signed_in") };
    *server.port.connections.lock().unwrap() = vec![keyed(), view("pending"), derived];
    let mail = json!({ "name": "my-mail", "base_url": "https://graph.example.com/v1.0", "provider": "microsoft",
        "status": "pending", "scopes": ["Mail.Read"], "secret": "connection:my-mail", "expires_at": 1_790_000_900 });
    let narrow = json!({ "name": "narrow", "base_url": "https://graph.example.com/v1.0", "provider": "microsoft",
        "from": "my-mail", "status": "signed_in", "scopes": ["Mail.Read"], "secret": "connection:narrow" });
    let crm = json!({ "name": "crm", "base_url": "https://crm.example.com" });
    assert_eq!(server.get("/connections").await.json(), json!({ "connections": [crm, mail, narrow] }));
    assert_eq!(server.get("/connections/my-mail").await.json(), mail);
    for name in ["nobody", "My-Mail", "..", "%2e%2e", "a%2fb", "my-mail%00", "%ff"] {
        server.get(&format!("/connections/{name}")).await.error(404, "not_found");
    }
}

#[tokio::test]
async fn an_agent_asks_for_a_sign_in_and_can_choose_nothing() {
    let server = Server::start().await;
    let ask = async |body: &str| server.call("POST", "/connections/my-mail/login", &server.alice(), body).await;
    let will = |status: &str, asked: &[&str]| {
        let asked = asked.iter().map(|&name| name.to_owned()).collect();
        *server.port.sign_in.lock().unwrap() = Ok(SignInAsked { view: view(status), asked });
    };
    will("pending", &["telegram"]);
    for body in ["", "{}", " { } "] {
        let answer = ask(body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({ "status": "pending", "connection": "my-mail", "expires_at": 1_790_000_900,
                    "message": "The owner was asked to sign in on Telegram" })
        );
    }
    will("pending", &[]);
    let message = ask("").await.json()["message"].clone();
    assert_eq!(message, "Waiting for the owner: `oauth3 login my-mail` on the owner's machine");
    will("signed_in", &["telegram"]);
    let answer = ask("{}").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("signed_in")), "{answer:?}");
    assert_eq!(server.port.asked_for.lock().unwrap().len(), 5);
    assert!(server.port.asked_for.lock().unwrap().iter().all(|who| who == "alice api/my-mail"));

    for body in [
        r#"{"scopes":["Mail.Send"]}"#,
        r#"{"client_id":"mine"}"#,
        r#"{"issuer":"https://login.evil.example"}"#,
        r#"{"login_hint":"victim@example.com"}"#,
        "[]",
        "null",
        "nonsense",
        "{} {}",
    ] {
        ask(body).await.error(400, "invalid_request");
    }
    assert_eq!(server.port.asked_for.lock().unwrap().len(), 5, "a wrong wish reaches nobody");
}

#[tokio::test]
async fn what_the_port_refuses_is_told_as_it_is() {
    let server = Server::start().await;
    let ask = async || server.call("POST", "/connections/my-mail/login", &server.alice(), "").await;
    ask().await.error(404, "not_found");
    *server.port.sign_in.lock().unwrap() = Err(Fault::RateLimited { text: "not again now".into(), retry_after: 240 });
    let answer = ask().await;
    answer.error(429, "rate_limited");
    assert_eq!(answer.field("retry-after"), Some("240"));
    *server.port.sign_in.lock().unwrap() = Err(Fault::InvalidRequest("crm takes a key".into()));
    ask().await.error(400, "invalid_request");
    *server.port.sign_in.lock().unwrap() = Err(Fault::DeniedByPolicy("the kill switch is on".into()));
    ask().await.error(403, "denied_by_policy");
}
