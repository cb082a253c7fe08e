//! `provider check`: whether the keys are good.

use super::Outcome;
use crate::output::Output;
use crate::owner::Owner;
use anyhow::Result;
use oauth3_core::{ApiCheck, ApiId};
use std::collections::BTreeSet;

/// Tries the keys of one provider, or of all that have any.
pub(crate) async fn check(owner: &Owner, provider: Option<&str>, out: Output) -> Result<Outcome> {
    let port = owner.running()?;
    let apis: BTreeSet<ApiId> = match provider {
        Some(name) => [ApiId::provider(name)?].into(),
        None => port.api_keys().await?.into_iter().map(|key| key.api).filter(ApiId::is_provider).collect(),
    };
    let mut rows = Vec::new();
    for api in apis {
        match port.check_api(&api).await {
            Ok(checks) => rows.extend(checks.into_iter().map(|check| (api.clone(), check))),
            Err(fault) if provider.is_none() => {
                let check = ApiCheck { secret: None, status: None, error: Some(fault.to_string()), millis: 0 };
                rows.push((api, check));
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    let all_good = rows.iter().all(|(_, check)| !failed(check));
    if out.is_json() {
        let items = rows.iter().map(|(api, check)| {
            serde_json::json!({
                "provider": api.name(), "secret": check.secret, "status": check.status, "error": check.error,
                "milliseconds": check.millis, "ok": !failed(check),
            })
        });
        out.json(&serde_json::json!({ "checks": items.collect::<Vec<_>>() }));
    } else {
        let secret = |check: &ApiCheck| check.secret.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let shown: Vec<_> = rows
            .iter()
            .map(|(api, check)| [api.name().to_owned(), secret(check), said(check), format!("{} ms", check.millis)])
            .collect();
        out.table(["PROVIDER", "SECRET", "RESULT", "TIME"], &shown, "No provider has a key yet.");
    }
    Ok(if all_good { Outcome::Done } else { Outcome::Failed })
}

fn failed(check: &ApiCheck) -> bool {
    check.error.is_some() || check.status.is_some_and(|status| !(200..300).contains(&status))
}

fn said(check: &ApiCheck) -> String {
    match (check.status, &check.error) {
        (Some(status @ 200..300), _) => format!("{status}, good"),
        (Some(401 | 403), _) => format!("{}, the key is not taken", check.status.unwrap_or_default()),
        (Some(429), _) => "429, too many calls".to_owned(),
        (Some(status), _) => format!("{status}, the API fails"),
        (None, Some(error)) => error.clone(),
        (None, None) => "nothing is known to try it by".to_owned(),
    }
}
