//! From what an agent sends to one effective set of what is asked for.

use crate::limits::{MAX_ARGS_BYTES, MAX_HOSTS, MAX_SECRETS};
use crate::{ArgName, AskedLimits, Host, InvalidName, Runtime, SecretName, Skill, SkillFile, SkillId, header};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest description, in bytes; it must fit on an approval card.
const MAX_DESCRIPTION_BYTES: usize = 1000;

/// Values named in one place: the body, its metadata, or the skill header. `None` = not named there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// The skill's id.
    pub skill_id: Option<String>,
    /// What the agent claims that it does.
    pub description: Option<String>,
    /// Names of secrets.
    pub secrets: Option<Vec<String>>,
    /// Hosts, each with an optional port.
    pub network: Option<Vec<String>>,
    /// Wall clock, in seconds.
    pub timeout: Option<f64>,
    /// Name of a runtime.
    pub runtime: Option<String>,
    /// Limits by name, in the unit of the name. See [`crate::Limit`].
    pub limits: Option<BTreeMap<String, f64>>,
}

/// Where the code is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the request.
    Inline(Vec<u8>),
    /// At an https or data URL, to be fetched once: one file, or an archive.
    Url(String),
    /// Several files.
    Several(Several),
}

/// Several files, as an agent sends them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Several {
    /// Where they are.
    pub parts: Parts,
    /// The path of the file that runs, when it is named.
    pub entry: Option<String>,
    /// The paths of files that are no code to be read: shown by their digests.
    pub assets: Vec<String>,
}

/// Where several files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// In the request, one by one.
    Files(Vec<SkillFile>),
    /// In the request, as a tar archive that may be compressed with gzip.
    Archive(Vec<u8>),
    /// At an address that gives such an archive.
    Url(String),
}

/// A request as it came in: well-formed, not yet one effective set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The skill's id; every other place that names one must agree.
    pub skill_id: String,
    /// Where the code is.
    pub source: Source,
    /// The arguments, in the agent's order.
    pub args: serde_json::Map<String, serde_json::Value>,
    /// Named at the top of the body.
    pub body: Declared,
    /// Named in the body's `metadata`.
    pub metadata: Declared,
}

/// The one effective set that exists per request.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The skill's id.
    pub skill_id: SkillId,
    /// The agent's claim.
    pub description: String,
    /// The secrets.
    pub secrets: BTreeSet<SecretName>,
    /// The hosts.
    pub hosts: BTreeSet<Host>,
    /// Wall clock in milliseconds, when one was named; never zero.
    pub timeout_ms: Option<u64>,
    /// The runtime, when one was named.
    pub runtime: Option<Runtime>,
    /// The limits that were named.
    pub limits: AskedLimits,
    /// The arguments.
    pub args: serde_json::Map<String, serde_json::Value>,
}

/// Why a request has no one effective set. The text is for the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// Two places name different values.
    #[error("{0} is named in two places with different values; name it once, or alike")]
    Conflict(&'static str),
    /// A name has the wrong form.
    #[error(transparent)]
    Name(InvalidName),
    /// No runtime of that name exists.
    #[error("runtime {0:?} is unknown; use embedded, deno, node, python or shell")]
    UnknownRuntime(String),
    /// Anything else that is wrong with it.
    #[error("{0}")]
    Invalid(String),
    /// A part is larger than its bound.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// The bound, in bytes.
        limit: usize,
    },
}

