//! Joins the calls of the wire to what answers them.

use crate::audit::Audit;
use crate::open::Opener;
use crate::secrets::Secrets;
use crate::sign_in::SignIns;
use async_trait::async_trait;
use oauth3_core::{
    ApiCheck, ApiId, AuditEvent, ChainReport, Fault, KeeperEvent, LaneFds, NewSecret, OpenedRun, RequestId, RunOutput,
    SignInOrder, SignInRecord, Store,
};
use oauth3_proxy::Proxy;
use oauth3_vault::SecretBytes;
use oauth3_wire::Handler;
use std::net::SocketAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What answers the gateway.
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) secrets: Secrets,
    pub(crate) opener: Opener,
    pub(crate) sign_ins: Arc<SignIns>,
    /// The API proxy, when there is one.
    pub(crate) proxy: Option<Served>,
}

/// A proxy that is being served.
pub(crate) struct Served {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) address: SocketAddr,
}

#[async_trait]
impl Handler for Desk {
    async fn ping(&self) -> Result<(), Fault> {
        // The vault is unlocked since before the first call; what may fail is the store.
        self.store.check().await
    }

    async fn audit(&self, event: AuditEvent) -> Result<(), Fault> {
        self.audit.append_for_gateway(&event).await
    }

    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.audit.verify().await
    }

    async fn put_secret(&self, secret: NewSecret, value: Zeroizing<Vec<u8>>) -> Result<(), Fault> {
        self.secrets.put(secret, SecretBytes::new(value)).await
    }

    async fn open_run(&self, id: RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        self.opener.open(&id, lane).await
    }

    async fn close_run(&self, id: RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        self.opener.runs.close(&id, then).await
    }

    async fn refresh(&self) -> Result<(), Fault> {
        self.sign_ins.look_again();
        match &self.proxy {
            Some(served) => served.proxy.refresh().await,
            None => Ok(()),
        }
    }

    async fn next_event(&self) -> Result<KeeperEvent, Fault> {
        let of_proxy = async {
            match &self.proxy {
                Some(served) => served.proxy.next_event().await,
                // Nothing ever comes.
                None => std::future::pending().await,
            }
        };
        // Both only take from a queue, so that nothing is lost with the one that is dropped.
        let event = tokio::select! {
            event = of_proxy => event,
            event = self.sign_ins.next_event() => event,
        };
        event.ok_or_else(|| Fault::Unavailable("the keeper stops".into()))
    }

    async fn proxy_address(&self) -> Result<Option<SocketAddr>, Fault> {
        Ok(self.proxy.as_ref().map(|served| served.address))
    }

    async fn check_api(&self, api: ApiId) -> Result<Vec<ApiCheck>, Fault> {
        match &self.proxy {
            Some(served) => served.proxy.check(&api).await,
            None => Err(Fault::Unavailable("there is no proxy: proxy.listen is off".into())),
        }
    }

    async fn answer_ask(&self, number: u64, answer: Result<RequestId, Fault>) -> Result<(), Fault> {
        if let Some(served) = &self.proxy {
            served.proxy.answer_ask(number, answer);
        }
        Ok(())
    }

    async fn order_sign_in(&self, connection: ApiId, order: SignInOrder, by: String) -> Result<SignInRecord, Fault> {
        self.sign_ins.order(&connection, order, &by).await
    }

    async fn put_client_secret(&self, connection: ApiId, value: Zeroizing<Vec<u8>>, by: String) -> Result<(), Fault> {
        self.sign_ins.put_client_secret(&connection, value, &by).await
    }
}

/// What answers the owner's command line: it may name nobody but itself, and opens nothing.
pub(crate) struct OwnerDesk(pub(crate) Arc<Desk>);

/// Who gave a value that came over the keeper's own socket.
const OWNER_ACTOR: &str = "cli";

#[async_trait]
impl Handler for OwnerDesk {
    async fn ping(&self) -> Result<(), Fault> {
        self.0.ping().await
    }

    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.0.verify_audit().await
    }

    async fn put_secret(&self, mut secret: NewSecret, value: Zeroizing<Vec<u8>>) -> Result<(), Fault> {
        OWNER_ACTOR.clone_into(&mut secret.by);
        self.0.put_secret(secret, value).await
    }

    async fn audit(&self, _event: AuditEvent) -> Result<(), Fault> {
        Err(refused())
    }

    async fn open_run(&self, _id: RequestId, _lane: LaneFds) -> Result<OpenedRun, Fault> {
        Err(refused())
    }

    async fn close_run(&self, _id: RequestId, _then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        Err(refused())
    }

    async fn refresh(&self) -> Result<(), Fault> {
        Err(refused())
    }

    async fn next_event(&self) -> Result<KeeperEvent, Fault> {
        Err(refused())
    }

    async fn proxy_address(&self) -> Result<Option<SocketAddr>, Fault> {
        Err(refused())
    }

    async fn check_api(&self, _api: ApiId) -> Result<Vec<ApiCheck>, Fault> {
        Err(refused())
    }

    async fn answer_ask(&self, _number: u64, _answer: Result<RequestId, Fault>) -> Result<(), Fault> {
        Err(refused())
    }

    async fn order_sign_in(&self, _connection: ApiId, _order: SignInOrder, _by: String) -> Result<SignInRecord, Fault> {
        Err(refused())
    }

    async fn put_client_secret(&self, connection: ApiId, value: Zeroizing<Vec<u8>>, _by: String) -> Result<(), Fault> {
        self.0.put_client_secret(connection, value, OWNER_ACTOR.to_owned()).await
    }
}

fn refused() -> Fault {
    Fault::DeniedByPolicy("only the gateway may ask this of the keeper".into())
}
