//! Sealing: every value under a key of its own, bound to everything that says what it is and where it may go.

use crate::keys::{KEY_BYTES, KeySource, random_key, subkey};
use crate::{SecretBytes, VaultError};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use oauth3_core::{
    AgentName, ApiId, AuditMac, Derived, DerivedWay, Digest, DigestBuilder, SealedSecret, SecretRecord, SignInSetup,
};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// The first byte of every sealed value: its format.
///
/// Format byte, nonce (24 bytes), wrapped data key (32 + 16), nonce (24), the value and its tag (16).
/// Both layers are XChaCha20-Poly1305 with the same associated data, which has the uses in it.
const FORMAT: u8 = 2;
/// The same, from before there were uses: it opens with the default ones only.
const FORMAT_WITHOUT_USES: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const WRAPPED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;
/// Block of SHA-256, in bytes.
const HMAC_BLOCK_BYTES: usize = 64;
/// The table that sealed values stand in; part of what they are bound to.
const TABLE: &str = "secrets";

/// The unlocked vault: seals, unseals, and keys the audit chain and the agents' authorities. Only the keeper process has
/// one.
pub struct Vault {
    sealing: SecretBytes,
    audit: SecretBytes,
    authorities: SecretBytes,
}

impl Vault {
    /// Unlocks. Blocks for as long as a passphrase takes to stretch.
    ///
    /// # Errors
    /// When the key is missing, damaged, readable by others, or the passphrase is wrong.
    pub fn open(source: &KeySource) -> Result<Self, VaultError> {
        let master = source.master_key()?;
        Ok(Self {
            sealing: subkey(&master, "oauth3 sealing v1")?,
            audit: subkey(&master, "oauth3 audit v1")?,
            authorities: subkey(&master, "oauth3 agents' authorities v1")?,
        })
    }

    /// What the key of an agent's certificate authority is made from, 32 bytes: always the same for the same agent, so
    /// that nothing of it is stored.
    ///
    /// # Errors
    /// When it cannot be derived.
    pub fn authority_seed(&self, agent: &AgentName) -> Result<SecretBytes, VaultError> {
        subkey(&self.authorities, agent.as_str())
    }

    /// Seals a value for this record. Name, version, hosts and uses are sealed in: who edits one of them
    /// in the database has a value that does not open. (An old row put back whole does open; the audit chain shows
    /// which version is the last.)
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(&self, record: &SecretRecord, value: &SecretBytes) -> Result<Vec<u8>, VaultError> {
        self.seal_bound(&bound_to(record), value)
    }

    /// Seals the tokens of a sign-in. Connection, version and the whole setup are sealed in: with another endpoint,
    /// client or host they do not open.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal_sign_in(
        &self,
        connection: &ApiId,
        version: u32,
        setup: &SignInSetup,
        tokens: &SecretBytes,
    ) -> Result<Vec<u8>, VaultError> {
        self.seal_bound(&bound_to_setup(connection, version, setup), tokens)
    }

    /// Opens what [`Vault::seal_sign_in`] made.
    ///
    /// # Errors
    /// When anything that it is bound to was changed, or the key is another.
    pub fn unseal_sign_in(
        &self,
        connection: &ApiId,
        version: u32,
        setup: &SignInSetup,
        sealed: &[u8],
    ) -> Result<SecretBytes, VaultError> {
        let name = || connection.to_string();
        match sealed.split_first() {
            Some((&FORMAT, rest)) => self
                .unseal_bound(&bound_to_setup(connection, version, setup), rest)
                .ok_or_else(|| VaultError::Unsealable(name())),
            Some(_) => Err(VaultError::UnknownFormat(name())),
            None => Err(VaultError::Unsealable(name())),
        }
    }

    /// Opens what [`Vault::seal`] made.
    ///
    /// # Errors
    /// When the ciphertext or any part of the record that it is bound to was changed, or the key is another.
    pub fn unseal(&self, secret: &SealedSecret) -> Result<SecretBytes, VaultError> {
        let name = || secret.record.name.as_str().to_owned();
        let (format, rest) = secret.sealed.split_first().ok_or_else(|| VaultError::Unsealable(name()))?;
        let bound = match *format {
            FORMAT => bound_to(&secret.record),
            FORMAT_WITHOUT_USES if secret.record.uses.is_default() => bound_without_uses(&secret.record),
            FORMAT_WITHOUT_USES => return Err(VaultError::Unsealable(name())),
            _ => return Err(VaultError::UnknownFormat(name())),
        };
        self.unseal_bound(&bound, rest).ok_or_else(|| VaultError::Unsealable(name()))
    }

    fn seal_bound(&self, bound: &Digest, value: &SecretBytes) -> Result<Vec<u8>, VaultError> {
        let key = random_key()?;
        let mut sealed = vec![FORMAT];
        self.sealing.with(|sealing| encrypt(sealing, key.as_ref(), bound, &mut sealed))?;
        value.with(|value| encrypt(key.as_ref(), value, bound, &mut sealed))?;
        Ok(sealed)
    }

    fn unseal_bound(&self, bound: &Digest, sealed: &[u8]) -> Option<SecretBytes> {
        let (wrapped, value) = sealed.split_at_checked(NONCE_BYTES + WRAPPED_KEY_BYTES)?;
        let key = self.sealing.with(|sealing| decrypt(sealing, wrapped, bound))?;
        decrypt(&key, value, bound).map(SecretBytes::new)
    }
}

