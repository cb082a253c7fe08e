//! The providers: an embedded file, and the owner's own over it.

use crate::base::{BaseError, BaseUrl};
use crate::dialect::Dialect;
use crate::template::is_segment;
use oauth3_core::SecretName;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use toml::{Table, Value};

const EMBEDDED: &str = include_str!("../providers.toml");
/// Longest name of a provider, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Where the SDKs of OpenAI, Anthropic, Azure and Google put a key.
const SDK_CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Why a file of providers was refused. Fit for the owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// No TOML.
    #[error("providers: {0}")]
    Toml(String),
    /// A provider's name of the wrong form.
    #[error("providers: {0:?} is no name of a provider: a-z, 0-9 and '-', beginning with a letter, at most 64")]
    Name(String),
    /// Something is wrong with a provider.
    #[error("providers: [{name}]: {why}")]
    Entry {
        /// The provider.
        name: String,
        /// What is wrong, with the key.
        why: String,
    },
}

/// An address has a part that only the owner knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{provider} needs its {variable}: write [{provider}] and variables = {{ {variable} = \"…\" }} into the providers' file"
)]
pub struct MissingVariable {
    provider: String,
    variable: String,
}

/// How a provider wants to be shown a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSlot {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization` with another word before it.
    Scheme(String),
    /// A header field of its own, in lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// AWS Signature Version 4.
    SigV4 {
        /// The service that is signed for.
        service: String,
        /// Its region.
        region: String,
    },
    /// None.
    None,
}

/// What is known of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The name in paths and commands.
    pub name: String,
    /// The name that people know.
    pub title: String,
    /// Where the credential goes.
    pub credential: CredentialSlot,
    /// What it speaks.
    pub dialect: Dialect,
    /// The variable that its documentation keeps the key in; `None` where there is no key.
    pub secret: Option<SecretName>,
    /// Further header fields by which its clients send a key, in lower case; see [`Provider::credential_headers`].
    pub extra_credentials: Vec<String>,
    /// A path below the base, for a cheap GET that shows whether a key is good.
    pub check_path: Option<String>,
    /// Its streams of completions tell what they used if they are asked; see [`crate::ask_for_usage`].
    pub stream_usage: bool,
    /// Its documentation.
    pub docs: String,
    base: Result<BaseUrl, MissingVariable>,
}

impl Provider {
    /// Where it is.
    ///
    /// # Errors
    /// When the owner must say a part of it first, such as the resource of Azure.
    pub fn base(&self) -> Result<&BaseUrl, &MissingVariable> {
        self.base.as_ref()
    }

    /// Every header field that may hold a key on its way in, in lower case: those that SDKs use anywhere, the
    /// provider's own, and what its entry adds. None of them is passed on.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        let own = match &self.credential {
            CredentialSlot::Header(name) => Some(name.as_str()),
            _ => None,
        };
        SDK_CREDENTIAL_HEADERS.into_iter().chain(own).chain(self.extra_credentials.iter().map(String::as_str))
    }
}

/// Providers by name.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// As written, so that an owner's file can replace single keys.
    tables: Table,
    providers: BTreeMap<String, Provider>,
}

impl Catalog {
    /// The providers that come with oauth3.
    ///
    /// # Errors
    /// Never in a build whose tests passed.
    pub fn embedded() -> Result<Self, CatalogError> {
        Self::parse(EMBEDDED)
    }

    /// Reads a file of providers: one table for each.
    ///
    /// # Errors
    /// When it is no TOML, or an entry lacks a key, has an unknown one, or a value that is none.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        Self::of(tables(text)?)
    }

    /// Lays an owner's file over it: a new name adds a provider, and needs every key that has no default; for a
    /// known name each key that is written replaces that key.
    ///
    /// # Errors
    /// As [`Catalog::parse`], for the outcome.
    pub fn overridden(mut self, text: &str) -> Result<Self, CatalogError> {
        for (name, value) in tables(text)? {
            match (self.tables.get_mut(&name), value) {
                (Some(Value::Table(known)), Value::Table(over)) => known.extend(over),
                (_, value) => {
                    self.tables.insert(name, value);
                }
            }
        }
        Self::of(self.tables)
    }

    /// The provider of that name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(name)
    }

    /// All of them, by name.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.values()
    }

    fn of(tables: Table) -> Result<Self, CatalogError> {
        let mut providers = BTreeMap::new();
        for (name, value) in &tables {
            let fine = (1..=MAX_NAME_BYTES).contains(&name.len())
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !fine {
                return Err(CatalogError::Name(name.clone()));
            }
            let wrong = |why: String| CatalogError::Entry { name: name.clone(), why };
            let entry = Entry::deserialize(value.clone()).map_err(|why| wrong(why.message().to_owned()))?;
            providers.insert(name.clone(), entry.into_provider(name).map_err(wrong)?);
        }
        Ok(Self { tables, providers })
    }
}

