//! The methods, with their checks.

use super::html::{Entity, parse_html};
use super::server::Refusal;
use super::state::{ChatMessage, State, TapId, Upload, bot};
use serde_json::{Map, Value, json};

/// Longest text and caption, in UTF-16 units after entities are parsed.
const MAX_TEXT: usize = 4096;
const MAX_CAPTION: usize = 1024;
/// Longest data of a button, in bytes.
const MAX_CALLBACK_DATA: usize = 64;
/// Most buttons of a message.
const MAX_BUTTONS: usize = 100;
/// Longest answer to a tap, in characters.
const MAX_ANSWER: usize = 200;

type Params = Map<String, Value>;

/// Calls a method other than getUpdates and sendDocument.
pub(crate) fn call(state: &mut State, method: &str, params: &Params) -> Result<Value, Refusal> {
    match method {
        "getMe" => {
            known(params, &[])?;
            Ok(bot())
        }
        "sendMessage" => send_message(state, params),
        "editMessageText" => edit_text(state, params),
        "editMessageReplyMarkup" => edit_markup(state, params),
        "answerCallbackQuery" => answer_tap(state, params),
        "deleteMessage" => delete(state, params),
        _ => Err((404, "Not Found: method not found".to_owned())),
    }
}

/// What a poll asks for.
pub(crate) struct Poll {
    pub(crate) offset: Option<i64>,
    pub(crate) limit: usize,
    pub(crate) timeout: u64,
    kinds: Option<Vec<String>>,
}

impl Poll {
    pub(crate) fn allows(&self, update: &Value) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| update.get(kind).is_some()))
    }
}

pub(crate) fn poll_params(params: &Params) -> Result<Poll, Refusal> {
    known(params, &["offset", "limit", "timeout", "allowed_updates"])?;
    let number = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| bad(&format!("{name} must be a number"))),
    };
    let limit = number("limit")?.unwrap_or(100);
    if !(1..=100).contains(&limit) {
        return Err(bad("limit is 1 to 100"));
    }
    let kinds = match params.get("allowed_updates") {
        None => None,
        Some(list) => Some(serde_json::from_value(list.clone()).map_err(|_| bad("allowed_updates is a list"))?),
    };
    Ok(Poll {
        offset: number("offset")?,
        limit: usize::try_from(limit).unwrap_or(100),
        timeout: u64::try_from(number("timeout")?.unwrap_or(0)).map_err(|_| bad("timeout is positive"))?,
        kinds,
    })
}

pub(crate) fn send_document(
    state: &mut State,
    fields: &Params,
    (file_name, bytes): (String, Vec<u8>),
) -> Result<Value, Refusal> {
    known(fields, &["chat_id", "caption", "parse_mode", "reply_parameters", "disable_notification"])?;
    let text = fields.get("chat_id").and_then(Value::as_str).ok_or_else(|| bad("chat_id is empty"))?;
    let chat = text.parse().map_err(|_| bad("chat not found"))?;
    let chat_json = state.chat(chat).ok_or_else(|| bad("chat not found"))?.clone();
    let caption = fields.get("caption").and_then(Value::as_str).unwrap_or_default();
    let mode = fields.get("parse_mode").and_then(Value::as_str);
    let (caption, entities) = rich(caption, mode)?;
    if caption.encode_utf16().count() > MAX_CAPTION {
        return Err(bad("message caption is too long"));
    }
    if bytes.is_empty() {
        return Err(bad("file must be non-empty"));
    }
    let id = state.next_message_id();
    let mut raw = state.bot_message(id, &chat_json);
    raw["document"] = json!({"file_id": format!("file{id}"), "file_unique_id": format!("u{id}"),
        "file_name": file_name, "file_size": bytes.len()});
    if !caption.is_empty() {
        raw["caption"] = json!(caption);
    }
    state.put(
        chat,
        ChatMessage {
            document: Some(file_name.clone()),
            ..message(id, &caption, &entities, Vec::new(), false, raw.clone())
        },
    );
    state.uploads.push(Upload { chat, file_name, caption, bytes });
    Ok(raw)
}

