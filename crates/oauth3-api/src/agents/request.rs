//! What agents send: the body of `POST /execute`, the query of the status, ids in paths.

use super::problem::Problem;
use super::source::{self, File};
use super::strict::{Named, Object};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};
use oauth3_core::{Declared, Draft, MAX_WAIT_SECONDS, RequestId};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest part of a reader's complaint that is passed on, in characters: it may quote the agent's input.
const MAX_COMPLAINT_CHARS: usize = 400;

/// What stands in a path where an id should.
pub(super) type IdPath = Result<Path<String>, PathRejection>;

/// A well-formed call of `POST /execute`.
#[derive(Debug)]
pub(super) struct ExecuteRequest {
    /// What is to run.
    pub(super) draft: Draft,
    /// How long the answer may wait for the final state.
    pub(super) wait: Duration,
    /// Only say what would happen.
    pub(super) dry_run: bool,
}

/// The body as it stands. Every field is taken as any value first, so that errors of type can name the field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    skill_id: Option<Value>,
    skill_url: Option<Value>,
    code: Option<Value>,
    files: Option<Vec<Object<File>>>,
    archive_base64: Option<Value>,
    entry: Option<Value>,
    assets: Option<Value>,
    args: Option<Value>,
    secrets: Option<Value>,
    metadata: Option<Object<Metadata>>,
    wait: Option<Value>,
    dry_run: Option<Value>,
}

impl Named for Body {
    const WHAT: &'static str = "an object";
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    description: Option<Value>,
    secrets: Option<Value>,
    network: Option<Value>,
    timeout: Option<Value>,
    runtime: Option<Value>,
    limits: Option<Value>,
}

impl Named for Metadata {
    const WHAT: &'static str = "`metadata` as an object";
}

impl ExecuteRequest {
    /// Reads a body. Names and sizes are checked later, where the header of the code is known.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let Object(body) = serde_json::from_slice::<Object<Body>>(bytes).map_err(|error| {
            let what = if error.is_data() { "the body is not a valid request" } else { "the body is not valid JSON" };
            let complaint: String = error.to_string().chars().take(MAX_COMPLAINT_CHARS).collect();
            Problem::invalid(format!("{what}: {complaint}"))
        })?;
        let source = source::Fields {
            code: body.code,
            files: body.files,
            archive_base64: body.archive_base64,
            skill_url: body.skill_url,
            entry: body.entry,
            assets: texts("assets", body.assets)?,
        };
        let metadata = match body.metadata {
            None => Declared::default(),
            Some(Object(metadata)) => metadata.declared()?,
        };
        let draft = Draft {
            skill_id: text("skill_id", body.skill_id)?.ok_or_else(|| Problem::invalid("`skill_id` is required"))?,
            source: source.read()?,
            args: args(body.args)?,
            body: Declared { secrets: texts("secrets", body.secrets)?, ..Declared::default() },
            metadata,
        };
        let wait = match number("wait", body.wait)? {
            None => Duration::ZERO,
            Some(seconds) => wait_of(seconds)?,
        };
        let dry_run = match body.dry_run {
            None => false,
            Some(Value::Bool(dry_run)) => dry_run,
            Some(_) => return Err(Problem::invalid("`dry_run` is true or false")),
        };
        Ok(Self { draft, wait, dry_run })
    }
}

impl Metadata {
    fn declared(self) -> Result<Declared, Problem> {
        Ok(Declared {
            skill_id: None,
            description: text("metadata.description", self.description)?,
            secrets: texts("metadata.secrets", self.secrets)?,
            network: texts("metadata.network", self.network)?,
            timeout: number("metadata.timeout", self.timeout)?,
            runtime: text("metadata.runtime", self.runtime)?,
            limits: numbers("metadata.limits", self.limits)?,
        })
    }
}

/// Reads `wait` from a query; other parameters mean nothing.
pub(super) fn wait_in(RawQuery(query): &RawQuery) -> Result<Duration, Problem> {
    let mut waits = query.as_deref().unwrap_or_default().split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == "wait").then_some(value)
    });
    match (waits.next(), waits.next()) {
        (None, _) => Ok(Duration::ZERO),
        (Some(seconds), None) => wait_of(seconds.parse().map_err(|_| bad_wait())?),
        (Some(_), Some(_)) => Err(Problem::invalid("`wait` stands twice")),
    }
}

/// Reads the id of a request. One of the wrong form cannot exist, and is not there like any other.
pub(super) fn id_in(path: &IdPath) -> Result<RequestId, Problem> {
    let id = path.as_ref().ok().and_then(|Path(id)| RequestId::parse(id).ok());
    id.ok_or_else(|| Problem::not_found("there is no such request"))
}

fn wait_of(seconds: f64) -> Result<Duration, Problem> {
    // Exact: the bound is far below where f64 loses whole numbers. NaN is in no range.
    #[allow(clippy::cast_precision_loss)]
    let most = MAX_WAIT_SECONDS as f64;
    if (0.0..=most).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(bad_wait()) }
}

fn bad_wait() -> Problem {
    Problem::invalid(format!("`wait` is a number of seconds from 0 to {MAX_WAIT_SECONDS}"))
}

pub(super) fn text(name: &str, value: Option<Value>) -> Result<Option<String>, Problem> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid(format!("`{name}` is a string"))),
    }
}

fn texts(name: &str, value: Option<Value>) -> Result<Option<Vec<String>>, Problem> {
    let wrong = || Problem::invalid(format!("`{name}` is a list of strings"));
    let Some(value) = value else { return Ok(None) };
    let Value::Array(items) = value else { return Err(wrong()) };
    let texts = items.into_iter().map(|item| match item {
        Value::String(text) => Ok(text),
        _ => Err(wrong()),
    });
    texts.collect::<Result<_, _>>().map(Some)
}

fn number(name: &str, value: Option<Value>) -> Result<Option<f64>, Problem> {
    let Some(value) = value else { return Ok(None) };
    match value.as_f64() {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::invalid(format!("`{name}` is a number of seconds"))),
    }
}

fn numbers(name: &str, value: Option<Value>) -> Result<Option<BTreeMap<String, f64>>, Problem> {
    let wrong = || Problem::invalid(format!("`{name}` is an object of numbers"));
    let Some(value) = value else { return Ok(None) };
    let Value::Object(fields) = value else { return Err(wrong()) };
    let numbers = fields.into_iter().map(|(field, value)| Ok((field, value.as_f64().ok_or_else(wrong)?)));
    numbers.collect::<Result<_, _>>().map(Some)
}

fn args(value: Option<Value>) -> Result<Map<String, Value>, Problem> {
    match value {
        None => Ok(Map::new()),
        Some(Value::Object(args)) => Ok(args),
        Some(_) => Err(Problem::invalid("`args` is an object")),
    }
}