impl Draft {
    /// Joins body, metadata and the header of the file that runs into one effective set.
    ///
    /// # Errors
    /// When two places that both name a value differ (a subset and an empty list included), or a value
    /// has the wrong form or size. Every name is checked, wherever it stands.
    pub fn resolve(self, code: &[u8]) -> Result<Resolved, SubmissionError> {
        let skill = Skill::read(code)?;
        let header = header::parse_header(skill.entry()).map_err(SubmissionError::Invalid)?;
        let places = [&self.body, &self.metadata, &header];

        let skill_id = SkillId::parse(&self.skill_id).map_err(SubmissionError::Name)?;
        if places.iter().any(|p| p.skill_id.as_deref().is_some_and(|id| id != self.skill_id)) {
            return Err(SubmissionError::Conflict("skill_id"));
        }
        let description = agreed("description", places.map(|p| p.description.clone().map(Ok)))?.unwrap_or_default();
        within("description", description.len(), MAX_DESCRIPTION_BYTES)?;
        let secrets = agreed("secrets", places.map(|p| p.secrets.as_ref().map(|l| names(l, SecretName::parse))))?
            .unwrap_or_default();
        let hosts =
            agreed("network", places.map(|p| p.network.as_ref().map(|l| names(l, Host::parse))))?.unwrap_or_default();
        let timeout_ms = agreed("timeout", places.map(|p| p.timeout.map(millis)))?;
        let runtime = agreed("runtime", places.map(|p| p.runtime.as_ref().map(|r| runtime(r))))?
            .or_else(|| skill.runtime_by_name());
        let limits = agreed("limits", places.map(|p| p.limits.as_ref().map(AskedLimits::parse)))?.unwrap_or_default();
        if secrets.len() > MAX_SECRETS {
            return Err(SubmissionError::Invalid(format!("more than {MAX_SECRETS} secrets")));
        }
        if hosts.len() > MAX_HOSTS {
            return Err(SubmissionError::Invalid(format!("more than {MAX_HOSTS} hosts")));
        }
        let variables: BTreeSet<String> = secrets.iter().map(SecretName::variable).collect();
        if variables.len() < secrets.len() {
            let text = "a secret and a connection, or two connections, would stand in one variable".to_owned();
            return Err(SubmissionError::Invalid(text));
        }
        check_args(&self.args)?;
        Ok(Resolved { skill_id, description, secrets, hosts, timeout_ms, runtime, limits, args: self.args })
    }
}

fn agreed<T: PartialEq>(
    what: &'static str,
    places: [Option<Result<T, SubmissionError>>; 3],
) -> Result<Option<T>, SubmissionError> {
    let mut value: Option<T> = None;
    for place in places.into_iter().flatten() {
        let place = place?;
        if value.as_ref().is_some_and(|v| *v != place) {
            return Err(SubmissionError::Conflict(what));
        }
        value = Some(place);
    }
    Ok(value)
}

fn names<T: Ord>(list: &[String], parse: fn(&str) -> Result<T, InvalidName>) -> Result<BTreeSet<T>, SubmissionError> {
    list.iter().map(|text| parse(text).map_err(SubmissionError::Name)).collect()
}

fn runtime(name: &str) -> Result<Runtime, SubmissionError> {
    name.parse().map_err(|_| SubmissionError::UnknownRuntime(name.chars().take(40).collect()))
}

/// Seconds, fractions allowed, to milliseconds. The owner's maximum is checked where it is known.
fn millis(seconds: f64) -> Result<u64, SubmissionError> {
    let millis = (seconds * 1000.0).round();
    if (1.0..=1e12).contains(&millis) {
        // In range, so the cast neither wraps nor loses a sign.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return Ok(millis as u64);
    }
    Err(SubmissionError::Invalid("timeout is a number of seconds above 0".into()))
}

fn check_args(args: &serde_json::Map<String, serde_json::Value>) -> Result<(), SubmissionError> {
    for (name, value) in args {
        ArgName::parse(name).map_err(SubmissionError::Name)?;
        if holds_nul(value) {
            return Err(SubmissionError::Invalid(format!("argument {name} holds a NUL")));
        }
    }
    let size = serde_json::to_vec(args).map_or(usize::MAX, |json| json.len());
    within("args", size, MAX_ARGS_BYTES)
}

fn holds_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(holds_nul),
        serde_json::Value::Object(fields) => fields.iter().any(|(name, v)| name.contains('\0') || holds_nul(v)),
        _ => false,
    }
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), SubmissionError> {
    if size > limit { Err(SubmissionError::TooLarge { what, limit }) } else { Ok(()) }
}
