//! What a call asks for: the model and how much of it, read from the path and the body.
//!
//! The answer decides what is allowed and what it may cost, so anything that the provider could read in another
//! way is an error: keys that come twice or in another spelling, wrong types, broken text.

use crate::dialect::Dialect;
use crate::json::{Broken, Found, MAX_DEPTH, MAX_TEXT_BYTES, NO_UNICODE, Node, Scanner};
use crate::multipart;

/// Most further models of one call.
const MAX_FURTHER_MODELS: usize = 32;

/// Why a call was not understood. Fit for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Neither JSON nor a form.
    #[error("send the body as application/json or multipart/form-data, in UTF-8")]
    ContentType,
    /// No JSON.
    #[error("the body is no JSON from byte {0} on")]
    Syntax(u64),
    /// Not in UTF-8.
    #[error("the body is not in UTF-8")]
    Utf8,
    /// Nested too deep.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// A list, a string or the like.
    #[error("the body is no JSON object")]
    NoObject,
    /// The same key more than once.
    #[error("{0:?} is there more than once")]
    Twice(&'static str),
    /// A key that some servers take for another.
    #[error("the body has a key that can be mistaken for another one, such as Model for model")]
    Alike,
    /// A value of the wrong type.
    #[error("{0:?} must be {1}")]
    Type(&'static str, &'static str),
    /// Path and body, or query and body, disagree.
    #[error("the call names two models")]
    TwoModels,
    /// Too many of them.
    #[error("the call names more than {MAX_FURTHER_MODELS} further models")]
    ManyModels,
    /// A form that is not written as RFC 7578 says.
    #[error("the form is broken: {0}")]
    Form(&'static str),
}

/// What a call asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallInfo {
    /// The model. `None`: the call names none, so a list of allowed models does not allow it, unless it is one
    /// that only looks (see `method`).
    pub model: Option<String>,
    /// Models that the provider may use besides or instead: fallbacks, and models of tools.
    pub further_models: Vec<String>,
    /// The reply is a stream.
    pub streaming: bool,
    /// Most output tokens of one answer, when the call sets a limit.
    pub max_tokens: Option<u64>,
    /// How many answers are asked for, each of up to `max_tokens`.
    pub answers: Option<u64>,
    /// The call only counts tokens, and costs none.
    pub counts_only: bool,
}

/// Reads a call; see [`Dialect::read_call`].
pub(crate) fn read(
    dialect: Dialect,
    path: &str,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<CallInfo, CallError> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut call = CallInfo::default();
    let operation = path_model(dialect, path, &mut call)?;
    let counts = ["/messages/count_tokens", "/responses/input_tokens"].iter().any(|end| path.ends_with(end));
    call.counts_only = counts || (call.model.is_some() && matches!(operation, "countTokens" | "count-tokens"));
    call.streaming = operation.starts_with("stream") || operation.ends_with("stream");
    let in_query = query_model(query)?;
    if !body.is_empty() {
        let asked = match kind(content_type)? {
            Kind::Json => json(body)?,
            Kind::Form(boundary) => form(body, &boundary)?,
        };
        asked.into_call(dialect, &mut call)?;
    }
    if let Some(model) = in_query {
        if call.model.as_ref().is_some_and(|other| *other != model) {
            return Err(CallError::TwoModels);
        }
        call.model = Some(model);
    }
    Ok(call)
}

/// Takes the model from the path where the dialect has it there, and says what the path asks for.
fn path_model<'a>(dialect: Dialect, path: &'a str, call: &mut CallInfo) -> Result<&'a str, CallError> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let last = segments.clone().next_back().unwrap_or_default();
    match dialect {
        Dialect::Azure => {
            if segments.any(|segment| segment == "deployments") {
                call.model = segments.next().map(named).transpose()?;
            }
            Ok(last)
        }
        Dialect::Bedrock => {
            if segments.any(|segment| segment == "model") {
                call.model = segments.next().map(named).transpose()?;
            }
            Ok(last)
        }
        Dialect::Gemini => {
            let (name, operation) = last.rsplit_once(':').unwrap_or((last, ""));
            let kind = segments.rev().nth(1).unwrap_or_default();
            if !operation.is_empty() && (kind == "models" || kind == "tunedModels") {
                let name = named(name)?;
                call.model = Some(if kind == "models" { name } else { format!("{kind}/{name}") });
            }
            Ok(if operation.is_empty() { last } else { operation })
        }
        _ => Ok(last),
    }
}

