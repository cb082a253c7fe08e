//! Refusals: each in the shape that the provider's SDKs read.

use oauth3_provider::Dialect;
use serde_json::{Value, json};

fn refusal(dialect: Dialect, status: u16) -> (Value, Vec<(&'static str, &'static str)>) {
    let refusal = dialect.refusal(status, "budget_spent", "The budget of today is spent: \"10 USD\".");
    assert_eq!(refusal.content_type, "application/json");
    (serde_json::from_slice(&refusal.body).unwrap(), refusal.headers)
}

#[test]
fn each_dialect_has_its_own_shape() {
    let message = "The budget of today is spent: \"10 USD\".";
    let openai =
        json!({"error": {"message": message, "type": "rate_limit_error", "param": null, "code": "budget_spent"}});
    assert_eq!(refusal(Dialect::OpenAi, 429), (openai.clone(), vec![]));
    assert_eq!(refusal(Dialect::Azure, 429).0, openai);
    let anthropic = json!({"type": "error", "error": {"type": "permission_error", "message": message}});
    assert_eq!(refusal(Dialect::Anthropic, 403).0, anthropic);
    let gemini = refusal(Dialect::Gemini, 429).0;
    assert_eq!(gemini["error"]["code"], 429);
    assert_eq!(gemini["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(gemini["error"]["message"], message);
    assert_eq!(gemini["error"]["details"][0]["reason"], "budget_spent");
    let (bedrock, headers) = refusal(Dialect::Bedrock, 429);
    assert_eq!((bedrock, headers), (json!({"message": message}), vec![("x-amzn-errortype", "ThrottlingException")]));
    assert_eq!(refusal(Dialect::Cohere, 403).0, json!({"message": message}));
    assert_eq!(refusal(Dialect::Plain, 403).0, json!({"error": "budget_spent", "error_description": message}));
}

#[test]
fn the_type_follows_the_status() {
    for (status, openai, anthropic, google) in [
        (400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
        (401, "authentication_error", "authentication_error", "UNAUTHENTICATED"),
        (403, "permission_error", "permission_error", "PERMISSION_DENIED"),
        (404, "not_found_error", "not_found_error", "NOT_FOUND"),
        (413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT"),
        (502, "server_error", "api_error", "UNAVAILABLE"),
        (503, "server_error", "overloaded_error", "UNAVAILABLE"),
        (504, "server_error", "timeout_error", "DEADLINE_EXCEEDED"),
    ] {
        assert_eq!(refusal(Dialect::OpenAi, status).0["error"]["type"], openai, "{status}");
        assert_eq!(refusal(Dialect::Anthropic, status).0["error"]["type"], anthropic, "{status}");
        assert_eq!(refusal(Dialect::Gemini, status).0["error"]["status"], google, "{status}");
    }
}
