//! What a call used, read from its reply as the bytes pass.
//!
//! Usage is known by its shape, not by the provider: many of them answer in more than one dialect, and the
//! names do not collide. Sources: OpenAI API reference (chat completions, responses, embeddings), Anthropic
//! Messages API (streaming, prompt caching), Gemini API (`UsageMetadata`), Amazon Bedrock (`TokenUsage`),
//! Cohere v2 chat (`billed_units`), and the documented differences of others.

use crate::json::{Found, Node, Scanner};
use crate::sse::{EventStream, Part, Sse};

/// Bytes of text that one token is taken for where a reply names no tokens. English has about four, scripts
/// of three bytes a character at most one token for each, so this errs on the high side for both.
const BYTES_PER_ESTIMATED_TOKEN: u64 = 3;
/// More tokens than this in one number of a reply are an error of the provider, and the number is ignored.
const MAX_TOKENS: u64 = 1_000_000_000_000;

/// What one call used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model as the reply names it.
    pub model: Option<String>,
    /// Input tokens, all of them: read from a cache, written to one, or neither.
    pub tokens_in: u64,
    /// Output tokens, hidden reasoning included.
    pub tokens_out: u64,
    /// Those of `tokens_in` that were read from a cache.
    pub cached_in: u64,
    /// Those of `tokens_in` that were written to a cache.
    pub cache_written: u64,
    /// Those of `cache_written` that are kept for an hour, which costs more.
    pub cache_written_hour: u64,
    /// At least one of the numbers is an estimate: see [`UsageMeter::finish`].
    pub estimated: bool,
}

impl Usage {
    /// Sets the input of a reply that did not name it, from the bytes of the request's body: a token for every
    /// three, rounded up. Does nothing where the reply named its input, or was an error.
    #[must_use]
    pub fn with_request_bytes(mut self, bytes: u64) -> Self {
        if self.estimated && self.tokens_in == 0 {
            self.tokens_in = bytes.div_ceil(BYTES_PER_ESTIMATED_TOKEN);
        }
        self
    }
}

/// Watches a reply. Its memory does not grow with the reply.
#[derive(Debug)]
pub struct UsageMeter {
    framing: Framing,
    scanner: Scanner<Place>,
    tally: Tally,
    /// Bytes of the reply.
    bytes: u64,
}

#[derive(Debug)]
enum Framing {
    /// One JSON text, or one a line.
    Json,
    Sse(Sse),
    EventStream(EventStream),
    /// Text that nothing is known about.
    Opaque,
    /// Nothing that has tokens.
    Nothing,
}

impl UsageMeter {
    /// For a reply of this type and status. Replies other than 2xx used nothing.
    pub(crate) fn new(content_type: Option<&str>, status: u16) -> Self {
        let essence = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        let framing = match essence.as_str() {
            _ if !(200..300).contains(&status) => Framing::Nothing,
            "text/event-stream" => Framing::Sse(Sse::default()),
            "application/vnd.amazon.eventstream" => Framing::EventStream(EventStream::default()),
            json if json.ends_with("json") || json.ends_with("jsonl") => Framing::Json,
            text if text.starts_with("text/") => Framing::Opaque,
            // Sound and pictures are not paid for by the tokens of their bytes.
            _ => Framing::Nothing,
        };
        let estimate = (200..300).contains(&status);
        let scanner = Scanner::new(matches!(framing, Framing::Json));
        Self { framing, scanner, tally: Tally { estimate, ..Tally::default() }, bytes: 0 }
    }

    /// For replies that use nothing, whatever they are.
    pub(crate) fn nothing() -> Self {
        Self { framing: Framing::Nothing, scanner: Scanner::new(false), tally: Tally::default(), bytes: 0 }
    }