impl AuditMac for Vault {
    fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        // RFC 2104 pads a short key with zeros to a block; so given, no length can be wrong.
        let mut block = Zeroizing::new([0u8; HMAC_BLOCK_BYTES]);
        self.audit.with(|key| block.iter_mut().zip(key).for_each(|(place, byte)| *place = *byte));
        let mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        mac.chain_update(bytes).finalize().into_bytes().into()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// The associated data: a digest over everything that the value is bound to.
fn bound_to(record: &SecretRecord) -> Digest {
    bound("oauth3 sealed secret v2", FORMAT, record).list(record.uses.parts().iter()).finish()
}

/// The associated data of a sign-in's tokens. They stand in a table of their own, which is part of the domain.
fn bound_to_setup(connection: &ApiId, version: u32, setup: &SignInSetup) -> Digest {
    let SignInSetup { provider, parameters, client_id, scopes, hosts, from } = setup;
    let bound = DigestBuilder::new("oauth3 sealed sign-in v1")
        .field(connection.as_str().as_bytes())
        .number(u64::from(version))
        .field(provider.as_bytes())
        .field(client_id.as_bytes())
        .list(parameters.keys())
        .list(parameters.values())
        .list(scopes.iter())
        .list(hosts.iter().map(ToString::to_string).collect::<Vec<_>>().iter());
    let Some(Derived { parent, way }) = from else { return bound.finish() };
    let bound = bound.field(parent.as_str().as_bytes());
    match way {
        DerivedWay::FewerScopes => bound.field(b"fewer scopes"),
        // One list for each, so that nothing is not the same as an empty text.
        DerivedWay::Exchange { audience, resource } => {
            bound.field(b"exchange").list(audience.iter()).list(resource.iter())
        }
        DerivedWay::Vault { connection } => bound.field(b"vault").field(connection.as_bytes()),
    }
    .finish()
}

/// The same for [`FORMAT_WITHOUT_USES`]; the number said that the value is not revealed.
fn bound_without_uses(record: &SecretRecord) -> Digest {
    bound("oauth3 sealed secret v1", FORMAT_WITHOUT_USES, record).number(0).finish()
}

fn bound(domain: &str, format: u8, record: &SecretRecord) -> DigestBuilder {
    let hosts: Vec<String> = record.hosts.iter().map(|h| format!("{}:{}", h.name(), h.port())).collect();
    DigestBuilder::new(domain)
        .field(&[format])
        .field(TABLE.as_bytes())
        .field(record.name.as_ref())
        .number(u64::from(record.version))
        .list(hosts.iter())
}

fn encrypt(key: &[u8], plain: &[u8], bound: &Digest, out: &mut Vec<u8>) -> Result<(), VaultError> {
    let mut nonce = [0u8; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| VaultError::Randomness)?;
    let cipher = XChaCha20Poly1305::new_from_slice(key).map_err(|_| VaultError::Crypto("key length"))?;
    let sealed = cipher
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: bound.as_bytes() })
        .map_err(|_| VaultError::Crypto("encryption"))?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(())
}

fn decrypt(key: &[u8], sealed: &[u8], bound: &Digest) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
    let cipher = XChaCha20Poly1305::new_from_slice(key).ok()?;
    let plain = cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: bound.as_bytes() }).ok()?;
    Some(Zeroizing::new(plain))
}
