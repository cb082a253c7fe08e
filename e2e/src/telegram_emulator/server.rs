//! Connections, framing and the long poll.

use super::state::{Fault, Traffic};
use super::{Shared, methods};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Longest that a poll is held, in seconds (Bot API server).
const MAX_POLL_SECONDS: u64 = 50;

/// A refusal: code and description.
pub(crate) type Refusal = (u16, String);

/// Closes the connection instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
struct Dropped;

pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        if shared.lock().down {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| answer(Arc::clone(&shared), request));
            // An error here is a dropped connection, by the test's will or the bot's.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let path = request.uri().path().to_owned();
    let known = format!("/bot{}/", shared.lock().token);
    let Some(method) = path.strip_prefix(&known).map(str::to_owned) else {
        return Ok(refuse((401, "Unauthorized".to_owned())));
    };
    let fault = {
        let mut state = shared.lock();
        if state.down {
            return Err(Dropped);
        }
        state.take_fault(&method)
    };
    if fault.is_some() {
        shared.touch();
    }
    let content_type =
        request.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map_err(|_| Dropped)?.to_bytes();
    let outcome = match fault {
        Some(Fault::TooMany { retry_after }) => {
            let reply = json!({"ok": false, "error_code": 429, "description": format!("Too Many Requests: retry after {retry_after}"),
                "parameters": {"retry_after": retry_after}});
            return Ok(frame(429, &reply));
        }
        Some(Fault::Status(code)) => return Ok(refuse((code, "Internal Server Error".to_owned()))),
        Some(Fault::Page(code)) => {
            let mut page = Response::new(Full::new(Bytes::from_static(b"<html>proxy</html>")));
            *page.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            return Ok(page);
        }
        Some(Fault::Drop) => return Err(Dropped),
        Some(Fault::DropAfter) | None => act(&shared, &method, &content_type, body).await,
    };
    let (params, outcome) = outcome?;
    let reply = match &outcome {
        Ok(result) => json!({"ok": true, "result": result}),
        Err((code, description)) => json!({"ok": false, "error_code": code, "description": description}),
    };
    if method != "getUpdates" {
        shared.lock().traffic.push(Traffic::Call { method, params, reply: reply.clone() });
    } else if !matches!(&outcome, Ok(Value::Array(updates)) if updates.is_empty()) {
        // Idle polls are not worth a record, and updates have their own.
        let brief = if outcome.is_ok() { Value::Null } else { reply.clone() };
        shared.lock().traffic.push(Traffic::Call { method, params, reply: brief });
    }
    shared.touch();
    if fault == Some(Fault::DropAfter) {
        return Err(Dropped);
    }
    Ok(frame(outcome.err().map_or(200, |(code, _)| code), &reply))
}

type Acted = Result<(Value, Result<Value, Refusal>), Dropped>;

async fn act(shared: &Shared, method: &str, content_type: &str, body: Bytes) -> Acted {
    if method == "sendDocument" {
        let (fields, file) = match read_form(content_type, body).await {
            Ok(form) => form,
            Err(refusal) => return Ok((Value::Null, Err(refusal))),
        };
        let mut params = Value::Object(fields.clone());
        params["document"] = json!(file.0);
        return Ok((params, methods::send_document(&mut shared.lock(), &fields, file)));
    }
    let params: Map<String, Value> = if body.is_empty() {
        Map::new()
    } else if content_type.starts_with("application/json") {
        match serde_json::from_slice(&body) {
            Ok(params) => params,
            Err(_) => return Ok((Value::Null, Err((400, "Bad Request: can't parse JSON".to_owned())))),
        }
    } else {
        return Ok((Value::Null, Err((400, "Bad Request: content type".to_owned()))));
    };
    let outcome = if method == "getUpdates" {
        poll(shared, &params).await?
    } else {
        methods::call(&mut shared.lock(), method, &params)
    };
    Ok((Value::Object(params), outcome))
}

async fn poll(shared: &Shared, params: &Map<String, Value>) -> Result<Result<Value, Refusal>, Dropped> {
    let request = match methods::poll_params(params) {
        Ok(request) => request,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut changes = shared.watch();
    let mine = {
        let mut state = shared.lock();
        state.poll += 1;
        if let Some(offset) = request.offset {
            state.updates.retain(|(id, _)| *id >= offset);
        }
        state.poll
    };
    // An older poll that waits sees the newer number and ends; a test that waits sees the confirmation.
    shared.touch();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(request.timeout.min(MAX_POLL_SECONDS));
    loop {
        changes.borrow_and_update();
        {
            let mut state = shared.lock();
            if state.down {
                return Err(Dropped);
            }
            if state.poll != mine {
                let why =
                    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
                return Ok(Err((409, why.to_owned())));
            }
            let wanted = state.updates.iter().filter(|(_, update)| request.allows(update));
            let updates: Vec<Value> = wanted.take(request.limit).map(|(_, update)| update.clone()).collect();
            if !updates.is_empty() || state.lax || tokio::time::Instant::now() >= deadline {
                state.traffic.extend(updates.iter().cloned().map(Traffic::Update));
                if state.lax {
                    state.updates.clear();
                }
                return Ok(Ok(Value::Array(updates)));
            }
        }
        let _ = tokio::time::timeout_at(deadline, changes.changed()).await;
    }
}

type Form = (Map<String, Value>, (String, Vec<u8>));

async fn read_form(content_type: &str, body: Bytes) -> Result<Form, Refusal> {
    let bad = |what: &str| (400, format!("Bad Request: {what}"));
    let boundary = multer::parse_boundary(content_type).map_err(|_| bad("no multipart boundary"))?;
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut form = multer::Multipart::new(stream, boundary);
    let mut fields = Map::new();
    let mut file = None;
    while let Some(field) = form.next_field().await.map_err(|_| bad("a broken form"))? {
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let bytes = field.bytes().await.map_err(|_| bad("a broken form"))?;
        match file_name {
            Some(file_name) if name == "document" => file = Some((file_name, bytes.to_vec())),
            Some(_) => return Err(bad("a file in the wrong field")),
            None => {
                let text = String::from_utf8(bytes.to_vec()).map_err(|_| bad("strings must be encoded in UTF-8"))?;
                fields.insert(name, json!(text));
            }
        }
    }
    Ok((fields, file.ok_or_else(|| bad("there is no document in the request"))?))
}

fn refuse((code, description): Refusal) -> Response<Full<Bytes>> {
    frame(code, &json!({"ok": false, "error_code": code, "description": description}))
}

fn frame(code: u16, reply: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.to_string())));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}
