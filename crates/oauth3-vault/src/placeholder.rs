//! Placeholders: what code gets in place of a value. They keep the shape, so that clients that check it still work.

use crate::{SecretBytes, VaultError};
use zeroize::Zeroizing;

/// Shortest secret whose shape is kept, in bytes; the shape of a shorter one would tell too much of it.
pub const MIN_SHAPED_SECRET_BYTES: usize = 20;
/// Least randomness of a shaped placeholder, in bits; with less, two could meet or be guessed.
const MIN_RANDOM_BITS: f64 = 47.0;
/// What a placeholder without a shape begins with.
const GENERIC_PREFIX: &str = "oauth3_ph_";
/// Random characters of a placeholder without a shape (124 bits).
const GENERIC_RANDOM_CHARS: usize = 24;
/// How often a placeholder that meets the secret is made anew, before we give up.
const MAX_TRIES: usize = 8;

/// Public beginnings of well-known keys: they say whose key it is and nothing about its value.
/// The longest that fits is kept; no other byte of a secret ever is.
const KNOWN_PREFIXES: &[&str] = &[
    "sk-proj-",
    "sk-svcacct-",
    "sk-admin-",
    "sk-ant-api03-",
    "sk-ant-admin01-",
    "sk-ant-oat01-",
    "sk-ant-",
    "sk-or-v1-",
    "sk-lf-",
    "pk-lf-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "pk_live_",
    "pk_test_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glrt-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "xapp-",
    "AIza",
    "ya29.",
    "GOCSPX-",
    "AKIA",
    "ASIA",
    "hf_",
    "gsk_",
    "r8_",
    "xai-",
    "pplx-",
    "nvapi-",
    "tvly-",
    "fc-",
    "jina_",
    "dop_v1_",
    "npm_",
    "pypi-",
    "SG.",
    "key-",
    "lin_api_",
    "secret_",
    "ntn_",
    "pat-",
    "shpat_",
    "sbp_",
    "vercel_",
    "dckr_pat_",
    "figd_",
    "eyJ",
];

/// Punctuation that is part of a key's shape and stays where it is.
const SEPARATORS: &[u8] = b"-_.:/+=";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const DIGITS: &[u8] = b"0123456789";

/// Makes a fresh random placeholder for a value.
///
/// It has the value's length, well-known prefix, separators and kinds of characters; everything else is random.
/// A value that is short, not of visible ASCII on one line, or leaves too little room for randomness gets a
/// generic one (`oauth3_ph_…`). A placeholder is always visible ASCII and never equals the value.
///
/// # Errors
/// When the system has no randomness to give.
pub fn make_placeholder(secret: &SecretBytes) -> Result<String, VaultError> {
    for _ in 0..MAX_TRIES {
        let made = match secret.with(shape) {
            Some(shape) => shape.fill()?,
            None => generic()?,
        };
        if !secret.equals(made.as_bytes()) {
            return Ok(made);
        }
    }
    Err(VaultError::Randomness)
}

/// What is kept of a secret.
struct Shape {
    prefix: &'static str,
    /// After the prefix: a separator, or room for a random character.
    rest: Vec<Option<u8>>,
    alphabet: Vec<u8>,
}

fn shape(value: &[u8]) -> Option<Shape> {
    if value.len() < MIN_SHAPED_SECRET_BYTES || !value.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let prefix = KNOWN_PREFIXES
        .iter()
        .filter(|p| value.starts_with(p.as_bytes()))
        .max_by_key(|p| p.len())
        .copied()
        .unwrap_or("");
    let rest = value.get(prefix.len()..)?;
    let alphabet = alphabet(rest);
    let rest: Vec<Option<u8>> = rest.iter().map(|b| SEPARATORS.contains(b).then_some(*b)).collect();
    let room = rest.iter().filter(|b| b.is_none()).count();
    // Lengths of keys and alphabets are far below what a float holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let bits = room as f64 * (alphabet.len().max(1) as f64).log2();
    (bits >= MIN_RANDOM_BITS).then_some(Shape { prefix, rest, alphabet })
}

/// The kinds of characters that occur; hex stays hex.
fn alphabet(rest: &[u8]) -> Vec<u8> {
    let letters: Vec<u8> = rest.iter().copied().filter(u8::is_ascii_alphabetic).collect();
    let upper = letters.iter().any(u8::is_ascii_uppercase);
    let lower = letters.iter().any(u8::is_ascii_lowercase);
    let hex = upper != lower && letters.iter().all(u8::is_ascii_hexdigit);
    let of = |all: &[u8]| all.iter().copied().filter(|b| !hex || b.is_ascii_hexdigit()).collect::<Vec<u8>>();
    let mut alphabet = Vec::new();
    if upper {
        alphabet.extend(of(UPPER));
    }
    if lower {
        alphabet.extend(of(LOWER));
    }
    if rest.iter().any(u8::is_ascii_digit) {
        alphabet.extend_from_slice(DIGITS);
    }
    alphabet
}

