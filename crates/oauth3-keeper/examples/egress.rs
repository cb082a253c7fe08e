//! The egress of one run, in a process of its own, to be measured from outside: a real keeper on its own database,
//! with the sealed secret, the audit on disk, and sockets where a sandbox would have them.
//!
//! `egress NAME UPSTREAM CA_FILE VALUE`: serves requests to NAME (with the port of UPSTREAM, an address), whose
//! certificate is from CA_FILE. Prints a line of JSON (`proxy`, `tls`, `ca`, `placeholder`) and goes on until standard
//! input ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a measuring tool"
)]

use oauth3_core::{
    AgentName, Clock, Digest, Execution, Host, Intent, Keeper, LaneFds, Limit, Limits, ListenerFd, ListenerRole,
    NewSecret, RequestId, Runtime, SecretName, Status, Store, Timestamp, TokenHash, TokenId, Trust, WriteOnly,
};
use oauth3_dial::DialConfig;
use oauth3_keeper::{KeeperConfig, KeySource, create_key, run};
use oauth3_store::SqliteStore;
use oauth3_wire::GatewaySide;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::UnixStream;

/// As many as the keeper of the real binary has.
const WORKER_THREADS: usize = 2;

struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    runtime.unwrap().block_on(serve(&std::env::args().skip(1).collect::<Vec<_>>()));
}

async fn serve(args: &[String]) {
    let [name, upstream, ca_file, value] = args else { panic!("egress NAME UPSTREAM CA_FILE VALUE") };
    let upstream: SocketAddr = upstream.parse().unwrap();
    let host = Host::parse(&format!("{name}:{}", upstream.port())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key_source = || KeySource::File { dir: dir.path().to_owned() };
    create_key(&key_source()).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (db_path, audit_head) = (dir.path().join("oauth3.db"), dir.path().join("audit.head"));
    let keeping = tokio::spawn(run(KeeperConfig {
        data_dir: dir.path().to_owned(),
        db_path: db_path.clone(),
        audit_head: audit_head.clone(),
        key_source: key_source(),
        dial: DialConfig {
            resolve: [(name.clone(), upstream)].into(),
            extra_ca: vec![std::fs::read(ca_file).unwrap()],
            ..DialConfig::default()
        },
        gateway: theirs.into(),
        owner_socket: None,
        proxy: None,
        clock: Arc::new(System),
        threads: WORKER_THREADS,
    }));
    let keeper = GatewaySide::new(UnixStream::from_std(ours).unwrap());
    keeper.ping().await.unwrap();
    let store = SqliteStore::open(&db_path, &audit_head).await.unwrap();
    let agent = AgentName::parse("bench").unwrap();
    store.insert_agent(&agent, &TokenId("id".into()), &TokenHash(Digest::of(b"token")), System.now()).await.unwrap();
    let secret = NewSecret {
        name: SecretName::parse("API_KEY").unwrap(),
        hosts: [host.clone()].into(),
        uses: Default::default(),
        replace: false,
        by: "cli".into(),
    };
    keeper.put_secret(secret, WriteOnly::new(value.clone().into_bytes())).await.unwrap();
    let execution = approved(agent, &host);
    store.insert_execution(&execution).await.unwrap();

    let listener = |role| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), ListenerFd { role, fd: listener.into() })
    };
    let (proxy, proxy_fd) = listener(ListenerRole::Proxy);
    let (tls, tls_fd) = listener(ListenerRole::Tls { port: upstream.port() });
    let ((stdout, _out), (stderr, _err)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let (_values, reveal) = std::io::pipe().unwrap();
    let listeners = vec![proxy_fd, tls_fd];
    let lane = LaneFds { listeners, stdout: stdout.into(), stderr: stderr.into(), reveal: reveal.into() };
    let opened = keeper.open_run(&execution.id, lane).await.unwrap();
    let said = serde_json::json!({
        "proxy": proxy, "tls": tls, "ca": opened.ca_pem, "placeholder": opened.placeholders[0].1,
    });
    println!("{said}");
    // The end of our input is the end of the measurement.
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = ended.await;
    keeping.abort();
}

fn approved(agent: AgentName, host: &Host) -> Execution {
    let code = b"1".to_vec();
    let most = |limit: Limit| *limit.range().end();
    let limits =
        Limits { egress_mb: most(Limit::EgressMb), egress_requests: most(Limit::EgressRequests), ..Limits::STANDARD };
    let intent = Intent {
        agent,
        skill_id: "bench".parse().unwrap(),
        code_digest: Digest::of(&code),
        runtime: Runtime::Embedded,
        secrets: [SecretName::parse("API_KEY").unwrap()].into(),
        revealed: Default::default(),
        hosts: [host.clone()].into(),
        limits,
        access: None,
    };
    let now = System.now();
    Execution {
        id: RequestId::random().unwrap(),
        intent_digest: intent.digest(),
        intent,
        description: String::new(),
        skill_url: None,
        code,
        args: Default::default(),
        status: Status::Approved,
        created_at: now,
        expires_at: now.plus(Duration::from_secs(900)),
        approved_at: Some(now),
        executed_at: None,
        finished_at: None,
        trust: Some(Trust::Once),
        grant_id: None,
        trusted: false,
        decided_by: Some("cli".into()),
        result: None,
        error: None,
        notified_at: None,
    }
}
