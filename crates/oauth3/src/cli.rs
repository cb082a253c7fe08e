//! The command line.

mod connection;

use clap::{Args, Parser, Subcommand};
pub(crate) use connection::{ConnectionAdd, ConnectionCommand, LoginArgs, SignInArgs};
use oauth3_core::{
    AgentName, AskedLimits, GrantId, HmacEncoding, HmacOver, Host, MicroUsd, ModelPattern, RequestId, Rule, Runtime,
    SecretName, Slot, Tag, Trust,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Give an agent the right to act, never the keys.
#[derive(Debug, Parser)]
#[command(name = "oauth3", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Where everything is kept [default: $OAUTH3_HOME, else the XDG data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: oauth3.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole main job on this machine, with nothing set up
    Demo {
        /// Answer "run once" instead of asking
        #[arg(long)]
        yes: bool,
    },
    /// Make the data directory, the sealing key and the first agent's token
    Init {
        /// Name of the first agent
        #[arg(long, default_value = "agent")]
        agent: AgentName,
    },
    /// Run the gateway and its keeper
    Serve {
        /// Address for agents [default: 127.0.0.1:3737]
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Check every part, one line each, with the mend
    Doctor,
    /// Print the effective configuration, without secrets
    Config,
    /// Store, list, replace and remove secrets; values are never arguments and never printed
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Add, list and revoke agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// APIs that are known by name: list them, assign keys, grant them to agents
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Any other HTTP API, and accounts that you sign in to: define it, grant it to agents
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Sign in to a connection's account with a code
    Login(LoginArgs),
    /// List where you are signed in
    Logins,
    /// Sign out: tokens are revoked at the provider, then destroyed
    Logout {
        /// The connection
        name: String,
    },
    /// Show all about sign-ins: account, scopes, when tokens end, last use
    Status {
        /// The connection; none: each of them
        name: Option<String>,
    },
    /// Show what agents used of APIs
    Usage(UsageArgs),
    /// Print the sums of usage and what goes on now, as Prometheus reads it
    Metrics,
    /// Print the variables with which an agent's SDKs, or all its programs, use the proxy
    Env(EnvArgs),
    /// Run a program as an agent: its network leads to the proxy and nowhere else
    Wrap(WrapArgs),
    /// Have OpenClaw's models, secrets and skill go through here
    #[command(subcommand)]
    Openclaw(OpenclawCommand),
    /// List requests, newest first
    Requests {
        /// Go on and show each change
        #[arg(long)]
        watch: bool,
        /// Final ones too
        #[arg(long)]
        all: bool,
    },
    /// Show one request whole, with its code
    Show {
        /// The request
        id: RequestId,
    },
    /// Say yes to a request
    Approve {
        /// The request
        id: RequestId,
        /// How far to trust it: once, 24h or forever
        #[arg(long, default_value = "once")]
        trust: Trust,
    },
    /// Say no to a request
    Deny {
        /// The request
        id: RequestId,
        /// Why, for the agent
        #[arg(long)]
        reason: Option<String>,
    },
    /// List standing grants, or revoke one
    Grants {
        /// What to do with them
        #[command(subcommand)]
        command: Option<GrantsCommand>,
    },
    /// Submit code yourself, wait for the approval, and show the result
    Run(RunArgs),
    /// Run a program in the sandbox with a connection's token in the variables that it looks for
    Exec(ExecArgs),
    /// Show the audit chain
    Audit {
        /// Go on and show new rows
        #[arg(long)]
        follow: bool,
        /// What else to do with it
        #[command(subcommand)]
        command: Option<AuditCommand>,
    },
    /// Deny everything and end what runs, or stop doing so
    KillSwitch {
        /// `on` or `off`
        #[arg(value_parser = ["on", "off"])]
        state: String,
    },
    /// The keeper process; `serve` starts it
    #[command(hide = true)]
    Keeper {
        /// Also listen on the keeper's own socket in the data directory
        #[arg(long)]
        owner_socket: bool,
    },
}

/// `oauth3 secret …`
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Store a new secret: typed at a prompt, or read from standard input or a variable
    Add {
        /// Its name, such as OPENAI_API_KEY
        name: SecretName,
        /// A host that it may go to, such as api.openai.com; give several times
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<Host>,
        /// How it may be used
        #[command(flatten)]
        uses: UsesArgs,
        /// Where the value is
        #[command(flatten)]
        value: ValueSource,
    },
    /// List names, hosts and how they may be used
    List,
    /// Remove one for good
    Remove {
        /// Its name
        name: SecretName,
    },
    /// Give one a new value, and other hosts or uses where they are named; the others stay
    Rotate {
        /// Its name
        name: SecretName,
        /// Hosts instead of those it has
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<Host>,
        /// How it may be used
        #[command(flatten)]
        uses: UsesArgs,
        /// Where the value is
        #[command(flatten)]
        value: ValueSource,
    },
}

