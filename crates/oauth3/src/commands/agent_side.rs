//! What an agent's own programs are told: where the proxy is, and the agent's token.

use crate::cli::AgentSide;
use crate::owner::Owner;
use crate::proxy;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use oauth3_core::AgentToken;
use oauth3_provider::Provider;
use std::io::Read as _;
use std::path::PathBuf;
use url::Url;

/// Longest text that is read for a token, in bytes.
const MAX_TOKEN_TEXT_BYTES: u64 = 4096;

/// An agent's token, the addresses that it is good at, and the providers that there are keys of.
pub(crate) struct Agent {
    pub(crate) token: AgentToken,
    /// Of the gateway, without a slash at its end.
    pub(crate) gateway: String,
    /// Of the proxy, without a slash at its end.
    pub(crate) proxy: String,
    pub(crate) providers: Vec<Provider>,
}

impl Agent {
    /// Reads the token, and asks the owner's side for the rest.
    ///
    /// # Errors
    /// When what is read is no agent's token, or there is no proxy.
    pub(crate) async fn read(settings: &Settings, side: &AgentSide) -> Result<Self> {
        let Addresses { gateway, proxy } = Addresses::of(settings, side.url.as_ref(), side.proxy_url.as_ref())?;
        let owner = Owner::reach(settings).await?;
        let keys = owner.port().api_keys().await?;
        let has_key = |provider: &&Provider| keys.iter().any(|k| k.api.is_provider() && k.api.name() == provider.name);
        let providers = proxy::catalog(settings)?.providers().filter(has_key).cloned().collect();
        Ok(Self { token: token(side.token_file.as_ref())?, gateway, proxy, providers })
    }

    /// Where the proxy has a provider.
    pub(crate) fn base(&self, provider: &str) -> String {
        format!("{}/v1/{provider}", self.proxy)
    }
}

/// Where an agent reaches us. Without a slash at the end.
pub(crate) struct Addresses {
    /// The gateway.
    pub(crate) gateway: String,
    /// The proxy.
    pub(crate) proxy: String,
}

impl Addresses {
    /// Those that were given, else those of the configuration.
    ///
    /// # Errors
    /// When there is no proxy.
    pub(crate) fn of(settings: &Settings, url: Option<&Url>, proxy_url: Option<&Url>) -> Result<Self> {
        let config = &settings.config;
        let given = |url: Option<&Url>| url.map(|url| url.as_str().trim_end_matches('/').to_owned());
        let public = (!config.public_url.is_empty()).then(|| config.public_url.trim_end_matches('/').to_owned());
        let gateway = given(url).or(public).unwrap_or_else(|| format!("http://{}", config.listen));
        let proxy = match given(proxy_url) {
            Some(url) => url,
            None => format!("http://{}", config.proxy.address()?.context("there is no proxy: proxy.listen is off")?),
        };
        Ok(Self { gateway, proxy })
    }
}

/// Reads an agent's token from a file, or from standard input.
///
/// # Errors
/// When it cannot be read, or is none.
pub(crate) fn token(file: Option<&PathBuf>) -> Result<AgentToken> {
    let mut text = zeroize::Zeroizing::new(String::new());
    match file {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            file.take(MAX_TOKEN_TEXT_BYTES).read_to_string(&mut text)
        }
        None => std::io::stdin().take(MAX_TOKEN_TEXT_BYTES).read_to_string(&mut text),
    }
    .context("cannot read the agent's token")?;
    parse(&text)
}

/// Reads an agent's token.
///
/// # Errors
/// When it is none.
pub(crate) fn parse(text: &str) -> Result<AgentToken> {
    match AgentToken::parse(text.trim()) {
        Some(token) => Ok(token),
        None => bail!("this is no agent's token (oa3_…), which `oauth3 agent add` and `agent rotate` print"),
    }
}
