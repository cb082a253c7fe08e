//! Both sides of the socket, against each other and against junk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod junk;
mod keeper;

use keeper::Scripted;
use oauth3_core::RequestId;
use oauth3_wire::{GatewaySide, Role, serve};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// A gateway's side, the keeper behind it, and the task that serves it.
fn connect(role: Role) -> (Arc<GatewaySide>, Arc<Scripted>, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let keeper = Arc::new(Scripted::default());
    let served = tokio::spawn(serve(theirs, role, keeper.clone()));
    (Arc::new(GatewaySide::new(ours)), keeper, served)
}

fn id() -> RequestId {
    RequestId::parse("req_abc").unwrap()
}
