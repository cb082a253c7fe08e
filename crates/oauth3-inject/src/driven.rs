//! An HTTP/1.1 connection to a host that has no task of its own: whoever waits for its reply, or reads its body,
//! drives it. So a request wakes nobody but itself.

use http::{Request, Response};
use http_body::Frame;
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::rt::{Read, Write};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// A connection for one request at a time.
pub struct Driven<T, B>
where
    T: Read + Write,
    B: Body + 'static,
{
    sender: SendRequest<B>,
    /// Gone when it has ended.
    connection: Option<Connection<T, B>>,
}

impl<T, B> Driven<T, B>
where
    T: Read + Write + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Begins to speak HTTP/1.1.
    ///
    /// # Errors
    /// What the library says.
    pub async fn handshake(builder: &Builder, stream: T) -> hyper::Result<Self> {
        let (sender, connection) = builder.handshake(stream).await?;
        Ok(Self { sender, connection: Some(connection) })
    }

    /// Sends a request and waits for the head of its reply.
    ///
    /// # Errors
    /// What the library says; with the request, when it never left.
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        let Self { sender, connection } = self;
        let mut reply = pin!(sender.try_send_request(request));
        poll_fn(|cx| {
            drive(connection, cx);
            reply.as_mut().poll(cx)
        })
        .await
    }

    /// The next frame of the reply to the last request.
    pub fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        drive(&mut self.connection, cx);
        Pin::new(body).poll_frame(cx)
    }

    /// Whether it takes a request: the last one and its reply are over, and the host has not hung up as far as this
    /// side knows.
    pub fn is_ready(&mut self) -> bool {
        // Nobody waits for a connection that is kept; the next request looks at it again.
        drive(&mut self.connection, &mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Goes on as far as it goes now.
fn drive<T, B>(connection: &mut Option<Connection<T, B>>, cx: &mut Context<'_>)
where
    T: Read + Write + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Some(open) = connection else { return };
    if let Poll::Ready(ended) = Pin::new(open).poll(cx) {
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to a host ended");
        }
        *connection = None;
    }
}

impl<T, B> fmt::Debug for Driven<T, B>
where
    T: Read + Write,
    B: Body + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driven")
    }
}
