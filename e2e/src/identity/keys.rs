//! The key that a provider signs ID tokens with.

use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Its name.
const KEY_ID: &str = "key-1";
/// An RSA key of 2048 bits.
const MODULUS_BYTES: usize = 256;
/// What follows the modulus in a public key: the exponent 65537.
const EXPONENT: [u8; 5] = [2, 3, 1, 0, 1];

/// A key for RS256.
pub struct Signer(KeyPair);

impl Signer {
    /// A new one.
    pub fn new() -> Self {
        Self(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key"))
    }

    /// The set of keys that are published (RFC 7517).
    pub fn jwks(&self) -> Value {
        let public = self.0.subject_public_key_info();
        let modulus = public.strip_suffix(&EXPONENT).expect("the usual exponent");
        let modulus = &modulus[modulus.len() - MODULUS_BYTES..];
        let [n, e] = [modulus, &EXPONENT[2..]].map(|part| BASE64URL_NOPAD.encode(part));
        json!({ "keys": [{ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": n, "e": e }] })
    }

    /// A signed token with these claims besides the times.
    pub fn sign(&self, mut claims: Value) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        for (name, value) in [("iat", now), ("nbf", now), ("exp", now + 3600)] {
            claims[name] = json!(value);
        }
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
        let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
        let text = format!("{header}.{claims}");
        let signature = self.0.sign(text.as_bytes()).expect("a signature");
        format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

/// The hash of an access token in the ID token that came with it (OpenID Connect Core §3.1.3.6).
pub fn at_hash(access_token: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(access_token.as_bytes())[..16])
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}
