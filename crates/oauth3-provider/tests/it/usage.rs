//! Usage: read from replies as providers document them, in any pieces, and estimated where they say nothing.

use oauth3_provider::{Dialect, Usage};
use proptest::prelude::*;

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream; charset=utf-8";
const AMAZON: &str = "application/vnd.amazon.eventstream";

fn read(content_type: &str, reply: impl AsRef<[u8]>) -> Usage {
    read_in_pieces(content_type, reply, usize::MAX)
}

fn read_in_pieces(content_type: &str, reply: impl AsRef<[u8]>, size: usize) -> Usage {
    let mut meter = Dialect::OpenAi.meter(Some(content_type), 200);
    reply.as_ref().chunks(size).for_each(|piece| meter.push(piece));
    meter.finish()
}

fn named(model: &str, tokens_in: u64, tokens_out: u64) -> Usage {
    Usage { model: (!model.is_empty()).then(|| model.to_owned()), tokens_in, tokens_out, ..Usage::default() }
}

/// Each event as a `data:` line.
fn events(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn openai_chat() {
    let reply = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1741569952,"model":"gpt-4.1-2025-04-14",
        "choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I assist you today?","refusal":null,
        "annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,
        "total_tokens":29,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":
        {"reasoning_tokens":3,"audio_tokens":0}},"service_tier":"default"}"#;
    assert_eq!(read(JSON, reply), Usage { cached_in: 4, ..named("gpt-4.1-2025-04-14", 19, 10) });
}

#[test]
fn openai_chat_stream() {
    let chunk = r#"{"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}],"usage":null}"#;
    let last = r#"{"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}"#;
    assert_eq!(read(SSE, events(&[chunk, chunk, last, "[DONE]"])), named("gpt-4o-mini", 8, 2));
    // Without `include_usage`: two pieces of text, of "assistant" and "Hi" each.
    let estimated = read(SSE, events(&[chunk, chunk, "[DONE]"]));
    assert_eq!(estimated, Usage { estimated: true, ..named("gpt-4o-mini", 0, 8) });
    assert_eq!(estimated.with_request_bytes(100).tokens_in, 34);
}

#[test]
fn openai_responses() {
    let created = r#"{"type":"response.created","response":{"id":"r","model":"gpt-5-2025-08-07","output":[],"usage":null,"instructions":"Say \"usage\":{\"input_tokens\":9999}"}}"#;
    let delta = r#"{"type":"response.output_text.delta","item_id":"m","delta":"Hi there"}"#;
    let done = r#"{"type":"response.completed","response":{"id":"r","model":"gpt-5-2025-08-07","output":[{"content":[{"text":"Hi there"}]}],
        "usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":5},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48}}}"#;
    let done = done.replace('\n', "");
    let usage = Usage { cached_in: 5, ..named("gpt-5-2025-08-07", 37, 11) };
    assert_eq!(read(SSE, events(&[created, delta, &done])), usage);
    assert!(read(SSE, events(&[created, delta])).estimated);
    let whole = r#"{"id":"r","model":"gpt-5-2025-08-07","output":[],"usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":5},"output_tokens":11,"total_tokens":48}}"#;
    assert_eq!(read(JSON, whole), usage);
}

#[test]
fn embeddings_have_an_input_only() {
    let reply = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.0023064255,-0.009327292,1e-7]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    assert_eq!(read(JSON, reply), named("text-embedding-3-small", 8, 0));
}

#[test]
fn anthropic_messages() {
    let reply = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"Hi"}],
        "stop_reason":"end_turn","usage":{"input_tokens":10,"cache_creation_input_tokens":300,"cache_read_input_tokens":200,
        "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":6}}"#;
    let usage = named("claude-sonnet-4-5-20250929", 510, 6);
    assert_eq!(read(JSON, reply), Usage { cached_in: 200, cache_written: 300, cache_written_hour: 200, ..usage });
}

