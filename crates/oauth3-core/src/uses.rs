//! How a secret may be used: where its value goes, for which requests, and in which form.

use crate::{Host, Rule};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Most rules of one secret.
pub const MAX_RULES: usize = 64;
/// Most claims of one JWT, besides its times.
const MAX_CLAIMS: usize = 16;
/// Longest name or value of a claim, in bytes.
const MAX_CLAIM_BYTES: usize = 256;
/// Shortest and longest life of a JWT, in seconds (10 s to 1 h).
const JWT_LIFETIME_SECONDS: std::ops::RangeInclusive<u32> = 10..=3600;
/// Life of a JWT that nobody chose, in seconds: below the 10 minutes that GitHub takes.
pub const DEFAULT_JWT_LIFETIME_SECONDS: u32 = 540;
/// Where the time of a signature stands that nobody chose.
pub const DEFAULT_TIMESTAMP_HEADER: &str = "x-timestamp";
/// Longest name of a header field in a binding, in bytes.
const MAX_FIELD_NAME_BYTES: usize = 64;

/// A part of a request that a value may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Values of header fields, and user or password of Basic credentials.
    Header,
    /// Values of the query.
    Query,
    /// Segments of the path.
    Path,
    /// The body.
    Body,
}

/// Whether code gets the value itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveal {
    /// Never: it gets a placeholder.
    #[default]
    Never,
    /// Yes, and each request is approved by itself: no standing grant covers it.
    Once,
    /// Yes, also under standing grants, because the owner said so for this secret.
    Standing,
}

/// What a JWT is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JwtAlgorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// HMAC with SHA-256.
    Hs256,
}

/// What an HMAC is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HmacOver {
    /// The body.
    #[serde(rename = "body")]
    Body,
    /// A time, a full stop, and the body.
    #[serde(rename = "timestamp.body")]
    TimestampBody,
    /// The query without the signature's own parameter.
    #[serde(rename = "query")]
    Query,
}

/// How an HMAC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HmacEncoding {
    /// Lower-case hex.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// What takes the placeholder's place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The value.
    #[default]
    Value,
    /// The request is signed anew with AWS Signature Version 4; the value is `AKID:SECRET[:SESSION]`.
    AwsSigv4,
    /// An HMAC over the request; the value is its key.
    HmacSha256 {
        /// Over what.
        over: HmacOver,
        /// Written how.
        encoding: HmacEncoding,
        /// The field that holds the time, in lower case; set by the keeper when the code did not.
        timestamp_header: String,
    },
    /// A JWT that lives for a few minutes; the value is its key, PEM or (HS256) the bytes.
    Jwt {
        /// Signed how.
        algorithm: JwtAlgorithm,
        /// Its claims besides `iat` and `exp`.
        claims: BTreeMap<String, String>,
        /// How long it is good, in seconds.
        lifetime_seconds: u32,
    },
}

/// How a secret may be used, besides its hosts. Sealed together with the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Uses {
    /// Where its value may stand; a placeholder anywhere else stays one.
    pub slots: BTreeSet<Slot>,
    /// The requests that it may be used for. Empty: all toward its hosts.
    pub rules: BTreeSet<Rule>,
    /// What takes the placeholder's place.
    pub kind: Kind,
    /// Whether code gets the value itself.
    pub reveal: Reveal,
}

/// What the owner wants changed of a secret's [`Uses`]; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsesChange {
    /// Slots instead of those it has.
    pub slots: Option<BTreeSet<Slot>>,
    /// Rules instead of those it has.
    pub rules: Option<BTreeSet<Rule>>,
    /// Another kind.
    pub kind: Option<Kind>,
    /// Another answer to whether code gets it.
    pub reveal: Option<Reveal>,
}

impl Slot {
    const ALL: [Self; 4] = [Self::Header, Self::Query, Self::Path, Self::Body];

    /// The name that the outside uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Query => "query",
            Self::Path => "path",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Slot {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|slot| slot.as_str() == text).ok_or("a slot is header, query, path or body")
    }
}

impl Reveal {
    /// Whether code gets the value.
    #[must_use]
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Never)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Once => "once",
            Self::Standing => "standing",
        }
    }
}

impl JwtAlgorithm {
    /// The name in a JWT's head (RFC 7518 §3.1).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Hs256 => "HS256",
        }
    }
}

impl HmacOver {
    /// The name that the outside uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::TimestampBody => "timestamp.body",
            Self::Query => "query",
        }
    }
}

impl FromStr for HmacOver {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Body, Self::TimestampBody, Self::Query]
            .into_iter()
            .find(|over| over.as_str() == text)
            .ok_or("an HMAC is taken over body, timestamp.body or query")
    }
}