/// How a secret may be used.
#[derive(Debug, Clone, Args)]
pub(crate) struct UsesArgs {
    /// Where the value may stand: header, query, path, body [default: header]
    #[arg(long = "in", value_name = "SLOT", value_delimiter = ',')]
    pub slots: Vec<Slot>,
    /// A request that it may be used for, such as "api.github.com GET,POST /repos/acme/*"; give several times
    #[arg(long = "allow", value_name = "RULE")]
    pub rules: Vec<Rule>,
    /// Any request toward its hosts, after all
    #[arg(long, conflicts_with = "rules")]
    pub allow_all: bool,
    /// What takes the placeholder's place: value, aws-sigv4, hmac-sha256, jwt-rs256, jwt-es256, jwt-hs256
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// hmac-sha256: what is signed: body, timestamp.body, query [default: body]
    #[arg(long, value_name = "WHAT")]
    pub over: Option<HmacOver>,
    /// hmac-sha256: how the signature is written: hex, base64 [default: hex]
    #[arg(long, value_name = "ENCODING")]
    pub encoding: Option<HmacEncoding>,
    /// hmac-sha256 over timestamp.body: the field with the time [default: x-timestamp]
    #[arg(long, value_name = "FIELD")]
    pub timestamp_header: Option<String>,
    /// jwt: a claim, such as iss=12345; give several times
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = key_value)]
    pub claims: Vec<(String, String)>,
    /// jwt: how long each is good, in seconds [default: 540]
    #[arg(long, value_name = "SECONDS")]
    pub lifetime: Option<u32>,
    /// Code gets the REAL VALUE, not a placeholder, and each request is approved by itself
    #[arg(long)]
    pub reveal: bool,
    /// With --reveal: it may also be trusted for longer than once
    #[arg(long, requires = "reveal")]
    pub reveal_trust: bool,
    /// Code gets a placeholder, after all
    #[arg(long, conflicts_with = "reveal")]
    pub no_reveal: bool,
}

/// Where a secret's value is read from.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(crate) struct ValueSource {
    /// Read it from standard input; one trailing newline is dropped
    #[arg(long)]
    pub stdin: bool,
    /// Read it from this variable
    #[arg(long, value_name = "VAR")]
    pub from_env: Option<String>,
}

/// `oauth3 agent …`
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Add one; its token is printed once
    Add {
        /// Its name
        name: AgentName,
    },
    /// List them
    List,
    /// Revoke one for good, with its requests and runs
    Revoke {
        /// Its name
        name: AgentName,
    },
    /// Give one the words that keys are assigned by, in place of those it has
    Tag {
        /// Its name
        name: AgentName,
        /// The words; none: it has none
        tags: Vec<Tag>,
    },
    /// Give one a new token; the old one ends
    Rotate {
        /// Its name
        name: AgentName,
    },
}

