//! WebSockets (RFC 6455). The opening handshake is a call like any other: decided on, counted, recorded, given the real
//! key. What follows is carried and scrubbed by oauth3-inject until a side ends it, or the right to it ends.
//!
//! What goes through one is not read, so that neither models nor tokens nor money can be counted: a grant that sets a
//! bound to these does not cover it.

use crate::admit::Right;
use crate::answer::{Reply, Under};
use crate::body::Outgoing;
use crate::forward::{Visitor, ended};
use crate::journal::{Entry, What};
use crate::plain;
use crate::refuse::Refused;
use crate::upstream::{Answered, ApiClient, Origin, SendError};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use oauth3_core::{AgentToken, Detail, TokenHash, TokenId};
use oauth3_inject::websocket::{Opening, Traffic, carry};
use oauth3_vault::Scrubber;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A WebSocket that a client asks for.
pub(crate) struct Asked {
    opening: Opening,
    client: OnUpgrade,
    /// Of the token that came with it.
    token: (TokenId, TokenHash),
}

/// One that client and host agreed on.
pub(crate) struct Socket {
    client: OnUpgrade,
    host: OnUpgrade,
    scrubber: Option<Scrubber>,
    /// Returns when it may not go on.
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What is done when it has ended.
    done: Box<dyn FnOnce(Traffic) + Send>,
}

impl Asked {
    /// What a request asks for, taken out of it; nothing when that is no WebSocket.
    pub(crate) fn take(head: &mut Parts, token: &AgentToken) -> Result<Option<Box<Self>>, Refused> {
        if !Opening::is_wanted(&head.headers) {
            return Ok(None);
        }
        let refused =
            |(status, sentence): (StatusCode, &'static str)| Refused::new(status, "invalid_request", sentence);
        let opening = Opening::take(head).map_err(refused)?;
        let client = head.extensions.remove::<OnUpgrade>();
        let client = client.ok_or_else(|| Refused::invalid("this connection cannot become a WebSocket"))?;
        Ok(Some(Box::new(Self { opening, client, token: (token.id(), token.hash()) })))
    }

    /// Whether a right covers it.
    pub(crate) fn within(&self, right: &Right) -> Result<(), Refused> {
        let Some(access) = right.permit.access() else { return Ok(()) };
        let budget = &access.budget;
        let counted = budget.needs_prices() || budget.tokens_per_day.is_some() || budget.tokens_per_minute.is_some();
        let what = match (access.models.is_empty(), counted) {
            (true, false) => return Ok(()),
            (false, _) => "certain models",
            (true, true) => "a budget of tokens or money",
        };
        Err(Refused::denied(format!(
            "the owner granted {what}, which cannot be seen in what goes over a WebSocket; it takes a grant without them"
        )))
    }

    /// The connection of an API's WebSocket, and the answer to its client.
    pub(crate) fn stand(
        self,
        mut under: Box<Under>,
        scrubber: Option<&Scrubber>,
        mut reply: Response<Answered>,
    ) -> Result<Response<Reply>, Refused> {
        under.status = reply.status();
        let answer = self.answer(&reply).map_err(|refused| under.ends(refused))?;
        under.answered = true;
        let (under, token) = (Arc::<Under>::from(under), self.token);
        let watched = under.clone();
        let socket = Socket {
            client: self.client,
            host: hyper::upgrade::on(&mut reply),
            scrubber: scrubber.cloned(),
            until: Box::pin(async move { over(&watched, &token).await }),
            done: Box::new(move |traffic| record(&under, traffic)),
        };
        Ok(answer.map(|()| Reply::Switched(Box::new(socket))))
    }

    /// The connection of a WebSocket of a host that is no API, and the answer to its client.
    pub(crate) fn stand_at_host(
        self,
        under: plain::Under,
        visitor: &Arc<Visitor>,
        mut reply: Response<Answered>,
    ) -> Result<Response<Reply>, Refused> {
        let answer = self.answer(&reply)?;
        let (proxy, visitor) = (under.proxy.clone(), visitor.clone());
        let socket = Socket {
            client: self.client,
            host: hyper::upgrade::on(&mut reply),
            scrubber: None,
            until: Box::pin(async move { ended(&proxy, &visitor).await }),
            done: Box::new(move |traffic| under.carried(traffic)),
        };
        Ok(answer.map(|()| Reply::Switched(Box::new(socket))))
    }

    fn answer(&self, reply: &Response<Answered>) -> Result<Response<()>, Refused> {
        self.opening.answer(reply.headers()).map_err(|sentence| Refused::upstream(StatusCode::BAD_GATEWAY, sentence))
    }
}

impl Socket {
    /// Carries what goes to and fro, until it has ended.
    pub(crate) async fn run(self) {
        (self.done)(carry(self.client, self.host, self.scrubber, self.until).await);
    }
}

/// Sends a request: where it asks for a WebSocket, over a connection of its own, which the host may turn into one.
pub(crate) async fn send(
    client: &ApiClient,
    asked: Option<&mut Asked>,
    origin: &Arc<Origin>,
    mut request: Request<Outgoing>,
) -> Result<Response<Answered>, SendError> {
    let Some(asked) = asked else { return client.send(origin, request).await };
    asked.opening.ask(request.headers_mut()).map_err(|_| SendError::Unfit)?;
    // Seldom, and large: not in the memory of each call.
    Box::pin(client.send_alone(origin, request)).await
}

/// Returns when the right to an API's WebSocket ends, or the token that it was asked for with is nobody's any more.
async fn over(under: &Under, (id, hash): &(TokenId, TokenHash)) {
    let (proxy, right) = (&under.proxy, &under.right);
    loop {
        // What changed before this is seen below; after it, each change is.
        let changed = right.changed(proxy);
        if !right.stands(proxy, under.key.as_deref()) || !proxy.book().has(id, hash) {
            return;
        }
        changed.await;
    }
}

/// Records that an API's WebSocket has ended; that it was opened is recorded already. A flood may leave some out.
fn record(under: &Under, traffic: Traffic) {
    let seat = &under.right.seat;
    let mut detail = Detail::new();
    detail.insert_text("api", seat.api.id.as_str());
    detail.insert("sent", traffic.sent);
    detail.insert("received", traffic.received);
    detail.insert("millis", u64::try_from(under.began.elapsed().as_millis()).unwrap_or(u64::MAX));
    under.proxy.journal.note(Entry { what: What::Ended, agent: seat.agent.clone(), detail });
}

/// An answer, and the WebSocket that its connection becomes when it has gone out.
pub(crate) fn taken(response: Response<Reply>) -> (Response<Reply>, Option<Box<Socket>>) {
    let (head, body) = response.into_parts();
    match body {
        Reply::Switched(socket) => (Response::from_parts(head, Reply::Whole(None)), Some(socket)),
        body => (Response::from_parts(head, body), None),
    }
}