fn send_message(state: &mut State, params: &Params) -> Result<Value, Refusal> {
    known(
        params,
        &[
            "chat_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "disable_notification",
            "protect_content",
            "reply_parameters",
            "reply_markup",
        ],
    )?;
    let chat = chat_id(state, params)?;
    let (text, entities) = text(params)?;
    let markup = markup(params, true)?;
    check_preview(params)?;
    let chat_json = state.chat(chat).cloned().unwrap_or_default();
    let id = state.next_message_id();
    let mut raw = state.bot_message(id, &chat_json);
    raw["text"] = json!(text);
    describe(&mut raw, &entities, &markup);
    state.put(chat, message(id, &text, &entities, markup.buttons, markup.force_reply, raw.clone()));
    Ok(raw)
}

fn edit_text(state: &mut State, params: &Params) -> Result<Value, Refusal> {
    known(
        params,
        &["chat_id", "message_id", "text", "parse_mode", "entities", "link_preview_options", "reply_markup"],
    )?;
    let (chat, id) = own_message(state, params)?;
    let (text, entities) = text(params)?;
    let markup = markup(params, false)?;
    check_preview(params)?;
    let lax = state.lax;
    let Some(old) = state.message_mut(chat, id) else { return Err(bad("message to edit not found")) };
    let same = old.text == text && old.buttons == markup.buttons && old.entities == pairs(&entities);
    if same {
        return Err(not_modified());
    }
    let mut raw = old.raw.clone();
    raw["text"] = json!(text);
    describe(&mut raw, &entities, &markup);
    raw["edit_date"] = raw["date"].clone();
    let edits = old.edits + 1;
    *old = ChatMessage { edits, ..message(id, &text, &entities, markup.buttons, false, raw.clone()) };
    Ok(if lax { Value::Null } else { raw })
}

fn edit_markup(state: &mut State, params: &Params) -> Result<Value, Refusal> {
    known(params, &["chat_id", "message_id", "reply_markup"])?;
    let (chat, id) = own_message(state, params)?;
    let markup = markup(params, false)?;
    let lax = state.lax;
    let Some(old) = state.message_mut(chat, id) else { return Err(bad("message to edit not found")) };
    if old.buttons == markup.buttons {
        return Err(not_modified());
    }
    old.buttons = markup.buttons.clone();
    old.edits += 1;
    if markup.buttons.is_empty() {
        if let Some(fields) = old.raw.as_object_mut() {
            fields.remove("reply_markup");
        }
    } else {
        old.raw["reply_markup"] = markup.raw;
    }
    Ok(if lax { Value::Null } else { old.raw.clone() })
}

fn answer_tap(state: &mut State, params: &Params) -> Result<Value, Refusal> {
    known(params, &["callback_query_id", "text", "show_alert", "url", "cache_time"])?;
    let id = params.get("callback_query_id").and_then(Value::as_str).unwrap_or_default();
    let text = params.get("text").and_then(Value::as_str).map(str::to_owned);
    if text.as_ref().is_some_and(|t| t.chars().count() > MAX_ANSWER) {
        return Err(bad("MESSAGE_TOO_LONG"));
    }
    let id = TapId(id.to_owned());
    if !state.open_taps.remove(&id) {
        return Err(bad("query is too old and response timeout expired or query ID is invalid"));
    }
    state.answers.insert(id, text.filter(|t| !t.is_empty()));
    Ok(if state.lax { Value::Null } else { json!(true) })
}

fn delete(state: &mut State, params: &Params) -> Result<Value, Refusal> {
    known(params, &["chat_id", "message_id"])?;
    let chat = chat_id(state, params)?;
    let id = message_id(params)?;
    if !state.remove(chat, id) {
        return Err(bad("message to delete not found"));
    }
    Ok(if state.lax { Value::Null } else { json!(true) })
}

/// Inline buttons or a forced reply.
struct Markup {
    buttons: Vec<(String, String)>,
    force_reply: bool,
    raw: Value,
}

