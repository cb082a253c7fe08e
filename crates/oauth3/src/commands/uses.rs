//! From the options of `secret add` and `secret rotate` to what is to change of a secret's uses.

use crate::cli::UsesArgs;
use oauth3_core::{
    DEFAULT_JWT_LIFETIME_SECONDS, DEFAULT_TIMESTAMP_HEADER, HmacEncoding, HmacOver, JwtAlgorithm, Kind, Reveal,
    UsesChange,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the options say; what they do not mention stays.
///
/// # Errors
/// A sentence when they do not go together.
pub(super) fn change(args: UsesArgs) -> Result<UsesChange, String> {
    let reveal = match (args.reveal, args.reveal_trust, args.no_reveal) {
        (true, true, _) => Some(Reveal::Standing),
        (true, false, _) => Some(Reveal::Once),
        (false, _, true) => Some(Reveal::Never),
        _ => None,
    };
    let rules: BTreeSet<_> = args.rules.iter().cloned().collect();
    Ok(UsesChange {
        slots: (!args.slots.is_empty()).then(|| args.slots.iter().copied().collect()),
        rules: (args.allow_all || !rules.is_empty()).then_some(rules),
        kind: kind(&args)?,
        reveal,
    })
}

fn kind(args: &UsesArgs) -> Result<Option<Kind>, String> {
    let hmac = args.over.is_some() || args.encoding.is_some() || args.timestamp_header.is_some();
    let jwt = !args.claims.is_empty() || args.lifetime.is_some();
    let name = args.kind.as_deref();
    if hmac && name != Some("hmac-sha256") {
        return Err("--over, --encoding and --timestamp-header go with --kind hmac-sha256".into());
    }
    if jwt && !name.is_some_and(|name| name.starts_with("jwt-")) {
        return Err("--claim and --lifetime go with --kind jwt-rs256, jwt-es256 or jwt-hs256".into());
    }
    let token = |algorithm| {
        let claims: BTreeMap<String, String> = args.claims.iter().cloned().collect();
        if claims.len() != args.claims.len() {
            return Err("a claim stands twice".to_owned());
        }
        let lifetime_seconds = args.lifetime.unwrap_or(DEFAULT_JWT_LIFETIME_SECONDS);
        Ok(Kind::Jwt { algorithm, claims, lifetime_seconds })
    };
    let timestamp_header = || args.timestamp_header.as_deref().unwrap_or(DEFAULT_TIMESTAMP_HEADER).to_ascii_lowercase();
    Ok(Some(match name {
        None => return Ok(None),
        Some("value") => Kind::Value,
        Some("aws-sigv4") => Kind::AwsSigv4,
        Some("hmac-sha256") => Kind::HmacSha256 {
            over: args.over.unwrap_or(HmacOver::Body),
            encoding: args.encoding.unwrap_or(HmacEncoding::Hex),
            timestamp_header: timestamp_header(),
        },
        Some("jwt-rs256") => token(JwtAlgorithm::Rs256)?,
        Some("jwt-es256") => token(JwtAlgorithm::Es256)?,
        Some("jwt-hs256") => token(JwtAlgorithm::Hs256)?,
        Some(_) => {
            return Err("a kind is value, aws-sigv4, hmac-sha256, jwt-rs256, jwt-es256 or jwt-hs256".into());
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        uses: UsesArgs,
    }

    fn read(words: &[&str]) -> Result<UsesChange, String> {
        let line = Line::try_parse_from(std::iter::once("secret").chain(words.iter().copied()));
        change(line.map_err(|error| error.to_string())?.uses)
    }

    #[test]
    fn options_become_changes_and_nothing_else_changes() {
        assert_eq!(read(&[]), Ok(UsesChange::default()));
        let wide = read(&["--in", "query,body", "--in", "path", "--reveal"]).unwrap();
        assert_eq!(wide.slots.unwrap().len(), 3);
        assert_eq!((wide.reveal, wide.rules, wide.kind), (Some(Reveal::Once), None, None));
        assert_eq!(read(&["--reveal", "--reveal-trust"]).unwrap().reveal, Some(Reveal::Standing));
        assert_eq!(read(&["--no-reveal", "--allow-all"]).unwrap().rules, Some(BTreeSet::new()));
        let ruled = read(&["--allow", "a.example GET /x", "--allow", "a.example POST /y"]).unwrap();
        assert_eq!(ruled.rules.unwrap().len(), 2);
        let jwt = read(&["--kind", "jwt-rs256", "--claim", "iss=1", "--lifetime", "60"]).unwrap().kind.unwrap();
        assert_eq!(jwt.name(), "jwt-rs256");
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for words in [
            &["--in", "cookie"][..],
            &["--allow", "a.example /x"],
            &["--allow", "a.example GET /x", "--allow-all"],
            &["--reveal-trust"],
            &["--reveal", "--no-reveal"],
            &["--kind", "aws"],
            &["--over", "body"],
            &["--kind", "aws-sigv4", "--claim", "iss=1"],
            &["--kind", "jwt-rs256", "--claim", "iss=1", "--claim", "iss=2"],
            &["--kind", "jwt-rs256", "--over", "body"],
        ] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