/// The model in the query: OpenAI's realtime API has it there.
fn query_model(query: &str) -> Result<Option<String>, CallError> {
    let mut model = None;
    for pair in query.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if name == "model" {
            if model.replace(named(value)?).is_some() {
                return Err(CallError::Twice("model"));
            }
        } else if alike(&name, "model") {
            return Err(CallError::Alike);
        }
    }
    Ok(model)
}

/// The name of a model in a path or a query.
fn named(text: &str) -> Result<String, CallError> {
    let name = decode(text)?;
    checked_model(&name)?;
    Ok(name)
}

/// Decodes percent-encoding.
fn decode(text: &str) -> Result<String, CallError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
            let code = hex(bytes.next()).zip(hex(bytes.next())).map(|(high, low)| high * 16 + low);
            let code = code.and_then(|code| u8::try_from(code).ok());
            decoded.push(code.ok_or(CallError::Type("model", "percent-encoded text"))?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map_err(|_| CallError::Utf8)
}

enum Kind {
    Json,
    Form(String),
}

fn kind(content_type: Option<&str>) -> Result<Kind, CallError> {
    // As nearly all say it.
    let Some(content_type) = content_type.filter(|said| *said != "application/json") else { return Ok(Kind::Json) };
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let essence = essence.trim().to_ascii_lowercase();
    let (mut boundary, mut charset) = (None, None);
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"').to_owned();
        let slot = match name.trim().to_ascii_lowercase().as_str() {
            "boundary" => &mut boundary,
            "charset" => &mut charset,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(CallError::ContentType);
        }
    }
    if charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return Err(CallError::ContentType);
    }
    match (essence.as_str(), boundary) {
        ("multipart/form-data", Some(boundary)) => Ok(Kind::Form(boundary)),
        ("multipart/form-data", None) => Err(CallError::Form("its content type names no boundary")),
        (json, None) if json == "application/json" || json.ends_with("+json") => Ok(Kind::Json),
        _ => Err(CallError::ContentType),
    }
}

/// Where in a call something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    None,
    Root,
    Model,
    Stream,
    MaxTokens,
    MaxCompletion,
    MaxOutput,
    Answers,
    BestOf,
    Models,
    Fallbacks,
    Fallback,
    Tools,
    Tool,
    Requests,
    Request,
    Params,
    Further,
    Generation,
    Inference,
    /// A key that some servers take for a watched one.
    Alike,
}

/// What each key of an object is called and leads to.
const KEYS: &[(Place, &str, Place)] = &[
    (Place::Root, "model", Place::Model),
    (Place::Root, "stream", Place::Stream),
    (Place::Root, "max_tokens", Place::MaxTokens),
    (Place::Root, "max_completion_tokens", Place::MaxCompletion),
    (Place::Root, "max_output_tokens", Place::MaxOutput),
    (Place::Root, "n", Place::Answers),
    (Place::Root, "best_of", Place::BestOf),
    // OpenRouter's fallbacks, and LiteLLM's.
    (Place::Root, "models", Place::Models),
    (Place::Root, "fallbacks", Place::Fallbacks),
    (Place::Fallback, "model", Place::Further),
    (Place::Root, "tools", Place::Tools),
    (Place::Tool, "model", Place::Further),
    (Place::Root, "requests", Place::Requests),
    (Place::Request, "model", Place::Further),
    // Anthropic's batches.
    (Place::Request, "params", Place::Params),
    (Place::Params, "model", Place::Further),
    // Gemini takes both spellings.
    (Place::Root, "generationConfig", Place::Generation),
    (Place::Root, "generation_config", Place::Generation),
    (Place::Generation, "maxOutputTokens", Place::MaxOutput),
    (Place::Generation, "max_output_tokens", Place::MaxOutput),
    (Place::Generation, "candidateCount", Place::Answers),
    (Place::Generation, "candidate_count", Place::Answers),
    // Bedrock's converse.
    (Place::Root, "inferenceConfig", Place::Inference),
    (Place::Inference, "maxTokens", Place::MaxTokens),
];