    /// The next bytes of the reply's body, decoded (no `content-encoding`), in any pieces.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let (scanner, tally) = (&mut self.scanner, &mut self.tally);
        // What is no JSON, such as `[DONE]`, tells nothing; the next event is read again.
        let mut part = |part: Part<'_>| match part {
            Part::Bytes(bytes) => {
                let _no_json = scanner.push(bytes, |place, found| tally.take(place, found));
            }
            Part::End => scanner.reset(),
        };
        match &mut self.framing {
            Framing::Json => part(Part::Bytes(bytes)),
            Framing::Sse(sse) => sse.push(bytes, part),
            Framing::EventStream(stream) => stream.push(bytes, part),
            Framing::Opaque | Framing::Nothing => {}
        }
    }

    /// What was used, when the reply is over or was cut.
    ///
    /// Where the reply named no output tokens (a stream of OpenAI's without `include_usage`, a stream that was
    /// cut), they are estimated: one for every three bytes of generated text, and at least one for every piece
    /// of it; where no text was recognised, one for every three bytes of the reply. Reasoning that the reply
    /// does not show cannot be estimated, so a proxy asks for usage where the provider can send it. Input that
    /// was not named is zero until [`Usage::with_request_bytes`].
    #[must_use]
    pub fn finish(mut self) -> Usage {
        let tally = &mut self.tally;
        let _cut = self.scanner.end(|place, found| tally.take(place, found));
        let one_json = matches!(self.framing, Framing::Json);
        let text = match self.framing {
            Framing::Nothing => 0,
            _ if self.tally.pieces == 0 => self.bytes.div_ceil(BYTES_PER_ESTIMATED_TOKEN),
            _ => self.tally.text.div_ceil(BYTES_PER_ESTIMATED_TOKEN).max(self.tally.pieces),
        };
        self.tally.usage(one_json, text)
    }
}

/// Where in a reply something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    None,
    Root,
    Model,
    /// The whole reply inside an event of OpenAI's responses, or Groq's addition to a chunk.
    Envelope,
    /// Anthropic's `message_start`, and the message of others.
    Message,
    Delta,
    Choices,
    Choice,
    /// Generated: every string in it counts.
    Text,
    Usage,
    /// As [`Place::Usage`], at the start of a stream: its output is not the last word.
    StartUsage,
    Metadata,
    Details,
    Creation,
    Prompt,
    Completion,
    Total,
    Input,
    Output,
    StartOutput,
    Thoughts,
    ToolPrompt,
    Cached,
    CacheRead,
    CacheWrite,
    CacheWriteHour,
}

impl Node for Place {
    const ROOT: Self = Self::Root;
    const NONE: Self = Self::None;

    fn step(self, key: Option<&[u8]>) -> Self {
        let Some(key) = key else {
            return match self {
                // Gemini streams an array of replies where nobody asked for events.
                Self::Root => Self::Root,
                Self::Choices => Self::Choice,
                Self::Text => Self::Text,
                _ => Self::None,
            };
        };
        match (self, key) {
            (Self::Text, _) => Self::Text,
            // The kind of a piece, which is not generated.
            (Self::Delta, b"type") => Self::None,
            (Self::Root | Self::Envelope | Self::Message, b"model" | b"modelVersion") => Self::Model,
            (Self::Message, b"usage") => Self::StartUsage,
            (Self::Root | Self::Envelope | Self::Delta | Self::Choice, b"usage") => Self::Usage,
            (Self::Root | Self::Envelope, b"usageMetadata") => Self::Metadata,
            (Self::Root, b"response" | b"x_groq") => Self::Envelope,
            (Self::Root, b"message") => Self::Message,
            (Self::Root, b"delta") => Self::Delta,
            (Self::Root, b"choices") => Self::Choices,
            // Cohere's first API, and Ollama's own.
            (Self::Root, b"meta") => Self::Usage,
            (Self::Root, b"prompt_eval_count") => Self::Prompt,
            (Self::Root, b"eval_count") => Self::Completion,
            (Self::Root, b"candidates" | b"content" | b"output" | b"bytes")
            | (Self::Choice, b"delta" | b"message" | b"text")
            | (Self::Message, b"content")
            | (Self::Delta, _) => Self::Text,
            (Self::StartUsage, b"output_tokens") => Self::StartOutput,
            (Self::Usage | Self::StartUsage, _) => usage(key),
            (Self::Metadata, _) => match key {
                b"promptTokenCount" => Self::Prompt,
                b"candidatesTokenCount" => Self::Completion,
                b"thoughtsTokenCount" => Self::Thoughts,
                b"toolUsePromptTokenCount" => Self::ToolPrompt,
                b"cachedContentTokenCount" => Self::Cached,
                _ => Self::None,
            },
            (Self::Details, b"cached_tokens") => Self::Cached,
            (Self::Details, b"cache_write_tokens" | b"cache_creation_tokens") => Self::CacheWrite,
            (Self::Creation, b"ephemeral_1h_input_tokens") => Self::CacheWriteHour,
            _ => Self::None,
        }
    }
}

