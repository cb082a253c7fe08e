//! The agent's token, wherever its client puts a key; and no trace of it, or of any other credential, afterwards.

use crate::limits::MAX_TOKEN_BYTES;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use oauth3_core::AgentToken;
use oauth3_inject::messages::{KEY_FIELDS, KEY_PARAMETERS, remove_where};
use zeroize::Zeroizing;

/// How a protocol that a WebSocket offers begins when the rest of it is a key: a browser can send one in no other way.
/// (OpenAI's realtime API; Kubernetes' API server.)
const KEY_PROTOCOLS: [&str; 2] = ["openai-insecure-api-key.", "base64url.bearer.authorization.k8s.io."];

/// Further fields that say who calls.
static CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// Nothing was sent.
    Absent,
    /// What was sent is no token of ours.
    Malformed,
    /// Two different ones were.
    Several,
}

/// Takes the agent's token out of a request, and every other credential with it. The same token may stand in several
/// places, as some clients put it; two different ones are refused.
pub(crate) fn take(headers: &mut HeaderMap, query: Option<&str>) -> Result<AgentToken, NoToken> {
    let mut found: Result<Option<AgentToken>, NoToken> = Ok(None);
    let mut see = |text: Option<&str>| {
        let token = text.filter(|text| text.len() <= MAX_TOKEN_BYTES).and_then(AgentToken::parse);
        found = match (std::mem::replace(&mut found, Ok(None)), token) {
            (Err(no), _) => Err(no),
            (Ok(_), None) => Err(NoToken::Malformed),
            (Ok(Some(first)), Some(token)) if first.reveal() != token.reveal() => Err(NoToken::Several),
            (Ok(_), Some(token)) => Ok(Some(token)),
        };
    };
    for (name, value) in headers.iter() {
        if *name == AUTHORIZATION {
            match bearer(value) {
                Some(token) => see(Some(token)),
                None => see(basic(value).as_ref().map(|password| password.as_str())),
            }
        } else if KEY_FIELDS.contains(name) {
            see(value.to_str().ok().map(str::trim));
        }
    }
    for offered in protocols(headers) {
        if let Some(key) = key_of(offered) {
            see(Some(key));
        }
    }
    for (name, value) in parameters(query) {
        if is_key(name) {
            see(Some(value));
        }
    }
    clear(headers);
    found?.ok_or(NoToken::Absent)
}

/// The user, when there is one, and the token that a client brings to a proxy: Basic credentials (RFC 7617), or Bearer.
pub(crate) fn of_proxy(headers: &HeaderMap) -> Option<(Option<Zeroizing<String>>, AgentToken)> {
    let mut fields = headers.get_all(PROXY_AUTHORIZATION).iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    if let Some(token) = bearer(field) {
        return AgentToken::parse(token).map(|token| (None, token));
    }
    let (user, password) = pair(field)?;
    AgentToken::parse(&password).map(|token| (Some(user), token))
}

/// Whether a token stands in the head of a request, in a form in which a client would put it there.
pub(crate) fn is_in(token: &AgentToken, head: &Parts) -> bool {
    let holds = |text: &[u8]| text.windows(token.reveal().len()).any(|part| part == token.reveal().as_bytes());
    let in_field = |value: &HeaderValue| {
        let decoded = pair(value).is_some_and(|(user, password)| holds(user.as_bytes()) || holds(password.as_bytes()));
        decoded || holds(value.as_bytes())
    };
    let address = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    head.headers.values().any(in_field) || holds(&percent_encoding::percent_decode_str(address).collect::<Vec<u8>>())
}

/// Removes every field that could say who calls.
pub(crate) fn clear(headers: &mut HeaderMap) {
    remove_where(headers, |name| CREDENTIALS.contains(name) || KEY_FIELDS.contains(name));
    if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let kept: Vec<&str> = protocols(headers).filter(|offered| key_of(offered).is_none()).collect();
        match HeaderValue::from_str(&kept.join(", ")).ok().filter(|kept| !kept.is_empty()) {
            Some(kept) => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, kept)),
            None => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
        }
    }
}

/// What a WebSocket offers of protocols.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// The key in such a protocol.
fn key_of(offered: &str) -> Option<&str> {
    KEY_PROTOCOLS.iter().find_map(|beginning| {
        let (begun, rest) = offered.split_at_checked(beginning.len())?;
        begun.eq_ignore_ascii_case(beginning).then_some(rest)
    })
}

