//! What an agent may do with an API through the reverse proxy: which one, with which models, within which budget.

use crate::{AgentName, GrantId, Host, InvalidName, Rule, SecretName, SignInSetup, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of a provider or connection, in bytes.
const MAX_API_NAME_BYTES: usize = 64;
/// Longest name or pattern of a model, in bytes.
const MAX_MODEL_BYTES: usize = 256;
/// Most models that one grant names.
pub const MAX_MODELS: usize = 64;

/// One API of the proxy, written as its address begins: `v1/openai` for a provider that oauth3 knows, `api/crm` for a
/// connection that the owner defined.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiId(Arc<str>);

impl ApiId {
    /// A provider of the catalog.
    ///
    /// # Errors
    /// When the name is not 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit.
    pub fn provider(name: &str) -> Result<Self, InvalidName> {
        Self::parse(&format!("v1/{name}"))
    }

    /// A connection of the owner's.
    ///
    /// # Errors
    /// As [`ApiId::provider`].
    pub fn connection(name: &str) -> Result<Self, InvalidName> {
        Self::parse(&format!("api/{name}"))
    }

    /// Reads one as it is written.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = text.strip_prefix("v1/").or_else(|| text.strip_prefix("api/")).unwrap_or_default();
        let fine = (1..=MAX_API_NAME_BYTES).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if fine { Ok(Self(text.into())) } else { Err(InvalidName::Api) }
    }

    /// Whether it is a provider of the catalog, and not a connection.
    #[must_use]
    pub fn is_provider(&self) -> bool {
        self.0.starts_with("v1/")
    }

    /// The name alone.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ApiId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ApiId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ApiId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<ApiId> for String {
    fn from(id: ApiId) -> Self {
        id.as_str().to_owned()
    }
}

/// What came of trying one key of an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiCheck {
    /// The secret that holds the key; none where the API takes none.
    pub secret: Option<SecretName>,
    /// The HTTP status of the reply; neither this nor an error: nothing is known to try the key by.
    pub status: Option<u16>,
    /// Why there is no reply, in a sentence.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// Money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    /// In dollars, for people and for JSON.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "shown, not computed with")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The sum; the most there is when it does not fit.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if micros % 10_000 == 0 {
            write!(f, "${whole}.{:02}", micros / 10_000)
        } else {
            write!(f, "${whole}.{micros:06}")
        }
    }
}

impl FromStr for MicroUsd {
    type Err = InvalidName;

    /// Reads `2.50`, with or without a leading `$`; at most six digits after the point.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let text = text.strip_prefix('$').unwrap_or(text);
        let (whole, cents) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 9) || !digits(cents, 6) {
            return Err(InvalidName::Usd);
        }
        let micros = format!("{cents:0<6}").parse::<u64>().map_err(|_| InvalidName::Usd)?;
        let whole = whole.parse::<u64>().map_err(|_| InvalidName::Usd)?;
        Ok(Self(whole.saturating_mul(1_000_000).saturating_add(micros)))
    }
}

/// A model that may be used: its exact name, or the beginning of it followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelPattern(String);

impl ModelPattern {
    /// Whether it covers this model.
    #[must_use]
    pub fn covers(&self, model: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => self.0 == model,
        }
    }
}

impl FromStr for ModelPattern {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let star = text.find('*');
        let fine = (1..=MAX_MODEL_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
            && star.is_none_or(|at| at + 1 == text.len());
        if fine { Ok(Self(text.to_owned())) } else { Err(InvalidName::Model) }
    }
}

impl TryFrom<String> for ModelPattern {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ModelPattern> for String {
    fn from(pattern: ModelPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much of an API an agent may use. What is not set is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Calls within any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens, in and out together, within any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens, in and out together, on one day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Cost on one day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_day: Option<MicroUsd>,
    /// Cost over the whole life of the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_total: Option<MicroUsd>,
}

impl Budget {
    /// Whether money bounds it, so that a model without a price cannot be used.
    #[must_use]
    pub const fn needs_prices(&self) -> bool {
        self.usd_per_day.is_some() || self.usd_total.is_some()
    }
}

/// What an intent asks for when it is the use of an API, and not code to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The API.
    pub api: ApiId,
    /// The models that may be used; empty: any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<ModelPattern>,
    /// The requests that may be made, on the API's own host; empty: any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rules: BTreeSet<Rule>,
    /// How much.
    #[serde(default)]
    pub budget: Budget,
}

impl Access {
    /// Whether this model may be used.
    #[must_use]
    pub fn covers_model(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.covers(model))
    }

    /// Whether this request may be made. `path` is decoded, as [`Rule::allows`] wants it.
    #[must_use]
    pub fn covers_request(&self, host: &Host, method: &str, path: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.allows(host, method, path))
    }

    /// What the owner is shown and what is hashed as the code of such an intent: one line for each thing.
    #[must_use]
    pub fn described(&self, title: &str, base: &str) -> String {
        let list = |items: Vec<String>| if items.is_empty() { "any".to_owned() } else { items.join(", ") };
        let mut lines = vec![
            format!("API:      {title} ({})", self.api),
            format!("Address:  {base}"),
            format!("Models:   {}", list(self.models.iter().map(ToString::to_string).collect())),
        ];
        lines.extend(self.rules.iter().map(|rule| format!("Requests: {rule}")));
        let Budget { requests_per_minute, tokens_per_minute, tokens_per_day, usd_per_day, usd_total } = self.budget;
        let mut budget = Vec::new();
        budget.extend(requests_per_minute.map(|n| format!("{n} calls a minute")));
        budget.extend(tokens_per_minute.map(|n| format!("{n} tokens a minute")));
        budget.extend(tokens_per_day.map(|n| format!("{n} tokens a day")));
        budget.extend(usd_per_day.map(|usd| format!("{usd} a day")));
        budget.extend(usd_total.map(|usd| format!("{usd} in all")));
        let budget = if budget.is_empty() { "NO LIMIT".to_owned() } else { budget.join(", ") };
        lines.push(format!("Budget:   {budget}"));
        lines.join("\n") + "\n"
    }
}

