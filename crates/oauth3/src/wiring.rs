//! Turns settings into parts.

use crate::clock::SystemClock;
use crate::config::ImportsSection;
use crate::settings::Settings;
use crate::terminal;
use anyhow::{Context, Result};
use oauth3_approve::{ProviderWords, TelegramConfig};
use oauth3_broker::{BrokerConfig, ImportRules, WakeConfig};
use oauth3_core::{Clock, Credential, Runner, Runtime};
use oauth3_dial::DialConfig;
use oauth3_keeper::KeySource;
use oauth3_provider::Identities;
use oauth3_sandbox::{DirectConfig, DirectRunner, DockerConfig, DockerRunner, NativeConfig, NativeRunner, ProbeLine};
use oauth3_store::SqliteStore;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// The system's clock, as a port.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Opens the store.
///
/// # Errors
/// When it cannot be opened or is of a newer version.
pub(crate) async fn store(settings: &Settings) -> Result<Arc<SqliteStore>> {
    let store = SqliteStore::open(settings.home.db(), &settings.home.audit_head())
        .await
        .with_context(|| format!("cannot open {}", settings.home.db().display()))?;
    Ok(Arc::new(store))
}

/// What reaches the outside, for the gateway and the keeper alike.
///
/// # Errors
/// When a file with authorities cannot be read.
pub(crate) fn dial(settings: &Settings) -> Result<DialConfig> {
    let egress = &settings.config.egress;
    let extra_ca = egress
        .extra_ca
        .iter()
        .map(|path| std::fs::read(path).with_context(|| format!("cannot read {} ([egress] extra_ca)", path.display())))
        .collect::<Result<Vec<_>>>()?;
    Ok(DialConfig {
        resolve: egress.resolve.iter().map(|(name, address)| (name.to_ascii_lowercase(), *address)).collect(),
        extra_ca,
        allow_private: egress.allow_private.iter().map(|name| name.to_ascii_lowercase()).collect(),
    })
}

/// Where the master key is. Only the keeper calls this, and `init`, for which the passphrase is `new`.
///
/// # Errors
/// When the passphrase's file cannot be read, or there is no passphrase and no terminal to ask at.
pub(crate) fn key_source(settings: &Settings, new: bool) -> Result<KeySource> {
    let dir = settings.home.dir().to_path_buf();
    if settings.config.vault.key == "file" {
        return Ok(KeySource::File { dir });
    }
    let passphrase = match (passphrase_file(settings), std::env::var("OAUTH3_PASSPHRASE")) {
        (Some(file), _) => Zeroizing::new(
            std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {} (the passphrase)", file.display()))?,
        ),
        (None, Ok(passphrase)) => Zeroizing::new(passphrase),
        (None, Err(_)) => terminal::passphrase(new).context(
            "the vault is sealed by a passphrase: set OAUTH3_PASSPHRASE_FILE or OAUTH3_PASSPHRASE, or type it at a \
             terminal",
        )?,
    };
    Ok(KeySource::Passphrase { dir, passphrase: Zeroizing::new(passphrase.trim_end_matches('\n').to_owned()) })
}

/// Whether a keeper that starts now asks for the passphrase at the terminal.
pub(crate) fn asks_for_passphrase(settings: &Settings) -> bool {
    settings.config.vault.key == "passphrase"
        && passphrase_file(settings).is_none()
        && std::env::var_os("OAUTH3_PASSPHRASE").is_none()
        && terminal::is_there()
}

fn passphrase_file(settings: &Settings) -> Option<PathBuf> {
    let configured = Some(&settings.config.vault.passphrase_file).filter(|f| !f.is_empty());
    let configured = configured.map(|file| settings.beside_config(file));
    configured.or_else(|| std::env::var_os("OAUTH3_PASSPHRASE_FILE").map(PathBuf::from))
}

/// What holds the code, as the configuration says. Reaps what an earlier gateway left behind, so only one that
/// has the data directory to itself calls this.
///
/// # Errors
/// When the machine, or the engine, lacks what that executor needs.
pub(crate) async fn runner(settings: &Settings) -> Result<Arc<dyn Runner>> {
    let runner: Arc<dyn Runner> = match settings.config.executor.as_str() {
        "docker" => Arc::new(DockerRunner::connect(docker(settings)?).await?),
        "direct" => Arc::new(DirectRunner::new(direct(settings)?)?),
        _ => Arc::new(NativeRunner::new(native(settings)?)?),
    };
    Ok(runner)
}

/// The same, tried for the doctor.
///
/// # Errors
/// When our own program file cannot be found.
pub(crate) async fn probe(settings: &Settings) -> Result<Vec<ProbeLine>> {
    Ok(match settings.config.executor.as_str() {
        "docker" => oauth3_sandbox::probe_docker(docker(settings)?).await,
        "direct" => oauth3_sandbox::probe_direct(direct(settings)?).await,
        _ => oauth3_sandbox::probe(native(settings)?).await,
    })
}

fn helper() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find our own program file")
}

