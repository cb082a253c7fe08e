//! The API proxy's part of the configuration, and what it is made from.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use oauth3_core::{Budget, HostPattern, MicroUsd};
use oauth3_keeper::{ProxyConfig, ProxySetup};
use oauth3_provider::{Catalog, Prices};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where agents reach the proxy unless the owner says otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:3738";
/// In place of an address: no proxy.
const OFF: &str = "off";
/// Longest that a call may wait for the owner, in seconds.
const WAIT_SECONDS: std::ops::RangeInclusive<u64> = 0..=3600;
/// The owner's own files, in the data directory.
const PROVIDERS_FILE: &str = "providers.toml";
const PRICES_FILE: &str = "prices.toml";

/// `[proxy]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProxySection {
    /// Where agents reach the proxy; `off`: nowhere.
    pub listen: String,
    /// How long a call waits for the owner, in seconds.
    pub wait_seconds: u64,
    /// Whether each call is on disk in the audit before it leaves.
    pub durable_audit: bool,
    /// Hosts that agents may reach without any secret, such as "files.example" or "*.mirror.example".
    pub forward_hosts: Vec<String>,
    /// File with providers of the owner's own; empty: providers.toml in the data directory, when there is one.
    pub providers_file: String,
    /// File with prices of the owner's own; empty: prices.toml in the data directory, when there is one.
    pub prices_file: String,
    /// What an agent gets that asks for an API itself: calls a minute; 0: any number.
    pub requests_per_minute: u32,
    /// Tokens a minute; 0: any number.
    pub tokens_per_minute: u64,
    /// Tokens a day; 0: any number.
    pub tokens_per_day: u64,
    /// Dollars a day, such as "2.50"; empty: any amount.
    pub usd_per_day: String,
    /// Dollars in all; empty: any amount.
    pub usd_total: String,
}

impl Default for ProxySection {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN.into(),
            wait_seconds: 120,
            durable_audit: true,
            forward_hosts: Vec::new(),
            providers_file: String::new(),
            prices_file: String::new(),
            requests_per_minute: 0,
            tokens_per_minute: 0,
            tokens_per_day: 0,
            usd_per_day: String::new(),
            usd_total: String::new(),
        }
    }
}

impl ProxySection {
    /// Whether every value has its form.
    ///
    /// # Errors
    /// When one has not; the text names its key.
    pub(crate) fn check(&self) -> Result<()> {
        if !WAIT_SECONDS.contains(&self.wait_seconds) {
            bail!("proxy.wait_seconds is between {} and {}", WAIT_SECONDS.start(), WAIT_SECONDS.end());
        }
        self.address()?;
        self.forward_hosts()?;
        self.budget().map(drop)
    }

    /// The hosts that agents may reach without any secret.
    ///
    /// # Errors
    /// When one has another form.
    fn forward_hosts(&self) -> Result<Vec<HostPattern>> {
        let read = |text: &String| HostPattern::parse(text).context("proxy.forward_hosts");
        self.forward_hosts.iter().map(read).collect()
    }

    /// What an agent gets that asks for an API itself.
    ///
    /// # Errors
    /// When an amount of money cannot be read.
    pub(crate) fn budget(&self) -> Result<Budget> {
        let money = |key: &str, text: &str| -> Result<Option<MicroUsd>> {
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).with_context(|| format!("proxy.{key}"))
        };
        let some = |n: u64| (n > 0).then_some(n);
        Ok(Budget {
            requests_per_minute: (self.requests_per_minute > 0).then_some(self.requests_per_minute),
            tokens_per_minute: some(self.tokens_per_minute),
            tokens_per_day: some(self.tokens_per_day),
            usd_per_day: money("usd_per_day", &self.usd_per_day)?,
            usd_total: money("usd_total", &self.usd_total)?,
        })
    }

    /// Where agents reach it; nothing when it is off.
    ///
    /// # Errors
    /// When it is no address.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>> {
        if self.listen == OFF {
            return Ok(None);
        }
        self.listen.parse().map(Some).context("proxy.listen is an address such as 127.0.0.1:3738, or off")
    }
}

/// The APIs that are known by name, with the owner's own.
///
/// # Errors
/// When a file of the owner's cannot be read.
pub(crate) fn catalog(settings: &Settings) -> Result<Catalog> {
    let catalog = Catalog::embedded()?;
    match own_file(settings, &settings.config.proxy.providers_file, PROVIDERS_FILE)? {
        Some((path, text)) => catalog.overridden(&text).with_context(|| path.display().to_string()),
        None => Ok(catalog),
    }
}

/// What models cost, with the owner's own prices.
///
/// # Errors
/// When a file of the owner's cannot be read.
pub(crate) fn prices(settings: &Settings) -> Result<Prices> {
    let prices = Prices::embedded()?;
    match own_file(settings, &settings.config.proxy.prices_file, PRICES_FILE)? {
        Some((path, text)) => prices.overridden(&text).with_context(|| path.display().to_string()),
        None => Ok(prices),
    }
}

/// What the keeper makes the proxy from; nothing when there is to be none.
///
/// # Errors
/// When a file of the owner's cannot be read.
pub(crate) fn setup(settings: &Settings) -> Result<Option<ProxySetup>> {
    let section = &settings.config.proxy;
    let Some(listen) = section.address()? else { return Ok(None) };
    Ok(Some(ProxySetup {
        listen,
        may_be_taken: section.listen == DEFAULT_LISTEN,
        config: ProxyConfig {
            catalog: catalog(settings)?,
            prices: prices(settings)?,
            patience: Duration::from_secs(section.wait_seconds),
            durable: section.durable_audit,
            forward_hosts: section.forward_hosts()?,
        },
    }))
}

/// A file that the owner named, which must be there, or the usual one, which may be.
fn own_file(settings: &Settings, named: &str, usual: &str) -> Result<Option<(PathBuf, String)>> {
    let path = if named.is_empty() { settings.home.dir().join(usual) } else { settings.beside_config(named) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if named.is_empty() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