/// One key that the proxy may use for an API, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The API.
    pub api: ApiId,
    /// The secret that holds the key.
    pub secret: SecretName,
    /// The only agent that it is for.
    pub agent: Option<AgentName>,
    /// The tag of the agents that it is for.
    pub tag: Option<Tag>,
    /// When it was assigned.
    pub created_at: Timestamp,
}

/// A word by which the owner groups agents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        AgentName::parse(text).map(|name| Self(name.into())).map_err(|_| InvalidName::Tag)
    }
}

impl TryFrom<String> for Tag {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an API expects its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPlace {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// `Authorization`, after another word.
    Scheme(String),
    /// A field of this name, in lower case.
    Header(String),
    /// A parameter of this name in the query.
    Query(String),
    /// Nowhere: it signs the request for this service and region of AWS (Signature Version 4).
    SigV4 {
        /// The service, as signatures name it: `bedrock`.
        service: String,
        /// The region, such as `us-east-1`.
        region: String,
    },
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Scheme(word) => write!(f, "scheme:{word}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::SigV4 { service, region } => write!(f, "sigv4:{service}:{region}"),
        }
    }
}

impl FromStr for KeyPlace {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let word = |name: &str| {
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            Some(("scheme", name)) if word(name) => Ok(Self::Scheme(name.to_owned())),
            Some(("header", name)) if word(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("query", name)) if word(name) => Ok(Self::Query(name.to_owned())),
            Some(("sigv4", names)) => match names.split_once(':') {
                Some((service, region)) if word(service) && word(region) => {
                    Ok(Self::SigV4 { service: service.to_owned(), region: region.to_owned() })
                }
                _ => Err(InvalidName::KeyPlace),
            },
            _ => Err(InvalidName::KeyPlace),
        }
    }
}

/// An HTTP API that the owner defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its name, `api/…`.
    pub api: ApiId,
    /// Where it is: `https://crm.example.com/rest`; no query, no credentials, no slash at the end.
    pub base_url: String,
    /// Where its key goes.
    pub place: KeyPlace,
    /// The requests that may be made at all; empty: any.
    pub rules: BTreeSet<Rule>,
    /// How its owner signs in; none when its key is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInSetup>,
    /// When it was defined.
    pub created_at: Timestamp,
}

/// What is known of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiInfo {
    /// What it is called, for people.
    pub title: String,
    /// Its address, for people.
    pub base: String,
    /// The host that it is at.
    pub host: Host,
}

/// Calls that were made, summed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Days since the Unix epoch, UTC.
    pub day: i64,
    /// Who called.
    pub agent: AgentName,
    /// What.
    pub api: ApiId,
    /// With which model; empty: none.
    pub model: String,
    /// Under which grant; none: a verdict of its own.
    pub grant_id: Option<GrantId>,
    /// How much.
    pub tally: Tally,
}

/// Sums over calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub calls: u64,
    /// Of those, how many the API did not answer with success.
    pub failed: u64,
    /// Of those, how many whose tokens are an estimate, for the API did not say.
    pub estimated: u64,
    /// Tokens of requests.
    pub tokens_in: u64,
    /// Tokens of replies.
    pub tokens_out: u64,
    /// What they cost, as far as a price is known.
    pub usd: MicroUsd,
    /// Time from request to the end of the reply, in milliseconds.
    pub millis: u64,
}

impl Tally {
    /// Adds another.
    pub const fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        self.estimated = self.estimated.saturating_add(other.estimated);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
        self.usd = self.usd.plus(other.usd);
        self.millis = self.millis.saturating_add(other.millis);
    }

    /// Tokens, in and out together.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_written_as_its_address_begins() {
        for (text, provider, name) in [("v1/openai", true, "openai"), ("api/my-crm.2", false, "my-crm.2")] {
            let id = ApiId::parse(text).unwrap();
            assert_eq!((id.is_provider(), id.name(), id.as_str()), (provider, name, text));
        }
        for text in ["openai", "v1/", "v1/Open", "v1/a/b", "v2/openai", "api/-x", "api/..", "v1/ä"] {
            assert!(ApiId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn money_is_read_and_written_exactly() {
        for (text, micros, shown) in
            [("2.5", 2_500_000, "$2.50"), ("$0.000001", 1, "$0.000001"), ("10", 10_000_000, "$10.00")]
        {
            let usd: MicroUsd = text.parse().unwrap();
            assert_eq!((usd.0, usd.to_string().as_str()), (micros, shown));
        }
        for text in ["", "-1", "1.", ".5", "1.0000001", "1e3", "9999999999", "1,5"] {
            assert!(text.parse::<MicroUsd>().is_err(), "{text}");
        }
    }

    #[test]
    fn models_are_covered_by_name_or_beginning() {
        let covers = |pattern: &str, model: &str| pattern.parse::<ModelPattern>().unwrap().covers(model);
        assert!(covers("gpt-4o", "gpt-4o") && !covers("gpt-4o", "gpt-4o-mini"));
        assert!(covers("gpt-4o*", "gpt-4o-mini") && covers("*", "x") && !covers("gpt-4o*", "gpt-4"));
        for text in ["", "a*b", "**", "a b"] {
            assert!(text.parse::<ModelPattern>().is_err(), "{text}");
        }
    }
}
