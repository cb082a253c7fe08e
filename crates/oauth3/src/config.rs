//! `oauth3.toml` and the variables over it. Parses without the world: no file but its own is opened here.

use crate::metrics::MetricsSection;
use crate::proxy::ProxySection;
use anyhow::{Context, Result, bail};
use oauth3_core::{AgentName, Ceilings, Host, Limit, Limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The effective configuration. Unknown keys are fatal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where agents reach the gateway.
    pub listen: SocketAddr,
    /// How agents and the owner's phone reach it, for links.
    pub public_url: String,
    /// What holds the code: `native`, `docker` or `direct`.
    pub executor: String,
    /// The agent that calls without a token act as; empty: none.
    pub anonymous_agent: String,
    /// The chat.
    pub telegram: TelegramSection,
    /// What runs may reach, and how names are found.
    pub egress: EgressSection,
    /// The API proxy.
    pub proxy: ProxySection,
    /// What a monitoring system reads.
    pub metrics: MetricsSection,
    /// How agents are woken.
    pub notify: NotifySection,
    /// Bounds.
    pub limits: LimitsSection,
    /// Where the master key is.
    pub vault: VaultSection,
    /// Where runtimes are, when not on the PATH.
    pub runtimes: RuntimesSection,
    /// What agents may run as a command.
    pub commands: CommandsSection,
    /// What skills may import from elsewhere.
    pub imports: ImportsSection,
    /// What the docker executor needs.
    pub docker: DockerSection,
}

/// `[telegram]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelegramSection {
    /// File with the bot's token.
    pub token_file: String,
    /// The chat that approvals go to; 0: none.
    pub chat_id: i64,
    /// User ids that may decide; empty: the chat itself, when it is a private one.
    pub owner_ids: Vec<i64>,
    /// The Bot API server.
    pub api_url: String,
}

/// `[egress]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EgressSection {
    /// This name dials this address; the name, not the address, is checked.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// PEM files with authorities that are trusted besides the system's.
    pub extra_ca: Vec<PathBuf>,
    /// Names that may resolve to private addresses.
    pub allow_private: Vec<String>,
}

/// `[notify]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NotifySection {
    /// Base address of an OpenClaw gateway.
    pub openclaw_url: String,
    /// File with its hooks token.
    pub openclaw_token_file: String,
    /// Program and arguments to run; `{request_id}` and `{status}` are replaced.
    pub command: Vec<String>,
    /// Address that gets a signed JSON post.
    pub webhook_url: String,
    /// File with the key that signs it.
    pub webhook_secret_file: String,
}

/// `[commands]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CommandsSection {
    /// Bare names of programs, such as `gh`; the owner may run others.
    pub allow: Vec<String>,
}

/// `[limits]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsSection {
    /// Minutes after which silence is a no; fractions allowed.
    pub pending_minutes: f64,
    /// Calls per minute and agent.
    pub requests_per_minute: u32,
    /// Requests of one agent that may wait for the owner at once.
    pub pending_per_agent: u32,
    /// Longest timeout that a request may name, in seconds.
    pub timeout_seconds_max: u64,
    /// Most CPU time that a request may name, in seconds.
    pub cpu_seconds_max: u64,
    /// Memory of one run, in MiB.
    pub memory_mb: u64,
    /// Bytes kept of stdout and of stderr each.
    pub output_bytes: u64,
    /// Processes and threads of one run.
    pub processes: u32,
    /// Size of one file of a run, in MiB.
    pub file_mb: u64,
    /// Open files of one process of a run.
    pub open_files: u64,
    /// What one run may send and receive together, in MiB.
    pub egress_mb: u64,
    /// Requests of one run.
    pub egress_requests: u64,
    /// Runs at once; more wait their turn.
    pub runs: u32,
}

/// `[vault]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct VaultSection {
    /// `file` or `passphrase`.
    pub key: String,
    /// File with the passphrase; otherwise OAUTH3_PASSPHRASE.
    pub passphrase_file: String,
}

