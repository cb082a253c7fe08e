//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::{CallInfo, Dialect, Usage, UsageMeter, UsageTrim, ask_for_usage};

const TYPES: [&str; 5] =
    ["application/json", "text/event-stream", "application/vnd.amazon.eventstream", "text/plain", "audio/mpeg"];

/// The first byte chooses a type, the second the size of pieces, the rest is a reply.
///
/// # Panics
/// When pieces make a difference, or the parts of the usage are more than the whole.
pub fn reply(data: &[u8]) {
    let [kind, cut, body @ ..] = data else { return };
    let kind = TYPES.get(usize::from(*kind) % TYPES.len()).copied();
    let read = |size: usize| -> Usage {
        let mut meter: UsageMeter = Dialect::OpenAi.meter(kind, 200);
        body.chunks(size.max(1)).for_each(|piece| meter.push(piece));
        meter.finish()
    };
    let usage = read(body.len());
    assert_eq!(usage, read(usize::from(*cut)));
    assert!(usage.cached_in + usage.cache_written <= usage.tokens_in);
    assert!(usage.cache_written_hour <= usage.cache_written);
    let trimmed = |size: usize| {
        let (mut trim, mut out) = (UsageTrim::default(), Vec::new());
        body.chunks(size.max(1)).for_each(|piece| trim.push(piece, &mut out));
        trim.finish(&mut out);
        out
    };
    let kept = trimmed(body.len());
    assert_eq!(kept, trimmed(usize::from(*cut)));
    assert!(kept == body || body.windows(b"usage".len()).any(|part| part == b"usage"));
}

/// The first byte chooses a dialect and a type, the rest up to a line feed is the path, and what follows the body.
///
/// # Panics
/// When what is read as JSON is none for serde_json, or it reads another model; or when asking for the usage changes
/// anything else.
pub fn call(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    let (path, body) = rest.iter().position(|byte| *byte == b'\n').map_or((rest, &[][..]), |at| rest.split_at(at));
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(path) = std::str::from_utf8(path) else { return };
    let dialect = Dialect::ALL.get(usize::from(*kind) % Dialect::ALL.len()).copied().unwrap_or(Dialect::OpenAi);
    if *kind >= 128 {
        let _any = dialect.read_call(path, Some("multipart/form-data; boundary=b"), body);
        return;
    }
    let Ok(read) = dialect.read_call("/", None, body) else { return };
    let _any = dialect.read_call(path, None, body);
    if dialect == Dialect::Plain || body.is_empty() {
        return;
    }
    // Numbers beyond a double and half a pair of surrogates are JSON, though serde_json has no place for them.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        assert!(body.iter().any(|byte| byte.is_ascii_digit() || *byte == b'\\'));
        return;
    };
    let model = value.get("model").and_then(serde_json::Value::as_str);
    assert_eq!(
        read.model.as_deref(),
        model.map(|model| match dialect {
            Dialect::Gemini => model.strip_prefix("models/").unwrap_or(model),
            _ => model,
        })
    );
    let info = CallInfo { streaming: true, ..CallInfo::default() };
    if let Some(edited) = ask_for_usage(Dialect::OpenAi, "/chat/completions", &info, body) {
        // Without the answer to it, both are the same; and the answer is there.
        let others = |mut value: serde_json::Value| {
            let options = value.as_object_mut().and_then(|body| body.remove("stream_options"));
            let mut options = options.and_then(|options| options.as_object().cloned()).unwrap_or_default();
            (options.remove("include_usage"), options, value)
        };
        let (asks, options, rest) = others(serde_json::from_slice(&edited).unwrap_or_default());
        let (_, expected_options, expected) = others(value);
        assert!(asks == Some(true.into()) && (options, rest) == (expected_options, expected));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::reply(&data);
            super::call(&data);
        }

        #[test]
        fn anything_like_json_holds(kind in 0_u8..7, cut in 1_u8..20, text in "([\\[\\]{}:,\"]|\"(model|usage|prompt_tokens|choices|delta|stream)\"|\\\\u00|\\\\|[0-9.e-]|true|null| ){0,40}") {
            super::reply(&[&[kind, cut], text.as_bytes()].concat());
            super::call(&[&[kind], b"/\n".as_slice(), text.as_bytes()].concat());
        }

        #[test]
        fn anything_like_events_holds(cut in 1_u8..20, text in "(data|:| |\n|\r|\r\n|\\{\"usage\":\\{\"prompt_tokens\":[0-9]{1,3}\\}\\}|event|\\{\"choices\":\\[\\],\"usage\":\\{\\}\\}|\\[DONE\\]|é){0,40}") {
            super::reply(&[&[1, cut], text.as_bytes()].concat());
        }

        #[test]
        fn any_options_of_a_stream_hold(body in "[ {]\\{ ?(\"(a|m\\\\u006f)\":[\\[{]?[\\]}1]?,)?\"stream(_options|_option\\\\u0073)?\" ?:(null|true|\\{ ?\\}|\\{(\"x\":\\[\\{\\}\\],)?\"include_usage\": ?(true|false|null|1)\\})(,\"stream_options\":\\{\\})?\\}") {
            super::call(&[b"\0/\n".as_slice(), body.as_bytes()].concat());
        }
    }
}