#[test]
fn anthropic_stream() {
    let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"claude-opus-4-8\",\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":5,\"cache_read_input_tokens\":20,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: ping\ndata: {\"type\": \"ping\"}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello \\u4e16\"}}\n\n";
    let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":0,\"output_tokens\":15}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let usage = Usage { cached_in: 20, cache_written: 5, ..named("claude-opus-4-8", 50, 15) };
    assert_eq!(read(SSE, format!("{stream}{end}")), usage);
    assert_eq!(read(SSE, format!("{stream}{end}").replace('\n', "\r\n")), usage);
    assert_eq!(read(SSE, format!("{stream}{end}").replace('\n', "\r")), usage);
    // Cut: the input is known, the output is estimated from "Hello \u4e16".
    let cut = read(SSE, stream);
    assert_eq!(cut, Usage { tokens_out: 4, estimated: true, ..usage });
    assert_eq!(cut.clone().with_request_bytes(1_000_000), cut);
}

#[test]
fn gemini() {
    let reply = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,
        "candidatesTokenCount":5,"totalTokenCount":43,"cachedContentTokenCount":2,"toolUsePromptTokenCount":10,"thoughtsTokenCount":20,
        "promptTokensDetails":[{"modality":"TEXT","tokenCount":8}]},"modelVersion":"gemini-2.5-flash","responseId":"x"}"#;
    let usage = Usage { cached_in: 2, ..named("gemini-2.5-flash", 18, 25) };
    assert_eq!(read(JSON, reply), usage);
    let flat = reply.replace('\n', "");
    let early = r#"{"candidates":[],"usageMetadata":{"promptTokenCount":8,"totalTokenCount":8},"modelVersion":"gemini-2.5-flash"}"#;
    assert_eq!(read(SSE, events(&[early, &flat])), usage);
    assert_eq!(read(JSON, format!("[{early}\n,\r\n{reply}]")), usage);
}

#[test]
fn bedrock() {
    let reply = r#"{"metrics":{"latencyMs":551},"output":{"message":{"content":[{"text":"Hi"}],"role":"assistant"}},"stopReason":"end_turn",
        "usage":{"inputTokens":30,"outputTokens":12,"totalTokens":42,"cacheReadInputTokens":7,"cacheWriteInputTokens":3}}"#;
    assert_eq!(read(JSON, reply), Usage { cached_in: 7, cache_written: 3, ..named("", 40, 12) });
    let message = |event: &str, payload: &str| {
        let headers = format!("\x0b:event-type\x07\0{}{event}", char::from(u8::try_from(event.len()).unwrap()));
        let total = u32::try_from(16 + headers.len() + payload.len()).unwrap().to_be_bytes();
        let length = u32::try_from(headers.len()).unwrap().to_be_bytes();
        [&total[..], &length, b"CRC1", headers.as_bytes(), payload.as_bytes(), b"CRC2"].concat()
    };
    let text = message("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"Hi there"},"p":"abcdefghij"}"#);
    let end = message(
        "metadata",
        r#"{"metrics":{"latencyMs":9},"usage":{"inputTokens":30,"outputTokens":12,"totalTokens":42}}"#,
    );
    let empty = message("messageStop", "");
    assert_eq!(read(AMAZON, [text.clone(), empty, end].concat()), named("", 30, 12));
    assert_eq!(read(AMAZON, text), Usage { estimated: true, ..named("", 0, 3) });
    assert!(read(AMAZON, [0; 100]).estimated);
}