/// `oauth3 provider …`
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// List them, with the keys that are assigned
    List,
    /// Assign keys, list them, take them away
    #[command(subcommand)]
    Key(KeyCommand),
    /// Try each key with a call of its own; exit code 1 when one fails
    Check {
        /// The provider; none: every one that has keys
        provider: Option<String>,
    },
    /// Let an agent use one without asking, in place of what it was granted of it before
    Grant {
        /// The provider, such as openai
        provider: String,
        /// Who and how much
        #[command(flatten)]
        grant: GrantArgs,
    },
}

/// `oauth3 provider key …`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Assign a stored secret, for one agent, for agents with a tag, or for everybody
    Add {
        /// The provider, such as openai, or api/NAME for a connection
        provider: String,
        /// The secret that holds the key
        secret: SecretName,
        /// The only agent that it is for
        #[arg(long, conflicts_with = "tag")]
        agent: Option<AgentName>,
        /// The tag of the agents that it is for
        #[arg(long)]
        tag: Option<Tag>,
    },
    /// List them
    List,
    /// Take one away; calls with it end
    Remove {
        /// The provider, or api/NAME for a connection
        provider: String,
        /// The secret
        secret: SecretName,
    },
}

/// Who may use an API, and how much of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct GrantArgs {
    /// The agent
    #[arg(long)]
    pub agent: AgentName,
    /// A model that it may use, such as gpt-4o or "gpt-4o*"; give several times [default: any]
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<ModelPattern>,
    /// A request that it may make, such as "api.openai.com POST /v1/chat/completions"; give several times
    #[arg(long = "allow", value_name = "RULE")]
    pub rules: Vec<Rule>,
    /// Calls within a minute
    #[arg(long, value_name = "N")]
    pub requests_per_minute: Option<u32>,
    /// Tokens within a minute, in and out together
    #[arg(long, value_name = "N")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens on a day, in and out together
    #[arg(long, value_name = "N")]
    pub tokens_per_day: Option<u64>,
    /// Dollars on a day, such as 2.50
    #[arg(long, value_name = "X")]
    pub usd_per_day: Option<MicroUsd>,
    /// Dollars in all
    #[arg(long, value_name = "X")]
    pub usd_total: Option<MicroUsd>,
    /// For how long, such as 30m, 24h or 7d [default: until it is revoked]
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime)]
    pub lifetime: Option<Duration>,
}

/// `oauth3 usage …`
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// What to sum by
    #[arg(long, value_enum, default_value = "provider")]
    pub by: UsageBy,
    /// Only the last days, today included
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub days: Option<u16>,
}

/// What usage is summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UsageBy {
    /// The agent that called
    Agent,
    /// The provider or connection
    Provider,
    /// The model
    Model,
    /// The day, UTC
    Day,
}

/// Who an agent is, and where it reaches us.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentSide {
    /// File with the agent's token [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the agent reaches the gateway [default: public_url, else listen of the configuration]
    #[arg(long, value_name = "URL")]
    pub url: Option<Url>,
    /// Where the agent reaches the proxy [default: proxy.listen of the configuration]
    #[arg(long, value_name = "URL")]
    pub proxy_url: Option<Url>,
}

/// `oauth3 env …`
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// Which agent it is
    #[command(flatten)]
    pub side: AgentSide,
    /// For every program, not for SDKs only: the proxy as HTTPS_PROXY, and the certificate to trust
    #[arg(long)]
    pub forward: bool,
    /// Where the certificate is written, for the agent to read [default: forward in the data directory]
    #[arg(long, value_name = "DIR", requires = "forward")]
    pub ca_dir: Option<PathBuf>,
}

