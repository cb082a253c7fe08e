//! Who signed in.

use crate::fields::json_body;
use crate::{Client, ErrorCode, Exchange, Failure, Label, Reply, Sensitive};
use oauth3_core::Account;
use oauth3_provider::AccountShape;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Longest subject, in bytes (OpenID Connect Core §2).
const MAX_SUBJECT_BYTES: usize = 255;

/// The account that claims name.
pub(crate) fn account_of(claims: &Claims) -> Result<Account, Failure> {
    let subject = match &claims.sub {
        Some(Subject::Text(text)) => text.clone(),
        Some(Subject::Number(number)) => number.to_string(),
        None => return Err(Failure::Field("subject")),
    };
    let fine = (1..=MAX_SUBJECT_BYTES).contains(&subject.len()) && subject.bytes().all(|b| matches!(b, 0x20..=0x7e));
    if !fine {
        return Err(Failure::Field("subject"));
    }
    let label = |text: &Option<String>| text.as_deref().and_then(Label::new).map(String::from);
    let login = || label(&claims.preferred_username).or_else(|| label(&claims.login));
    Ok(Account { subject, name: label(&claims.name).or_else(login), email: label(&claims.email).or_else(login) })
}

/// What of an ID token or a userinfo reply tells who it is.
#[derive(Deserialize)]
pub(crate) struct Claims {
    #[serde(default)]
    sub: Option<Subject>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    login: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Subject {
    Text(String),
    Number(u64),
}

/// GitHub's user.
#[derive(Deserialize)]
struct GithubUser {
    id: Subject,
    login: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
}

/// Asks whose an access token is; `None` where the provider has no such endpoint.
#[must_use]
pub fn userinfo(client: &Client, access_token: &Sensitive) -> Option<Exchange> {
    let url = client.server.userinfo.clone()?;
    let mut field = Zeroizing::new(String::with_capacity(access_token.expose().len() + 7));
    field.push_str("Bearer ");
    field.push_str(access_token.expose());
    Some(Exchange::get(url).with_header("authorization", Sensitive::new(field)))
}

/// Reads the reply. `known` is the account of the ID token, which must be the same (OpenID Connect Core §5.3.2).
///
/// # Errors
/// When it is no account, or another one.
pub fn read_userinfo(client: &Client, reply: &Reply<'_>, known: Option<&Account>) -> Result<Account, Failure> {
    if matches!(reply.status, 401 | 403) {
        return Err(Failure::Refused(ErrorCode::new("unauthorized")));
    }
    let body = json_body(reply)?;
    if !(200..300).contains(&reply.status) {
        return Err(Failure::NotOauth(reply.status));
    }
    let claims = match client.server.account_shape {
        AccountShape::Oidc => serde_json::from_str(body).map_err(|_| Failure::Field("account"))?,
        AccountShape::Github => {
            let user: GithubUser = serde_json::from_str(body).map_err(|_| Failure::Field("account"))?;
            let GithubUser { id, login, name, email } = user;
            Claims { sub: Some(id), name, email, preferred_username: None, login: Some(login) }
        }
    };
    let account = account_of(&claims)?;
    if known.is_some_and(|known| known.subject != account.subject) {
        return Err(Failure::Account);
    }
    Ok(account)
}
