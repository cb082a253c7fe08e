//! AWS Signature Version 4: what the code's SDK signed with a placeholder is signed anew with the real key.
//!
//! Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request", and the S3 API
//! reference, "Authenticating Requests". The signature covers the request as it leaves, so that fields which the
//! egress changed are signed as they are and those that it dropped are not signed at all.

use crate::fill::{Filler, RESERVED, decoded};
use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use oauth3_core::{Slot, Timestamp};
use oauth3_vault::{Lease, Role, SecretBytes};
use std::borrow::Cow;
use std::collections::BTreeSet;

use time::macros::format_description;
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// What may stand in place of a body's digest. Of the others each chunk has a signature of its own.
const UNSIGNED: [&str; 2] = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];
/// How far a request's time may be from ours, in seconds: AWS takes as much.
const MAX_SKEW_SECONDS: i64 = 15 * 60;
/// Longest part of a scope, in bytes.
const MAX_SCOPE_PART_BYTES: usize = 64;

/// Bytes of the date in a scope.
const DATE_BYTES: usize = 8;

const NOT_WHOLE: &str = "the AWS credentials are not whole";
const NOT_V4: &str = "an AWS placeholder stands in a request that is not signed with AWS4-HMAC-SHA256; other AWS \
                      signatures are not made here";
const NO_SCOPE: &str = "the scope of an AWS signature is not date/region/service/aws4_request";
const CHUNKS: &str = "the chunks of this AWS request are signed one by one, which is not done here; send it with an \
                      unsigned or a whole payload (for S3: UNSIGNED-PAYLOAD)";

/// One signature that is to be made.
#[derive(Debug)]
pub(super) struct Plan {
    /// The lease of the access key id.
    pub(super) key_id: usize,
    terms: Terms,
}

/// What a signature says.
#[derive(Debug)]
struct Terms {
    in_query: bool,
    /// `date/region/service/aws4_request`.
    scope: String,
    /// The time, as `x-amz-date` writes it.
    time: String,
    signed_headers: BTreeSet<String>,
    /// The body's digest as the code gave it; none when it is ours to take.
    payload: Option<String>,
}

/// Whose signature it is.
struct Credentials<'a> {
    key_id: Zeroizing<String>,
    secret: &'a SecretBytes,
    session: Option<Zeroizing<String>>,
}

impl Plan {
    pub(super) const fn needs_body(&self) -> bool {
        self.terms.payload.is_none()
    }
}

impl<'a> Credentials<'a> {
    /// The parts of one secret; nothing when they are not whole.
    fn of(parts: impl Iterator<Item = &'a Lease>) -> Option<Self> {
        let (mut key_id, mut secret, mut session) = (None, None, None);
        let mut version = None;
        for lease in parts {
            // All of one version, for they may be renewed meanwhile; the key id stands first and has that last.
            let (current, newest) = lease.current();
            let version = *version.get_or_insert(current);
            let value = lease.of_version(version).unwrap_or(newest);
            match lease.role {
                Role::AwsKeyId => key_id = Some(text(value)),
                Role::AwsSecretKey => secret = Some(value),
                Role::AwsSessionToken => session = Some(text(value)),
                _ => {}
            }
        }
        Some(Self { key_id: key_id?, secret: secret?, session })
    }
}

impl Terms {
    fn service(&self) -> &str {
        self.scope.split('/').nth(2).unwrap_or_default()
    }
}

/// Looks for a signature that was made with a placeholder.
pub(super) fn plan(filler: &Filler<'_>, head: &Parts) -> Result<Option<Plan>, Cow<'static, str>> {
    if !filler.held.leases.iter().any(|lease| matches!(lease.role, Role::AwsKeyId)) {
        return Ok(None);
    }
    let key_in = |text: &[u8], slot| {
        filler.held.marks.places(text).find(|(_, index)| {
            filler.lease(*index).is_some_and(|lease| matches!(lease.role, Role::AwsKeyId))
                && filler.covers(*index, slot)
        })
    };
    let field = head.headers.get(AUTHORIZATION);
    let in_field = field.and_then(|value| key_in(value.as_bytes(), Slot::Header));
    let query = parameters(head.uri.query().unwrap_or_default());
    let credential = query.iter().find(|(name, _)| name == "X-Amz-Credential").map(|(_, value)| value.as_str());
    let in_query = credential.and_then(|value| key_in(value.as_bytes(), Slot::Query));
    let mut plan = match (in_field, in_query) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err("the request is signed for AWS twice, in a field and in the query".into()),
        (Some((_, key_id)), None) => {
            let text = field.and_then(|value| value.to_str().ok()).unwrap_or_default();
            from_field(filler, key_id, text, &head.headers)?
        }
        (None, Some((_, key_id))) => from_query(filler, key_id, &query, &head.headers)?,
    };
    check_time(&plan.terms, filler.now)?;
    plan.terms.signed_headers.insert("host".into());
    Ok(Some(plan))
}

