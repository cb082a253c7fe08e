//! One open egress between a client and a server.

use crate::upstream::{Handler, Upstream, text, whole};
use async_trait::async_trait;
use oauth3_core::{
    AgentName, Clock, Digest, Host, Intent, Limits, ListenerFd, ListenerRole, ProxyKey, Runtime, SecretName,
    SecretRecord, SkillId, Status, Timestamp, Trust, Uses,
};
use oauth3_dial::{DialConfig, Dialer};
use oauth3_inject::{Egress, InjectError, Means, Observer, lend, open_egress};
use oauth3_policy::{Decision, Facts, Permit, Stage, decide};
use oauth3_vault::{Lease, Scrubber, SecretBytes, make_placeholder};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Two secrets, each of a known shape, the first bound to the first host, the second to the second.
pub const KEY: &str = "sk-proj-Zm9vYmFyYmF6cXV4Y29ycmVjdGhvcnNl";
pub const OTHER_KEY: &str = "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";
pub const API: &str = "api.test";
pub const OTHER: &str = "other.test:8443";

/// When every test plays: 2027-01-15T08:00:00Z.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// What the observer was told.
#[derive(Default)]
pub struct Seen {
    pub used: Mutex<Vec<(String, String)>>,
    pub refused: Mutex<Vec<(String, String)>>,
    pub silent: AtomicBool,
}

#[async_trait]
impl Observer for Seen {
    async fn secret_used(&self, secret: &SecretName, host: &Host) -> Result<(), ()> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(());
        }
        self.used.lock().unwrap().push((secret.to_string(), host.to_string()));
        Ok(())
    }

    async fn refused(&self, host: &str, reason: &str, _placeholder: bool) {
        self.refused.lock().unwrap().push((host.to_owned(), reason.to_owned()));
    }
}

impl Seen {
    pub fn uses(&self) -> Vec<(String, String)> {
        self.used.lock().unwrap().clone()
    }

    pub fn refusals(&self) -> Vec<(String, String)> {
        self.refused.lock().unwrap().clone()
    }
}

/// The key of [`World::keyed`].
pub const KEY_OF_THE_PROXY: ProxyKey = ProxyKey::new([5; 16]);

pub struct World {
    pub egress: Egress,
    pub upstream: Upstream,
    pub seen: Arc<Seen>,
    /// What the code has in place of [`KEY`] and [`OTHER_KEY`].
    pub placeholder: String,
    pub other_placeholder: String,
    pub tls: SocketAddr,
    pub tls_other: SocketAddr,
    pub plain: SocketAddr,
    pub proxy: SocketAddr,
    /// A proxy that wants [`KEY_OF_THE_PROXY`].
    pub keyed: SocketAddr,
    pub dns: SocketAddr,
}

impl World {
    pub async fn new(handler: Handler) -> Self {
        Self::with(handler, &[KEY, OTHER_KEY], true).await
    }

    /// With these values for the secrets KEY and OTHER, or fewer; `trusted`: whether the dialer knows the
    /// server's authority.
    pub async fn with(handler: Handler, values: &[&str], trusted: bool) -> Self {
        Self::lent(handler, leases(values), trusted).await
    }

    /// The same for a run that may use so much.
    pub async fn within(handler: Handler, values: &[&str], trusted: bool, limits: Limits) -> Self {
        let upstream = Upstream::start(&["api.test", "other.test"], &["http/1.1"], handler).await;
        Self::between(upstream, leases(values), trusted, limits)
    }

    /// With these leases of KEY and OTHER.
    pub async fn lent(handler: Handler, leases: Vec<Lease>, trusted: bool) -> Self {
        Self::before(Upstream::start(&["api.test", "other.test"], &["http/1.1"], handler).await, leases, trusted)
    }

    /// Before a server that offers these protocols.
    pub async fn offering(offers: &[&str], handler: Handler) -> Self {
        let upstream = Upstream::start(&["api.test", "other.test"], offers, handler).await;
        Self::before(upstream, leases(&[KEY, OTHER_KEY]), true)
    }

    /// Before this server.
    pub fn before(upstream: Upstream, leases: Vec<Lease>, trusted: bool) -> Self {
        Self::between(upstream, leases, trusted, Limits::STANDARD)
    }

