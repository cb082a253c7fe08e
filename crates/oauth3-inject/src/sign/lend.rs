//! From a stored secret to what a run is lent of it.

use super::jwt::{SigningKey, mint};
use oauth3_core::{JwtAlgorithm, Kind, SecretRecord, Timestamp};
use oauth3_vault::{Lease, Renewed, Role, SecretBytes, Token, VaultError, make_placeholder};
use std::time::Duration;

/// Most tokens that are made for one run.
const MAX_TOKENS: u32 = 16;
/// How long before its end a token is not used any more, in seconds.
const SPARE_SECONDS: u64 = 5;
/// How much longer than its wall clock a run may be about, in seconds: it starts after it was lent.
const START_SECONDS: u64 = 60;
/// Bounds of an AWS access key id, in bytes.
const KEY_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=128;
/// Shortest line of a PEM key that is scrubbed, in bytes.
const MIN_PEM_LINE_BYTES: usize = 16;

/// Why a value cannot be used as its kind says. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LendError(pub(super) &'static str);

impl From<VaultError> for LendError {
    fn from(_: VaultError) -> Self {
        Self("there is no randomness for a placeholder")
    }
}

/// Checks that a value is what its kind needs, when it is stored.
///
/// # Errors
/// A sentence for the owner.
pub fn check_value(kind: &Kind, value: &SecretBytes) -> Result<(), LendError> {
    match kind {
        Kind::Value | Kind::HmacSha256 { .. } => Ok(()),
        Kind::AwsSigv4 => aws_parts(value).map(drop),
        Kind::Jwt { algorithm, .. } => SigningKey::read(*algorithm, value).map(drop),
    }
}

/// What a run of this length, beginning about now, is lent of a secret: one lease, or for AWS one for each part
/// of the credentials. Blocks for as long as signatures take (milliseconds).
///
/// # Errors
/// When the value is not what its kind needs, or would have to be signed with too often.
pub fn lend(record: &SecretRecord, value: SecretBytes, now: Timestamp, run: Duration) -> Result<Vec<Lease>, LendError> {
    let lease = |value: SecretBytes, placeholder: String, role: Role| Lease {
        name: record.name.clone(),
        hosts: record.hosts.clone(),
        uses: record.uses.clone(),
        placeholder,
        value,
        role,
        scrubbed: Vec::new(),
        version: record.version,
        renewed: Renewed::default(),
    };
    match &record.uses.kind {
        Kind::Value => {
            let placeholder = make_placeholder(&value)?;
            Ok(vec![lease(value, placeholder, Role::Value)])
        }
        // The shape of a key says nothing about the signature; this one has none.
        Kind::HmacSha256 { .. } => Ok(vec![lease(value, make_placeholder(&SecretBytes::new(Vec::new()))?, Role::Hmac)]),
        Kind::AwsSigv4 => {
            let roles = [Role::AwsKeyId, Role::AwsSecretKey, Role::AwsSessionToken];
            let parts = aws_parts(&value)?.into_iter().zip(roles);
            parts.map(|(part, role)| Ok(lease_of(&lease, part, role)?)).collect()
        }
        Kind::Jwt { algorithm, claims, lifetime_seconds } => {
            let key = SigningKey::read(*algorithm, &value)?;
            let (count, step) = windows(u64::from(*lifetime_seconds), run)?;
            let token = |n: u32| {
                let from = now.plus(step.saturating_mul(n));
                Ok(Token { from, value: mint(*algorithm, claims, *lifetime_seconds, &key, from)? })
            };
            let tokens = (0..count).map(token).collect::<Result<Vec<Token>, LendError>>()?;
            let first = tokens.first().ok_or(LendError("there is no token"))?;
            let placeholder = make_placeholder(&first.value)?;
            let scrubbed = if *algorithm == JwtAlgorithm::Hs256 { Vec::new() } else { pem_lines(&value) };
            // A PEM key is not needed any more. It would be scrubbed as a whole, line ends and all, and lines could
            // not go out one by one; its lines are scrubbed instead.
            let value = if scrubbed.is_empty() { value } else { SecretBytes::new(Vec::new()) };
            Ok(vec![Lease { scrubbed, ..lease(value, placeholder, Role::Tokens(tokens)) }])
        }
    }
}