fn markup(params: &Params, may_force: bool) -> Result<Markup, Refusal> {
    let mut found = Markup { buttons: Vec::new(), force_reply: false, raw: Value::Null };
    let Some(given) = params.get("reply_markup") else { return Ok(found) };
    let fields = given.as_object().ok_or_else(|| bad("object expected as reply markup"))?;
    if fields.contains_key("force_reply") {
        known(fields, &["force_reply", "input_field_placeholder", "selective"])?;
        if !may_force || fields.get("force_reply") != Some(&json!(true)) {
            return Err(bad("reply markup must be inline here"));
        }
        found.force_reply = true;
        return Ok(found);
    }
    known(fields, &["inline_keyboard"])?;
    let rows =
        fields.get("inline_keyboard").and_then(Value::as_array).ok_or_else(|| bad("inline_keyboard is a list"))?;
    for row in rows {
        let row = row.as_array().ok_or_else(|| bad("a row is a list"))?;
        if row.is_empty() {
            return Err(bad("an empty row"));
        }
        for button in row {
            let fields = button.as_object().ok_or_else(|| bad("a button is an object"))?;
            known(fields, &["text", "callback_data"])?;
            let part = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
            if part("text").trim().is_empty() {
                return Err(bad("text buttons are not allowed to be empty"));
            }
            if !(1..=MAX_CALLBACK_DATA).contains(&part("callback_data").len()) {
                return Err(bad("BUTTON_DATA_INVALID"));
            }
            found.buttons.push((part("text").to_owned(), part("callback_data").to_owned()));
        }
    }
    if found.buttons.len() > MAX_BUTTONS {
        return Err(bad("REPLY_MARKUP_TOO_LONG"));
    }
    found.raw = given.clone();
    Ok(found)
}

fn text(params: &Params) -> Result<(String, Vec<Entity>), Refusal> {
    let text = params.get("text").ok_or_else(|| bad("message text is empty"))?;
    let text = text.as_str().ok_or_else(|| bad("text must be a string"))?;
    let mode = match params.get("parse_mode") {
        None => None,
        Some(mode) => Some(mode.as_str().ok_or_else(|| bad("parse_mode must be a string"))?),
    };
    let (text, entities) = rich(text, mode)?;
    if text.trim().is_empty() {
        return Err(bad("message text is empty"));
    }
    if text.encode_utf16().count() > MAX_TEXT {
        return Err(bad("message is too long"));
    }
    Ok((text, entities))
}

fn rich(text: &str, mode: Option<&str>) -> Result<(String, Vec<Entity>), Refusal> {
    match mode {
        None => Ok((text.to_owned(), Vec::new())),
        Some("HTML") => parse_html(text).map_err(|why| bad(&format!("can't parse entities: {why}"))),
        Some(_) => Err(bad("unsupported parse_mode")),
    }
}

fn describe(raw: &mut Value, entities: &[Entity], markup: &Markup) {
    let Some(fields) = raw.as_object_mut() else { return };
    fields.remove("entities");
    fields.remove("reply_markup");
    if !entities.is_empty() {
        let list: Vec<Value> =
            entities.iter().map(|e| json!({"type": e.kind, "offset": e.offset, "length": e.length})).collect();
        fields.insert("entities".to_owned(), Value::Array(list));
    }
    if !markup.buttons.is_empty() {
        fields.insert("reply_markup".to_owned(), markup.raw.clone());
    }
}

fn message(
    id: i32,
    text: &str,
    entities: &[Entity],
    buttons: Vec<(String, String)>,
    force_reply: bool,
    raw: Value,
) -> ChatMessage {
    ChatMessage {
        message_id: id,
        from: None,
        text: text.to_owned(),
        entities: pairs(entities),
        buttons,
        force_reply,
        edits: 0,
        document: None,
        raw,
    }
}

fn pairs(entities: &[Entity]) -> Vec<(String, String)> {
    entities.iter().map(|e| (e.kind.clone(), e.text.clone())).collect()
}

fn own_message(state: &State, params: &Params) -> Result<(i64, i32), Refusal> {
    let chat = chat_id(state, params)?;
    let id = message_id(params)?;
    match state.message(chat, id) {
        None => Err(bad("message to edit not found")),
        Some(message) if message.from.is_some() => Err(bad("message can't be edited")),
        Some(_) => Ok((chat, id)),
    }
}

fn chat_id(state: &State, params: &Params) -> Result<i64, Refusal> {
    let id = params.get("chat_id").and_then(Value::as_i64).ok_or_else(|| bad("chat_id is empty"))?;
    state.chat(id).map(|_| id).ok_or_else(|| bad("chat not found"))
}

