//! From a name to the addresses that may be dialled.

use crate::DialError;
use async_trait::async_trait;
use oauth3_core::is_public;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Longest wait for the name server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most addresses of one name that are dialled.
const MAX_ADDRESSES: usize = 8;

/// Which addresses a name may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// Public ones only.
    Public,
    /// Any: the owner's own configuration names the place.
    Anywhere,
}

/// Asks for the addresses of a name. The seam that lets tests answer.
#[async_trait]
pub(crate) trait Resolve: Send + Sync {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver: `/etc/hosts`, then the name servers it is set up for.
pub(crate) struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Resolves once and checks every answer: one that is not public spoils them all, for a name that mixes
/// the two is either misconfigured or an attempt to be dialled at the wrong one.
pub(crate) async fn checked_addresses(
    resolver: &dyn Resolve,
    name: &str,
    port: u16,
    reach: Reach,
) -> Result<Vec<SocketAddr>, DialError> {
    let answers = tokio::time::timeout(RESOLVE_TIMEOUT, resolver.lookup(name))
        .await
        .map_err(|_| DialError::Timeout { host: name.to_owned(), step: "resolving the name" })?
        .map_err(|error| {
            tracing::debug!(host = name, %error, "name does not resolve");
            DialError::Unresolved(name.to_owned())
        })?;
    if answers.is_empty() {
        return Err(DialError::Unresolved(name.to_owned()));
    }
    if reach == Reach::Public && !answers.iter().copied().all(is_public) {
        return Err(DialError::NotPublic(name.to_owned()));
    }
    Ok(answers.into_iter().take(MAX_ADDRESSES).map(|address| SocketAddr::new(address, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answers(Vec<&'static str>);

    #[async_trait]
    impl Resolve for Answers {
        async fn lookup(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    async fn ask(answers: &[&'static str], reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
        checked_addresses(&Answers(answers.to_vec()), "api.example.com", 443, reach).await
    }

    #[tokio::test]
    async fn public_answers_keep_their_order_and_get_the_port() {
        let addresses = ask(&["93.184.216.34", "2606:4700::1111"], Reach::Public).await.unwrap();
        let expected: Vec<SocketAddr> =
            vec!["93.184.216.34:443".parse().unwrap(), "[2606:4700::1111]:443".parse().unwrap()];
        assert_eq!(addresses, expected);
    }

    #[tokio::test]
    async fn one_private_answer_spoils_all() {
        for bad in [
            "127.0.0.1",
            "10.0.0.7",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            // Forms that carry an address inside; the embedded one is public here and it makes no difference.
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            let refused = Err(DialError::NotPublic("api.example.com".into()));
            assert_eq!(ask(&[bad], Reach::Public).await, refused, "{bad}");
            assert_eq!(ask(&["93.184.216.34", bad], Reach::Public).await, refused, "{bad}");
            assert!(ask(&[bad], Reach::Anywhere).await.is_ok(), "{bad}");
        }
    }

    #[tokio::test]
    async fn no_answer_is_an_error_and_many_are_bounded() {
        assert_eq!(ask(&[], Reach::Anywhere).await, Err(DialError::Unresolved("api.example.com".into())));
        assert_eq!(ask(&["8.8.8.8"; 50], Reach::Public).await.unwrap().len(), MAX_ADDRESSES);
    }
}
