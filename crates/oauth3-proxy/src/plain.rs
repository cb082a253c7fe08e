//! Requests for hosts that the owner opened to agents and that are no API: nothing is put in, nothing taken out, but
//! they are read, so that they go to the host that is recorded and to no other, and never with an agent's token.

use crate::answer::Reply;
use crate::body::Outgoing;
use crate::call::{ORIGINS, chain, request_line, too_many};
use crate::forward::{Address, Visitor, ended};
use crate::journal::{Entry, What};
use crate::limits::{MAX_CALLS_PER_AGENT, REPLY_IDLE_TIMEOUT, REPLY_TIMEOUT};
use crate::proxy::{Place, Proxy};
use crate::refuse::Refused;
use crate::socket::{self, Asked};
use crate::token;
use crate::upstream::{Answered, ApiClient, Origin, SendError};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use oauth3_core::{AgentName, Detail};
use oauth3_inject::messages;
use oauth3_inject::websocket::Traffic;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep, timeout};

type BoxError = Box<dyn Error + Send + Sync>;

/// A request under way. Dropped, what went to and fro is recorded.
pub(crate) struct Under {
    pub(crate) proxy: Arc<Proxy>,
    agent: AgentName,
    detail: Detail,
    sent: Arc<AtomicU64>,
    received: u64,
    status: Option<StatusCode>,
    _going: Place,
}

/// The body of a host's reply.
pub(crate) struct HostReply {
    inner: Answered,
    under: Under,
    idle: Pin<Box<Sleep>>,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

/// Passes one request on.
pub(crate) async fn pass(
    proxy: &Arc<Proxy>,
    client: &ApiClient,
    visitor: &Arc<Visitor>,
    address: &Address,
    mut head: Parts,
    body: Incoming,
) -> Result<Response<Reply>, Refused> {
    let mut socket = Asked::take(&mut head, &visitor.token)?;
    messages::check_request(&head).map_err(|(status, sentence)| Refused::new(status, "invalid_request", sentence))?;
    if token::is_in(&visitor.token, &head) {
        let sentence = "the agent's token stands in this request, and the host is no API that knows it";
        return Err(Refused::denied(sentence));
    }
    let going = proxy.going.enter(&visitor.agent, MAX_CALLS_PER_AGENT).ok_or_else(too_many)?;
    let mut detail = request_line(&head.method, head.uri.path());
    detail.insert_text("host", &address.host.to_string());
    let entry = Entry { what: What::Reached, agent: visitor.agent.clone(), detail: detail.clone() };
    if !proxy.write(entry).await {
        return Err(Refused::unavailable("the request cannot be recorded, so it is not made"));
    }
    let sent = Arc::new(AtomicU64::new(0));
    let agent = visitor.agent.clone();
    let mut under = Under { proxy: proxy.clone(), agent, detail, sent, received: 0, status: None, _going: going };
    let request = outgoing(head, body, &under.sent);
    let origin = Arc::new(Origin::new(address.secure, address.host.clone()));
    let reply = tokio::select! {
        reply = timeout(REPLY_TIMEOUT, socket::send(client, socket.as_deref_mut(), &origin, request)) => reply,
        () = ended(proxy, visitor) => return Err(Refused::denied("the owner took the right to this back")),
    };
    let failed = |status, sentence: String| Err(Refused::upstream(status, sentence));
    let reply = match reply {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            tracing::info!(host = %address.host, error = %chain(&error), "a request of an agent failed");
            let sentence = match &error {
                SendError::Dial(error) => error.to_string(),
                SendError::Http(_) | SendError::Unfit => "the host broke off".to_owned(),
            };
            return failed(StatusCode::BAD_GATEWAY, sentence);
        }
        Err(_) => return failed(StatusCode::GATEWAY_TIMEOUT, "the host did not answer in time".to_owned()),
    };
    under.status = Some(reply.status());
    if let Some(asked) = socket.filter(|_| reply.status() == StatusCode::SWITCHING_PROTOCOLS) {
        return asked.stand_at_host(under, visitor, reply);
    }
    let (mut head, body) = reply.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return failed(StatusCode::BAD_GATEWAY, "the host wants another protocol".to_owned());
    }
    messages::clean_reply(&mut head.headers);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let over = {
        let (proxy, visitor) = (proxy.clone(), visitor.clone());
        Box::pin(async move { ended(&proxy, &visitor).await })
    };
    let idle = Box::pin(sleep(REPLY_IDLE_TIMEOUT));
    let reply = HostReply { inner: body, under, idle, over, ended: false };
    Ok(Response::from_parts(head, Reply::Host(Box::new(reply))))
}

/// The request as the host gets it: without what belongs to the agent's connection, or tells about it.
fn outgoing(mut head: Parts, body: Incoming, sent: &Arc<AtomicU64>) -> Request<Outgoing> {
    messages::pass_on(&mut head.headers);
    let own = [HOST, EXPECT, CONTENT_LENGTH, TRANSFER_ENCODING];
    messages::remove_where(&mut head.headers, |name| own.contains(name) || ORIGINS.contains(name));
    head.extensions.clear();
    let body = if body.is_end_stream() { Outgoing::nothing() } else { Outgoing::counted(body, sent.clone()) };
    Request::from_parts(head, body)
}

impl HostReply {
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while !self.ended {
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let reason = match (self.over.as_mut().poll(cx), self.idle.as_mut().poll(cx)) {
                        (Poll::Pending, Poll::Pending) => return Poll::Pending,
                        (Poll::Ready(()), _) => "the owner took the right to this back",
                        (_, Poll::Ready(())) => "the host fell silent",
                    };
                    self.ended = true;
                    return Poll::Ready(Some(Err(reason.into())));
                }
            };
            self.idle.as_mut().reset(Instant::now() + REPLY_IDLE_TIMEOUT);
            self.ended = !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream();
            match frame {
                // Trailers are left out, as everywhere here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.under.received += data.len() as u64;
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(_)) => return Poll::Ready(Some(Err("the host's reply broke off".into()))),
                None => {}
            }
        }
        Poll::Ready(None)
    }
}

impl Under {
    /// Notes what went to and fro over a WebSocket.
    pub(crate) fn carried(mut self, traffic: Traffic) {
        self.sent.store(traffic.sent, Ordering::Relaxed);
        self.received = traffic.received;
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut detail = std::mem::take(&mut self.detail);
        if let Some(status) = self.status {
            detail.insert("status", status.as_u16());
        }
        detail.insert("sent", self.sent.load(Ordering::Relaxed));
        detail.insert("received", self.received);
        // What was sent is recorded already; a flood may leave out how it ended.
        self.proxy.journal.note(Entry { what: What::Left, agent: self.agent.clone(), detail });
    }
}
