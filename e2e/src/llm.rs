//! A stand-in for the APIs of models: OpenAI's, Azure's, Anthropic's and Google's on one address. It takes each one's
//! key in that one's place only, always says hello, and sends the key back to whoever asks.

use crate::standin::{Seen, Standin};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

/// What it takes for each: the provider, its host, the field of the key, what stands before the key, the key.
pub const APIS: [(&str, &str, &str, &str, &str); 4] = [
    ("openai", "api.openai.com", "authorization", "Bearer ", "sk-proj-Wq8vT1nXs5LrYb7HdJ0PzK3m"),
    ("azure", "res.openai.azure.com", "api-key", "", "azure0Kc7Rw2Mz9Tq4Yd6Hs1Lf8Pb"),
    ("anthropic", "api.anthropic.com", "x-api-key", "", "sk-ant-api03-Jt5Gn2Vx8Cq1Ry6Ew"),
    ("google", "generativelanguage.googleapis.com", "x-goog-api-key", "", "AIzaSyB7m4Tz9Qx2Lk8Wv5Nd1Hc"),
];
/// In a prompt, it has the key sent back in an error.
pub const SEND_KEY_BACK: &str = "send my key back";
/// Tokens that it says each call used, in and out.
pub const USED: (u64, u64) = (11, 7);

/// Starts it.
pub async fn start() -> Standin {
    Standin::start_for(&APIS.map(|(_, host, ..)| host), answer).await
}

/// Fields by which any of them takes a key.
const KEY_FIELDS: [&str; 4] = ["authorization", "api-key", "x-api-key", "x-goog-api-key"];

fn answer(seen: &Seen) -> Response<Full<Bytes>> {
    let host = seen.header("host").unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
    let (_, _, field, before, key) = APIS.into_iter().find(|api| api.1 == host).expect("a known name");
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let sent: Vec<&str> = KEY_FIELDS.into_iter().filter(|name| seen.header(name).is_some()).collect();
    if sent != [field] || seen.header(field) != Some(&format!("{before}{key}")) {
        return failure(401, &format!("no key, or a wrong one, or too many: {sent:?}"));
    }
    if body.to_string().contains(SEND_KEY_BACK) {
        return failure(400, &format!("your key is {before}{key}"));
    }
    let path = seen.target.split('?').next().unwrap_or_default();
    let streams = body["stream"] == true;
    let model = &body["model"];
    match path.rsplit('/').next().unwrap_or_default() {
        "completions" if streams => openai_stream(model, body["stream_options"]["include_usage"] == true),
        "completions" => whole(&json!({
            "id": "c1", "object": "chat.completion", "created": 1, "model": model, "usage": openai_usage(),
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hello" } }],
        })),
        "responses" if streams => events(&[
            json!({ "type": "response.created", "sequence_number": 0, "response": response(model, "in_progress") }),
            delta(1, "hel"),
            delta(2, "lo"),
            json!({ "type": "response.completed", "sequence_number": 3, "response": response(model, "completed") }),
        ]),
        "responses" => whole(&response(model, "completed")),
        "embeddings" => whole(&json!({
            "object": "list", "model": model, "usage": { "prompt_tokens": USED.0, "total_tokens": USED.0 },
            "data": [{ "object": "embedding", "index": 0, "embedding": [0.5, -0.25] }],
        })),
        "messages" if streams => anthropic_stream(model),
        "messages" => whole(&message(model, &json!([{ "type": "text", "text": "hello" }]), USED.1)),
        "models" => whole(&json!({ "object": "list", "data": [] })),
        last if last.ends_with(":generateContent") => whole(&gemini("hello", true)),
        last if last.ends_with(":streamGenerateContent") => {
            raw_events(&[format!("data: {}\n\n", gemini("hel", false)), format!("data: {}\n\n", gemini("lo", true))])
        }
        _ => failure(404, "there is no such path"),
    }
}

/// An error, which every SDK can read.
fn failure(status: u16, message: &str) -> Response<Full<Bytes>> {
    let error = json!({ "type": "invalid_request_error", "code": status, "status": "FAILED", "message": message });
    reply(status, "application/json", json!({ "type": "error", "error": error }).to_string())
}

fn whole(value: &Value) -> Response<Full<Bytes>> {
    reply(200, "application/json", value.to_string())
}

/// Events with their names, as OpenAI's responses and Anthropic have them.
fn events(list: &[Value]) -> Response<Full<Bytes>> {
    let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    raw_events(&list.iter().map(text).collect::<Vec<_>>())
}

fn raw_events(list: &[String]) -> Response<Full<Bytes>> {
    reply(200, "text/event-stream", list.concat())
}

fn reply(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).header("content-type", kind).body(Full::from(body)).expect("a reply")
}

fn openai_usage() -> Value {
    json!({ "prompt_tokens": USED.0, "completion_tokens": USED.1, "total_tokens": USED.0 + USED.1 })
}

fn openai_stream(model: &Value, with_usage: bool) -> Response<Full<Bytes>> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model });
        chunk["choices"] = choices;
        if with_usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let choice = |delta: Value, reason: Value| {
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": reason }]), Value::Null)
    };
    let mut list = vec![
        choice(json!({ "role": "assistant", "content": "hel" }), Value::Null),
        choice(json!({ "content": "lo" }), Value::Null),
        choice(json!({}), json!("stop")),
    ];
    if with_usage {
        list.push(chunk(json!([]), openai_usage()));
    }
    list.push("data: [DONE]\n\n".to_owned());
    raw_events(&list)
}

fn delta(number: u64, text: &str) -> Value {
    json!({ "type": "response.output_text.delta", "sequence_number": number, "item_id": "m1", "output_index": 0,
            "content_index": 0, "delta": text, "logprobs": [] })
}

fn response(model: &Value, status: &str) -> Value {
    let done = status == "completed";
    let output = json!([{ "id": "m1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{ "type": "output_text", "text": "hello", "annotations": [] }] }]);
    let usage = json!({ "input_tokens": USED.0, "output_tokens": USED.1, "total_tokens": USED.0 + USED.1,
        "input_tokens_details": { "cached_tokens": 0 }, "output_tokens_details": { "reasoning_tokens": 0 } });
    json!({ "id": "r1", "object": "response", "created_at": 1, "model": model, "status": status,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "output": if done { output } else { json!([]) }, "usage": if done { usage } else { Value::Null } })
}

fn message(model: &Value, content: &Value, tokens_out: u64) -> Value {
    json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": USED.0, "output_tokens": tokens_out } })
}

fn anthropic_stream(model: &Value) -> Response<Full<Bytes>> {
    let text = |text: &str| json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
    events(&[
        json!({ "type": "message_start", "message": message(model, &json!([]), 1) }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        text("hel"),
        text("lo"),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
                "usage": { "output_tokens": USED.1 } }),
        json!({ "type": "message_stop" }),
    ])
}

fn gemini(text: &str, last: bool) -> Value {
    let mut reply = json!({ "candidates": [{ "index": 0, "content": { "role": "model", "parts": [{ "text": text }] } }],
        "modelVersion": "gemini-2.5-flash" });
    if last {
        reply["candidates"][0]["finishReason"] = json!("STOP");
        reply["usageMetadata"] = json!({ "promptTokenCount": USED.0, "candidatesTokenCount": USED.1,
            "totalTokenCount": USED.0 + USED.1 });
    }
    reply
}