fn from_field(filler: &Filler<'_>, key_id: usize, text: &str, headers: &HeaderMap) -> Result<Plan, Cow<'static, str>> {
    let rest = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' ')).ok_or(NOT_V4)?;
    let part = |name: &str| {
        let mut parts = rest.split(',').filter_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        parts.next().ok_or(NOT_V4)
    };
    let scope = scope(filler, key_id, part("Credential")?)?;
    let given = match text_of(headers, &CONTENT_SHA256)? {
        None => None,
        Some(text) if UNSIGNED.contains(&text) || is_digest(text) => Some(text.to_owned()),
        Some(_) => return Err(CHUNKS.into()),
    };
    let time = text_of(headers, &DATE)?.ok_or("an AWS request is signed without x-amz-date")?.to_owned();
    let signed_headers = part("SignedHeaders")?.split(';').map(str::to_ascii_lowercase).collect();
    Ok(Plan { key_id, terms: Terms { in_query: false, scope, time, signed_headers, payload: given } })
}

fn from_query(
    filler: &Filler<'_>,
    key_id: usize,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Plan, Cow<'static, str>> {
    let one = |wanted: &str| {
        let mut values = query.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(Cow::from(format!("an AWS request that is signed in its query has one {wanted}"))),
        }
    };
    if one("X-Amz-Algorithm")? != ALGORITHM {
        return Err(NOT_V4.into());
    }
    let scope = scope(filler, key_id, one("X-Amz-Credential")?)?;
    let time = one("X-Amz-Date")?.to_owned();
    let signed_headers = one("X-Amz-SignedHeaders")?.split(';').map(str::to_ascii_lowercase).collect();
    // S3 signs addresses without their bodies; other services with them.
    let payload = match text_of(headers, &CONTENT_SHA256)? {
        Some(text) if UNSIGNED.contains(&text) || is_digest(text) => Some(text.to_owned()),
        Some(_) => return Err(CHUNKS.into()),
        None => is_s3(scope.split('/').nth(2).unwrap_or_default()).then(|| "UNSIGNED-PAYLOAD".to_owned()),
    };
    Ok(Plan { key_id, terms: Terms { in_query: true, scope, time, signed_headers, payload } })
}