#[test]
fn others_have_names_of_their_own() {
    let groq = r#"{"id":"c","model":"m","choices":[{"delta":{}}],"x_groq":{"id":"r","usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}}"#;
    assert_eq!(read(SSE, events(&[groq])), named("m", 9, 3));
    let moonshot = r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"cached_tokens":4}}]}"#;
    assert_eq!(read(SSE, events(&[moonshot])), Usage { cached_in: 4, ..named("m", 9, 3) });
    let deepseek = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"prompt_cache_hit_tokens":5,"prompt_cache_miss_tokens":4}}"#;
    assert_eq!(read(JSON, deepseek), Usage { cached_in: 5, ..named("m", 9, 3) });
    // Hidden reasoning that is in the total only.
    let xai = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":112,"completion_tokens_details":{"reasoning_tokens":100}}}"#;
    assert_eq!(read(JSON, xai), named("m", 9, 103));
    let cohere = r#"{"id":"c","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]},"usage":{"billed_units":{"input_tokens":5.0,"output_tokens":7},"tokens":{"input_tokens":71,"output_tokens":9}}}"#;
    assert_eq!(read(JSON, cohere), named("", 5, 7));
    let stream = r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":5,"output_tokens":7}}}}"#;
    assert_eq!(read(SSE, events(&[stream])), named("", 5, 7));
    let ollama = "{\"model\":\"m\",\"message\":{\"content\":\"a\"},\"done\":false}\n{\"model\":\"m\",\"done\":true,\"prompt_eval_count\":26,\"eval_count\":290}\n";
    assert_eq!(read("application/x-ndjson", ollama), named("m", 26, 290));
    // LiteLLM says both: the input is the whole of it.
    let litellm = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":3,"total_tokens":103,"cache_read_input_tokens":60,"cache_creation_input_tokens":30}}"#;
    assert_eq!(read(JSON, litellm), Usage { cached_in: 60, cache_written: 30, ..named("m", 100, 3) });
}

#[test]
fn text_that_looks_like_usage_does_not_count() {
    let fake = r#"\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}"#;
    let reply = format!(
        r#"{{"choices":[{{"message":{{"content":"}},{fake},","usage":{{"prompt_tokens":2}},"a":[{{"usage":{{"prompt_tokens":3}}}}]}}}}],
        "x":{{"usage":{{"prompt_tokens":4}}}},"usage":{{"prompt_tokens":50,"completion_tokens":60,"x":{{"prompt_tokens":5}},"y":[{{"prompt_tokens":6}}]}},"z":"{fake}"}}"#
    );
    assert_eq!(read(JSON, &reply), named("", 50, 60));
    // A line feed inside of a string would end an SSE line; JSON has none, so this is no usage.
    let forged = "data: {\"choices\":[{\"delta\":{\"content\":\"\n\ndata2: {\"usage\":{\"prompt_tokens\":1}}\n\n";
    assert_eq!(read(SSE, forged).tokens_in, 0);
    let chunk = format!(r#"{{"choices":[{{"delta":{{"content":"\n\ndata: {{{fake}}}\n\n"}}}}]}}"#);
    let usage = read(SSE, events(&[&chunk]));
    assert!(usage.estimated && usage.tokens_in == 0 && usage.tokens_out > 10);
    assert_eq!(
        read(SSE, "event: x\nid: {\"usage\":{\"prompt_tokens\":1}}\n: {\"usage\":{\"prompt_tokens\":1}}\n\n").tokens_in,
        0
    );
}

#[test]
fn odd_numbers_are_not_believed() {
    for number in ["-5", "1e300", "\"12\"", "true", "99999999999999999999", "null", "{}"] {
        let reply = format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{number},"completion_tokens":7}}}}"#);
        let usage = read(JSON, reply);
        assert_eq!((usage.tokens_in, usage.tokens_out, usage.estimated), (0, 7, true), "{number}");
    }
    let reply = r#"{"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":500},"cache_creation_input_tokens":9}}"#;
    assert_eq!(read(JSON, reply), Usage { cached_in: 5, ..named("", 5, 1) });
}

#[test]
fn what_failed_or_has_no_tokens_used_nothing() {
    let reply = br#"{"error":{"message":"x"},"usage":{"prompt_tokens":5}}"#;
    for status in [301, 400, 401, 429, 500, 529] {
        let mut meter = Dialect::OpenAi.meter(Some(JSON), status);
        meter.push(reply);
        assert_eq!(meter.finish().with_request_bytes(100), Usage::default(), "{status}");
    }
    let mut meter = Dialect::Plain.meter(Some(JSON), 200);
    meter.push(reply);
    assert_eq!(meter.finish().with_request_bytes(100), Usage::default());
    // Speech is made from the request's text.
    let speech = read("audio/mpeg", vec![0; 100_000]);
    assert_eq!(speech, Usage { estimated: true, ..Usage::default() });
    assert_eq!(speech.with_request_bytes(30).tokens_in, 10);
}