fn tables(text: &str) -> Result<Table, CatalogError> {
    text.parse().map_err(|why: toml::de::Error| CatalogError::Toml(why.to_string().trim_end().to_owned()))
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    title: String,
    /// May have `{variable}` in it.
    base: String,
    /// `bearer`, `scheme WORD`, `header NAME`, `query NAME`, `sigv4 SERVICE REGION` or `none`.
    credential: String,
    dialect: String,
    secret: Option<SecretName>,
    #[serde(default)]
    extra_credentials: Vec<String>,
    check: Option<String>,
    #[serde(default)]
    stream_usage: bool,
    docs: String,
    /// Versions that clients may name in the place of the base's own.
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

impl Entry {
    fn into_provider(self, name: &str) -> Result<Provider, String> {
        let credential = self.credential(name)?;
        if (credential == CredentialSlot::None) != self.secret.is_none() {
            return Err("secret: a provider has one, or its credential is \"none\"".to_owned());
        }
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.as_str() == self.dialect);
        let dialect = dialect.ok_or_else(|| {
            let known: Vec<&str> = Dialect::ALL.into_iter().map(Dialect::as_str).collect();
            format!("dialect: {:?} is none of {}", self.dialect, known.join(", "))
        })?;
        let base = match self.filled(name, &self.base)? {
            Ok(base) => Ok(BaseUrl::parse(&base).map_err(|why: BaseError| format!("base: {why}"))?),
            Err(missing) => Err(missing),
        };
        for variable in self.variables.keys() {
            if ![&self.base, &self.credential].iter().any(|text| text.contains(&format!("{{{variable}}}"))) {
                return Err(format!("variables: nothing in this entry has a {{{variable}}}"));
            }
        }
        if !self.versions.iter().all(|version| is_segment(version)) {
            return Err("versions: each is one segment of a path".to_owned());
        }
        if self.stream_usage && !matches!(dialect, Dialect::OpenAi | Dialect::Azure) {
            return Err("stream_usage: only the dialects openai and azure can be asked".to_owned());
        }
        let base = base.map(|base| base.with_versions(self.versions));
        if let (Some(check), Ok(base)) = (&self.check, &base) {
            base.join(check.split('?').next().unwrap_or_default()).map_err(|why| format!("check: {why}"))?;
        }
        let mut extra_credentials = Vec::new();
        for header in &self.extra_credentials {
            extra_credentials.push(header_name(header).ok_or(format!("extra_credentials: {header:?} is no header"))?);
        }
        if !self.docs.starts_with("https://") {
            return Err("docs: an address that begins with https://".to_owned());
        }
        Ok(Provider {
            name: name.to_owned(),
            title: self.title,
            credential,
            dialect,
            secret: self.secret,
            extra_credentials,
            check_path: self.check,
            stream_usage: self.stream_usage,
            docs: self.docs,
            base,
        })
    }

    fn credential(&self, name: &str) -> Result<CredentialSlot, String> {
        let filled = self.filled(name, &self.credential)?.map_err(|missing| missing.to_string())?;
        let words: Vec<&str> = filled.split(' ').collect();
        Ok(match words.as_slice() {
            ["bearer"] => CredentialSlot::Bearer,
            ["none"] => CredentialSlot::None,
            ["scheme", word] if is_segment(word) => CredentialSlot::Scheme((*word).to_owned()),
            ["header", header] => {
                CredentialSlot::Header(header_name(header).ok_or(format!("credential: {header:?} is no header"))?)
            }
            ["query", parameter] if is_segment(parameter) => CredentialSlot::Query((*parameter).to_owned()),
            ["sigv4", service, region] if is_segment(service) && is_segment(region) => {
                CredentialSlot::SigV4 { service: (*service).to_owned(), region: (*region).to_owned() }
            }
            _ => {
                let forms =
                    "\"bearer\", \"scheme WORD\", \"header NAME\", \"query NAME\", \"sigv4 SERVICE REGION\", \"none\"";
                return Err(format!("credential: {filled:?} is none of {forms}"));
            }
        })
    }

    /// The text with its variables filled in. A value is a part of a host name or a path and ends neither.
    fn filled(&self, provider: &str, text: &str) -> Result<Result<String, MissingVariable>, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (variable, after) = after.split_once('}').ok_or("a '{' without a '}'")?;
            let Some(value) = self.variables.get(variable) else {
                let (provider, variable) = (provider.to_owned(), variable.to_owned());
                return Ok(Err(MissingVariable { provider, variable }));
            };
            if !is_segment(value) {
                return Err(format!("variables: {variable} is letters, digits, '-', '_' and '.'"));
            }
            filled.push_str(before);
            filled.push_str(value);
            rest = after;
        }
        filled.push_str(rest);
        Ok(Ok(filled))
    }
}

