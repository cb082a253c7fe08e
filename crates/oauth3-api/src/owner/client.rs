//! The command line's side of the owner's socket.

use super::call::{Call, MAX_CALL_BYTES, MAX_REPLY_BYTES, Reply};
use super::socket::connect;
use crate::ApiError;
use async_trait::async_trait;
use oauth3_core::{
    Access, AgentName, AgentRecord, AgentToken, ApiCheck, ApiId, ApiKey, AuditRow, ChainReport, Connection, Draft,
    Execution, Fault, Grant, GrantId, Keeper, NewSecret, OwnerOverview, OwnerPort, RequestId, SecretName, SecretRecord,
    SignInOrder, SignInRecord, Status, Submitted, Tag, UsageRow, Verdict, WriteOnly,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Longest that a reply may take beyond the wait that was asked for, in seconds (15 minutes): a submission
/// under a standing grant is answered when its run has ended.
const REPLY_SECONDS: u64 = 15 * 60;

/// The owner's port over the socket of a running gateway. Values of secrets do not take this way: they go to
/// the keeper that the client was given.
#[derive(Clone)]
pub struct OwnerClient {
    socket: PathBuf,
    keeper: Arc<dyn Keeper>,
}

impl fmt::Debug for OwnerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerClient").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl OwnerClient {
    /// A client of the gateway that listens on `socket`. Connects per call, so it may be made before the
    /// gateway runs; each method then fails with [`Fault::Unavailable`] and says how to start it.
    #[must_use]
    pub fn new(socket: PathBuf, keeper: Arc<dyn Keeper>) -> Self {
        Self { socket, keeper }
    }

    /// Whether somebody listens on `socket`. Anything but a plain no is a yes: a caller that would otherwise
    /// work on the data by itself must not do so beside a gateway that it only cannot reach.
    pub async fn is_running(socket: &Path) -> bool {
        !matches!(connect(socket).await, Err(ApiError::NotRunning))
    }

    /// Tells the gateway that values changed in the keeper, so that requests which wait for one go on.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when no gateway answers.
    pub async fn secrets_changed(&self) -> Result<(), Fault> {
        self.call(&Call::SecretsChanged).await
    }

    async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Fault> {
        self.call_within(call, Duration::ZERO).await
    }

    /// One call whose answer may take `patience` by itself.
    async fn call_within<T: DeserializeOwned>(&self, call: &Call, patience: Duration) -> Result<T, Fault> {
        let most = patience.saturating_add(Duration::from_secs(REPLY_SECONDS));
        match timeout(most, self.exchange(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(Fault::Unavailable(error.to_string())),
            Err(_) => Err(silent()),
        }
    }

    async fn exchange<T: DeserializeOwned>(&self, call: &Call) -> Result<Result<T, Fault>, ApiError> {
        let mut line = serde_json::to_vec(call)
            .map_err(|error| ApiError::Io { what: "spell a call to oauth3", source: error.into() })?;
        line.push(b'\n');
        if line.len() as u64 > MAX_CALL_BYTES {
            return Ok(Err(Fault::TooLarge("this is larger than oauth3 takes in one call".into())));
        }
        let mut stream = connect(&self.socket).await?;
        stream.write_all(&line).await.map_err(ApiError::io("send a call to oauth3"))?;
        let mut reply = Zeroizing::new(Vec::new());
        (&mut stream)
            .take(MAX_REPLY_BYTES)
            .read_to_end(&mut reply)
            .await
            .map_err(ApiError::io("read oauth3's reply"))?;
        if reply.is_empty() {
            return Err(ApiError::Io {
                what: "get a reply from oauth3: it ended, or this process is of another user",
                source: std::io::ErrorKind::UnexpectedEof.into(),
            });
        }
        // The reader's complaint may quote the reply, which may hold a token.
        let reply = serde_json::from_slice(&reply).map_err(|_| ApiError::Io {
            what: "read oauth3's reply; restart `oauth3 serve` so that both are of one version",
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        Ok(match reply {
            Reply::Done(done) => Ok(done),
            Reply::Fault(fault) => Err(fault),
        })
    }

    async fn token(&self, call: &Call) -> Result<AgentToken, Fault> {
        let text = Zeroizing::new(self.call::<String>(call).await?);
        AgentToken::parse(&text).ok_or_else(|| Fault::Unavailable("oauth3 answered something that is no token".into()))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn silent() -> Fault {
    Fault::Unavailable("oauth3 does not answer; look at its log, or restart `oauth3 serve`".into())
}

/// `by` stays here: the gateway knows this socket's identity by itself.
#[async_trait]
impl OwnerPort for OwnerClient {
    async fn verdict(&self, id: &RequestId, verdict: Verdict, _by: &str) -> Result<Execution, Fault> {
        self.call(&Call::Verdict { id: id.clone(), verdict }).await
    }

    async fn show(&self, id: &RequestId) -> Result<Execution, Fault> {
        self.call(&Call::Show { id: id.clone() }).await
    }

    /// Without code and output: [`OwnerPort::show`] has them.
    async fn requests(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault> {
        self.call(&Call::Requests { statuses: statuses.to_vec(), limit }).await
    }

    async fn wait(&self, id: &RequestId, seen: Status, patience: Duration) -> Result<Execution, Fault> {
        self.call_within(&Call::Wait { id: id.clone(), seen, patience_ms: millis(patience) }, patience).await
    }

    async fn submit(&self, draft: Draft) -> Result<Submitted, Fault> {
        self.call(&Call::Submit { draft: Box::new(draft) }).await
    }

    async fn grants(&self) -> Result<Vec<Grant>, Fault> {
        self.call(&Call::Grants).await
    }

    async fn revoke_grant(&self, id: &GrantId, _by: &str) -> Result<(), Fault> {
        self.call(&Call::RevokeGrant { id: id.clone() }).await
    }

    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        self.call(&Call::Secrets).await
    }

    /// Hands the value to the keeper. Once it is stored this is done, even when no gateway runs: one that
    /// starts later looks by itself.
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        self.keeper.put_secret(secret, value).await?;
        if let Err(fault) = self.secrets_changed().await {
            tracing::debug!(code = fault.code(), "stored a secret; no gateway was told");
        }
        Ok(())
    }

    async fn remove_secret(&self, name: &SecretName, _by: &str) -> Result<(), Fault> {
        self.call(&Call::RemoveSecret { name: name.clone() }).await
    }

    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault> {
        self.call(&Call::Agents).await
    }

    async fn add_agent(&self, name: &AgentName, _by: &str) -> Result<AgentToken, Fault> {
        self.token(&Call::AddAgent { name: name.clone() }).await
    }

    async fn rotate_agent(&self, name: &AgentName, _by: &str) -> Result<AgentToken, Fault> {
        self.token(&Call::RotateAgent { name: name.clone() }).await
    }

    async fn revoke_agent(&self, name: &AgentName, _by: &str) -> Result<(), Fault> {
        self.call(&Call::RevokeAgent { name: name.clone() }).await
    }

    async fn tag_agent(&self, name: &AgentName, tags: BTreeSet<Tag>, _by: &str) -> Result<(), Fault> {
        self.call(&Call::TagAgent { name: name.clone(), tags }).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, Fault> {
        self.call(&Call::ApiKeys).await
    }

    async fn put_api_key(&self, key: ApiKey, _by: &str) -> Result<(), Fault> {
        self.call(&Call::PutApiKey { key }).await
    }

    async fn remove_api_key(&self, api: &ApiId, secret: &SecretName, _by: &str) -> Result<(), Fault> {
        self.call(&Call::RemoveApiKey { api: api.clone(), secret: secret.clone() }).await
    }

    async fn check_api(&self, api: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        self.call(&Call::CheckApi { api: api.clone() }).await
    }

    async fn connections(&self) -> Result<Vec<Connection>, Fault> {
        self.call(&Call::Connections).await
    }

    async fn put_connection(&self, connection: Connection, _by: &str) -> Result<(), Fault> {
        self.call(&Call::PutConnection { connection: connection.into() }).await
    }

    async fn remove_connection(&self, api: &ApiId, _by: &str) -> Result<(), Fault> {
        self.call(&Call::RemoveConnection { api: api.clone() }).await
    }

    async fn grant_access(
        &self,
        agent: &AgentName,
        access: Access,
        lifetime: Option<Duration>,
        _by: &str,
    ) -> Result<Grant, Fault> {
        let lifetime_ms = lifetime.map(millis);
        self.call(&Call::GrantAccess { agent: agent.clone(), access: Box::new(access), lifetime_ms }).await
    }

    async fn usage(&self, since_day: i64) -> Result<Vec<UsageRow>, Fault> {
        self.call(&Call::Usage { since_day }).await
    }

    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        self.call(&Call::SignIns).await
    }

    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, _by: &str) -> Result<SignInRecord, Fault> {
        self.call(&Call::OrderSignIn { connection: connection.clone(), order }).await
    }

    async fn wait_sign_in(&self, connection: &ApiId, seen: u32, patience: Duration) -> Result<SignInRecord, Fault> {
        let call = Call::WaitSignIn { connection: connection.clone(), seen, patience_ms: millis(patience) };
        self.call_within(&call, patience).await
    }

    /// Hands the value to the keeper, as [`OwnerPort::put_secret`] does.
    async fn put_client_secret(&self, connection: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        self.keeper.put_client_secret(connection, value, by).await
    }

    async fn overview(&self) -> Result<OwnerOverview, Fault> {
        self.call(&Call::Overview).await
    }

    async fn set_kill_switch(&self, on: bool, _by: &str) -> Result<(), Fault> {
        self.call(&Call::SetKillSwitch { on }).await
    }

    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        self.call(&Call::AuditAfter { seq, limit }).await
    }

    async fn audit_head(&self) -> Result<i64, Fault> {
        self.call(&Call::AuditHead).await
    }

    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.call(&Call::VerifyAudit).await
    }

    async fn report_stranger(&self, by: &str, what: &str) -> Result<(), Fault> {
        self.call(&Call::ReportStranger { by: by.to_owned(), what: what.to_owned() }).await
    }
}