#[test]
fn a_reply_that_names_nothing_is_estimated_on_the_high_side() {
    assert_eq!(read("text/plain", "a".repeat(300)), Usage { estimated: true, ..named("", 0, 100) });
    assert_eq!(read(JSON, r#"{"unknown":"shape"}"#), Usage { estimated: true, ..named("", 0, 7) });
    let cut = read(JSON, r#"{"model":"m","choices":[{"message":{"content":"Hello there, how are you"#);
    assert_eq!(cut, Usage { estimated: true, ..named("m", 0, 24) });
    // One piece is at least one token, however short.
    let chunk = r#"{"choices":[{"delta":{"content":"1"}}]}"#;
    assert_eq!(read(SSE, events(&[chunk; 50])).tokens_out, 50);
}

#[test]
fn memory_does_not_grow_with_the_reply() {
    // A meter is as large as its fields: what it keeps of text is bounded, and so is its depth.
    let mut meter = Dialect::OpenAi.meter(Some(JSON), 200);
    meter.push(br#"{"data":[{"b64_json":""#);
    for _ in 0..200 {
        meter.push(&[b'A'; 64 * 1024]);
    }
    meter.push(br#""}],"usage":{"input_tokens":50,"output_tokens":1056,"total_tokens":1106,"input_tokens_details":{"text_tokens":10}}}"#);
    assert_eq!(meter.finish(), named("", 50, 1056));
    let mut meter = Dialect::OpenAi.meter(Some(SSE), 200);
    meter.push(b"data: {\"x\":\"");
    for _ in 0..200 {
        meter.push(&[b'A'; 64 * 1024]);
    }
    meter.push(b"\"}\n\n");
    meter.push(events(&[r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#]).as_bytes());
    assert_eq!(meter.finish(), named("", 1, 2));
    let mut meter = Dialect::OpenAi.meter(Some(JSON), 200);
    for _ in 0..1_000 {
        meter.push(&[b'['; 1024]);
    }
    assert!(meter.finish().estimated);
}

#[test]
fn broken_events_do_not_hide_later_ones() {
    let last = r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    for broken in ["{", "{\"a\":", "\"", "[[[", "nonsense", "{\"usage\":{\"prompt_tokens\":0"] {
        assert_eq!(read(SSE, events(&[broken, last])), named("", 1, 2), "{broken}");
    }
    let several = "data: {\"usage\":\ndata: {\"prompt_tokens\":1,\ndata:\"completion_tokens\":2}}\n\n";
    assert_eq!(read(SSE, several), named("", 1, 2));
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        content in "(\\PC|\n|\"|\\\\|usage|data: ){0,30}",
        numbers in any::<[u16; 4]>(),
        size in 1_usize..40,
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
    ) {
        let [input, output, read_in, written] = numbers;
        let chunk = serde_json::json!({"model": "m", "choices": [{"delta": {"content": content}}]}).to_string();
        let last = serde_json::json!({"usage": {"input_tokens": input, "output_tokens": output,
            "cache_read_input_tokens": read_in, "cache_creation_input_tokens": written}}).to_string();
        let stream = events(&[&chunk, &chunk, &last, "[DONE]"]).replace('\n', end);
        let tokens_in = u64::from(input) + u64::from(read_in) + u64::from(written);
        let usage = Usage {
            cached_in: read_in.into(), cache_written: written.into(), ..named("m", tokens_in, output.into())
        };
        prop_assert_eq!(read_in_pieces(SSE, &stream, size), usage);
        let json = serde_json::json!({"model": "m", "content": [{"text": content}], "usage": {"prompt_tokens": input,
            "completion_tokens": output}}).to_string();
        prop_assert_eq!(read_in_pieces(JSON, &json, size), named("m", input.into(), output.into()));
        let cut = &stream.as_bytes()[..stream.len() / 2];
        prop_assert_eq!(read_in_pieces(SSE, cut, size), read(SSE, cut));
    }
}