/// `[runtimes]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimesSection {
    /// Path of deno.
    pub deno: String,
    /// Path of node.
    pub node: String,
    /// Path of python3.
    pub python: String,
}

/// `[imports]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ImportsSection {
    /// Of `npm`, `jsr` and `https`; empty: nothing.
    pub allow: Vec<String>,
    /// Address of the npm registry.
    pub npm_registry: String,
    /// Address of JSR.
    pub jsr_registry: String,
}

/// `[docker]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DockerSection {
    /// The engine's socket, `unix:///path`; empty for /var/run/docker.sock.
    pub host: String,
    /// The image of every runtime that has none of its own, by its digest.
    pub image: String,
    /// The image of deno, by its digest.
    pub deno_image: String,
    /// The image of node, by its digest.
    pub node_image: String,
    /// The image of python, by its digest.
    pub python_image: String,
    /// Processors that one run may use at once.
    pub cpus: f64,
    /// A directory that the engine's host has under the same path; only when oauth3 runs in a container itself.
    pub shared_dir: String,
}

impl DockerSection {
    /// Every image that is named.
    pub(crate) fn images(&self) -> impl Iterator<Item = &String> {
        [&self.image, &self.deno_image, &self.node_image, &self.python_image].into_iter().filter(|i| !i.is_empty())
    }
}

impl Default for DockerSection {
    fn default() -> Self {
        let [host, image, deno_image, node_image, python_image, shared_dir] = [(); 6].map(|()| String::new());
        Self { host, image, deno_image, node_image, python_image, cpus: 1.0, shared_dir }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3737)),
            public_url: String::new(),
            executor: "native".into(),
            anonymous_agent: String::new(),
            telegram: TelegramSection::default(),
            egress: EgressSection::default(),
            proxy: ProxySection::default(),
            metrics: MetricsSection::default(),
            notify: NotifySection::default(),
            limits: LimitsSection::default(),
            vault: VaultSection::default(),
            runtimes: RuntimesSection::default(),
            commands: CommandsSection::default(),
            imports: ImportsSection::default(),
            docker: DockerSection::default(),
        }
    }
}

impl Default for TelegramSection {
    fn default() -> Self {
        Self { token_file: String::new(), chat_id: 0, owner_ids: vec![], api_url: "https://api.telegram.org".into() }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            pending_minutes: 15.0,
            requests_per_minute: 60,
            pending_per_agent: 20,
            timeout_seconds_max: 600,
            cpu_seconds_max: 1200,
            memory_mb: Limits::STANDARD.memory_mb,
            output_bytes: Limits::STANDARD.output_bytes,
            processes: Limits::STANDARD.processes,
            file_mb: Limits::STANDARD.file_mb,
            open_files: Limits::STANDARD.open_files,
            egress_mb: Limits::STANDARD.egress_mb,
            egress_requests: Limits::STANDARD.egress_requests,
            runs: 8,
        }
    }
}

impl Default for VaultSection {
    fn default() -> Self {
        Self { key: "file".into(), passphrase_file: String::new() }
    }
}

/// Longest and shortest time that a request may wait for the owner, in minutes.
const PENDING_MINUTES: std::ops::RangeInclusive<f64> = 0.001..=7.0 * 24.0 * 60.0;

/// Calls of one agent in a minute, and its requests that wait at once. To refuse everything there is the kill switch.
const PER_AGENT: std::ops::RangeInclusive<u64> = 1..=1_000_000;
/// Wall clock of one run, in seconds: up to a day.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=24 * 60 * 60;
/// CPU time of one run, in seconds: up to a day of 64 processors.
const CPU_SECONDS: std::ops::RangeInclusive<u64> = 1..=64 * 24 * 60 * 60;
/// Runs at once; the keeper opens no more.
const RUNS: std::ops::RangeInclusive<u64> = 1..=256;
/// Processors of one run in a container.
const CPUS: std::ops::RangeInclusive<f64> = 0.01..=1024.0;

