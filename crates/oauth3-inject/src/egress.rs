//! Opens and closes the egress of one run.

use crate::ca::Authority;
use crate::container_credentials;
use crate::dns::Names;
use crate::error::InjectError;
use crate::lanes::Lanes;
use crate::limits::{DECODERS_MEMORY_BYTES, DECODERS_UNIT_BYTES, MAX_CONNECTIONS, MAX_REQUESTS, RECORD_TIMEOUT};
use crate::listen::listen;
use crate::marks::Marks;
use crate::meter::Meter;
use crate::observer::Observer;
use crate::run::Run;
use crate::tasks::Tasks;
use http::HeaderValue;
use oauth3_core::{Clock, EgressUsage, Host, ListenerFd, ListenerRole, SecretName};
use oauth3_dial::{Dialer, crypto_provider};
use oauth3_policy::Permit;
use oauth3_vault::{Lease, Scrubber};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// The open egress of one run. Dropping it ends every connection too, without the refusals.
pub struct Egress {
    run: Arc<Run>,
    ca: Arc<Authority>,
    variables: Vec<(SecretName, String)>,
}

/// What an egress works with.
pub struct Means {
    /// Reaches hosts.
    pub dialer: Dialer,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Says what time it is, where something is signed.
    pub clock: Arc<dyn Clock>,
    /// Serve some of the connections of code that has several, beside the runtime in which the egress is opened.
    pub threads: Vec<Handle>,
}

/// Serves the only network that a run has, until [`Egress::close`]. Spends the permit: its hosts are the only
/// ones that are ever dialled, its secrets the only ones that may be leased.
///
/// What the run may send, receive and ask for is in the permit's limits: beyond it requests are refused with 429,
/// and open connections are cut.
///
/// The listeners are only accepted on: they live in the sandbox's network namespace. Must be called inside a
/// tokio runtime with I/O and time, which serves the run.
///
/// # Errors
/// When a lease is not in the permit or its placeholder is not usable, when the run's certificate authority
/// cannot be made, or when a socket cannot be served. Nothing is served then.
pub fn open_egress(
    permit: Permit,
    leases: Arc<[Lease]>,
    scrubber: Scrubber,
    listeners: Vec<ListenerFd>,
    means: Means,
) -> Result<Egress, InjectError> {
    let Means { dialer, observer, clock, threads } = means;
    Handle::try_current().map_err(|_| InjectError::NoRuntime)?;
    if let Some(lease) = leases.iter().find(|lease| !permit.secrets().contains(&lease.name)) {
        return Err(InjectError::NotPermitted(lease.name.to_string()));
    }
    let marks = Marks::new(leases.iter().map(|lease| (lease.name.as_str(), lease.placeholder.as_str())))?;
    let provider = Arc::new(crypto_provider());
    let ca = Arc::new(Authority::of_run(&provider)?);
    let tls = Arc::new(ca.server_config(provider, &[b"h2", b"http/1.1"])?);
    let run = Arc::new(Run {
        meter: Meter::new(permit.limits()),
        hosts: permit.hosts().clone(),
        authorities: permit.hosts().iter().filter_map(authority).collect(),
        names: Names::new(permit.hosts()),
        leases,
        marks,
        scrubber: RwLock::new(scrubber),
        dialer,
        observer,
        clock,
        tls,
        lanes: Lanes::new(&threads),
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        decoders: Arc::new(Semaphore::new(DECODERS_MEMORY_BYTES / DECODERS_UNIT_BYTES)),
        requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
        tasks: Tasks::new(),
        records: Tasks::new(),
        uses: Default::default(),
        refusals: Default::default(),
    });
    let variables = proxy_of(&listeners)?.map(|proxy| container_credentials::variables(&run.leases, proxy));
    let egress = Egress { run, ca, variables: variables.unwrap_or_default() };
    // Should one fail, dropping the egress ends those before it.
    listeners.into_iter().try_for_each(|listener| listen(&egress.run, listener))?;
    Ok(egress)
}

impl Egress {
    /// The certificate of the authority made for this run, PEM. The sandbox trusts it and nothing else.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.pem()
    }

    /// Variables that the code needs besides its placeholders, to find what is served here.
    #[must_use]
    pub fn variables(&self) -> &[(SecretName, String)] {
        &self.variables
    }

    /// What went over the run's connections so far.
    #[must_use]
    pub fn usage(&self) -> EgressUsage {
        self.run.meter.usage()
    }

    /// Ends every connection at once, both ways, and returns what was refused: short sentences without
    /// values, at most 64 of each kind and a count of the rest. Refusals still being recorded get up to 5 seconds.
    pub async fn close(self) -> Vec<String> {
        self.run.tasks.abort().await;
        self.run.lanes.clear();
        self.run.records.finish(RECORD_TIMEOUT).await;
        self.run.sentences()
    }
}

fn authority(host: &Host) -> Option<(Host, HeaderValue)> {
    Some((host.clone(), HeaderValue::try_from(host.to_string()).ok()?))
}

/// Where the run's proxy is for the code.
fn proxy_of(listeners: &[ListenerFd]) -> Result<Option<SocketAddr>, InjectError> {
    let is_proxy =
        |listener: &&ListenerFd| matches!(listener.role, ListenerRole::Proxy | ListenerRole::KeyedProxy { .. });
    let Some(proxy) = listeners.iter().find(is_proxy) else { return Ok(None) };
    let socket = proxy.fd.try_clone().map_err(InjectError::Listener)?;
    std::net::TcpListener::from(socket).local_addr().map(Some).map_err(InjectError::Listener)
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.run.tasks.abort_now();
        self.run.lanes.clear();
        self.run.records.abort_now();
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}