/// The scope of `PLACEHOLDER/date/region/service/aws4_request`.
fn scope(filler: &Filler<'_>, key_id: usize, credential: &str) -> Result<String, Cow<'static, str>> {
    let placeholder = filler.lease(key_id).map_or("", |lease| lease.placeholder.as_str());
    let scope = credential.strip_prefix(placeholder).and_then(|rest| rest.strip_prefix('/')).ok_or(NO_SCOPE)?;
    let parts: Vec<&str> = scope.split('/').collect();
    let word = |text: &str| {
        (1..=MAX_SCOPE_PART_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match parts.as_slice() {
        [date, region, service, TERMINATOR]
            if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) && word(region) && word(service) =>
        {
            Ok(scope.to_owned())
        }
        _ => Err(NO_SCOPE.into()),
    }
}

/// A signature that is good tomorrow would be worth keeping.
fn check_time(terms: &Terms, now: Timestamp) -> Result<(), Cow<'static, str>> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = time::PrimitiveDateTime::parse(&terms.time, format).map_err(|_| "x-amz-date is no time")?;
    let skew = at.assume_utc().unix_timestamp().abs_diff(now.unix_seconds());
    if skew > MAX_SKEW_SECONDS.unsigned_abs() {
        return Err("the time of an AWS request is more than 15 minutes from now".into());
    }
    if !terms.time.starts_with(terms.scope.split('/').next().unwrap_or_default()) {
        return Err(NO_SCOPE.into());
    }
    Ok(())
}

/// Signs the request as it goes out.
pub(super) fn sign(plan: &Plan, filler: &Filler<'_>, head: &mut Parts, body: &[u8]) -> Result<(), Cow<'static, str>> {
    let name = filler.lease(plan.key_id).map(|lease| &lease.name);
    let of_secret = filler.held.leases.iter().filter(|lease| Some(&lease.name) == name);
    complete(&plan.terms, &Credentials::of(of_secret).ok_or(NOT_WHOLE)?, head, body)
}

/// Signs a request that nobody has signed, with what was lent of one secret: over its body, and over all of its fields
/// that AWS wants signed, at this time. What it has of another signature goes. Its Host field must be there.
///
/// # Errors
/// When what was lent is no AWS credentials, or cannot stand in a field.
pub fn sign_aws(
    leases: &[Lease],
    service: &str,
    region: &str,
    now: Timestamp,
    head: &mut Parts,
    body: &[u8],
) -> Result<(), Cow<'static, str>> {
    let credentials = Credentials::of(leases.iter()).ok_or(NOT_WHOLE)?;
    let at = time::OffsetDateTime::from_unix_timestamp(now.unix_seconds()).map_err(|_| "the clock is wrong")?;
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = at.format(format).map_err(|_| "the clock is wrong")?;
    let scope = format!("{}/{region}/{service}/{TERMINATOR}", time.get(..DATE_BYTES).unwrap_or_default());
    for name in [&AUTHORIZATION, &CONTENT_SHA256] {
        head.headers.remove(name);
    }
    head.headers.insert(DATE, HeaderValue::from_str(&time).map_err(|_| "the clock is wrong")?);
    let payload = is_s3(service).then(|| sha256(body));
    if let Some(digest) = payload.as_deref().and_then(|digest| HeaderValue::from_str(digest).ok()) {
        head.headers.insert(CONTENT_SHA256, digest);
    }
    let signed_headers = [HOST, CONTENT_TYPE].iter().map(|name| name.as_str().to_owned()).collect();
    complete(&Terms { in_query: false, scope, time, signed_headers, payload }, &credentials, head, body)
}

/// Puts the signature in.
fn complete(
    terms: &Terms,
    credentials: &Credentials<'_>,
    head: &mut Parts,
    body: &[u8],
) -> Result<(), Cow<'static, str>> {
    let Credentials { key_id, secret, session } = credentials;
    let payload = terms.payload.clone().unwrap_or_else(|| sha256(body));
    let mut signed_headers = terms.signed_headers.clone();
    head.headers.remove(SECURITY_TOKEN);
    if terms.in_query {
        readdress(terms, head, key_id, session.as_deref().map(String::as_str))?;
    } else if let Some(session) = session {
        head.headers.insert(SECURITY_TOKEN, secret_value(session)?);
    }
    // What the SDK signs of these differs; AWS wants all of them in.
    signed_headers
        .extend(head.headers.keys().map(HeaderName::as_str).filter(|n| n.starts_with("x-amz-")).map(str::to_owned));
    signed_headers.retain(|name| head.headers.contains_key(name.as_str()));
    let names = signed_headers.iter().map(String::as_str).collect::<Vec<_>>().join(";");
    if terms.in_query {
        replace_parameter(head, "X-Amz-SignedHeaders", &names)?;
    }
    let canonical = canonical_request(terms, head, &names, &payload);
    let to_sign = format!("{ALGORITHM}\n{}\n{}\n{}", terms.time, terms.scope, sha256(canonical.as_bytes()));
    let signature = HEXLOWER.encode(signing_key(secret, &terms.scope, to_sign.as_bytes()).as_ref());
    if terms.in_query {
        return replace_parameter(head, "X-Amz-Signature", &signature);
    }
    let field = Zeroizing::new(format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={names}, Signature={signature}",
        **key_id, terms.scope
    ));
    head.headers.insert(AUTHORIZATION, secret_value(&field)?);
    Ok(())
}

/// Puts the real key id and session token into the query.
fn readdress(terms: &Terms, head: &mut Parts, key_id: &str, session: Option<&str>) -> Result<(), Cow<'static, str>> {
    replace_parameter(head, "X-Amz-Credential", &format!("{key_id}/{}", terms.scope))?;
    let query = head.uri.query().unwrap_or_default();
    let named = |pair: &&str, wanted: &str| decoded(pair.split('=').next().unwrap_or_default()) == wanted.as_bytes();
    let mut kept: Vec<String> = query
        .split('&')
        .filter(|pair| !named(pair, "X-Amz-Security-Token") && !named(pair, "X-Amz-Signature"))
        .map(str::to_owned)
        .collect();
    kept.extend(session.map(|token| format!("X-Amz-Security-Token={}", escaped(token.as_bytes()))));
    kept.push("X-Amz-Signature=".to_owned());
    set_query(head, &kept.join("&"))
}