impl Config {
    /// Reads `file` (when there is one) and lays the variables over it.
    ///
    /// # Errors
    /// When a key is unknown, a value has the wrong form, or a named file cannot be read.
    pub(crate) fn load(file: Option<&Path>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut table = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                text.parse::<toml::Table>().with_context(|| format!("{} is not valid TOML", path.display()))?
            }
            None => toml::Table::new(),
        };
        overlay(&mut table, variable)?;
        let config: Self = table.clone().try_into().map_err(|error: toml::de::Error| {
            let place = file.map_or_else(|| "the environment".to_owned(), |p| p.display().to_string());
            let key = wrong_key(&table).map_or_else(String::new, |key| format!("{key}: "));
            anyhow::anyhow!("configuration ({place}): {key}{}", error.message())
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !PENDING_MINUTES.contains(&self.limits.pending_minutes) {
            bail!("limits.pending_minutes is between a fraction of a minute and 10080 (a week)");
        }
        let limits = &self.limits;
        for (key, value, range) in [
            ("requests_per_minute", u64::from(limits.requests_per_minute), PER_AGENT),
            ("pending_per_agent", u64::from(limits.pending_per_agent), PER_AGENT),
            ("timeout_seconds_max", limits.timeout_seconds_max, TIMEOUT_SECONDS),
            ("cpu_seconds_max", limits.cpu_seconds_max, CPU_SECONDS),
            ("memory_mb", limits.memory_mb, Limit::MemoryMb.range()),
            ("output_bytes", limits.output_bytes, Limit::OutputBytes.range()),
            ("processes", u64::from(limits.processes), Limit::Processes.range()),
            ("file_mb", limits.file_mb, Limit::FileMb.range()),
            ("open_files", limits.open_files, Limit::OpenFiles.range()),
            ("egress_mb", limits.egress_mb, Limit::EgressMb.range()),
            ("egress_requests", limits.egress_requests, Limit::EgressRequests.range()),
            ("runs", u64::from(limits.runs), RUNS),
        ] {
            if !range.contains(&value) {
                bail!("limits.{key} is between {} and {}", range.start(), range.end());
            }
        }
        for (key, url) in [
            ("public_url", &self.public_url),
            ("telegram.api_url", &self.telegram.api_url),
            ("notify.openclaw_url", &self.notify.openclaw_url),
            ("notify.webhook_url", &self.notify.webhook_url),
        ] {
            let parsed = url.parse::<http::Uri>();
            let is_web = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
            if !url.is_empty() && !parsed.as_ref().is_ok_and(is_web) {
                bail!("{key} is not an address that begins with https:// or http://");
            }
        }
        match self.executor.as_str() {
            "native" | "direct" => {}
            "docker" if self.docker.images().next().is_none() => {
                bail!("executor \"docker\" needs docker.image: an image by its digest (name@sha256:…)")
            }
            "docker" => {}
            other => bail!("executor {other:?} is unknown; use \"native\", \"docker\" or \"direct\""),
        }
        if !CPUS.contains(&self.docker.cpus) {
            bail!("docker.cpus is between {} and {}", CPUS.start(), CPUS.end());
        }
        if !matches!(self.vault.key.as_str(), "file" | "passphrase") {
            bail!("vault.key is \"file\" or \"passphrase\"");
        }
        for name in self.egress.resolve.keys().chain(&self.egress.allow_private) {
            Host::parse(name).with_context(|| format!("configuration: {name:?} in [egress]"))?;
        }
        self.proxy.check()?;
        self.metrics.address()?;
        self.anonymous_agent()?;
        Ok(())
    }

    /// What a request may ask for, and what one gets that does not ask.
    pub(crate) fn ceilings(&self) -> Ceilings {
        let limits = &self.limits;
        let timeout_ms = limits.timeout_seconds_max.saturating_mul(1000);
        Ceilings {
            most: Limits {
                timeout_ms,
                memory_mb: limits.memory_mb,
                output_bytes: limits.output_bytes,
                processes: limits.processes,
                cpu_ms: limits.cpu_seconds_max.saturating_mul(1000),
                file_mb: limits.file_mb,
                open_files: limits.open_files,
                egress_mb: limits.egress_mb,
                egress_requests: limits.egress_requests,
            },
            default_timeout_ms: Limits::STANDARD.timeout_ms.min(timeout_ms),
        }
    }

    /// A copy for showing: without what may be a credential. The path of a webhook's address often is one, and
    /// arguments of the wake command may be.
    pub(crate) fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for url in [&mut shown.telegram.api_url, &mut shown.notify.openclaw_url] {
            *url = without_credentials(url, true);
        }
        shown.notify.webhook_url = without_credentials(&shown.notify.webhook_url, false);
        let mut hide_next = false;
        for word in &mut shown.notify.command {
            if std::mem::take(&mut hide_next) {
                *word = HIDDEN.into();
            } else if let Some((name, _)) = word.split_once('=').filter(|(name, _)| names_a_credential(name)) {
                *word = format!("{name}={HIDDEN}");
            } else {
                hide_next = names_a_credential(word);
            }
        }
        shown
    }

    /// The agent that calls without a token act as.
    ///
    /// # Errors
    /// When the name has the wrong form.
    pub(crate) fn anonymous_agent(&self) -> Result<Option<AgentName>> {
        if self.anonymous_agent.is_empty() {
            return Ok(None);
        }
        AgentName::parse(&self.anonymous_agent).map(Some).context("configuration: anonymous_agent")
    }
}