impl Node for Place {
    const ROOT: Self = Self::Root;
    const NONE: Self = Self::None;

    fn step(self, key: Option<&[u8]>) -> Self {
        let Some(key) = key else {
            return match self {
                Self::Models => Self::Further,
                Self::Fallbacks => Self::Fallback,
                Self::Tools => Self::Tool,
                Self::Requests => Self::Request,
                _ => Self::None,
            };
        };
        let keys = || KEYS.iter().filter(|(of, _, _)| *of == self);
        if let Some((_, _, to)) = keys().find(|(_, name, _)| name.as_bytes() == key) {
            return *to;
        }
        let may_be_one = || match std::str::from_utf8(key) {
            Ok(text) if key != NO_UNICODE => keys().any(|(_, name, _)| alike(name, text)),
            _ => true,
        };
        if keys().next().is_some() && may_be_one() { Self::Alike } else { Self::None }
    }
}

impl Place {
    /// Whether a body may have several of it.
    fn repeats(self) -> bool {
        matches!(self, Self::Root | Self::Further | Self::Fallback | Self::Tool | Self::Request | Self::Params)
    }
}

/// Whether the most lenient reader takes one key for the other: letters and digits, in one case. Unicode folds two more
/// characters to ASCII letters, and some JSON readers compare keys so.
fn alike(one: &str, other: &str) -> bool {
    folded(one).eq(folded(other))
}

fn folded(key: &str) -> impl Iterator<Item = char> {
    let plain = key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    plain.filter(char::is_ascii_alphanumeric)
}

/// What a body asks for.
#[derive(Debug, Default)]
struct Asked {
    object: bool,
    /// Places that were there.
    seen: Vec<Place>,
    model: Option<String>,
    further: Vec<String>,
    stream: bool,
    /// The largest of the limits that are there.
    max_tokens: Option<u64>,
    answers: Option<u64>,
}

impl Asked {
    fn take(&mut self, place: Place, found: Found<'_>) -> Result<(), CallError> {
        if !place.repeats() {
            if self.seen.contains(&place) {
                return Err(CallError::Twice(name(place)));
            }
            self.seen.push(place);
        }
        let wrong = |must: &'static str| CallError::Type(name(place), must);
        match (place, found) {
            (Place::Alike, _) => return Err(CallError::Alike),
            (Place::Root, found) => {
                self.object = found == Found::Object;
                if !self.object {
                    return Err(CallError::NoObject);
                }
            }
            (Place::Model, found) => self.model = Some(model(found, place)?),
            (Place::Fallback, Found::Object) => {}
            (Place::Further | Place::Fallback, found) => {
                if self.further.len() == MAX_FURTHER_MODELS {
                    return Err(CallError::ManyModels);
                }
                self.further.push(model(found, place)?);
            }
            (Place::Stream, Found::Bool(stream)) => self.stream = stream,
            (_, Found::Null) => {}
            (Place::Stream, _) => return Err(wrong("true or false")),
            (Place::Models | Place::Fallbacks, found) if found != Found::Array => {
                return Err(wrong("a list of models"));
            }
            (Place::Generation | Place::Inference, found) if found != Found::Object => {
                return Err(wrong("an object"));
            }
            (Place::MaxTokens | Place::MaxCompletion | Place::MaxOutput, found) => {
                self.max_tokens = self.max_tokens.max(Some(count(found, place)?));
            }
            (Place::Answers | Place::BestOf, found) => self.answers = self.answers.max(Some(count(found, place)?)),
            _ => {}
        }
        Ok(())
    }