    fn between(upstream: Upstream, leases: Vec<Lease>, trusted: bool, limits: Limits) -> Self {
        let resolve = ["api.test", "other.test"].map(|name| (name.to_owned(), upstream.address)).into();
        let extra_ca = if trusted { vec![upstream.ca_pem.clone().into_bytes()] } else { Vec::new() };
        let dialer = Dialer::new(DialConfig { resolve, extra_ca, ..DialConfig::default() }).unwrap();
        let leases: Arc<[Lease]> = leases.into();
        let placeholder = |i: usize| leases.get(i).map(|lease| lease.placeholder.clone()).unwrap_or_default();
        let (placeholder, other_placeholder) = (placeholder(0), placeholder(1));
        let mut listeners = Vec::new();
        let mut tcp = |role| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            listeners.push(ListenerFd { role, fd: listener.into() });
            address
        };
        let tls = tcp(ListenerRole::Tls { port: 443 });
        let tls_other = tcp(ListenerRole::Tls { port: 8443 });
        let plain = tcp(ListenerRole::Plain);
        let proxy = tcp(ListenerRole::Proxy);
        let keyed = tcp(ListenerRole::KeyedProxy { key: KEY_OF_THE_PROXY });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dns = socket.local_addr().unwrap();
        listeners.push(ListenerFd { role: ListenerRole::Dns, fd: socket.into() });
        let seen = Arc::<Seen>::default();
        let scrubber = Scrubber::new(&leases);
        let (permit, clock) = (permit_within(&["KEY", "OTHER"], limits), Arc::new(Stopped));
        let egress = open_egress(
            permit,
            leases,
            scrubber,
            listeners,
            Means { dialer, observer: seen.clone(), clock, threads: Vec::new() },
        )
        .unwrap();
        Self { egress, upstream, seen, placeholder, other_placeholder, tls, tls_other, plain, proxy, keyed, dns }
    }
}

/// A permit for both hosts and these secrets.
pub fn permit(secrets: &[&str]) -> Permit {
    permit_within(secrets, Limits::STANDARD)
}

fn permit_within(secrets: &[&str], limits: Limits) -> Permit {
    let intent = Intent {
        agent: AgentName::parse("agent").unwrap(),
        skill_id: SkillId::parse("skill").unwrap(),
        code_digest: Digest::of(b"code"),
        runtime: Runtime::Embedded,
        secrets: secrets.iter().map(|name| SecretName::parse(name).unwrap()).collect(),
        revealed: Default::default(),
        hosts: [API, OTHER].iter().map(|host| Host::parse(host).unwrap()).collect(),
        limits,
        access: None,
    };
    let stage = Stage::Stored {
        status: Status::Approved,
        trust: Some(Trust::Once),
        approved_at: Some(Timestamp::from_millis(1)),
        expires_at: Timestamp::from_millis(1000),
        trusted: false,
        grant_revoked: false,
    };
    let facts = Facts {
        intent: Arc::new(intent),
        now: Timestamp::from_millis(2),
        kill_switch: false,
        agent_active: true,
        grant: None,
        missing: &[],
        revealed: &Default::default(),
        reveal_once: false,
        stage,
    };
    match decide(&facts) {
        Decision::Permit(permit) => permit,
        other => panic!("{other:?}"),
    }
}

pub fn leases(values: &[&str]) -> Vec<Lease> {
    let bound = [("KEY", API), ("OTHER", OTHER)];
    let lease = |((name, host), value): ((&str, &str), &&str)| {
        let value = SecretBytes::new(value.as_bytes().to_vec());
        let placeholder = make_placeholder(&value).unwrap();
        let hosts = [Host::parse(host).unwrap()].into();
        Lease::of_value(SecretName::parse(name).unwrap(), hosts, placeholder, value)
    };
    bound.into_iter().zip(values).map(lease).collect()
}

fn open(permit: Permit, leases: Vec<Lease>) -> Result<Egress, InjectError> {
    let leases: Arc<[Lease]> = leases.into();
    let scrubber = Scrubber::new(&leases);
    let dialer = Dialer::new(DialConfig::default()).unwrap();
    let (observer, clock) = (Arc::<Seen>::default(), Arc::new(Stopped));
    open_egress(permit, leases, scrubber, Vec::new(), Means { dialer, observer, clock, threads: Vec::new() })
}

#[tokio::test]
async fn a_lease_that_the_permit_does_not_name_opens_nothing() {
    let refused = open(permit(&["KEY"]), leases(&[KEY, OTHER_KEY])).unwrap_err();
    assert!(matches!(refused, InjectError::NotPermitted(name) if name == "OTHER"));
}

#[tokio::test]
async fn two_leases_with_one_placeholder_open_nothing() {
    let mut twins = leases(&[KEY, OTHER_KEY]);
    twins[1].placeholder = twins[0].placeholder.clone();
    assert!(matches!(open(permit(&["KEY", "OTHER"]), twins), Err(InjectError::Placeholder(_))));
}

#[test]
fn outside_a_runtime_it_says_so() {
    assert!(matches!(open(permit(&[]), Vec::new()), Err(InjectError::NoRuntime)));
}

/// Leases of KEY, bound to [`API`] and used so.
pub fn used(value: &str, uses: Uses) -> Vec<Lease> {
    let record = SecretRecord {
        name: SecretName::parse("KEY").unwrap(),
        hosts: [Host::parse(API).unwrap()].into(),
        uses,
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    };
    lend(&record, SecretBytes::new(value.as_bytes().to_vec()), NOW, Duration::from_secs(30)).unwrap()
}

/// A handler that says ok, and the bodies that it got.
pub fn keeping() -> (Handler, Arc<Mutex<Vec<String>>>) {
    let kept = Arc::<Mutex<Vec<String>>>::default();
    let keep = kept.clone();
    let handler = whole(move |_, body| {
        keep.lock().unwrap().push(String::from_utf8_lossy(body).into_owned());
        text("ok")
    });
    (handler, kept)
}
