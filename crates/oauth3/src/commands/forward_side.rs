//! What an agent's programs are told so that they go through the proxy, whatever they call.

use super::agent_side::Addresses;
use super::env::names;
use crate::settings::Settings;
use crate::{proxy, wiring};
use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use oauth3_core::{AgentToken, HttpPort, HttpRequest};
use oauth3_dial::{Dialer, HttpClient, system_authorities};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Names and values of variables.
pub(crate) type Variables = Vec<(String, String)>;

/// Longest that the proxy may take to answer, and its largest answer, in bytes.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// What SDKs get in the place of a key, which they do not start without. The proxy takes it out.
const NO_KEY: &str = "oauth3";
/// Where the proxy is not asked.
const NO_PROXY: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Variables that name the proxy; many programs read the small ones only, and curl no large HTTP_PROXY.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// Variables that name authorities in the place of the system's.
const BUNDLE_VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
];
/// Variables that name authorities besides those that a program has.
const CA_VARIABLES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
/// Characters in a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// An agent whose programs all go through the proxy.
pub(crate) struct ForwardAgent {
    token: AgentToken,
    known: Known,
}

/// What the proxy says about an agent.
#[derive(Deserialize)]
struct Known {
    agent: String,
    certificate: String,
    apis: Vec<String>,
}

/// The certificates that programs are to trust.
pub(crate) struct Files {
    /// That of the agent's authority.
    ca: PathBuf,
    /// The same and the system's.
    bundle: PathBuf,
}

impl ForwardAgent {
    /// Asks the proxy about the agent with this token.
    ///
    /// # Errors
    /// When it does not answer, or does not know the token.
    pub(crate) async fn ask(settings: &Settings, token: AgentToken, addresses: &Addresses) -> Result<Self> {
        let client = HttpClient::new(Dialer::new(wiring::dial(settings)?)?);
        let request = HttpRequest {
            method: "GET",
            url: format!("{}/agent", addresses.proxy),
            headers: vec![("authorization", format!("Bearer {}", token.reveal()).into())],
            body: Vec::new().into(),
            timeout: ASK_TIMEOUT,
            max_reply_bytes: MAX_ANSWER_BYTES,
            owner_configured: true,
        };
        let answer = client.send(request).await.map_err(anyhow::Error::msg);
        let answer = answer.with_context(|| format!("the proxy at {} does not answer", addresses.proxy))?;
        match answer.status {
            200 => {}
            401 => bail!("the proxy does not know this token; `oauth3 agent rotate` prints a new one"),
            status => bail!("the proxy at {} answers {status}", addresses.proxy),
        }
        let known = serde_json::from_slice(&answer.body).context("what is there is not oauth3's proxy")?;
        Ok(Self { token, known })
    }

    /// Writes the certificates into a directory, for everybody to read.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write(&self, dir: &Path) -> Result<Files> {
        let Known { agent, certificate, .. } = &self.known;
        let files = Files { ca: dir.join(format!("{agent}-ca.pem")), bundle: dir.join(format!("{agent}-bundle.pem")) };
        let system: String = system_authorities().iter().map(|der| pem(der)).collect();
        let write = |path: &Path, text: &str| fs::write(path, text);
        fs::create_dir_all(dir)
            .and_then(|()| write(&files.ca, certificate))
            .and_then(|()| write(&files.bundle, &format!("{certificate}{system}")))
            .with_context(|| format!("cannot write certificates into {}", dir.display()))?;
        Ok(files)
    }

    /// The variables. `addresses` are those at which the programs reach us.
    ///
    /// # Errors
    /// When an address cannot be read.
    pub(crate) fn variables(&self, settings: &Settings, addresses: &Addresses, files: &Files) -> Result<Variables> {
        let token = self.token.reveal();
        let mut proxy = Url::parse(&addresses.proxy).context("the proxy's address cannot be read")?;
        let mut past: Vec<String> = NO_PROXY.map(str::to_owned).into();
        let gateway = Url::parse(&addresses.gateway).context("the gateway's address cannot be read")?;
        for own in [&proxy, &gateway].into_iter().filter_map(Url::host_str) {
            let own = own.trim_matches(['[', ']']).to_owned();
            if !past.contains(&own) {
                past.push(own);
            }
        }
        proxy
            .set_username(&self.known.agent)
            .and_then(|()| proxy.set_password(Some(token)))
            .map_err(|()| anyhow::anyhow!("the proxy's address cannot carry a name"))?;
        let proxy = proxy.as_str().trim_end_matches('/');
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut variables: Variables =
            vec![("OAUTH3_URL".into(), addresses.gateway.clone()), ("OAUTH3_TOKEN".into(), token.into())];
        variables.extend(PROXY_VARIABLES.map(|name| (name.into(), proxy.into())));
        variables.extend(["NO_PROXY", "no_proxy"].map(|name| (name.into(), past.join(","))));
        // Node's own fetch does not look for a proxy unless it is told to.
        variables.push(("NODE_USE_ENV_PROXY".into(), "1".into()));
        variables.extend(BUNDLE_VARIABLES.map(|name| (name.into(), path(&files.bundle))));
        variables.extend(CA_VARIABLES.map(|name| (name.into(), path(&files.ca))));
        let usable = |name: &str| self.known.apis.iter().any(|api| api.strip_prefix("v1/") == Some(name));
        for provider in proxy::catalog(settings)?.providers().filter(|provider| usable(&provider.name)) {
            variables.extend(names(provider).map(|(key, _)| (key, NO_KEY.to_owned())));
        }
        Ok(variables)
    }
}

/// A certificate as text.
fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(PEM_LINE).filter_map(|at| text.get(at..text.len().min(at + PEM_LINE))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