/// The query without every parameter that could say who calls.
pub(crate) fn clean_query(query: Option<&str>) -> String {
    let kept = query.unwrap_or_default().split('&').filter(|pair| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        !pair.is_empty() && !is_key(name)
    });
    kept.collect::<Vec<_>>().join("&")
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='))
}

/// Whether a parameter is one, however its name is written.
fn is_key(name: &str) -> bool {
    let plain = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    KEY_PARAMETERS.iter().any(|key| plain.eq_ignore_ascii_case(key))
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The password of Basic credentials, or the user when there is none.
fn basic(value: &HeaderValue) -> Option<Zeroizing<String>> {
    let (user, password) = pair(value)?;
    Some(if password.is_empty() { user } else { password })
}

/// User and password of Basic credentials (RFC 7617).
fn pair(value: &HeaderValue) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > MAX_TOKEN_BYTES * 2 {
        return None;
    }
    let pair = Zeroizing::new(String::from_utf8(BASE64.decode(rest.trim().as_bytes()).ok()?).ok()?);
    let (user, password) = pair.split_once(':')?;
    Some((Zeroizing::new(user.to_owned()), Zeroizing::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_a_key_and_nothing_is_left() {
        let token = AgentToken::random().unwrap();
        let text = token.reveal();
        let basic = format!("Basic {}", BASE64.encode(format!("any:{text}").as_bytes()));
        for (fields, query) in [
            (vec![("authorization", format!("Bearer {text}"))], None),
            (vec![("authorization", format!("bearer  {text}"))], None),
            (vec![("authorization", basic)], None),
            (vec![("x-api-key", text.to_owned()), ("authorization", format!("Bearer {text}"))], None),
            (vec![("api-key", text.to_owned()), ("cookie", "session=1".to_owned())], None),
            (vec![("x-goog-api-key", text.to_owned())], None),
            (vec![("sec-websocket-protocol", format!("openai-insecure-api-key.{text}"))], None),
            (vec![], Some(format!("alt=sse&key={text}"))),
            (vec![], Some(format!("%6bey={text}&alt=sse"))),
        ] {
            let mut sent = HeaderMap::new();
            for (name, value) in &fields {
                sent.append(*name, HeaderValue::from_str(value).unwrap());
            }
            let found = take(&mut sent, query.as_deref()).unwrap();
            assert_eq!(found.reveal(), text);
            assert!(sent.is_empty(), "{sent:?}");
            assert!(!clean_query(query.as_deref()).contains(text));
        }
        assert_eq!(clean_query(Some("alt=sse&key=x&&API_KEY=y&z")), "alt=sse&z");
    }

    #[test]
    fn of_the_protocols_of_a_websocket_only_keys_are_taken_out() {
        let token = AgentToken::random().unwrap();
        let offered = format!("realtime, openai-insecure-api-key.{}", token.reveal());
        let mut sent = headers(&[("sec-websocket-protocol", &offered)]);
        sent.append("sec-websocket-protocol", HeaderValue::from_static("OpenAI-insecure-api-key.sk-1,v1"));
        clear(&mut sent);
        assert_eq!(sent, headers(&[("sec-websocket-protocol", "realtime, v1")]));
    }

    #[test]
    fn what_is_no_token_or_two_is_refused() {
        let (one, two) = (AgentToken::random().unwrap(), AgentToken::random().unwrap());
        let both = [("x-api-key", one.reveal()), ("api-key", two.reveal())];
        let long = "oa3_".to_owned() + &"a".repeat(1 << 20);
        for (fields, why) in [
            (&[][..], NoToken::Absent),
            (&both, NoToken::Several),
            (&[("x-api-key", "sk-real")], NoToken::Malformed),
            (&[("x-api-key", &*long)], NoToken::Malformed),
            (&[("authorization", "Negotiate abc")], NoToken::Malformed),
            (&[("x-api-key", "' OR 1=1 --"), ("api-key", one.reveal())], NoToken::Malformed),
        ] {
            let mut sent = headers(fields);
            assert_eq!(take(&mut sent, None).err(), Some(why));
            assert!(sent.is_empty());
        }
    }
}
