//! JSON Web Tokens (RFC 7519, RFC 7515) that live for a few minutes.

use super::lend::LendError;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use oauth3_core::{JwtAlgorithm, Timestamp};
use oauth3_vault::SecretBytes;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// How far in the past a token begins, in seconds: for a host whose clock is behind.
const BACKDATED_SECONDS: i64 = 60;
/// Shortest key for HS256, in bytes (RFC 7518 §3.2).
const MIN_HMAC_KEY_BYTES: usize = 32;
/// Shortest RSA key, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// A key that signs.
pub(super) enum SigningKey {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Hmac(Box<hmac::Key>),
}

impl SigningKey {
    /// Reads a key: PEM (PKCS #8, PKCS #1, SEC 1), or bytes for HS256.
    pub(super) fn read(algorithm: JwtAlgorithm, value: &SecretBytes) -> Result<Self, LendError> {
        if algorithm == JwtAlgorithm::Hs256 {
            if value.len() < MIN_HMAC_KEY_BYTES {
                return Err(LendError("a key for HS256 has at least 32 bytes"));
            }
            return Ok(Self::Hmac(Box::new(value.with(|key| hmac::Key::new(hmac::HMAC_SHA256, key)))));
        }
        let der =
            value.with(PrivateKeyDer::from_pem_slice).map_err(|_| LendError("the value is no private key in PEM"))?;
        if algorithm == JwtAlgorithm::Es256 {
            let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der());
            return pair.map(Self::Ecdsa).map_err(|_| LendError("the key is no EC key on P-256"));
        }
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            other => RsaKeyPair::from_der(other.secret_der()),
        };
        let pair = pair.map_err(|_| LendError("the key is no RSA key"))?;
        if pair.public_modulus_len() * 8 < MIN_RSA_BITS {
            return Err(LendError("an RSA key has at least 2048 bits"));
        }
        Ok(Self::Rsa(pair))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, LendError> {
        let failed = |_| LendError("a JWT cannot be signed");
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::Ecdsa(pair) => Ok(pair.sign(&SystemRandom::new(), text).map_err(failed)?.as_ref().to_vec()),
            Self::Hmac(key) => Ok(hmac::sign(key, text).as_ref().to_vec()),
        }
    }
}

/// A token that is good from `from` for as long as it lives.
pub(super) fn mint(
    algorithm: JwtAlgorithm,
    claims: &BTreeMap<String, String>,
    lifetime_seconds: u32,
    key: &SigningKey,
    from: Timestamp,
) -> Result<SecretBytes, LendError> {
    let now = from.unix_seconds();
    let mut payload = serde_json::Map::new();
    payload.insert("iat".into(), now.saturating_sub(BACKDATED_SECONDS).into());
    payload.insert("exp".into(), now.saturating_add(i64::from(lifetime_seconds)).into());
    payload.extend(claims.iter().map(|(name, value)| (name.clone(), value.clone().into())));
    let head = serde_json::json!({ "alg": algorithm.as_str(), "typ": "JWT" });
    let part = |json: &serde_json::Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let mut token = Zeroizing::new(format!("{}.{}", part(&head), part(&payload.into())));
    let signature = BASE64URL_NOPAD.encode(&key.sign(token.as_bytes())?);
    let mut whole = Zeroizing::new(Vec::with_capacity(token.len() + 1 + signature.len()));
    whole.extend_from_slice(token.as_bytes());
    whole.push(b'.');
    whole.extend_from_slice(signature.as_bytes());
    token.clear();
    Ok(SecretBytes::new(whole))
}
