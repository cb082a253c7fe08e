//! Signatures of ID tokens (RFC 7515, RFC 7517, RFC 7518), verified by aws-lc.

use crate::fields::json_body;
use crate::{Client, Exchange, Failure, MAX_TOKEN_BYTES, Reply};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64URL_NOPAD;
use oauth3_provider::Endpoint;
use serde::Deserialize;

/// Most keys of a set.
const MAX_KEYS: usize = 64;

/// The keys that a provider signs ID tokens with.
#[derive(Debug, Default)]
pub struct Jwks(Vec<Key>);

impl Jwks {
    /// Asks for a provider's set.
    #[must_use]
    pub fn request(url: &Endpoint) -> Exchange {
        Exchange::get(url.clone())
    }

    /// Reads a set (RFC 7517 §5). Keys of unknown kinds are left out.
    ///
    /// # Errors
    /// When it is no set.
    pub fn read(reply: &Reply<'_>) -> Result<Self, Failure> {
        let body = json_body(reply)?;
        let set: Set = serde_json::from_str(body).map_err(|_| Failure::Field("keys"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(Failure::Field("keys"));
        }
        Ok(Self(set.keys.into_iter().filter_map(|key| Key::deserialize(key).ok()).collect()))
    }
}

/// A token whose signature holds.
pub(crate) struct Verified {
    pub(crate) claims: Vec<u8>,
    /// Whether the hashes in it are SHA-256.
    pub(crate) sha256: bool,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// Extensions that must be understood; none is.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// The algorithms that are taken. `none` and everything else is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
    Hs256,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            // The second name is of RFC 9864.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            "HS256" => Self::Hs256,
            _ => return None,
        })
    }
}

/// Verifies a compact serialisation. The key is one of the set, or (HS256) the client's secret; which kind of key fits
/// is said by the algorithm, so that no public key is taken for a secret.
pub(crate) fn verify(client: &Client, keys: &Jwks, token: &str) -> Result<Verified, Failure> {
    let refuse = |why: &'static str| Failure::IdToken(why);
    if token.len() > MAX_TOKEN_BYTES {
        return Err(refuse("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(refuse("it is no signed token"))?;
    let (head, claims) = signed.split_once('.').ok_or(refuse("it is no signed token"))?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| refuse("it is no signed token"));
    let (head, claims, signature) = (decode(head)?, decode(claims)?, decode(signature)?);
    let head: Header = serde_json::from_slice(&head).map_err(|_| refuse("its header cannot be read"))?;
    if head.crit.is_some() {
        return Err(refuse("it demands extensions that are not known here"));
    }
    // `at+jwt` (RFC 9068) and others are not ID tokens, though they may have the same issuer and audience.
    if head.typ.as_ref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(refuse("it is a token of another kind"));
    }
    let algorithm = Algorithm::named(&head.alg).ok_or(refuse("it is signed in a way that is not accepted"))?;
    let sha256 = algorithm != Algorithm::EdDsa;
    let verified = Verified { claims, sha256 };
    if algorithm == Algorithm::Hs256 {
        let secret = client.secret.as_ref().ok_or(refuse("it is signed in a way that needs a client secret"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let held = hmac::verify(&key, signed.as_bytes(), &signature);
        return held.map(|()| verified).map_err(|_| refuse("its signature does not hold"));
    }
    let fitting: Vec<&Key> = keys.0.iter().filter(|key| key.fits(algorithm, &head)).collect();
    if fitting.is_empty() {
        return Err(Failure::UnknownKey);
    }
    let held = fitting.iter().any(|key| key.holds(algorithm, signed.as_bytes(), &signature));
    if held { Ok(verified) } else { Err(refuse("its signature does not hold")) }
}

/// The left half of the SHA-256 of an access token, as `at_hash` has it (OpenID Connect Core §3.1.3.6).
pub(crate) fn half_hash(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let half = hash.as_ref().len() / 2;
    BASE64URL_NOPAD.encode(hash.as_ref().get(..half).unwrap_or_default())
}

impl Key {
    fn fits(&self, algorithm: Algorithm, head: &Header) -> bool {
        let kind = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => self.kty == "RSA",
            Algorithm::Es256 => self.kty == "EC" && self.crv.as_deref() == Some("P-256"),
            Algorithm::EdDsa => self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519"),
            Algorithm::Hs256 => false,
        };
        let same_kid = head.kid.is_none() || self.kid.is_none() || self.kid == head.kid;
        let signs = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        kind && same_kid && signs && self.alg.as_ref().is_none_or(|alg| *alg == head.alg)
    }

    fn holds(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let number =
            |text: &Option<String>| text.as_ref().and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        let rsa = |parameters: &RsaParameters| {
            let (Some(n), Some(e)) = (number(&self.n), number(&self.e)) else { return false };
            let positive = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
            let key = RsaPublicKeyComponents { n: positive(&n), e: positive(&e) };
            key.verify(parameters, signed, signature).is_ok()
        };
        match algorithm {
            Algorithm::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Es256 => {
                let (Some(x), Some(y)) = (number(&self.x), number(&self.y)) else { return false };
                let point = [&[4][..], &x, &y].concat();
                x.len() == 32
                    && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            Algorithm::EdDsa => number(&self.x)
                .is_some_and(|point| UnparsedPublicKey::new(&ED25519, point).verify(signed, signature).is_ok()),
            Algorithm::Hs256 => false,
        }
    }
}