fn replace_parameter(head: &mut Parts, wanted: &str, value: &str) -> Result<(), Cow<'static, str>> {
    let query = head.uri.query().unwrap_or_default();
    let pairs = query.split('&').map(|pair| match pair.split('=').next() {
        Some(name) if decoded(name) == wanted.as_bytes() => format!("{wanted}={}", escaped(value.as_bytes())),
        _ => pair.to_owned(),
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    set_query(head, &query)
}

fn set_query(head: &mut Parts, query: &str) -> Result<(), Cow<'static, str>> {
    let target = format!("{}?{query}", head.uri.path());
    head.uri =
        PathAndQuery::try_from(target).map(Uri::from).map_err(|_| "the address of an AWS request is too long")?;
    Ok(())
}

fn canonical_request(terms: &Terms, head: &Parts, names: &str, payload: &str) -> String {
    // By bytes: what is no UTF-8 is signed as it is sent.
    let mut pairs: Vec<(String, String)> = pairs(head.uri.query().unwrap_or_default())
        .map(|(name, value)| (decoded(name), decoded(value)))
        .filter(|(name, _)| !(terms.in_query && name == b"X-Amz-Signature"))
        .map(|(name, value)| (escaped(&name), escaped(&value)))
        .collect();
    pairs.sort();
    let query = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let fields: String = names.split(';').map(|name| format!("{name}:{}\n", field(&head.headers, name))).collect();
    let path = canonical_path(head.uri.path(), is_s3(terms.service()));
    format!("{}\n{path}\n{query}\n{fields}\n{names}\n{payload}", head.method)
}

/// S3 takes a path as it is; the others resolve its dots and escape what is escaped once more.
fn canonical_path(path: &str, s3: bool) -> String {
    let escape = |segment: &[u8]| escaped(segment);
    if s3 {
        return path.split('/').map(|segment| escape(&decoded(segment))).collect::<Vec<_>>().join("/");
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut canonical: String =
        segments.iter().flat_map(|segment| ["/".to_owned(), escape(segment.as_bytes())]).collect();
    if canonical.is_empty() || path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        canonical.push('/');
    }
    canonical
}

/// All values of a field, each without outer and double spaces.
fn field(headers: &HeaderMap, name: &str) -> String {
    let value = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    headers.get_all(name).iter().map(value).collect::<Vec<_>>().join(",")
}

fn signing_key(secret: &SecretBytes, scope: &str, text: &[u8]) -> hmac::Tag {
    let first = secret.with(|secret| {
        let mut prefixed = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        prefixed.extend_from_slice(b"AWS4");
        prefixed.extend_from_slice(secret);
        hmac::Key::new(hmac::HMAC_SHA256, &prefixed)
    });
    let key = scope
        .split('/')
        .fold(first, |key, part| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref()));
    hmac::sign(&key, text)
}

/// What the query says, as text; only good for what is text.
fn parameters(query: &str) -> Vec<(String, String)> {
    let plain = |text: &str| String::from_utf8_lossy(&decoded(text)).into_owned();
    pairs(query).map(|(name, value)| (plain(name), plain(value))).collect()
}

/// Names and values of a query as they are written.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The one value of a field.
fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Cow<'static, str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(format!("{name} stands twice").into());
    }
    first.map(|value| value.to_str().map(str::trim).map_err(|_| format!("{name} is no text").into())).transpose()
}

