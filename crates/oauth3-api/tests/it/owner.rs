//! Calls over the owner's socket.

use crate::owner_port::{FakeKeeper, FakeOwner, agent_record, audit_row, full, grant, sign_in};
use crate::samples::{agent, secret};
use futures::FutureExt as _;
use oauth3_api::{ApiError, OwnerClient, OwnerHooks, bind_owner_socket, serve_owner};
use oauth3_core::{
    ApiId, Declared, Draft, Fault, GrantId, Keeper, NewSecret, OwnerOverview, OwnerPort, RequestId, SecretName,
    SignInOrder, Source, Status, Trust, Verdict, WriteOnly,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Gateway {
    owner: Arc<FakeOwner>,
    keeper: Arc<FakeKeeper>,
    client: OwnerClient,
    socket: PathBuf,
    pokes: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), ApiError>>,
    _dir: tempfile::TempDir,
}

impl Gateway {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("owner.sock");
        let listener = bind_owner_socket(&socket).await.unwrap();
        let (owner, keeper) = (Arc::new(FakeOwner::default()), Arc::new(FakeKeeper::default()));
        let pokes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&pokes);
        let hooks = OwnerHooks::new(move || {
            let counter = Arc::clone(&counter);
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            .boxed()
        });
        let (stop, stopped) = watch::channel(false);
        let port = Arc::clone(&owner) as Arc<dyn OwnerPort>;
        let task = tokio::spawn(serve_owner(listener, port, hooks, stopped));
        let client = OwnerClient::new(socket.clone(), Arc::clone(&keeper) as Arc<dyn Keeper>);
        Self { owner, keeper, client, socket, pokes, stop, task, _dir: dir }
    }

    fn last_call(&self) -> String {
        self.owner.calls.lock().unwrap().last().unwrap().clone()
    }
}

fn new_secret() -> NewSecret {
    let name = SecretName::parse("A_KEY").unwrap();
    NewSecret { name, hosts: [].into(), uses: Default::default(), replace: false, by: "cli".into() }
}

