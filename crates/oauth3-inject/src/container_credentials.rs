//! Where SDKs for AWS look for credentials in a container, answered at the run's proxy with placeholders.
//!
//! Source: Amazon ECS Developer Guide, "Task IAM role", and AWS SDKs and Tools Reference Guide, "Container credential
//! provider": JSON at the address in `AWS_CONTAINER_CREDENTIALS_FULL_URI`, which must be on loopback when it is not
//! reached by TLS, and `Authorization` as `AWS_CONTAINER_AUTHORIZATION_TOKEN` says. Placeholders are good as long as
//! the run is; what they stand for is renewed here. That they end at all is for programs that want to see it.

use crate::body::Body;
use crate::reply::Refusal;
use crate::run::Run;
use crate::target::Entry;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use oauth3_core::{SecretName, Timestamp};
use oauth3_vault::{Lease, Role};
use std::net::SocketAddr;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const PATH: &str = "/oauth3/aws-credentials";
const URI_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_VARIABLE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
/// How long credentials are said to be good. SDKs ask again some minutes before that.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The placeholders of one set of credentials.
struct Credentials<'a> {
    key_id: &'a str,
    secret_key: &'a str,
    session_token: &'a str,
}

impl<'a> Credentials<'a> {
    /// Those of a run that has one set of them; with two, nobody could tell whose are meant. Real values, which the
    /// owner let the code have, are not given out here.
    fn of(leases: &'a [Lease]) -> Option<Self> {
        let mut key_ids = leases.iter().filter(|lease| matches!(lease.role, Role::AwsKeyId));
        let (key_id, None) = (key_ids.next()?, key_ids.next()) else { return None };
        if key_id.uses.reveal.is_on() {
            return None;
        }
        let part = |wanted: fn(&Role) -> bool| {
            let found = leases.iter().find(|lease| lease.name == key_id.name && wanted(&lease.role));
            found.map(|lease| lease.placeholder.as_str())
        };
        let secret_key = part(|role| matches!(role, Role::AwsSecretKey))?;
        let session_token = part(|role| matches!(role, Role::AwsSessionToken)).unwrap_or_default();
        Some(Self { key_id: &key_id.placeholder, secret_key, session_token })
    }
}

/// The variables that lead SDKs to the proxy at this address; a secret of the same name keeps it.
pub(crate) fn variables(leases: &[Lease], proxy: SocketAddr) -> Vec<(SecretName, String)> {
    let Some(credentials) = Credentials::of(leases) else { return Vec::new() };
    // What opens it is a placeholder that the code has anyway, and that nobody else has.
    let pairs = [(URI_VARIABLE, format!("http://{proxy}{PATH}")), (TOKEN_VARIABLE, credentials.secret_key.to_owned())];
    let named = pairs.into_iter().filter_map(|(name, value)| Some((SecretName::parse(name).ok()?, value)));
    named.filter(|(name, _)| leases.iter().all(|lease| lease.name.variable() != name.as_str())).collect()
}

/// The reply, when it is this that a request at the proxy is for.
pub(crate) fn answer<B>(run: &Run, entry: &Entry, request: &Request<B>) -> Option<Result<Response<Body>, Refusal>> {
    let ours = matches!(entry, Entry::Proxy(_)) && request.uri().authority().is_none() && request.uri().path() == PATH;
    ours.then(|| reply(&run.leases, run.clock.now(), request))
}

fn reply<B>(leases: &[Lease], now: Timestamp, request: &Request<B>) -> Result<Response<Body>, Refusal> {
    let credentials = Credentials::of(leases);
    let credentials = credentials.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "this run has no AWS credentials"))?;
    let shown = request.headers().get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    if *request.method() != Method::GET || verify_slices_are_equal(shown, credentials.secret_key.as_bytes()).is_err() {
        let sentence = "a request for AWS credentials did not bring AWS_CONTAINER_AUTHORIZATION_TOKEN";
        return Err(refuse(StatusCode::FORBIDDEN, sentence));
    }
    let failed = || refuse(StatusCode::SERVICE_UNAVAILABLE, "the clock is wrong");
    let until = now.plus(LIFETIME);
    let until = OffsetDateTime::from_unix_timestamp(until.unix_seconds()).map_err(|_| failed())?;
    let body = serde_json::json!({
        "AccessKeyId": credentials.key_id,
        "SecretAccessKey": credentials.secret_key,
        "Token": credentials.session_token,
        "Expiration": until.format(&Rfc3339).map_err(|_| failed())?,
    });
    let body = Full::from(body.to_string()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn refuse(status: StatusCode, sentence: &'static str) -> Refusal {
    Refusal::denied(status, "", sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::Reveal;
    use oauth3_vault::SecretBytes;
    use std::collections::BTreeSet;

    fn credentials(name: &str) -> Vec<Lease> {
        let parts =
            [Role::AwsKeyId, Role::AwsSecretKey, Role::AwsSessionToken].into_iter().zip(["id", "secret", "session"]);
        let lease = |(role, part): (Role, &str)| {
            let name = SecretName::parse(name).unwrap();
            let value = SecretBytes::new(format!("real {part}").into_bytes());
            Lease { role, ..Lease::of_value(name, BTreeSet::new(), format!("placeholder-{part}"), value) }
        };
        parts.map(lease).collect()
    }

    async fn asked(leases: &[Lease], method: Method, token: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).header(AUTHORIZATION, token).body(()).unwrap();
        let response = match reply(leases, Timestamp::from_millis(1_790_000_000_000), &request) {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_who_brings_the_token_gets_placeholders() {
        let one = credentials("CLOUD");
        let (status, body) = asked(&one, Method::GET, "placeholder-secret").await;
        assert_eq!(status, StatusCode::OK);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected = serde_json::json!({ "AccessKeyId": "placeholder-id", "SecretAccessKey": "placeholder-secret",
            "Token": "placeholder-session", "Expiration": "2026-09-21T15:13:20Z" });
        assert_eq!(read, expected);
        for (method, token) in [
            (Method::GET, ""),
            (Method::GET, "guessed"),
            (Method::GET, "Bearer placeholder-secret"),
            (Method::POST, "placeholder-secret"),
        ] {
            let (status, body) = asked(&one, method, token).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            assert!(!body.contains("placeholder-") && !body.contains("real"), "{body}");
        }
        let two: Vec<Lease> = one.into_iter().chain(credentials("OTHER")).collect();
        assert_eq!(
            asked(&two, Method::GET, "placeholder-secret").await.0,
            StatusCode::NOT_FOUND,
            "nobody could tell whose"
        );
    }

    #[test]
    fn sdks_are_led_to_the_proxy_where_there_is_one_set_of_credentials() {
        let proxy: SocketAddr = "127.0.0.1:3128".parse().unwrap();
        let named = |leases: &[Lease]| {
            let pairs = variables(leases, proxy).into_iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let expected = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:3128/oauth3/aws-credentials \
                        AWS_CONTAINER_AUTHORIZATION_TOKEN=placeholder-secret";
        assert_eq!(named(&credentials("CLOUD")), expected);
        assert_eq!(named(&[]), "");
        let mut shown = credentials("CLOUD");
        shown.iter_mut().for_each(|lease| lease.uses.reveal = Reveal::Standing);
        assert_eq!(named(&shown), "", "real values are not given out here");
    }
}