    fn into_call(mut self, dialect: Dialect, call: &mut CallInfo) -> Result<(), CallError> {
        if dialect == Dialect::Gemini {
            let plain = |model: String| model.strip_prefix("models/").map_or(model.clone(), str::to_owned);
            self.model = self.model.map(plain);
            self.further = self.further.into_iter().map(plain).collect();
        }
        match (&call.model, self.model) {
            (None, model) => call.model = model,
            // A deployment has a name of its own, and Azure goes by the path.
            (Some(_), _) if dialect == Dialect::Azure => {}
            (Some(path), Some(body)) if *path != body => return Err(CallError::TwoModels),
            (Some(_), _) => {}
        }
        self.further.retain(|further| call.model.as_ref() != Some(further));
        self.further.dedup();
        call.further_models = self.further;
        call.streaming |= self.stream;
        call.max_tokens = self.max_tokens;
        call.answers = self.answers;
        Ok(())
    }
}

fn name(place: Place) -> &'static str {
    if matches!(place, Place::Further | Place::Fallback) {
        return "model";
    }
    KEYS.iter().find(|(_, _, to)| *to == place).map_or("body", |(_, name, _)| name)
}

fn model(found: Found<'_>, place: Place) -> Result<String, CallError> {
    let Found::Text(Some(model), _) = found else {
        return Err(CallError::Type(name(place), "a string of at most 256 bytes"));
    };
    checked_model(model).map(str::to_owned)
}

/// A model's name has no control characters, and is not empty.
fn checked_model(model: &str) -> Result<&str, CallError> {
    if model.is_empty() || model.len() > MAX_TEXT_BYTES || model.chars().any(char::is_control) {
        return Err(CallError::Type("model", "the name of a model, of at most 256 bytes"));
    }
    Ok(model)
}

fn count(found: Found<'_>, place: Place) -> Result<u64, CallError> {
    let Found::Number(Some(number)) = found else { return Err(CallError::Type(name(place), "a whole number")) };
    number.parse().map_err(|_| CallError::Type(name(place), "a whole number"))
}

fn json(body: &[u8]) -> Result<Asked, CallError> {
    // Readers that leave out or replace what is no UTF-8 would see other keys than this one.
    std::str::from_utf8(body).map_err(|_| CallError::Utf8)?;
    let mut asked = Asked::default();
    let mut wrong = None;
    let mut take = |place, found: Found<'_>| {
        if wrong.is_none() {
            wrong = asked.take(place, found).err();
        }
    };
    let mut scanner = Scanner::<Place>::new(false);
    let read = scanner.push(body, &mut take).and_then(|()| scanner.end(&mut take));
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    match read {
        Ok(()) => Ok(asked),
        Err(Broken::Deep) => Err(CallError::Deep),
        Err(Broken::Syntax(at)) => Err(CallError::Syntax(at)),
    }
}

fn form(body: &[u8], boundary: &str) -> Result<Asked, CallError> {
    let mut asked = Asked { object: true, ..Asked::default() };
    multipart::read(body, boundary, |field, value| {
        let text = || std::str::from_utf8(value).map_err(|_| CallError::Utf8);
        match field {
            "model" => {
                let before = asked.model.replace(checked_model(text()?)?.to_owned());
                before.map_or(Ok(()), |_| Err(CallError::Twice("model")))?;
            }
            "stream" => match text()? {
                "true" | "True" | "1" => asked.stream = true,
                "false" | "False" | "0" | "" => {}
                _ => return Err(CallError::Type("stream", "true or false")),
            },
            other if alike(other, "model") || alike(other, "stream") => return Err(CallError::Alike),
            _ => {}
        }
        Ok(())
    })?;
    Ok(asked)
}