impl HmacEncoding {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

impl FromStr for HmacEncoding {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Hex, Self::Base64].into_iter().find(|e| e.as_str() == text).ok_or("an HMAC is written as hex or base64")
    }
}

impl Kind {
    /// The name that the outside uses.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::AwsSigv4 => "aws-sigv4",
            Self::HmacSha256 { .. } => "hmac-sha256",
            Self::Jwt { algorithm: JwtAlgorithm::Rs256, .. } => "jwt-rs256",
            Self::Jwt { algorithm: JwtAlgorithm::Es256, .. } => "jwt-es256",
            Self::Jwt { algorithm: JwtAlgorithm::Hs256, .. } => "jwt-hs256",
        }
    }

    /// The slots of a secret of this kind that nobody chose any for.
    #[must_use]
    pub fn default_slots(&self) -> BTreeSet<Slot> {
        match self {
            Self::AwsSigv4 => [Slot::Header, Slot::Query].into(),
            _ => [Slot::Header].into(),
        }
    }

    fn parts(&self) -> Vec<String> {
        match self {
            Self::Value | Self::AwsSigv4 => Vec::new(),
            Self::HmacSha256 { over, encoding, timestamp_header } => {
                vec![over.as_str().into(), encoding.as_str().into(), timestamp_header.clone()]
            }
            Self::Jwt { algorithm: _, claims, lifetime_seconds } => {
                let claims = claims.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
                std::iter::once(lifetime_seconds.to_string()).chain(claims).collect()
            }
        }
    }

    fn check(&self, slots: &BTreeSet<Slot>) -> Result<(), String> {
        match self {
            Self::Value => Ok(()),
            Self::AwsSigv4 if *slots != self.default_slots() => {
                Err("an AWS signature stands in a header or the query; leave the slots out".into())
            }
            Self::AwsSigv4 => Ok(()),
            Self::HmacSha256 { over, timestamp_header, .. } => {
                let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if slots.contains(&Slot::Path) || slots.contains(&Slot::Body) {
                    Err("an HMAC stands in a header or the query".into())
                } else if *over == HmacOver::Query && slots.contains(&Slot::Header) && slots.len() > 1 {
                    Err("an HMAC over the query stands in a header or in the query, not in both".into())
                } else if !(1..=MAX_FIELD_NAME_BYTES).contains(&timestamp_header.len())
                    || !timestamp_header.bytes().all(fine)
                {
                    Err("the field of the time is a header's name such as x-timestamp".into())
                } else {
                    Ok(())
                }
            }
            Self::Jwt { claims, lifetime_seconds, .. } => {
                let fine =
                    |text: &String| (1..=MAX_CLAIM_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
                if !JWT_LIFETIME_SECONDS.contains(lifetime_seconds) {
                    Err(format!(
                        "a JWT lives {} to {} seconds",
                        JWT_LIFETIME_SECONDS.start(),
                        JWT_LIFETIME_SECONDS.end()
                    ))
                } else if claims.len() > MAX_CLAIMS || !claims.iter().all(|(name, value)| fine(name) && fine(value)) {
                    Err(format!("a JWT has at most {MAX_CLAIMS} claims of at most {MAX_CLAIM_BYTES} bytes"))
                } else if claims.keys().any(|name| name == "iat" || name == "exp" || name == "nbf") {
                    Err("the times of a JWT are set when it is made".into())
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl Default for Uses {
    /// The value in headers, toward everything at its hosts, never revealed.
    fn default() -> Self {
        let kind = Kind::default();
        Self { slots: kind.default_slots(), rules: BTreeSet::new(), kind, reveal: Reveal::Never }
    }
}

impl Uses {
    /// Whether these are the uses that a secret has that nobody chose any for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// With a change of the owner's.
    #[must_use]
    pub fn changed(&self, change: &UsesChange) -> Self {
        let kind = change.kind.clone().unwrap_or_else(|| self.kind.clone());
        let kept = if kind.name() == self.kind.name() { self.slots.clone() } else { kind.default_slots() };
        Self {
            slots: change.slots.clone().unwrap_or(kept),
            rules: change.rules.clone().unwrap_or_else(|| self.rules.clone()),
            reveal: change.reveal.unwrap_or(self.reveal),
            kind,
        }
    }

    /// Whether they make sense for a secret that is bound to these hosts.
    ///
    /// # Errors
    /// A sentence for the owner when they do not.
    pub fn check(&self, hosts: &BTreeSet<Host>) -> Result<(), String> {
        if self.slots.is_empty() {
            return Err("name at least one slot: header, query, path or body".into());
        }
        if self.rules.len() > MAX_RULES {
            return Err(format!("a secret has at most {MAX_RULES} rules"));
        }
        if let Some(rule) = self.rules.iter().find(|rule| !hosts.contains(rule.host())) {
            return Err(format!("a rule names {}, which the secret is not bound to; bind it too", rule.host()));
        }
        let ruled = |host: &&Host| self.rules.iter().any(|rule| rule.host() == *host);
        if let Some(host) = hosts.iter().find(|host| !self.rules.is_empty() && !ruled(host)) {
            return Err(format!("there are rules, and none for {host}, so nothing there would be allowed; add one"));
        }
        if self.reveal.is_on() && self.kind != Kind::Value {
            return Err("code never gets the key of something that is signed for it".into());
        }
        self.kind.check(&self.slots)
    }

    /// What is not as it is by default, in sentences for the owner, the most important first.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.reveal {
            Reveal::Never => {}
            Reveal::Once => lines.push("REAL VALUE: the code gets the secret itself".to_owned()),
            Reveal::Standing => lines.push("REAL VALUE: the code gets the secret itself, also when trusted".to_owned()),
        }
        match &self.kind {
            Kind::Value => {}
            Kind::AwsSigv4 => lines.push("signs AWS requests; the key stays here".to_owned()),
            Kind::HmacSha256 { over, .. } => {
                lines.push(format!("HMAC-SHA256 over {}; the key stays here", over.as_str()))
            }
            Kind::Jwt { algorithm, claims, lifetime_seconds } => {
                let claims = claims.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>();
                let name = algorithm.as_str();
                lines.push(format!("a {name} JWT for {lifetime_seconds} s{claims}; the key stays here"));
            }
        }
        if self.slots != self.kind.default_slots() {
            lines.push(format!("in {}", self.slots.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ")));
        }
        lines.extend(self.rules.iter().map(|rule| format!("only {rule}")));
        lines
    }

    /// Everything, in one order, as it is sealed together with the value. Each item begins with what it is.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        let slots = self.slots.iter().map(|slot| format!("slot {slot}"));
        let rules = self.rules.iter().map(|rule| format!("rule {rule}"));
        let kind = std::iter::once(format!("kind {}", self.kind.name()));
        let parts = self.kind.parts().into_iter().map(|part| format!("part {part}"));
        let reveal = std::iter::once(format!("reveal {}", self.reveal.as_str()));
        slots.chain(rules).chain(kind).chain(parts).chain(reveal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> BTreeSet<Host> {
        [Host::parse("a.example").unwrap(), Host::parse("b.example").unwrap()].into()
    }

    fn rules(texts: &[&str]) -> BTreeSet<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_stored_form_of_the_default_never_changes() {
        let text = r#"{"slots":["header"],"rules":[],"kind":"value","reveal":"never"}"#;
        assert_eq!(serde_json::to_string(&Uses::default()).unwrap(), text);
        assert_eq!(serde_json::from_str::<Uses>(text).unwrap(), Uses::default());
        assert_eq!(Uses::default().parts(), ["slot header", "kind value", "reveal never"]);
    }

    #[test]
    fn uses_that_make_no_sense_are_refused() {
        let uses = |change: UsesChange| Uses::default().changed(&change).check(&hosts());
        uses(UsesChange::default()).unwrap();
        uses(UsesChange { rules: Some(rules(&["a.example * /**", "b.example GET /x"])), ..Default::default() })
            .unwrap();
        let jwt = |claims: &[(&str, &str)], lifetime_seconds| Kind::Jwt {
            algorithm: JwtAlgorithm::Rs256,
            claims: claims.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            lifetime_seconds,
        };
        uses(UsesChange { kind: Some(jwt(&[("iss", "1")], 540)), ..Default::default() }).unwrap();
        for wrong in [
            UsesChange { slots: Some([].into()), ..Default::default() },
            UsesChange { rules: Some(rules(&["a.example * /**"])), ..Default::default() },
            UsesChange { rules: Some(rules(&["c.example * /**"])), ..Default::default() },
            UsesChange { kind: Some(Kind::AwsSigv4), reveal: Some(Reveal::Once), ..Default::default() },
            UsesChange { kind: Some(Kind::AwsSigv4), slots: Some([Slot::Body].into()), ..Default::default() },
            UsesChange { kind: Some(jwt(&[("exp", "1")], 540)), ..Default::default() },
            UsesChange { kind: Some(jwt(&[], 5)), ..Default::default() },
        ] {
            assert!(uses(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn another_kind_brings_its_own_slots() {
        let aws = Uses::default().changed(&UsesChange { kind: Some(Kind::AwsSigv4), ..Default::default() });
        assert_eq!(aws.slots, [Slot::Header, Slot::Query].into());
        let wide = Uses { slots: [Slot::Body].into(), ..Uses::default() };
        assert_eq!(wide.changed(&UsesChange::default()), wide);
    }
}