/// `oauth3 wrap …`
#[derive(Debug, Args)]
pub(crate) struct WrapArgs {
    /// File with the agent's token [default: OAUTH3_TOKEN_FILE, else OAUTH3_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the gateway is [default: public_url, else listen of the configuration]
    #[arg(long, value_name = "URL")]
    pub url: Option<Url>,
    /// Where the proxy is [default: proxy.listen of the configuration]
    #[arg(long, value_name = "URL")]
    pub proxy_url: Option<Url>,
    /// Set the variables and nothing else: the program can go around the proxy
    #[arg(long)]
    pub variables_only: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// `oauth3 openclaw …`
#[derive(Debug, Subcommand)]
pub(crate) enum OpenclawCommand {
    /// Print what its configuration needs, or put it in
    Setup(Box<OpenclawSetup>),
    /// Answer OpenClaw, which asks for an agent's token on standard input
    Secrets,
}

/// `oauth3 openclaw setup …`
#[derive(Debug, Args)]
pub(crate) struct OpenclawSetup {
    /// Which agent it is
    #[command(flatten)]
    pub agent: AgentSide,
    /// A model, such as openai/gpt-4o; give several times. Without one, OpenClaw gets the skills only
    #[arg(long = "model", value_name = "PROVIDER/MODEL")]
    pub models: Vec<String>,
    /// Merge it into this file, such as ~/.openclaw/openclaw.json
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Print it, which is what happens without --write
    #[arg(long, conflicts_with = "write")]
    pub print: bool,
}

/// `oauth3 grants …`
#[derive(Debug, Subcommand)]
pub(crate) enum GrantsCommand {
    /// Take one back; runs that use it end
    Revoke {
        /// The grant
        id: GrantId,
    },
}

/// `oauth3 audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the whole chain
    Verify,
    /// Print every row as a line of JSON
    Export,
}

/// `oauth3 run …`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The code: a file, a directory, or a tar archive
    pub file: PathBuf,
    /// Of several files, the one that runs; else main.*
    #[arg(long, value_name = "PATH")]
    pub entry: Option<String>,
    /// Of several files, one that is no text to be read; give several times
    #[arg(long = "asset", value_name = "PATH")]
    pub assets: Vec<String>,
    /// A secret that it needs; give several times
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<SecretName>,
    /// A host that it may talk to; give several times
    #[arg(long = "network", value_name = "HOST")]
    pub network: Vec<Host>,
    /// An argument; give several times
    #[arg(long = "arg", value_name = "K=V", value_parser = key_value)]
    pub args: Vec<(String, String)>,
    /// What runs it: embedded, deno, node, python or shell
    #[arg(long)]
    pub runtime: Option<Runtime>,
    /// Wall clock, in seconds
    #[arg(long)]
    pub timeout: Option<f64>,
    /// What it may use, such as memory_mb=128 or cpu_seconds=5; give several times
    #[arg(long = "limit", value_name = "K=V", value_parser = limit)]
    pub limits: Vec<(String, f64)>,
}

/// `oauth3 exec …`
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The connection whose token it gets
    pub connection: String,
    /// A host that it may talk to, in place of the connection's; give several times
    #[arg(long = "network", value_name = "HOST")]
    pub network: Vec<Host>,
    /// Wall clock, in seconds
    #[arg(long)]
    pub timeout: Option<f64>,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Longest life of a grant that ends by itself, in seconds (ten years).
const MAX_LIFETIME_SECONDS: u64 = 3650 * 24 * 60 * 60;

fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 30m, 24h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().map_err(|_| wrong())?.saturating_mul(seconds);
    if !(1..=MAX_LIFETIME_SECONDS).contains(&seconds) {
        return Err("a grant lives between a second and ten years; leave --for out for one without end".to_owned());
    }
    Ok(Duration::from_secs(seconds))
}

fn limit(text: &str) -> Result<(String, f64), String> {
    let (key, value) = key_value(text)?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    // Its form is checked here, for the answer is nearer; the owner's ceilings are the gateway's to check.
    AskedLimits::parse(&BTreeMap::from([(key.clone(), value)])).map_err(|error| error.to_string())?;
    Ok((key, value))
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write it as K=V")?;
    Ok((key.to_owned(), value.to_owned()))
}