/// A header field's name in lower case, if it is one (RFC 9110 §5.1).
fn header_name(text: &str) -> Option<String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (!text.is_empty() && text.bytes().all(fine)).then(|| text.to_ascii_lowercase())
}

impl fmt::Display for CredentialSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Scheme(word) => write!(f, "scheme {word}"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query {name}"),
            Self::SigV4 { service, region } => write!(f, "sigv4 {service} {region}"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded() -> Catalog {
        Catalog::embedded().unwrap()
    }

    #[test]
    fn the_providers_that_come_along() {
        let names: Vec<String> = embedded().providers().map(|provider| provider.name.clone()).collect();
        let known = "anthropic azure baseten bedrock cerebras cohere dashscope dashscope-intl deepgram deepinfra \
            deepseek elevenlabs fireworks github-models google groq huggingface hyperbolic minimax minimax-cn mistral \
            moonshot moonshot-cn nebius novita nvidia ollama openai openrouter ovhcloud perplexity qianfan sambanova \
            scaleway siliconflow together venice volcengine voyage xai zai zhipu";
        assert_eq!(names.join(" "), known);
    }

    #[test]
    fn every_provider_is_reached_by_tls_and_has_documentation() {
        for provider in embedded().providers() {
            let name = &provider.name;
            assert!(provider.docs.starts_with("https://") && provider.docs.len() > 15, "{name}");
            assert!(!provider.title.is_empty(), "{name}");
            match provider.base() {
                Ok(base) => {
                    assert_eq!(base.secure(), name != "ollama", "{name}");
                    for path in provider.check_path.iter().chain([&"/chat/completions".to_owned()]) {
                        base.join(path).unwrap();
                    }
                }
                Err(missing) => assert_eq!(missing.provider, "azure"),
            }
        }
    }

    #[test]
    fn both_forms_of_a_path_lead_to_the_same() {
        let all = embedded();
        let join = |name: &str, rest: &str| all.provider(name).unwrap().base().unwrap().join(rest).unwrap();
        for (name, one, other, path) in [
            ("openai", "/chat/completions", "/v1/chat/completions", "/v1/chat/completions"),
            ("anthropic", "/messages", "/v1/messages", "/v1/messages"),
            ("groq", "/chat/completions", "/v1/chat/completions", "/openai/v1/chat/completions"),
            ("deepinfra", "/chat/completions", "/v1/chat/completions", "/v1/openai/chat/completions"),
            (
                "google",
                "/models/m:generateContent",
                "/v1beta/models/m:generateContent",
                "/v1beta/models/m:generateContent",
            ),
        ] {
            assert_eq!((join(name, one).as_str(), join(name, other).as_str()), (path, path));
        }
        assert_eq!(join("google", "/v1alpha/models"), "/v1alpha/models");
        assert_eq!(join("cohere", "/v1/models"), "/v1/models");
        assert_eq!(join("ollama", "/api/chat"), "/api/chat");
    }

    #[test]
    fn keys_are_known_wherever_clients_put_them() {
        let all = embedded();
        let headers = |name: &str| all.provider(name).unwrap().credential_headers().collect::<Vec<_>>().join(" ");
        assert_eq!(headers("openai"), "authorization x-api-key api-key x-goog-api-key");
        assert!(headers("elevenlabs").ends_with(" xi-api-key"));
        assert!(headers("azure").ends_with(" ocp-apim-subscription-key"));
    }

    #[test]
    fn a_variable_that_is_missing_is_named_with_what_to_write() {
        let all = embedded();
        let why = all.provider("azure").unwrap().base().unwrap_err().to_string();
        assert!(why.contains("azure needs its resource") && why.contains("[azure]"), "{why}");
        let all = all.overridden("[azure]\nvariables = { resource = \"my-one\" }").unwrap();
        assert_eq!(all.provider("azure").unwrap().base().unwrap().to_string(), "https://my-one.openai.azure.com");
    }

    #[test]
    fn a_variable_fills_base_and_signature_and_nothing_more() {
        let all = embedded().overridden("[bedrock]\nvariables = { region = \"eu-central-1\" }").unwrap();
        let bedrock = all.provider("bedrock").unwrap();
        assert_eq!(bedrock.base().unwrap().to_string(), "https://bedrock-runtime.eu-central-1.amazonaws.com");
        let slot = CredentialSlot::SigV4 { service: "bedrock".into(), region: "eu-central-1".into() };
        assert_eq!(bedrock.credential, slot);
        for value in ["evil.test/", "a@b", "", "..", "a:1", "a b", "{region}"] {
            let text = format!("[azure]\nvariables = {{ resource = {value:?} }}");
            let why = embedded().overridden(&text).unwrap_err().to_string();
            assert!(why.contains("[azure]") && why.contains("resource"), "{why}");
        }
    }

    #[test]
    fn the_owners_file_replaces_keys_and_adds_providers() {
        let all = embedded()
            .overridden(
                "[openai]\nbase = \"https://eu.api.openai.com/v1\"\n[mine]\ntitle = \"Mine\"\nbase = \"http://llm.lan:8000/v1\"\n\
                 credential = \"header X-Key\"\ndialect = \"openai\"\nsecret = \"MY_KEY\"\ndocs = \"https://docs.test/\"\n",
            )
            .unwrap();
        let openai = all.provider("openai").unwrap();
        assert_eq!(openai.base().unwrap().host().name(), "eu.api.openai.com");
        assert_eq!((openai.title.as_str(), &openai.credential), ("OpenAI", &CredentialSlot::Bearer));
        assert_eq!(all.provider("mine").unwrap().credential, CredentialSlot::Header("x-key".into()));
        assert_eq!(all.providers().count(), embedded().providers().count() + 1);
    }

    #[test]
    fn what_is_wrong_in_the_owners_file_is_named() {
        for (text, words) in [
            ("[openai]\nbaseurl = \"x\"", &["[openai]", "baseurl"][..]),
            ("[openai]\nbase = 1", &["[openai]", "string"]),
            ("[openai]\nbase = \"https://1.2.3.4/\"", &["[openai]", "base:", "1.2.3.4"]),
            ("[openai]\nbase = \"https://a.test/../b\"", &["[openai]", "base:", "'..'"]),
            ("[openai]\ncredential = \"cookie\"", &["[openai]", "credential", "bearer"]),
            ("[openai]\ncredential = \"header a:b\"", &["[openai]", "credential", "a:b"]),
            ("[openai]\ncredential = \"none\"", &["[openai]", "secret"]),
            ("[openai]\ncredential = \"sigv4 x {region}\"", &["[openai]", "region"]),
            ("[openai]\ndialect = \"klingon\"", &["[openai]", "dialect", "klingon"]),
            ("[openai]\nsecret = \"path\"", &["[openai]", "A-Z"]),
            ("[openai]\ndocs = \"http://a.test\"", &["[openai]", "docs"]),
            ("[openai]\nvariables = { x = \"y\" }", &["[openai]", "{x}"]),
            ("[openai]\nversions = [\"a/b\"]", &["[openai]", "versions"]),
            ("[openai]\ncheck = \"/../x\"", &["[openai]", "check"]),
            ("[openai]\nextra_credentials = [\"a b\"]", &["[openai]", "extra_credentials"]),
            ("[mine]\ntitle = \"Mine\"", &["[mine]", "base"]),
            ("[Mine]\ntitle = \"Mine\"", &["Mine"]),
            ("openai = 1", &["[openai]"]),
            ("[openai", &["providers:"]),
        ] {
            let why = embedded().overridden(text).unwrap_err().to_string();
            assert!(words.iter().all(|word| why.contains(word)), "{text}: {why}");
        }
    }
}