impl Shape {
    fn fill(&self) -> Result<String, VaultError> {
        let room = self.rest.iter().filter(|b| b.is_none()).count();
        let mut random = random_chars(&self.alphabet, room)?.into_iter();
        let rest = self.rest.iter().map(|kept| char::from(kept.or_else(|| random.next()).unwrap_or(b'0')));
        Ok(self.prefix.chars().chain(rest).collect())
    }
}

fn generic() -> Result<String, VaultError> {
    let mut text = GENERIC_PREFIX.to_owned();
    let alphabet: Vec<u8> = [LOWER, DIGITS].concat();
    text.extend(random_chars(&alphabet, GENERIC_RANDOM_CHARS)?.into_iter().map(char::from));
    Ok(text)
}

/// Uniform: bytes that would favour the front of the alphabet are thrown away.
fn random_chars(alphabet: &[u8], count: usize) -> Result<Vec<u8>, VaultError> {
    let size = alphabet.len().clamp(1, 256);
    let fair = 256 - 256 % size;
    let mut chars = Vec::with_capacity(count);
    let mut pool = Zeroizing::new([0u8; 64]);
    while chars.len() < count {
        getrandom::fill(pool.as_mut()).map_err(|_| VaultError::Randomness)?;
        let fresh = pool.iter().map(|b| usize::from(*b)).filter(|n| *n < fair).filter_map(|n| alphabet.get(n % size));
        chars.extend(fresh.take(count - chars.len()));
        if alphabet.is_empty() {
            return Err(VaultError::Randomness);
        }
    }
    Ok(chars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str) -> String {
        make_placeholder(&SecretBytes::new(value.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn keeps_the_shape_of_well_known_keys() {
        let check = |secret: &str, prefix: &str| {
            let made = of(secret);
            assert_eq!(made.len(), secret.len(), "{secret}");
            assert!(made.starts_with(prefix), "{secret} gave {made}");
            assert_ne!(made, secret);
            let kept = made[prefix.len()..].bytes().zip(secret[prefix.len()..].bytes());
            for (new, old) in kept {
                assert_eq!(SEPARATORS.contains(&new), SEPARATORS.contains(&old), "{secret} gave {made}");
            }
        };
        check("sk-proj-AbCd1234_efGH-5678ijkl", "sk-proj-");
        check("sk-ant-api03-AbCd1234efGH5678ijklMNOP", "sk-ant-api03-");
        check("ghp_0123456789abcdefABCDEF0123456789abcd", "ghp_");
        check("AKIAIOSFODNN7EXAMPLE", "AKIA");
        check("xoxb-123456789012-1234567890123-abcdefGHIJKL", "xoxb-");
        check("AIzaSyA-1234567890abcdefghijklmnopqrstu", "AIza");
    }

    #[test]
    fn keeps_the_alphabet() {
        assert!(of("0123456789abcdef0123456789abcdef").bytes().all(|b| b"0123456789abcdef".contains(&b)));
        assert!(of("AKIAIOSFODNN7EXAMPLE").bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
        assert!(of("12345678901234567890").bytes().all(|b| b.is_ascii_digit()));
        assert!(of("zyxwvutsrqponmlkjihgfedcba").bytes().all(|b| b.is_ascii_lowercase()));
    }

    #[test]
    fn what_has_no_shape_to_keep_gets_a_generic_one() {
        for secret in [
            "",
            "hunter2",
            "a-secret-of-19-char",
            "---------------------------ab",
            "two lines\nof a secret that is long",
            "geheimniß-geheimniß-geheimniß",
        ] {
            let made = of(secret);
            assert!(made.starts_with(GENERIC_PREFIX), "{secret:?} gave {made}");
            assert_eq!(made.len(), GENERIC_PREFIX.len() + GENERIC_RANDOM_CHARS);
        }
    }

    proptest! {
        #[test]
        fn is_visible_ascii_fresh_and_never_the_secret(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let secret = SecretBytes::new(value.clone());
            let (one, two) = (make_placeholder(&secret).unwrap(), make_placeholder(&secret).unwrap());
            prop_assert!(one.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_ne!(one.as_bytes(), &value[..]);
            prop_assert_ne!(one, two);
        }

        #[test]
        fn random_parts_do_not_come_from_the_secret(value in "[A-Z]{40}") {
            // 40 random letters: sharing 12 in place by chance has odds of about 1 in 10^9.
            let made = of(&value);
            let same = made.bytes().zip(value.bytes()).filter(|(a, b)| a == b).count();
            prop_assert!(same < 12 || KNOWN_PREFIXES.iter().any(|p| value.starts_with(p)));
        }
    }
}