/// What stands in the place of a credential.
const HIDDEN: &str = "(hidden)";

/// Whether an argument such as `--token` says that the next one is a credential.
fn names_a_credential(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let named = ["token", "secret", "password", "key", "auth", "header"].iter().any(|part| word.contains(part));
    word.starts_with('-') && (named || word == "-h" || word == "-u")
}

/// An address without user, query and, unless it is kept, path.
fn without_credentials(url: &str, keep_path: bool) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, false), |(place, _)| (place, true));
    let (authority, path) = place.split_once('/').map_or((place, None), |(authority, path)| (authority, Some(path)));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = match path {
        None => String::new(),
        Some(path) if keep_path || path.is_empty() => format!("/{path}"),
        Some(_) => format!("/{HIDDEN}"),
    };
    format!("{scheme}://{host}{path}{}", if query { format!("?{HIDDEN}") } else { String::new() })
}

/// The key that cannot be read: the first that cannot by itself. Every key has a default, so each can stand alone.
fn wrong_key(table: &toml::Table) -> Option<String> {
    let alone = |name: &str, value: toml::Value| {
        let table = toml::Table::from_iter([(name.to_owned(), value)]);
        table.try_into::<Config>().is_err()
    };
    table.iter().find_map(|(name, value)| match value {
        toml::Value::Table(section) if section.is_empty() => alone(name, value.clone()).then(|| name.clone()),
        toml::Value::Table(section) => section.iter().find_map(|(key, value)| {
            let one = toml::Table::from_iter([(key.clone(), value.clone())]);
            alone(name, one.into()).then(|| format!("{name}.{key}"))
        }),
        value => alone(name, value.clone()).then(|| name.clone()),
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Number,
    Flag,
    TextList,
    IntegerList,
    Map,
}

/// Every key that a variable can set, with its section ("" = top). `OAUTH3_<SECTION>_<KEY>`.
const KEYS: &[(&str, &str, Kind)] = &[
    ("", "listen", Kind::Text),
    ("", "public_url", Kind::Text),
    ("", "executor", Kind::Text),
    ("", "anonymous_agent", Kind::Text),
    ("telegram", "token_file", Kind::Text),
    ("telegram", "chat_id", Kind::Integer),
    ("telegram", "owner_ids", Kind::IntegerList),
    ("telegram", "api_url", Kind::Text),
    ("egress", "resolve", Kind::Map),
    ("egress", "extra_ca", Kind::TextList),
    ("egress", "allow_private", Kind::TextList),
    ("proxy", "listen", Kind::Text),
    ("proxy", "wait_seconds", Kind::Integer),
    ("proxy", "durable_audit", Kind::Flag),
    ("proxy", "forward_hosts", Kind::TextList),
    ("proxy", "providers_file", Kind::Text),
    ("proxy", "prices_file", Kind::Text),
    ("proxy", "requests_per_minute", Kind::Integer),
    ("proxy", "tokens_per_minute", Kind::Integer),
    ("proxy", "tokens_per_day", Kind::Integer),
    ("proxy", "usd_per_day", Kind::Text),
    ("proxy", "usd_total", Kind::Text),
    ("metrics", "listen", Kind::Text),
    ("notify", "openclaw_url", Kind::Text),
    ("notify", "openclaw_token_file", Kind::Text),
    ("notify", "command", Kind::TextList),
    ("notify", "webhook_url", Kind::Text),
    ("notify", "webhook_secret_file", Kind::Text),
    ("limits", "pending_minutes", Kind::Number),
    ("limits", "requests_per_minute", Kind::Integer),
    ("limits", "pending_per_agent", Kind::Integer),
    ("limits", "timeout_seconds_max", Kind::Integer),
    ("limits", "memory_mb", Kind::Integer),
    ("limits", "output_bytes", Kind::Integer),
    ("limits", "processes", Kind::Integer),
    ("limits", "cpu_seconds_max", Kind::Integer),
    ("limits", "file_mb", Kind::Integer),
    ("limits", "open_files", Kind::Integer),
    ("limits", "egress_mb", Kind::Integer),
    ("limits", "egress_requests", Kind::Integer),
    ("limits", "runs", Kind::Integer),
    ("vault", "key", Kind::Text),
    ("vault", "passphrase_file", Kind::Text),
    ("runtimes", "deno", Kind::Text),
    ("runtimes", "node", Kind::Text),
    ("runtimes", "python", Kind::Text),
    ("commands", "allow", Kind::TextList),
    ("imports", "allow", Kind::TextList),
    ("imports", "npm_registry", Kind::Text),
    ("imports", "jsr_registry", Kind::Text),
    ("docker", "host", Kind::Text),
    ("docker", "image", Kind::Text),
    ("docker", "deno_image", Kind::Text),
    ("docker", "node_image", Kind::Text),
    ("docker", "python_image", Kind::Text),
    ("docker", "cpus", Kind::Number),
    ("docker", "shared_dir", Kind::Text),
];

/// The seeds' names for some of them. The names above win.
const OLD_NAMES: &[(&str, &str, &str)] = &[
    ("PUBLIC_URL", "", "public_url"),
    ("EXECUTOR_MODE", "", "executor"),
    ("DOCKER_HOST", "docker", "host"),
    ("TELEGRAM_BOT_TOKEN_FILE", "telegram", "token_file"),
    ("TELEGRAM_CHAT_ID", "telegram", "chat_id"),
    ("TELEGRAM_OWNER_IDS", "telegram", "owner_ids"),
    ("TELEGRAM_API_URL", "telegram", "api_url"),
];

fn overlay(table: &mut toml::Table, variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    if let Some(port) = variable("PORT").filter(|v| !v.is_empty()) {
        let port: u16 = port.parse().context("PORT is not a port number")?;
        let listen = table.get("listen").and_then(|v| v.as_str()).and_then(|v| v.parse::<SocketAddr>().ok());
        let mut listen = listen.unwrap_or_else(|| Config::default().listen);
        listen.set_port(port);
        table.insert("listen".into(), listen.to_string().into());
    }
    for (name, section, key) in OLD_NAMES {
        if let Some(text) = variable(name).filter(|v| !v.is_empty()) {
            let kind = KEYS.iter().find(|(s, k, _)| s == section && k == key).map_or(Kind::Text, |(_, _, kind)| *kind);
            set(table, section, key, parse(kind, &text).with_context(|| format!("variable {name}"))?)?;
        }
    }
    for (section, key, kind) in KEYS {
        let name = variable_name(section, key);
        if let Some(text) = variable(&name) {
            set(table, section, key, parse(*kind, &text).with_context(|| format!("variable {name}"))?)?;
        }
    }
    Ok(())
}

fn variable_name(section: &str, key: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!("{section}_") };
    format!("OAUTH3_{section}{key}").to_ascii_uppercase()
}

fn set(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) -> Result<()> {
    let target = if section.is_empty() {
        table
    } else {
        let entry = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        entry.as_table_mut().with_context(|| format!("configuration: {section} is not a section"))?
    };
    target.insert(key.to_owned(), value);
    Ok(())
}

/// Reads a variable's text. Lists and maps are TOML (`["a", "b"]`, `{ a = "1.2.3.4:5" }`) or separated by commas.
fn parse(kind: Kind, text: &str) -> Result<toml::Value> {
    let text = text.trim();
    let toml_value = |text: &str| -> Result<toml::Value> {
        let mut table = format!("value = {text}").parse::<toml::Table>().context("not valid TOML")?;
        table.remove("value").context("empty")
    };
    let items = || text.split(',').map(str::trim).filter(|s| !s.is_empty());
    Ok(match kind {
        Kind::Text => text.into(),
        Kind::Integer => text.parse::<i64>().context("not a whole number")?.into(),
        Kind::Number => text.parse::<f64>().context("not a number")?.into(),
        Kind::Flag => text.parse::<bool>().context("true or false")?.into(),
        Kind::TextList | Kind::IntegerList if text.starts_with('[') => toml_value(text)?,
        Kind::TextList => items().map(toml::Value::from).collect::<Vec<_>>().into(),
        Kind::IntegerList => {
            let numbers: Result<Vec<i64>, _> = items().map(str::parse).collect();
            toml::Value::from(numbers.context("not a list of whole numbers")?)
        }
        Kind::Map if text.starts_with('{') => toml_value(text)?,
        Kind::Map => {
            let mut map = toml::Table::new();
            for item in items() {
                let (name, value) = item.split_once('=').context("write name=address, separated by commas")?;
                map.insert(name.trim().to_owned(), value.trim().into());
            }
            map.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Config::load(Some(file.path()), &lookup)
    }

    #[test]
    fn an_unknown_key_is_fatal_and_named() {
        for toml in ["colour = 1", "[limits]\ncolour = 1", "[colour]\nx = 1"] {
            let error = load(toml, &[]).unwrap_err().to_string();
            assert!(error.contains("colour"), "{error}");
        }
    }

    #[test]
    fn variables_win_over_the_file_and_new_names_over_old_ones() {
        let toml = "listen = \"127.0.0.1:1\"\n[limits]\npending_minutes = 1\n";
        let config = load(
            toml,
            &[
                ("PORT", "4000"),
                ("OAUTH3_LIMITS_PENDING_MINUTES", "0.05"),
                ("TELEGRAM_CHAT_ID", "7"),
                ("TELEGRAM_OWNER_IDS", "7, 8"),
                ("OAUTH3_TELEGRAM_CHAT_ID", "9"),
                ("OAUTH3_EGRESS_RESOLVE", "api.openai.com=127.0.0.1:8443"),
                ("OAUTH3_NOTIFY_COMMAND", "[\"notify\", \"{request_id}\"]"),
            ],
        )
        .unwrap();
        assert_eq!(config.listen.port(), 4000);
        assert!((config.limits.pending_minutes - 0.05).abs() < 1e-9);
        assert_eq!((config.telegram.chat_id, config.telegram.owner_ids), (9, vec![7, 8]));
        assert_eq!(config.egress.resolve["api.openai.com"].port(), 8443);
        assert_eq!(config.notify.command, ["notify", "{request_id}"]);
    }

    #[test]
    fn every_key_can_be_set_by_a_variable() {
        let config = toml::Table::try_from(Config::default()).unwrap();
        let mut found = 0;
        for (name, value) in &config {
            match value {
                toml::Value::Table(section) => {
                    for key in section.keys() {
                        assert!(KEYS.iter().any(|(s, k, _)| s == name && k == key), "{name}.{key}");
                        found += 1;
                    }
                }
                _ => {
                    assert!(KEYS.iter().any(|(s, k, _)| s.is_empty() && k == name), "{name}");
                    found += 1;
                }
            }
        }
        assert_eq!(found, KEYS.len());
    }

    #[test]
    fn what_is_shown_holds_no_credential() {
        let config = load(
            "[notify]\nwebhook_url = \"https://me:hush@hooks.example/T0/hush?sig=hush\"\nopenclaw_url = \"http://me:hush@127.0.0.1:1/base?x=hush\"\ncommand = [\"openclaw\", \"--token\", \"hush\", \"--password=hush\", \"--mode\", \"now\"]",
            &[],
        );
        let shown = config.unwrap().redacted().notify;
        assert_eq!(shown.webhook_url, "https://hooks.example/(hidden)?(hidden)");
        assert_eq!(shown.openclaw_url, "http://127.0.0.1:1/base?(hidden)");
        assert_eq!(shown.command.join(" "), "openclaw --token (hidden) --password=(hidden) --mode now");
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for (toml, named) in [
            ("executor = \"none\"", "executor"),
            ("executor = \"docker\"", "docker.image"),
            ("[docker]\ncpus = 0", "docker.cpus"),
            ("public_url = \"nonsense\"", "public_url"),
            ("listen = \"nonsense\"", "listen"),
            ("[proxy]\nlisten = \"here\"", "proxy.listen"),
            ("[proxy]\nusd_per_day = \"much\"", "proxy.usd_per_day"),
            ("[proxy]\nwait_seconds = 4000", "proxy.wait_seconds"),
            ("[limits]\npending_minutes = 0", "limits.pending_minutes"),
            ("[limits]\npending_minutes = nan", "limits.pending_minutes"),
            ("[limits]\npending_minutes = \"soon\"", "limits.pending_minutes"),
            ("[limits]\nrequests_per_minute = -1", "limits.requests_per_minute"),
            ("[limits]\npending_per_agent = 0", "limits.pending_per_agent"),
            ("[limits]\ntimeout_seconds_max = 0", "limits.timeout_seconds_max"),
            ("[limits]\ntimeout_seconds_max = 9223372036854775807", "limits.timeout_seconds_max"),
            ("[limits]\nmemory_mb = 0", "limits.memory_mb"),
            ("[limits]\ncpu_seconds_max = 0", "limits.cpu_seconds_max"),
            ("[limits]\nfile_mb = 65", "limits.file_mb"),
            ("[limits]\nopen_files = 3", "limits.open_files"),
            ("[limits]\negress_mb = -1", "limits.egress_mb"),
            ("[limits]\negress_requests = 0", "limits.egress_requests"),
            ("[limits]\nruns = 257", "limits.runs"),
            ("[limits]\noutput_bytes = 99999999999999", "limits.output_bytes"),
            ("[telegram]\nchat_id = \"me\"", "telegram.chat_id"),
            ("[telegram]\napi_url = \"api.telegram.org\"", "telegram.api_url"),
            ("[notify]\nopenclaw_url = \"gopher://x\"", "notify.openclaw_url"),
            ("[notify]\ncommand = \"notify\"", "notify.command"),
            ("[egress]\nresolve = { \"a.example\" = \"nonsense\" }", "egress.resolve"),
            ("[egress]\nallow_private = [\"10.0.0.1\"]", "10.0.0.1"),
        ] {
            let error = load(toml, &[]).unwrap_err().to_string();
            assert!(error.contains(named), "{toml}: {error}");
        }
    }
}