fn message_id(params: &Params) -> Result<i32, Refusal> {
    let id = params.get("message_id").and_then(Value::as_i64);
    id.and_then(|id| i32::try_from(id).ok()).ok_or_else(|| bad("message identifier is not specified"))
}

fn check_preview(params: &Params) -> Result<(), Refusal> {
    let Some(options) = params.get("link_preview_options") else { return Ok(()) };
    let fields = options.as_object().ok_or_else(|| bad("link_preview_options is an object"))?;
    known(fields, &["is_disabled", "url", "prefer_small_media", "prefer_large_media", "show_above_text"])
}

/// Telegram passes over unknown fields; a test should not.
fn known(params: &Params, names: &[&str]) -> Result<(), Refusal> {
    match params.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => Err(bad(&format!("unknown field {key:?}"))),
        None => Ok(()),
    }
}

fn not_modified() -> Refusal {
    bad(
        "message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message",
    )
}

fn bad(what: &str) -> Refusal {
    (400, format!("Bad Request: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::new("1:t");
        state.add_chat(42, json!({"id": 42, "type": "private", "first_name": "U"}));
        state
    }

    fn refused(state: &mut State, method: &str, params: Value) -> String {
        call(state, method, params.as_object().unwrap()).unwrap_err().1
    }

    #[test]
    fn what_telegram_refuses_is_refused() {
        let mut state = state();
        let mut check = |method: &str, params: Value, why: &str| {
            let given = refused(&mut state, method, params);
            assert!(given.contains(why), "{given}");
        };
        check("sendMessage", json!({"chat_id": 7, "text": "x"}), "chat not found");
        check("sendMessage", json!({"chat_id": 42, "text": ""}), "text is empty");
        check("sendMessage", json!({"chat_id": 42, "text": "🔑".repeat(2049)}), "too long");
        check("sendMessage", json!({"chat_id": 42, "text": "<b>x", "parse_mode": "HTML"}), "can't parse entities");
        check("sendMessage", json!({"chat_id": 42, "text": "x", "bogus": 1}), "unknown field");
        let button = |data: &str| json!({"chat_id": 42, "text": "x", "reply_markup": {"inline_keyboard": [[{"text": "a", "callback_data": data}]]}});
        check("sendMessage", button(""), "BUTTON_DATA_INVALID");
        check("sendMessage", button(&"x".repeat(65)), "BUTTON_DATA_INVALID");
        check("editMessageText", json!({"chat_id": 42, "message_id": 9, "text": "x"}), "message to edit not found");
        check("deleteMessage", json!({"chat_id": 42, "message_id": 9}), "message to delete not found");
        check("answerCallbackQuery", json!({"callback_query_id": "9"}), "query is too old");
        check("setWebhook", json!({}), "method not found");
    }

    #[test]
    fn an_edit_must_change_something() {
        let mut state = state();
        let params = json!({"chat_id": 42, "text": "<b>x</b>", "parse_mode": "HTML"});
        let sent = call(&mut state, "sendMessage", params.as_object().unwrap()).unwrap();
        let mut edit = params;
        edit["message_id"] = sent["message_id"].clone();
        assert!(refused(&mut state, "editMessageText", edit.clone()).contains("message is not modified"));
        edit["text"] = json!("x");
        assert!(call(&mut state, "editMessageText", edit.as_object().unwrap()).is_ok());
    }

    #[test]
    fn markup_is_read_as_telegram_does() {
        let (text, entities) = parse_html("a &lt;<b>🔑x</b> <pre>y &amp; z</pre>").unwrap();
        assert_eq!(text, "a <🔑x y & z");
        let found: Vec<_> = entities.iter().map(|e| (e.kind.as_str(), e.offset, e.length, e.text.as_str())).collect();
        assert_eq!(found, [("bold", 3, 3, "🔑x"), ("pre", 7, 5, "y & z")]);
        for markup in
            ["<b>x", "x</b>", "<b>x</i>", "<script>x</script>", "a & b", "a > b", "<b></b>", "<code><b>x</b></code>"]
        {
            assert!(parse_html(markup).is_err(), "{markup}");
        }
    }
}
