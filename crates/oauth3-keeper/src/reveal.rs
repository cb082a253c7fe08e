//! Hands real values to code that may hold them: from here into the sandbox, past the gateway.

use oauth3_core::{Fault, MAX_REVEALED_BYTES, SecretName};
use oauth3_vault::{Lease, SecretBytes};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Variables with real values, as they go into a sandbox: `NAME=VALUE` and a NUL for each, as in an environment.
pub(crate) struct Revealed {
    names: Vec<SecretName>,
    block: Zeroizing<Vec<u8>>,
}

/// The writing of them. Dropping it ends it.
pub(crate) struct Delivery(JoinHandle<()>);

/// Whether a value can be a variable of the environment.
///
/// # Errors
/// A sentence for the owner when it cannot.
pub(crate) fn check(value: &SecretBytes) -> Result<(), Fault> {
    let fits = value.with(|value| std::str::from_utf8(value).is_ok() && !value.contains(&0));
    let text = "code gets it in a variable, which holds text without NUL bytes; this value is no such text";
    if fits { Ok(()) } else { Err(Fault::InvalidRequest(text.into())) }
}

impl Revealed {
    /// The values of these secrets.
    pub(crate) fn new(leases: &[Lease], names: &BTreeSet<SecretName>) -> Result<Self, Fault> {
        let chosen: Vec<&Lease> = leases.iter().filter(|lease| names.contains(&lease.name)).collect();
        let size: usize = chosen.iter().map(|lease| lease.name.as_str().len() + lease.value.len() + 2).sum();
        if size > MAX_REVEALED_BYTES {
            let text = format!("the real values that this code would get have more than {MAX_REVEALED_BYTES} bytes");
            return Err(Fault::TooLarge(text));
        }
        // Room for all of it, so that nothing of it is left behind by growing.
        let mut block = Zeroizing::new(Vec::with_capacity(size));
        for lease in &chosen {
            check(&lease.value)?;
            block.extend_from_slice(lease.name.as_str().as_bytes());
            block.push(b'=');
            lease.value.with(|value| block.extend_from_slice(value));
            block.push(0);
        }
        Ok(Self { names: chosen.iter().map(|lease| lease.name.clone()).collect(), block })
    }

    /// In the order in which they come.
    pub(crate) fn names(&self) -> Vec<SecretName> {
        self.names.clone()
    }

    /// Writes them into the pipe, however long its reader takes, and closes it. None when there are none.
    pub(crate) fn deliver(self, pipe: OwnedFd) -> io::Result<Option<Delivery>> {
        if self.names.is_empty() {
            return Ok(None);
        }
        let mut pipe = Sender::from_owned_fd(pipe)?;
        Ok(Some(Delivery(tokio::spawn(async move {
            // A reader that is gone wants nothing more.
            if let Err(error) = pipe.write_all(&self.block).await {
                tracing::debug!(kind = %error.kind(), "revealed values were not taken");
            }
        }))))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, pipe};

    fn lease(name: &str, value: &[u8]) -> Lease {
        let value = SecretBytes::new(value.to_vec());
        Lease::of_value(name.parse().unwrap(), BTreeSet::new(), "placeholder-placehold".into(), value)
    }

    fn names(names: &[&str]) -> BTreeSet<SecretName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn values_come_in_order_and_then_the_end() {
        let leases = [lease("A", b"1=2\n3"), lease("B", b"not to be had"), lease("C", "é".as_bytes())];
        let revealed = Revealed::new(&leases, &names(&["A", "C"])).unwrap();
        assert_eq!(revealed.names(), names(&["A", "C"]).into_iter().collect::<Vec<_>>());
        let (mut read, write) = pipe().unwrap();
        let _delivery = revealed.deliver(write.into()).unwrap().unwrap();
        let got = tokio::task::spawn_blocking(move || {
            let mut got = Vec::new();
            read.read_to_end(&mut got).map(|_| got)
        });
        assert_eq!(got.await.unwrap().unwrap(), "A=1=2\n3\0C=é\0".as_bytes());
    }

    #[tokio::test]
    async fn without_values_the_pipe_is_only_closed() {
        let revealed = Revealed::new(&[lease("A", b"1")], &names(&[])).unwrap();
        let (mut read, write) = pipe().unwrap();
        assert!(revealed.deliver(write.into()).unwrap().is_none());
        let mut got = Vec::new();
        assert_eq!(read.read_to_end(&mut got).unwrap(), 0);
    }

    #[test]
    fn what_fits_no_variable_is_refused() {
        for wrong in [&b"a\0b"[..], b"\xff\xfe"] {
            assert!(Revealed::new(&[lease("A", wrong)], &names(&["A"])).is_err(), "{wrong:?}");
        }
        let many: Vec<Lease> = (0..9).map(|n| lease(&format!("A{n}"), &vec![b'x'; 64 << 10])).collect();
        let all = many.iter().map(|lease| lease.name.clone()).collect();
        assert!(matches!(Revealed::new(&many, &all), Err(Fault::TooLarge(_))));
    }
}
