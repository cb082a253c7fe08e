//! The request as an API gets it: with its address and its key.

use crate::body::Outgoing;
use crate::book::Api;
use crate::call::Target;
use crate::keys::Opened;
use crate::limits::MAX_HEADERS;
use crate::refuse::Refused;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use oauth3_core::{Clock, KeyPlace, Timestamp};
use oauth3_inject::sign_aws;
use oauth3_vault::Lease;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// How parameters of another signature for AWS begin.
const AWS_PARAMETER: &str = "x-amz-";

/// The request to the API, with its key.
pub(crate) fn fill(
    api: &Api,
    method: &Method,
    mut headers: HeaderMap,
    target: &Target,
    opened: Option<&Opened>,
    body: Outgoing,
    clock: &dyn Clock,
) -> Result<Request<Outgoing>, Refused> {
    if headers.len() >= MAX_HEADERS {
        return Err(Refused::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request", "too many fields"));
    }
    let mut query = Zeroizing::new(target.query.clone());
    let leases = opened.map_or(&[][..], |opened| &opened.leases);
    if let (Some(place), Some(lease)) = (&api.place, leases.first()) {
        match place {
            KeyPlace::Bearer => put(&mut headers, AUTHORIZATION, "Bearer ", lease)?,
            KeyPlace::Scheme(word) => put(&mut headers, AUTHORIZATION, &format!("{word} "), lease)?,
            KeyPlace::Header(name) => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
                put(&mut headers, name, "", lease)?;
            }
            KeyPlace::Query(name) => {
                let value =
                    lease.value.with(|value| Zeroizing::new(percent_encode(value, NON_ALPHANUMERIC).to_string()));
                if !query.is_empty() {
                    query.push('&');
                }
                query.push_str(name);
                query.push('=');
                query.push_str(&value);
            }
            KeyPlace::SigV4 { .. } => *query = without_signature(&query),
        }
    }
    let mut text = Zeroizing::new(target.path.clone());
    if !query.is_empty() {
        text.push('?');
        text.push_str(&query);
    }
    let uri = Uri::try_from(text.as_str()).map_err(|_| Refused::invalid("the address cannot be sent on"))?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    match &api.place {
        Some(KeyPlace::SigV4 { service, region }) => signed(request, api, leases, service, region, clock.now()),
        _ => Ok(request),
    }
}

/// Signs a request for AWS, over its whole body.
fn signed(
    request: Request<Outgoing>,
    api: &Api,
    leases: &[Lease],
    service: &str,
    region: &str,
    now: Timestamp,
) -> Result<Request<Outgoing>, Refused> {
    let (mut head, body) = request.into_parts();
    let bytes =
        body.whole().ok_or_else(|| Refused::invalid("the body of a request that is signed must be read whole"))?;
    head.headers.insert(HOST, api.origin.field().ok_or_else(unfit)?.clone());
    sign_aws(leases, service, region, now, &mut head, bytes).map_err(|sentence| {
        tracing::warn!(api = %api.id, %sentence, "a call cannot be signed");
        unfit()
    })?;
    Ok(Request::from_parts(head, body))
}

fn unfit() -> Refused {
    Refused::unavailable("the key is in no form that can stand in a request; the owner must set it anew")
}

/// Puts a key into a field.
fn put(headers: &mut HeaderMap, name: HeaderName, beginning: &str, lease: &Lease) -> Result<(), Refused> {
    let whole = lease.value.with(|value| Zeroizing::new([beginning.as_bytes(), value].concat()));
    let mut value = HeaderValue::from_bytes(&whole).map_err(|_| unfit())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

fn without_signature(query: &str) -> String {
    let is_of_one =
        |pair: &&str| pair.get(..AWS_PARAMETER.len()).is_some_and(|n| n.eq_ignore_ascii_case(AWS_PARAMETER));
    query.split('&').filter(|pair| !is_of_one(pair)).collect::<Vec<_>>().join("&")
}
