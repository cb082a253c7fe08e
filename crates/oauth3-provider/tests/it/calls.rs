//! Calls: what is read from path and body, and what is refused because it could be read otherwise.

use oauth3_provider::{CallError, CallInfo, Dialect};
use proptest::prelude::*;

fn read(body: &str) -> Result<CallInfo, CallError> {
    Dialect::OpenAi.read_call("/chat/completions", Some("application/json"), body.as_bytes())
}

fn model(dialect: Dialect, path: &str, body: &str) -> Option<String> {
    dialect.read_call(path, Some("application/json; charset=utf-8"), body.as_bytes()).unwrap().model
}

#[test]
fn openai_and_anthropic_have_it_in_the_body() {
    let chat = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"\"model\":\"evil\""}],"stream":true,
        "max_completion_tokens":100,"n":2,"stream_options":{"include_usage":true}}"#;
    let call = read(chat).unwrap();
    assert_eq!(call.model.as_deref(), Some("gpt-4o"));
    assert!(call.streaming && call.further_models.is_empty() && !call.counts_only);
    assert_eq!((call.max_tokens, call.answers), (Some(100), Some(2)));
    let messages = r#"{"max_tokens":1024,"model":"claude-sonnet-4-5","messages":[{"role":"user","content":[
        {"type":"text","text":"x","model":"not this"}]}],"metadata":{"model":"nor this"}}"#;
    let call = Dialect::Anthropic.read_call("/v1/messages", Some("application/json"), messages.as_bytes()).unwrap();
    assert_eq!((call.model.as_deref(), call.max_tokens), (Some("claude-sonnet-4-5"), Some(1024)));
    assert!(!call.streaming);
    let call = Dialect::Anthropic.read_call("/v1/messages/count_tokens", None, messages.as_bytes()).unwrap();
    assert!(call.counts_only);
}

