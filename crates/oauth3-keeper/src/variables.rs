//! Under which names code finds its placeholders.

use oauth3_core::SecretName;
use oauth3_vault::{Lease, Role};
use std::collections::BTreeSet;

/// The variables that SDKs for AWS look into, by what of the credentials stands in them.
const AWS_KEY_ID: &str = "ACCESS_KEY_ID";
const AWS_SECRET_KEY: &str = "SECRET_ACCESS_KEY";
const AWS_SESSION_TOKEN: &str = "SESSION_TOKEN";

/// Name and placeholder of each variable. A secret's own name always is one. Parts of AWS credentials also stand
/// under `NAME_ACCESS_KEY_ID` and so on, and under `AWS_ACCESS_KEY_ID` and so on when the run has one set of them;
/// where another secret has such a name, that one stands there. For a secret that is `revealed` there is none.
pub(crate) fn variables(leases: &[Lease], revealed: &BTreeSet<SecretName>) -> Vec<(SecretName, String)> {
    let named: BTreeSet<&SecretName> = leases.iter().map(|lease| &lease.name).collect();
    let sets = leases.iter().filter(|lease| matches!(lease.role, Role::AwsKeyId)).count();
    let mut variables = Vec::with_capacity(leases.len());
    for lease in leases.iter().filter(|lease| !revealed.contains(&lease.name)) {
        let (own, part) = match lease.role {
            Role::Value | Role::Tokens(_) | Role::Hmac => (true, None),
            Role::AwsKeyId => (true, Some(AWS_KEY_ID)),
            Role::AwsSecretKey => (false, Some(AWS_SECRET_KEY)),
            Role::AwsSessionToken => (false, Some(AWS_SESSION_TOKEN)),
        };
        let standard = part.filter(|_| sets == 1).map(|part| format!("AWS_{part}"));
        let derived = part.map(|part| format!("{}_{part}", lease.name)).into_iter().chain(standard);
        let derived = derived.filter_map(|name| SecretName::parse(&name).ok()).filter(|name| !named.contains(name));
        let names = own.then(|| SecretName::parse(&lease.name.variable()).ok()).flatten().into_iter().chain(derived);
        variables.extend(names.map(|name| (name, lease.placeholder.clone())));
    }
    variables.sort();
    variables.dedup_by(|a, b| a.0 == b.0);
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_vault::SecretBytes;

    fn lease(name: &str, placeholder: &str, role: Role) -> Lease {
        let name = SecretName::parse(name).unwrap();
        let value = SecretBytes::new(b"v".to_vec());
        Lease { role, ..Lease::of_value(name, BTreeSet::new(), placeholder.to_owned(), value) }
    }

    fn aws(name: &str) -> [Lease; 3] {
        [Role::AwsKeyId, Role::AwsSecretKey, Role::AwsSessionToken].map(|role| lease(name, "p", role))
    }

    fn names(leases: &[Lease]) -> Vec<String> {
        variables(leases, &BTreeSet::new()).into_iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn sdks_for_aws_find_their_credentials() {
        let one: Vec<Lease> = aws("CLOUD").into_iter().chain([lease("KEY", "k", Role::Value)]).collect();
        let expected = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "CLOUD",
            "CLOUD_ACCESS_KEY_ID",
            "CLOUD_SECRET_ACCESS_KEY",
            "CLOUD_SESSION_TOKEN",
            "KEY",
        ];
        assert_eq!(names(&one), expected);
        let two: Vec<Lease> = aws("ONE").into_iter().chain(aws("TWO")).collect();
        assert!(!names(&two).iter().any(|name| name.starts_with("AWS_")), "nobody could tell whose they are");
        assert_eq!(names(&two).len(), 8);
    }

    #[test]
    fn a_secret_keeps_its_own_name() {
        let leases: Vec<Lease> =
            aws("AWS").into_iter().chain([lease("AWS_SESSION_TOKEN", "mine", Role::Value)]).collect();
        let mine: Vec<_> = variables(&leases, &BTreeSet::new())
            .into_iter()
            .filter(|(name, _)| name.as_str() == "AWS_SESSION_TOKEN")
            .collect();
        assert_eq!(mine.len(), 1);
        assert_eq!(mine[0].1, "mine");
    }

    #[test]
    fn a_revealed_secret_has_no_placeholder_and_keeps_its_name_all_the_same() {
        let leases: Vec<Lease> =
            aws("AWS").into_iter().chain([lease("AWS_SESSION_TOKEN", "mine", Role::Value)]).collect();
        let revealed = BTreeSet::from([SecretName::parse("AWS_SESSION_TOKEN").unwrap()]);
        assert!(variables(&leases, &revealed).iter().all(|(name, _)| !revealed.contains(name)));
    }
}