fn is_s3(service: &str) -> bool {
    matches!(service, "s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn escaped(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, RESERVED).to_string()
}

/// Parts of AWS credentials are visible ASCII; that was checked when they were lent.
fn text(value: &SecretBytes) -> Zeroizing<String> {
    value.with(|value| Zeroizing::new(String::from_utf8_lossy(value).into_owned()))
}

fn secret_value(text: &str) -> Result<HeaderValue, Cow<'static, str>> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "the AWS credentials cannot stand in a field")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::Held;
    use crate::marks::Marks;
    use crate::rules::Bars;
    use http::Request;
    use oauth3_core::{Host, Kind, SecretName, Uses};

    const PLACEHOLDER: &str = "AKIAPLACEHOLDER00000";
    const REAL: &str = "AKIAIOSFODNN7EXAMPLE";
    /// The two keys of the documents: of S3, and of the test suite.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const SUITE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn lease(host: &Host, placeholder: &str, value: &str, role: Role) -> Lease {
        let uses = Uses { slots: Kind::AwsSigv4.default_slots(), kind: Kind::AwsSigv4, ..Uses::default() };
        let name = SecretName::parse("CLOUD").unwrap();
        let value = SecretBytes::new(value.as_bytes().to_vec());
        Lease { uses, role, ..Lease::of_value(name, [host.clone()].into(), placeholder.to_owned(), value) }
    }

    /// Plans and signs as an egress does at the time that the request names.
    fn signed(head: &mut Parts, body: &[u8], session: Option<&str>) -> Result<(), Cow<'static, str>> {
        signed_with(SECRET, head, body, session)
    }

    fn signed_with(
        secret: &str,
        head: &mut Parts,
        body: &[u8],
        session: Option<&str>,
    ) -> Result<(), Cow<'static, str>> {
        let host = Host::parse(head.headers["host"].to_str().unwrap()).unwrap();
        let mut leases = vec![
            lease(&host, PLACEHOLDER, REAL, Role::AwsKeyId),
            lease(&host, "placeholder-of-the-key", secret, Role::AwsSecretKey),
        ];
        leases.extend(session.map(|token| lease(&host, "placeholder-of-the-session", token, Role::AwsSessionToken)));
        let marks = Marks::new(leases.iter().map(|l| (l.name.as_str(), l.placeholder.as_str()))).unwrap();
        let held = Held { leases: &leases, marks: &marks };
        let bars = Bars::of(held, &host, head);
        let query = parameters(head.uri.query().unwrap_or_default());
        let time = text_of(&head.headers, &DATE)?.map(str::to_owned);
        let time = time.or(query.into_iter().find(|(name, _)| name == "X-Amz-Date").map(|(_, value)| value)).unwrap();
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let at = time::PrimitiveDateTime::parse(&time, format).unwrap().assume_utc().unix_timestamp();
        let filler = Filler::new(held, &host, &bars, Timestamp::from_millis(at * 1000));
        let plan = plan(&filler, head)?.expect("it is signed");
        sign(&plan, &filler, head, body)
    }

    fn request(method: &str, target: &str, scope: &str, fields: &[(&str, &str)]) -> Parts {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let field = format!("{ALGORITHM} Credential={PLACEHOLDER}/{scope},SignedHeaders={names}, Signature=00");
        let request = Request::builder().method(method).uri(target).header("authorization", field);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    /// The examples of the S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
    #[test]
    fn signs_as_the_documents_of_s3_say() {
        let scope = "20130524/us-east-1/s3/aws4_request";
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let date = ("x-amz-date", "20130524T000000Z");
        let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let empty = ("x-amz-content-sha256", EMPTY);
        let stored = ("x-amz-storage-class", "REDUCED_REDUNDANCY");
        let day = ("date", "Fri, 24 May 2013 00:00:00 GMT");
        for (method, target, fields, signature) in [
            (
                "GET",
                "/test.txt",
                &[host, ("range", "bytes=0-9"), empty, date][..],
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test%24file.text",
                &[day, host, ("x-amz-content-sha256", put), date, stored],
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "/?lifecycle",
                &[host, empty, date],
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "/?prefix=J&max-keys=2",
                &[host, empty, date],
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut head = request(method, target, scope, fields);
            signed(&mut head, b"", None).unwrap();
            let field = head.headers["authorization"].to_str().unwrap();
            assert!(field.starts_with(&format!("{ALGORITHM} Credential={REAL}/{scope}, SignedHeaders=")), "{field}");
            assert!(field.ends_with(&format!("Signature={signature}")), "{method} {target}: {field}");
        }
    }

    #[test]
    fn signs_addresses_as_the_documents_of_s3_say() {
        let target = format!(
            "/test.txt?X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={PLACEHOLDER}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
        );
        let request = Request::get(target).header("host", "examplebucket.s3.amazonaws.com");
        let mut head = request.body(()).unwrap().into_parts().0;
        signed(&mut head, b"", None).unwrap();
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        let query = head.uri.query().unwrap();
        assert!(query.ends_with(&format!("&X-Amz-Signature={signature}")) && query.contains(REAL), "{query}");
        assert!(!query.contains(PLACEHOLDER) && !head.headers.contains_key("authorization"));
    }

    /// "get-vanilla" of the official test suite.
    #[test]
    fn signs_for_other_services() {
        let scope = "20150830/us-east-1/service/aws4_request";
        let date = ("x-amz-date", "20150830T123600Z");
        let mut head = request("GET", "/", scope, &[("host", "example.amazonaws.com"), date]);
        signed_with(SUITE_SECRET, &mut head, b"", None).unwrap();
        let ours = head.headers["authorization"].to_str().unwrap().to_owned();
        assert!(ours.ends_with("Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"), "{ours}");
        let mut again = request("GET", "/a/./../", scope, &[("host", "example.amazonaws.com"), date]);
        signed_with(SUITE_SECRET, &mut again, b"", None).unwrap();
        assert_eq!(again.headers["authorization"], ours.as_str(), "the path is resolved before it is signed");
        let mut other = request("GET", "/", scope, &[("host", "example.amazonaws.com"), date]);
        signed_with(SUITE_SECRET, &mut other, b"body", None).unwrap();
        assert_ne!(other.headers["authorization"], ours.as_str(), "the body is signed");
    }

    /// "get-vanilla" of the official test suite again, from a request that somebody else had signed.
    #[test]
    fn signs_what_nobody_signed() {
        let host = Host::parse("example.amazonaws.com").unwrap();
        let leases = [lease(&host, "p", REAL, Role::AwsKeyId), lease(&host, "q", SUITE_SECRET, Role::AwsSecretKey)];
        let at = time::macros::datetime!(2015-08-30 12:36:00 UTC).unix_timestamp();
        let request = Request::get("/").header("host", "example.amazonaws.com").header("authorization", "Bearer x");
        let mut head = request.header("x-amz-security-token", "another").body(()).unwrap().into_parts().0;
        let now = Timestamp::from_millis(at * 1000);
        sign_aws(&leases, "service", "us-east-1", now, &mut head, b"").unwrap();
        let field = head.headers["authorization"].to_str().unwrap();
        let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let scope = "20150830/us-east-1/service/aws4_request";
        let whole =
            format!("{ALGORITHM} Credential={REAL}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}");
        assert_eq!(field, whole);
        assert_eq!(head.headers.len(), 3, "{head:?}");
        assert!(sign_aws(&leases[..1], "service", "us-east-1", now, &mut head, b"").is_err());
    }

    #[test]
    fn a_session_stands_in_the_request_and_in_its_signature() {
        let scope = "20150830/us-east-1/sts/aws4_request";
        let fields = [
            ("host", "sts.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            ("x-amz-security-token", "placeholder-of-the-session"),
        ];
        let mut head = request("GET", "/", scope, &fields);
        signed(&mut head, b"", Some("real/session==")).unwrap();
        assert_eq!(head.headers["x-amz-security-token"], "real/session==");
        assert!(head.headers["authorization"].to_str().unwrap().contains("host;x-amz-date;x-amz-security-token"));
        let mut head = request("GET", "/", scope, &fields);
        signed(&mut head, b"", None).unwrap();
        assert!(!head.headers.contains_key("x-amz-security-token"), "one that is not ours goes");
    }

    #[test]
    fn what_is_not_signed_here_is_refused_with_a_sentence() {
        let scope = "20150830/us-east-1/s3/aws4_request";
        let host = ("host", "b.s3.amazonaws.com");
        let date = ("x-amz-date", "20150830T123600Z");
        let chunks = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        let refusal = |mut head: Parts| signed(&mut head, b"", None).unwrap_err().into_owned();
        assert!(refusal(request("PUT", "/", scope, &[host, date, chunks])).contains("signed one by one"));
        let trailer = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        signed(&mut request("PUT", "/", scope, &[host, date, trailer]), b"", None).unwrap();
        for wrong in ["20150830/us-east-1/s3", "20150831/us-east-1/s3/aws4_request", "20150830/us east/s3/aws4_request"]
        {
            assert!(refusal(request("GET", "/", wrong, &[host, date])).contains("scope"), "{wrong}");
        }
        let mut old = request("GET", "/", scope, &[host, date]);
        old.headers.insert("authorization", format!("AWS {PLACEHOLDER}:sig").parse().unwrap());
        assert!(refusal(old).contains("not signed with AWS4-HMAC-SHA256"));
    }
}