#[test]
fn some_have_it_in_the_path() {
    let gemini =
        r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"maxOutputTokens":50,"candidateCount":2}}"#;
    let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
    let call = Dialect::Gemini.read_call(path, Some("application/json"), gemini.as_bytes()).unwrap();
    assert_eq!(call.model.as_deref(), Some("gemini-2.5-pro"));
    assert!(call.streaming);
    assert_eq!((call.max_tokens, call.answers), (Some(50), Some(2)));
    for (dialect, path, body, expected) in [
        (Dialect::Gemini, "/v1beta/tunedModels/mine:generateContent", "{}", Some("tunedModels/mine")),
        (Dialect::Gemini, "/v1beta/models/a%3AgenerateContent", "{}", None),
        (Dialect::Gemini, "/v1beta/models/a:generateContent", r#"{"model":"models/a"}"#, Some("a")),
        (
            Dialect::Gemini,
            "/v1beta/openai/chat/completions",
            r#"{"model":"gemini-2.5-flash"}"#,
            Some("gemini-2.5-flash"),
        ),
        (Dialect::Gemini, "/v1beta/cachedContents", r#"{"model":"models/b"}"#, Some("b")),
        (Dialect::Azure, "/openai/deployments/prod-4o/chat/completions", r#"{"model":"gpt-4o"}"#, Some("prod-4o")),
        (Dialect::Azure, "/openai/v1/responses", r#"{"model":"gpt-5"}"#, Some("gpt-5")),
        (
            Dialect::Bedrock,
            "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
            "{}",
            Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ),
        (
            Dialect::Bedrock,
            "/openai/v1/chat/completions",
            r#"{"model":"openai.gpt-oss-120b"}"#,
            Some("openai.gpt-oss-120b"),
        ),
        (Dialect::OpenAi, "/realtime?model=gpt-realtime", "", Some("gpt-realtime")),
        (Dialect::OpenAi, "/openai/deployments/a/chat/completions", r#"{"model":"b"}"#, Some("b")),
        (Dialect::OpenAi, "/models", "", None),
        (Dialect::Plain, "/listen?model=nova-3", "no JSON", None),
    ] {
        assert_eq!(model(dialect, path, body).as_deref(), expected, "{dialect:?} {path}");
    }
    let converse = r#"{"messages":[],"inferenceConfig":{"maxTokens":300}}"#;
    let call = Dialect::Bedrock.read_call("/model/m/converse-stream", None, converse.as_bytes()).unwrap();
    assert_eq!((call.streaming, call.max_tokens), (true, Some(300)));
    let call = Dialect::Gemini.read_call("/models/m:countTokens", None, b"{}").unwrap();
    assert!(call.counts_only);
}

#[test]
fn models_that_are_used_besides_are_told() {
    let further = |dialect: Dialect, path: &str, body: &str| {
        let call = dialect.read_call(path, None, body.as_bytes()).unwrap();
        (call.model, call.further_models)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let body = r#"{"model":"a","models":["a","b"],"fallbacks":["c",{"model":"f","messages":[]}],"tools":[{"type":"image_generation","model":"d"},{"type":"function"}]}"#;
    assert_eq!(further(Dialect::OpenAi, "/chat/completions", body), (Some("a".into()), names(&["b", "c", "f", "d"])));
    let body = r#"{"requests":[{"custom_id":"1","params":{"model":"a"}},{"params":{"model":"b"}}]}"#;
    assert_eq!(further(Dialect::Anthropic, "/messages/batches", body), (None, names(&["a", "b"])));
    let body = r#"{"requests":[{"model":"models/e"},{"model":"models/x"}]}"#;
    assert_eq!(further(Dialect::Gemini, "/models/e:batchEmbedContents", body), (Some("e".into()), names(&["x"])));
    let many = format!(r#"{{"models":[{}]}}"#, vec!["\"m\""; 33].join(","));
    assert_eq!(read(&many), Err(CallError::ManyModels));
}

#[test]
fn what_could_be_read_otherwise_is_refused() {
    for (body, why) in [
        (r#"{"model":"a","model":"b"}"#, CallError::Twice("model")),
        (r#"{"model":"a","\u006dodel":"b"}"#, CallError::Twice("model")),
        (r#"{"model":"a","messages":[],"mod\u0065l":"a"}"#, CallError::Twice("model")),
        (r#"{"stream":false,"stream":true,"model":"a"}"#, CallError::Twice("stream")),
        (r#"{"max_tokens":1,"max_tokens":9}"#, CallError::Twice("max_tokens")),
        (r#"{"model":"a","Model":"b"}"#, CallError::Alike),
        (r#"{"model":"a","MODEL":"b"}"#, CallError::Alike),
        (r#"{"model":"a"," model":"b"}"#, CallError::Alike),
        (r#"{"model":"a","model\u0000":"b"}"#, CallError::Alike),
        (r#"{"model":"a","model\ud800":"b"}"#, CallError::Alike),
        ("{\"model\":\"a\",\"\u{17f}tream\":true}", CallError::Alike),
        (r#"{"max_Tokens":5}"#, CallError::Alike),
        (r#"{"model":["a"]}"#, CallError::Type("model", "a string of at most 256 bytes")),
        (r#"{"model":null}"#, CallError::Type("model", "a string of at most 256 bytes")),
        (r#"{"model":5}"#, CallError::Type("model", "a string of at most 256 bytes")),
        (r#"{"model":"a\ud800"}"#, CallError::Type("model", "a string of at most 256 bytes")),
        (r#"{"model":""}"#, CallError::Type("model", "the name of a model, of at most 256 bytes")),
        (r#"{"model":"a\nb"}"#, CallError::Type("model", "the name of a model, of at most 256 bytes")),
        (r#"{"stream":"true"}"#, CallError::Type("stream", "true or false")),
        (r#"{"stream":1}"#, CallError::Type("stream", "true or false")),
        (r#"{"max_tokens":"5"}"#, CallError::Type("max_tokens", "a whole number")),
        (r#"{"max_tokens":1.5}"#, CallError::Type("max_tokens", "a whole number")),
        (r#"{"max_tokens":-1}"#, CallError::Type("max_tokens", "a whole number")),
        (r#"{"models":"a"}"#, CallError::Type("models", "a list of models")),
        (r#"{"models":[{}]}"#, CallError::Type("model", "a string of at most 256 bytes")),
        (r#"{"generationConfig":{},"generation_config":{"maxOutputTokens":9}}"#, CallError::Twice("generationConfig")),
        (r#"{"generationConfig":[]}"#, CallError::Type("generationConfig", "an object")),
        ("[]", CallError::NoObject),
        ("\"a\"", CallError::NoObject),
        ("null", CallError::NoObject),
        ("{", CallError::Syntax(1)),
        ("{}}", CallError::Syntax(2)),
        ("{} {}", CallError::Syntax(3)),
        ("{'model':1}", CallError::Syntax(1)),
        ("{\"model\":\"a\",}", CallError::Syntax(13)),
        ("{\"model\":\"a\"/**/}", CallError::Syntax(12)),
        ("{\"n\":01}", CallError::Syntax(6)),
        ("{\"x\":NaN}", CallError::Syntax(5)),
        ("{\"x\":\"a\tb\"}", CallError::Syntax(7)),
        ("\u{feff}{}", CallError::Syntax(0)),
    ] {
        assert_eq!(read(body), Err(why), "{body}");
    }
    let invalid = b"{\"model\":\"a\",\"mod\xffel\":\"b\"}";
    assert_eq!(Dialect::OpenAi.read_call("/", None, invalid), Err(CallError::Utf8));
    let wide: Vec<u8> = "{\"model\":\"b\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(Dialect::OpenAi.read_call("/", None, &wide).is_err());
    let long = format!(r#"{{"model":"{}"}}"#, "a".repeat(257));
    assert!(matches!(read(&long), Err(CallError::Type("model", _))));
}

#[test]
fn two_places_that_disagree_are_refused() {
    let read = |dialect: Dialect, path: &str, body: &str| dialect.read_call(path, None, body.as_bytes());
    assert_eq!(read(Dialect::Gemini, "/models/a:generateContent", r#"{"model":"b"}"#), Err(CallError::TwoModels));
    assert_eq!(read(Dialect::Bedrock, "/model/a/invoke", r#"{"model":"b"}"#), Err(CallError::TwoModels));
    assert_eq!(read(Dialect::OpenAi, "/chat/completions?model=b", r#"{"model":"a"}"#), Err(CallError::TwoModels));
    assert_eq!(read(Dialect::OpenAi, "/realtime?model=a&model=b", ""), Err(CallError::Twice("model")));
    assert_eq!(read(Dialect::OpenAi, "/realtime?model=a;model=b", ""), Err(CallError::Twice("model")));
    assert_eq!(read(Dialect::OpenAi, "/realtime?model=a&Model=b", ""), Err(CallError::Alike));
    assert_eq!(read(Dialect::OpenAi, "/realtime?model=a&m%6Fdel=b", ""), Err(CallError::Twice("model")));
    assert!(read(Dialect::Bedrock, "/model/a%00b/invoke", "{}").is_err());
    assert!(read(Dialect::Bedrock, "/model/a%ff/invoke", "{}").is_err());
}

#[test]
fn deep_and_large_bodies_do_no_harm() {
    assert_eq!(read(&format!(r#"{{"x":{}"#, "[".repeat(1_000_000))), Err(CallError::Deep));
    assert_eq!(read(&format!(r#"{{"x":{}"#, r#"{"a":"#.repeat(100_000))), Err(CallError::Deep));
    let fits = format!(r#"{{"x":{}{},"model":"a"}}"#, "[".repeat(126), "]".repeat(126));
    assert_eq!(read(&fits).unwrap().model.as_deref(), Some("a"));
    let large =
        format!(r#"{{"messages":[{{"content":"{}"}}],"model":"a"}}"#, "\\\"model\\\":\\\"b\\\" ".repeat(200_000));
    assert_eq!(read(&large).unwrap().model.as_deref(), Some("a"));
}

#[test]
fn only_json_and_forms_are_read() {
    let read = |content_type: Option<&str>| Dialect::OpenAi.read_call("/", content_type, b"{}").map(|_| ());
    for fine in
        [None, Some("application/json"), Some("Application/JSON; charset=UTF-8"), Some("application/vnd.x+json")]
    {
        assert_eq!(read(fine), Ok(()), "{fine:?}");
    }
    for not in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-7",
        "",
    ] {
        assert_eq!(read(Some(not)), Err(CallError::ContentType), "{not:?}");
    }
}

fn form(body: &[u8]) -> Result<CallInfo, CallError> {
    Dialect::OpenAi.read_call("/audio/transcriptions", Some("multipart/form-data; boundary=XyZ"), body)
}

/// A part as HTTP clients write it.
fn part(head: &str, value: &str) -> String {
    format!("--XyZ\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
}

#[test]
fn audio_comes_in_forms() {
    let file = "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\nID3\r\n--Xy\n\r\r\n";
    let body = format!("{file}{}{}--XyZ--\r\n", part("name=\"model\"", "whisper-1"), part("name=stream", "true"));
    let call = form(body.as_bytes()).unwrap();
    assert_eq!((call.model.as_deref(), call.streaming), (Some("whisper-1"), true));
    let quoted = Some("multipart/form-data; boundary=\"XyZ\"");
    assert_eq!(Dialect::OpenAi.read_call("/", quoted, body.as_bytes()), Ok(call));
}

#[test]
fn a_form_that_could_be_read_otherwise_is_refused() {
    let model = part("name=\"model\"", "a");
    let end = "--XyZ--\r\n";
    for body in [
        format!("{model}{model}{end}"),
        format!("{model}{}{end}", part("name=\"Model\"", "b")),
        format!("{model}{}{end}", part("name=\" model\"", "b")),
        format!("{model}{}{end}", part("name*=UTF-8''model", "b")),
        format!("{model}{}{end}", part("name=\"x\"; name=\"model\"", "b")),
        format!("{model}{}{end}", part("name=\"x\\\"; name=\"model\"", "b")),
        format!(
            "{model}--XyZ\r\nContent-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nb\r\n{end}"
        ),
        format!("{model}--XyZ\r\nContent-Disposition: form-data; name=\"x\";\r\n name=\"model\"\r\n\r\nb\r\n{end}"),
        format!("{model}--XyZ\r\nX: y\nContent-Disposition: form-data; name=\"model\"\r\n\r\nb\r\n{end}"),
        format!(
            "{}--XyZ\nContent-Disposition: form-data; name=\"model\"\n\nb\n--XyZ--\n",
            part("name=\"file\"", "x\n")
        ),
        format!("preamble\r\n{model}{end}"),
        format!("{model}{end}{model}{end}"),
        format!("{model}--XyZ \r\n{end}"),
        model.clone(),
        format!("--XyZ\r\nContent-Type: text/plain\r\n\r\nb\r\n{end}"),
        format!("{}{end}", part("name=\"model\"", "")),
        format!("{}{end}", part("name=\"x\"", "").repeat(300)),
        String::from("{\"model\":\"a\"}"),
    ] {
        assert!(form(body.as_bytes()).is_err(), "{body}");
    }
    let odd = Some("multipart/form-data; boundary=XyZ; boundary=Q");
    assert_eq!(Dialect::OpenAi.read_call("/", odd, model.as_bytes()), Err(CallError::ContentType));
    assert!(Dialect::OpenAi.read_call("/", Some("multipart/form-data"), model.as_bytes()).is_err());
}

#[test]
fn calls_without_a_body_are_known_by_their_method() {
    for (dialect, method, path, needs) in [
        (Dialect::OpenAi, "POST", "/chat/completions", true),
        (Dialect::OpenAi, "POST", "/v1/audio/transcriptions", true),
        (Dialect::Gemini, "POST", "/v1beta/models/m:generateContent", true),
        (Dialect::Anthropic, "PUT", "/v1/x/files", true),
        (Dialect::OpenAi, "GET", "/v1/models", false),
        (Dialect::OpenAi, "POST", "/v1/files", false),
        (Dialect::OpenAi, "POST", "/uploads/upload_1/parts", false),
        (Dialect::Gemini, "POST", "/upload/v1beta/files", false),
        (Dialect::Plain, "POST", "/listen", false),
    ] {
        assert_eq!(dialect.needs_body(method, path), needs, "{method} {path}");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::hash_map("(model|usage|[a-z]{0,4})", inner, 0..6)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_around_it_the_model_is_read_as_serde_json_reads_it(before in any_json(), after in any_json(), name in "\\PC{1,20}", pretty in any::<bool>()) {
        let value = serde_json::json!({"messages": before, "model": name, "metadata": after});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let call = read(&text).unwrap();
        prop_assert_eq!(call.model, Some(name));
    }
}