fn usage(key: &[u8]) -> Place {
    match key {
        b"prompt_tokens" => Place::Prompt,
        b"completion_tokens" => Place::Completion,
        b"total_tokens" => Place::Total,
        b"input_tokens" | b"inputTokens" => Place::Input,
        b"output_tokens" | b"outputTokens" => Place::Output,
        b"prompt_tokens_details" | b"input_tokens_details" => Place::Details,
        // DeepSeek's and Moonshot's own names.
        b"prompt_cache_hit_tokens" | b"cached_tokens" => Place::Cached,
        b"cache_read_input_tokens" | b"cacheReadInputTokens" => Place::CacheRead,
        b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => Place::CacheWrite,
        b"cache_creation" => Place::Creation,
        b"billed_units" => Place::Usage,
        _ => Place::None,
    }
}

/// The largest number at each place: what a stream says more than once is a running sum.
#[derive(Debug, Default)]
struct Tally {
    model: Option<String>,
    /// Whether to estimate what was not named.
    estimate: bool,
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    input: Option<u64>,
    output: Option<u64>,
    start_output: Option<u64>,
    thoughts: Option<u64>,
    tool_prompt: Option<u64>,
    cached: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_hour: Option<u64>,
    /// Details came: what was cached is a part of the input, as OpenAI counts, and not beside it.
    details: bool,
    /// Bytes and pieces of generated text.
    text: u64,
    pieces: u64,
}

impl Tally {
    fn take(&mut self, place: Place, found: Found<'_>) {
        let number = match (place, found) {
            (Place::Model, Found::Text(Some(model), _)) => {
                self.model = Some(model.to_owned());
                return;
            }
            (Place::Text | Place::Delta, Found::Text(_, bytes)) => {
                self.text = self.text.saturating_add(bytes);
                self.pieces += u64::from(bytes > 0);
                return;
            }
            (Place::Details, Found::Object) => {
                self.details = true;
                return;
            }
            (_, Found::Number(Some(number))) => tokens(number),
            _ => return,
        };
        let slot = match place {
            Place::Prompt => &mut self.prompt,
            Place::Completion => &mut self.completion,
            Place::Total => &mut self.total,
            Place::Input => &mut self.input,
            Place::Output => &mut self.output,
            Place::StartOutput => &mut self.start_output,
            Place::Thoughts => &mut self.thoughts,
            Place::ToolPrompt => &mut self.tool_prompt,
            Place::Cached => &mut self.cached,
            Place::CacheRead => &mut self.cache_read,
            Place::CacheWrite => &mut self.cache_write,
            Place::CacheWriteHour => &mut self.cache_write_hour,
            _ => return,
        };
        *slot = number.max(*slot);
    }

    fn usage(self, one_json: bool, text: u64) -> Usage {
        let (read, write) = (self.cache_read.unwrap_or(0), self.cache_write.unwrap_or(0));
        let named_in = match (self.prompt, self.input) {
            (Some(prompt), _) => Some(prompt + self.tool_prompt.unwrap_or(0)),
            (None, Some(input)) if self.details => Some(input),
            // Anthropic and Bedrock count what was cached beside the rest.
            (None, Some(input)) => Some(input + read + write),
            (None, None) => None,
        };
        let said = self.completion.or(self.output);
        let named_out = match (said, self.thoughts) {
            (None, None) => None,
            (said, thoughts) => Some(said.unwrap_or(0) + thoughts.unwrap_or(0)),
        };
        // Some leave hidden reasoning out of the completion but not out of the total.
        let in_total = self.total.zip(named_in).map_or(0, |(total, named_in)| total.saturating_sub(named_in));
        // Embeddings have an input and no output, and that is all of it.
        let whole = named_out.is_some() || (one_json && named_in.is_some());
        let estimate = self.estimate && (!whole || named_in.is_none());
        let tokens_out = match named_out {
            Some(out) => out.max(in_total),
            None if self.estimate && !whole => text.max(self.start_output.unwrap_or(0)),
            None => in_total,
        };
        let tokens_in = named_in.unwrap_or(0);
        let cached_in = self.cached.unwrap_or(0).max(read).min(tokens_in);
        let cache_written = write.min(tokens_in - cached_in);
        Usage {
            model: self.model,
            tokens_in,
            tokens_out,
            cached_in,
            cache_written,
            cache_written_hour: self.cache_write_hour.unwrap_or(0).min(cache_written),
            estimated: estimate,
        }
    }
}

/// A whole number of tokens; Cohere writes them with a fraction.
fn tokens(number: &str) -> Option<u64> {
    let whole = number.parse::<u64>().ok().or_else(|| {
        let float: f64 = number.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        (0.0..=1e12).contains(&float).then(|| float.ceil() as u64)
    });
    whole.filter(|tokens| *tokens <= MAX_TOKENS)
}