#[tokio::test]
async fn every_method_crosses_the_socket_unchanged() {
    let gateway = Gateway::start().await;
    let client = &gateway.client;
    let id = RequestId::parse("req_abc").unwrap();
    // The identity is the socket's own, whatever the caller says.
    let by = "telegram:42";

    assert!(OwnerClient::is_running(&gateway.socket).await);
    let verdict = Verdict::Approve { trust: Trust::Day };
    assert_eq!(client.verdict(&id, verdict, by).await, Ok(full(&id)));
    assert_eq!(gateway.last_call(), "verdict req_abc Approve { trust: Day } cli");
    let verdict = Verdict::Deny { reason: Some("no".into()) };
    client.verdict(&id, verdict, by).await.unwrap();
    assert_eq!(gateway.last_call(), r#"verdict req_abc Deny { reason: Some("no") } cli"#);
    assert_eq!(client.show(&id).await, Ok(full(&id)));
    assert_eq!(gateway.last_call(), "show req_abc");
    let mut light = full(&id);
    light.code.clear();
    let output = light.result.as_mut().unwrap();
    output.stdout.clear();
    output.stderr.clear();
    assert_eq!(client.requests(&[Status::Pending, Status::AwaitingSecrets], 5).await, Ok(vec![light]));
    assert_eq!(gateway.last_call(), "requests [Pending, AwaitingSecrets] 5");
    assert_eq!(client.wait(&id, Status::Pending, Duration::from_millis(1500)).await, Ok(full(&id)));
    assert_eq!(gateway.last_call(), "wait req_abc pending 1.5s");

    let draft = Draft {
        skill_id: "a".into(),
        source: Source::Inline(vec![0, 255, 10]),
        args: full(&id).args,
        body: Declared { secrets: Some(vec![]), ..Declared::default() },
        metadata: Declared { timeout: Some(0.25), network: Some(vec!["a.example".into()]), ..Declared::default() },
    };
    let submitted = client.submit(draft.clone()).await.unwrap();
    assert_eq!((submitted.execution, submitted.asked), (full(&id), vec!["telegram".to_owned()]));
    assert_eq!(submitted.missing_secrets, [SecretName::parse("A_KEY").unwrap()]);
    assert_eq!(gateway.last_call(), format!("submit {draft:?}"));

    assert_eq!(client.grants().await, Ok(vec![grant()]));
    client.revoke_grant(&GrantId::parse("grt_abc").unwrap(), by).await.unwrap();
    assert_eq!(gateway.last_call(), "revoke_grant grt_abc cli");
    assert_eq!(client.secrets().await, Ok(vec![secret()]));
    client.remove_secret(&SecretName::parse("A_KEY").unwrap(), by).await.unwrap();
    assert_eq!(gateway.last_call(), "remove_secret A_KEY cli");
    assert_eq!(client.agents().await, Ok(vec![agent_record()]));
    let token = client.add_agent(&agent("bob"), by).await.unwrap();
    assert_eq!(gateway.last_call(), "add_agent bob cli");
    assert_eq!(token.reveal(), *gateway.owner.token.lock().unwrap());
    let token = client.rotate_agent(&agent("bob"), by).await.unwrap();
    assert_eq!(gateway.last_call(), "rotate_agent bob cli");
    assert_eq!(token.reveal(), *gateway.owner.token.lock().unwrap());
    client.revoke_agent(&agent("bob"), by).await.unwrap();
    assert_eq!(gateway.last_call(), "revoke_agent bob cli");
    let mail = ApiId::connection("my-mail").unwrap();
    assert_eq!(client.sign_ins().await, Ok(vec![sign_in()]));
    for order in [SignInOrder::Begin, SignInOrder::Cancel, SignInOrder::KeepAccount, SignInOrder::SignOut] {
        assert_eq!(client.order_sign_in(&mail, order, by).await, Ok(sign_in()));
        assert_eq!(gateway.last_call(), format!("order_sign_in api/my-mail {order:?} cli"));
    }
    assert_eq!(client.wait_sign_in(&mail, 3, Duration::from_millis(1500)).await, Ok(sign_in()));
    assert_eq!(gateway.last_call(), "wait_sign_in api/my-mail 3 1.5s");
    assert_eq!(client.overview().await, Ok(OwnerOverview { kill_switch: true, open_requests: 2, running: 3 }));
    client.set_kill_switch(true, by).await.unwrap();
    assert_eq!(gateway.last_call(), "set_kill_switch true cli");
    assert_eq!(client.audit_after(6, 10).await, Ok(vec![audit_row()]));
    assert_eq!(gateway.last_call(), "audit_after 6 10");
    assert_eq!(client.audit_head().await, Ok(7));
    assert_eq!(client.verify_audit().await.unwrap().fault.as_deref(), Some("row 3 was edited"));
    client.report_stranger("telegram:66", "tapped").await.unwrap();
    assert_eq!(gateway.last_call(), "report_stranger telegram:66 tapped");
}

#[tokio::test]
async fn faults_cross_the_socket_unchanged() {
    let gateway = Gateway::start().await;
    for fault in [
        Fault::AlreadyDecided("it was denied before".into()),
        Fault::RateLimited { text: "slowly".into(), retry_after: 9 },
        Fault::Unavailable("the keeper does not answer".into()),
        Fault::Exists("bob is there".into()),
    ] {
        *gateway.owner.fault.lock().unwrap() = Some(fault.clone());
        assert_eq!(gateway.client.audit_head().await, Err(fault.clone()));
        assert_eq!(gateway.client.add_agent(&agent("bob"), "cli").await.unwrap_err(), fault);
    }
}

#[tokio::test]
async fn a_value_goes_to_the_keeper_and_the_gateway_only_hears_that_it_did() {
    let gateway = Gateway::start().await;
    gateway.client.put_secret(new_secret(), WriteOnly::new(b"sk-live".to_vec())).await.unwrap();
    assert_eq!(*gateway.keeper.stored.lock().unwrap(), [("A_KEY".to_owned(), 7)]);
    assert_eq!(gateway.pokes.load(Ordering::SeqCst), 1);
    *gateway.keeper.fault.lock().unwrap() = Some(Fault::Exists("A_KEY is there".into()));
    let refused = gateway.client.put_secret(new_secret(), WriteOnly::new(b"x".to_vec())).await;
    assert_eq!(refused, Err(Fault::Exists("A_KEY is there".into())));
    assert_eq!(gateway.pokes.load(Ordering::SeqCst), 1);
    assert!(gateway.owner.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_gateway_a_value_is_still_stored_and_everything_else_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(FakeKeeper::default());
    let client = OwnerClient::new(dir.path().join("owner.sock"), Arc::clone(&keeper) as Arc<dyn Keeper>);
    assert!(!OwnerClient::is_running(&dir.path().join("owner.sock")).await);
    client.put_secret(new_secret(), WriteOnly::new(b"sk".to_vec())).await.unwrap();
    assert_eq!(keeper.stored.lock().unwrap().len(), 1);
    let fault = client.audit_head().await.unwrap_err();
    assert_eq!(fault.code(), "unavailable");
    assert!(fault.to_string().contains("`oauth3 serve`"));
}

#[tokio::test]
async fn a_wait_ends_when_its_client_is_gone() {
    let gateway = Gateway::start().await;
    *gateway.owner.wait_for_ever.lock().unwrap() = true;
    let client = gateway.client.clone();
    let id = RequestId::parse("req_abc").unwrap();
    let wait = tokio::spawn(async move { client.wait(&id, Status::Pending, Duration::from_secs(3600)).await });
    gateway.owner.waiting.began.acquire().await.unwrap().forget();
    wait.abort();
    gateway.owner.waiting.dropped.acquire().await.unwrap().forget();

    let (client, mail) = (gateway.client.clone(), ApiId::connection("my-mail").unwrap());
    let wait = tokio::spawn(async move { client.wait_sign_in(&mail, 3, Duration::from_secs(3600)).await });
    gateway.owner.waiting.began.acquire().await.unwrap().forget();
    wait.abort();
    gateway.owner.waiting.dropped.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn a_client_secret_goes_to_the_keeper_and_never_through_the_gateway() {
    let gateway = Gateway::start().await;
    let mail = ApiId::connection("my-mail").unwrap();
    gateway.client.put_client_secret(&mail, WriteOnly::new(b"client-secret".to_vec()), "cli").await.unwrap();
    assert_eq!(*gateway.keeper.stored.lock().unwrap(), [("api/my-mail by cli".to_owned(), 13)]);
    assert!(gateway.owner.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_call_gets_a_fault_or_nothing() {
    let gateway = Gateway::start().await;
    let ask = async |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&gateway.socket).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply).await;
        reply
    };
    for noise in
        ["\n", "nonsense\n", "{\"become_root\":null}\n", "{\"show\":{\"id\":\"../etc\"}}\n", "GET / HTTP/1.1\r\n\r\n"]
    {
        let reply = ask(noise.as_bytes()).await;
        assert!(reply.contains(r#""code":"invalid_request""#), "{noise:?}: {reply}");
    }
    // Longer than a call may be: it is cut there, and what is left is no call.
    let mut long = br#"{"report_stranger":{"by":"x","what":""#.to_vec();
    long.resize(17 << 20, b'a');
    long.extend_from_slice(b"\"}}\n");
    assert!(!ask(&long).await.contains("done"));
    assert!(gateway.owner.calls.lock().unwrap().is_empty());
    assert!(OwnerClient::is_running(&gateway.socket).await);
}

#[tokio::test]
async fn a_call_may_carry_the_largest_code_and_not_much_more() {
    let gateway = Gateway::start().await;
    let draft = |bytes: usize| Draft {
        skill_id: "a".into(),
        source: Source::Inline(vec![255; bytes]),
        args: serde_json::Map::new(),
        body: Declared::default(),
        metadata: Declared::default(),
    };
    assert!(gateway.client.submit(draft(oauth3_core::MAX_CODE_BYTES)).await.is_ok());
    assert_eq!(gateway.client.submit(draft(8 << 20)).await.unwrap_err().code(), "too_large");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_hung_up_on() {
    let gateway = Gateway::start().await;
    let mut stream = UnixStream::connect(&gateway.socket).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    assert!(reply.is_empty());
}

#[tokio::test]
async fn a_shutdown_ends_the_server_and_the_client_sees_that_nothing_runs() {
    let gateway = Gateway::start().await;
    gateway.stop.send(true).unwrap();
    gateway.task.await.unwrap().unwrap();
    assert!(!OwnerClient::is_running(&gateway.socket).await);
    assert!(gateway.client.audit_head().await.unwrap_err().to_string().contains("not running"));
}