fn lease_of(
    lease: &impl Fn(SecretBytes, String, Role) -> Lease,
    value: SecretBytes,
    role: Role,
) -> Result<Lease, VaultError> {
    let placeholder = make_placeholder(&value)?;
    Ok(lease(value, placeholder, role))
}

/// How many tokens a run needs, and how long each is used.
fn windows(lifetime: u64, run: Duration) -> Result<(u32, Duration), LendError> {
    let run = run.as_secs().saturating_add(START_SECONDS);
    let step = (lifetime / 2).max(run.div_ceil(u64::from(MAX_TOKENS))).max(1);
    if step.saturating_add(SPARE_SECONDS) > lifetime {
        return Err(LendError("the JWT lives too short for a run of this length; give it a longer --lifetime"));
    }
    let count = u32::try_from(run.div_ceil(step)).unwrap_or(MAX_TOKENS).clamp(1, MAX_TOKENS);
    Ok((count, Duration::from_secs(step)))
}

/// Has newer credentials take the place of those that were lent; false when they cannot. The key id comes last: it is
/// what says which version is used.
pub(crate) fn renew_aws(leases: &[Lease], key_id: &Lease, version: u32, value: &SecretBytes) -> bool {
    let Ok(parts) = aws_parts(value) else { return false };
    let place = |role: &Role| match role {
        Role::AwsKeyId => Some(0),
        Role::AwsSecretKey => Some(1),
        Role::AwsSessionToken => Some(2),
        _ => None,
    };
    let mut parts: Vec<Option<SecretBytes>> = parts.into_iter().map(Some).collect();
    let mut all = true;
    for lease in leases.iter().rev().filter(|lease| lease.name == key_id.name) {
        let part = place(&lease.role).and_then(|at| parts.get_mut(at)?.take());
        all = all && part.is_some_and(|part| lease.renew(version, part));
    }
    all && parts.iter().all(Option::is_none)
}

/// Access key id, secret access key, and the session token when there is one.
fn aws_parts(value: &SecretBytes) -> Result<Vec<SecretBytes>, LendError> {
    let refuse = LendError("the value is AKID:SECRET or AKID:SECRET:SESSION");
    value.with(|value| {
        let parts: Vec<&[u8]> = value.splitn(3, |byte| *byte == b':').collect();
        let visible = |part: &&[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_graphic);
        let key_id = parts.first().copied().unwrap_or_default();
        let id_fine = KEY_ID_BYTES.contains(&key_id.len())
            && key_id.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if parts.len() < 2 || !parts.iter().all(visible) || !id_fine {
            return Err(refuse);
        }
        Ok(parts.into_iter().map(|part| SecretBytes::new(part.to_vec())).collect())
    })
}

fn pem_lines(value: &SecretBytes) -> Vec<SecretBytes> {
    value.with(|value| {
        let lines = value.split(|byte| matches!(byte, b'\n' | b'\r'));
        let own = lines.filter(|line| line.len() >= MIN_PEM_LINE_BYTES && !line.starts_with(b"-----"));
        own.map(|line| SecretBytes::new(line.to_vec())).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_of_a_run_has_a_token_that_is_good() {
        for lifetime in [10u64, 60, 120, 540, 3600] {
            for run in [1u64, 30, 600, 3600] {
                let Ok((count, step)) = windows(lifetime, Duration::from_secs(run)) else {
                    assert!(run / 16 + 15 > lifetime, "{lifetime} {run}");
                    continue;
                };
                let step = step.as_secs();
                assert!(u64::from(count) * step >= run + START_SECONDS, "{lifetime} {run}: {count} times {step}");
                assert!(step + SPARE_SECONDS <= lifetime && count <= MAX_TOKENS, "{lifetime} {run}: {count} {step}");
            }
        }
    }

    #[test]
    fn aws_credentials_have_two_or_three_parts() {
        let parts = |text: &str| aws_parts(&SecretBytes::new(text.as_bytes().to_vec())).map(|parts| parts.len());
        assert_eq!(parts("AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), Ok(2));
        assert_eq!(parts("ASIAIOSFODNN7EXAMPLE:secret:token/with:colon=="), Ok(3));
        for wrong in [
            "",
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAIOSFODNN7EXAMPLE:",
            "akiaiosfodnn7example:x",
            "A:B",
            "AKIAIOSFODNN7EXAMPLE:a b",
        ] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