fn docker(settings: &Settings) -> Result<DockerConfig> {
    let docker = &settings.config.docker;
    let named = [
        (Runtime::Deno, &docker.deno_image),
        (Runtime::Node, &docker.node_image),
        (Runtime::Python, &docker.python_image),
    ];
    let shared = !docker.shared_dir.is_empty();
    Ok(DockerConfig {
        host: docker.host.clone(),
        image: docker.image.clone(),
        images: named.into_iter().filter(|(_, i)| !i.is_empty()).map(|(r, i)| (r, i.clone())).collect(),
        helper: helper()?,
        directory: if shared { settings.beside_config(&docker.shared_dir) } else { settings.home.dir().join("docker") },
        copy_helper: shared,
        cpus: docker.cpus,
    })
}

fn direct(settings: &Settings) -> Result<DirectConfig> {
    let deno = &settings.config.runtimes.deno;
    Ok(DirectConfig {
        helper: helper()?,
        deno: (!deno.is_empty()).then(|| PathBuf::from(deno)),
        search: std::env::var_os("PATH").unwrap_or_default(),
        directory: std::env::temp_dir(),
    })
}

fn native(settings: &Settings) -> Result<NativeConfig> {
    let runtimes = &settings.config.runtimes;
    let configured =
        [(Runtime::Deno, &runtimes.deno), (Runtime::Node, &runtimes.node), (Runtime::Python, &runtimes.python)];
    Ok(NativeConfig {
        spare: true,
        helper: helper()?,
        runtimes: configured
            .into_iter()
            .filter(|(_, path)| !path.is_empty())
            .map(|(runtime, path)| (runtime, PathBuf::from(path)))
            .collect::<BTreeMap<_, _>>(),
        search: std::env::var_os("PATH").unwrap_or_default(),
    })
}

/// What skills may import from elsewhere.
fn imports(section: &ImportsSection) -> Result<ImportRules> {
    let mut rules = ImportRules::default();
    let registry = |address: &str, key: &str| {
        let url = Url::parse(address).ok().filter(|url| url.scheme() == "https" && url.query().is_none());
        url.with_context(|| format!("configuration: [imports] {key} is the https address of a registry; set it"))
    };
    for kind in &section.allow {
        match kind.as_str() {
            "https" => rules.https = true,
            "npm" => rules.npm = Some(registry(&section.npm_registry, "npm_registry")?),
            "jsr" => rules.jsr = Some(registry(&section.jsr_registry, "jsr_registry")?),
            other => anyhow::bail!("configuration: [imports] allow knows npm, jsr and https, not {other:?}"),
        }
    }
    Ok(rules)
}

/// The broker's bounds.
///
/// # Errors
/// When a name in the configuration has the wrong form.
pub(crate) fn broker(settings: &Settings) -> Result<BrokerConfig> {
    let limits = &settings.config.limits;
    let notify = &settings.config.notify;
    let pair = |url: &str, credential: &Option<Credential>, what: &str| -> Result<Option<(String, Credential)>> {
        match (url.is_empty(), credential) {
            (true, _) => Ok(None),
            (false, Some(credential)) => Ok(Some((url.trim_end_matches('/').to_owned(), credential.clone()))),
            (false, None) => anyhow::bail!("configuration: [notify] {what} is needed with its url"),
        }
    };
    Ok(BrokerConfig {
        pending_for: Duration::from_secs_f64(limits.pending_minutes * 60.0),
        requests_per_minute: limits.requests_per_minute,
        pending_per_agent: limits.pending_per_agent,
        ceilings: settings.config.ceilings(),
        runs: limits.runs,
        anonymous_agent: settings.config.anonymous_agent()?,
        imports: imports(&settings.config.imports)?,
        catalog: Arc::new(crate::proxy::catalog(settings)?),
        api_budget: settings.config.proxy.budget()?,
        identities: Arc::new(Identities::embedded()?),
        commands: settings.config.commands.allow.clone(),
        wake: WakeConfig {
            openclaw: pair(&notify.openclaw_url, &settings.openclaw_token, "openclaw_token_file")?,
            command: notify.command.clone(),
            webhook: pair(&notify.webhook_url, &settings.webhook_secret, "webhook_secret_file")?,
        },
    })
}

/// The chat, when there is a token. Without a chat's id the bot only tells people theirs.
pub(crate) fn telegram(settings: &Settings) -> Option<TelegramConfig> {
    let section = &settings.config.telegram;
    Some(TelegramConfig {
        token: settings.telegram_token.clone()?,
        chat_id: section.chat_id,
        owner_ids: section.owner_ids.clone(),
        api_url: section.api_url.trim_end_matches('/').to_owned(),
        public_url: settings.config.public_url.clone(),
        ceilings: settings.config.ceilings(),
        words: words(),
    })
}

/// What identity providers are called, and what their scopes allow.
pub(crate) fn words() -> Arc<dyn ProviderWords> {
    // Without the file, which comes with this program, names are shown as they are.
    Arc::new(Words(Identities::embedded().ok()))
}

#[derive(Debug)]
struct Words(Option<Identities>);

impl ProviderWords for Words {
    fn title(&self, provider: &str) -> Option<String> {
        Some(self.0.as_ref()?.provider(provider)?.title.clone())
    }

    fn scope(&self, provider: &str, scope: &str) -> Option<String> {
        self.0.as_ref()?.provider(provider)?.says(scope).map(str::to_owned)
    }
}
