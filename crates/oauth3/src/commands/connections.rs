//! `connection …`: HTTP APIs of the owner's, with a key or with a sign-in.

use super::apis::give;
use super::in_seconds::in_seconds;
use super::sign_ins::{fields, look, source, state};
use super::{BY, Outcome, secrets, usage};
use crate::cli::{ConnectionAdd, ConnectionCommand, SignInArgs, ValueSource};
use crate::output::{Output, bold, harmless, joined, when};
use crate::owner::Owner;
use crate::settings::Settings;
use anyhow::Result;
use oauth3_approve::SignIns;
use oauth3_core::{ApiId, ApiKey, Connection, Derived, DerivedWay, Host, KeyPlace, SignInSetup, Timestamp};
use oauth3_provider::{BaseUrl, Identities, IdentityProvider, Protocol, SecretNeed, aws_service_and_region};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;

/// Defines, lists, removes and grants connections.
pub(crate) async fn connection(settings: &Settings, command: ConnectionCommand, out: Output) -> Result<Outcome> {
    match command {
        ConnectionCommand::Providers { provider } => return providers(provider.as_deref(), out),
        ConnectionCommand::Add(args) => return add(&Owner::reach(settings).await?, *args, out).await,
        ConnectionCommand::List => list(&Owner::reach(settings).await?, out).await?,
        ConnectionCommand::Remove { name } => {
            let owner = Owner::reach(settings).await?;
            owner.port().remove_connection(&ApiId::connection(&name)?, BY).await?;
            out.result(&serde_json::json!({ "name": name, "removed": true }), format!("{name} is removed."));
        }
        ConnectionCommand::Grant { name, grant } => {
            give(&Owner::reach(settings).await?, ApiId::connection(&name)?, grant, out).await?;
        }
    }
    Ok(Outcome::Done)
}

async fn add(owner: &Owner, args: ConnectionAdd, out: Output) -> Result<Outcome> {
    let ConnectionAdd { name, base_url, secret, place, rules, provider, from, exchange, sign_in } = args;
    let api = ApiId::connection(&name)?;
    let created_at = Timestamp::from_millis(0);
    let made = match (provider, from) {
        (Some(provider), _) => setup(&provider, &sign_in, base_url).map(|(url, setup)| (url, Some(setup))),
        (None, Some(parent)) => {
            let known = owner.port().connections().await?;
            derived(&parent, &known, &exchange, &sign_in, base_url).map(|(url, setup)| (url, Some(setup)))
        }
        (None, None) => Ok((base_url.unwrap_or_default(), None)),
    };
    let (base_url, setup) = match made {
        Ok(made) => made,
        Err(text) => return Ok(usage(&text, out)),
    };
    let place = match place.map_or_else(|| usual_place(&base_url, setup.as_ref()), Ok) {
        Ok(place) => place,
        Err(text) => return Ok(usage(&text, out)),
    };
    let client_secret = match &setup {
        Some(setup) => client_secret(&name, setup, &sign_in)?,
        None => None,
    };
    let rules = rules.into_iter().collect();
    let connection = Connection { api: api.clone(), base_url, place, rules, sign_in: setup, created_at };
    owner.port().put_connection(connection.clone(), BY).await?;
    if let Some(secret) = &secret {
        let key = ApiKey { api: api.clone(), secret: secret.clone(), agent: None, tag: None, created_at };
        owner.port().put_api_key(key, BY).await?;
    }
    if let Some(value) = client_secret {
        owner.port().put_client_secret(&api, value, BY).await?;
    }
    match &connection.sign_in {
        None => out.result(
            &serde_json::json!({ "api": api, "secret": secret }),
            format!("{name} is at /api/{name}/ of the proxy."),
        ),
        Some(setup) => out.result(
            &serde_json::json!({ "api": api, "base_url": connection.base_url, "sign_in": setup }),
            format!(
                "{name} is at /api/{name}/ of the proxy, and connection:{name} among secrets. Tokens go to {}.\n{}",
                joined(&setup.hosts),
                match &setup.from {
                    None => format!("Sign in with `oauth3 login {name}`."),
                    Some(from) => format!("Its token comes {}; `oauth3 login {name}` gets it now.", from.shown()),
                }
            ),
        ),
    }
    Ok(Outcome::Done)
}

/// Where a key goes when nothing was said.
///
/// # Errors
/// A sentence when what AWS is to be signed for cannot be told.
fn usual_place(base_url: &str, setup: Option<&SignInSetup>) -> Result<KeyPlace, String> {
    let identities = Identities::embedded().map_err(|why| why.to_string())?;
    let provider = setup.and_then(|setup| identities.provider(&setup.provider));
    if provider.is_none_or(|provider| provider.protocol() != Protocol::AwsSso) {
        return Ok(KeyPlace::Bearer);
    }
    let host = base_host(base_url)?;
    let (service, region) = aws_service_and_region(&host).ok_or_else(|| {
        format!("{host} does not say which service and region of AWS it is; name them with --in sigv4:SERVICE:REGION")
    })?;
    Ok(KeyPlace::SigV4 { service, region })
}

/// From options to how people sign in, and where the API is.
///
/// # Errors
/// A sentence when something is missing.
fn setup(name: &str, args: &SignInArgs, base_url: Option<String>) -> Result<(String, SignInSetup), String> {
    let identities = Identities::embedded().map_err(|why| why.to_string())?;
    let provider = known_provider(&identities, name)?;
    let parameters = args.parameters();
    let resolved = provider.resolve(&parameters).map_err(|why| why.to_string())?;
    let mut scopes = scopes(provider, args)?;
    if args.scopes.is_empty() && args.scope_sets.is_empty() {
        scopes.extend(provider.sets.first().map(|set| set.scopes.clone()).unwrap_or_default());
    }
    let mut hosts: Vec<Host> = args.hosts.clone();
    if hosts.is_empty() {
        hosts = resolved.hosts;
        if let Some(url) = &base_url {
            hosts.push(base_host(url)?);
        }
    }
    let first = hosts.first().ok_or("name with --host where tokens may go, such as --host api.example.com")?;
    let base_url = match (base_url, resolved.api) {
        (Some(url), _) => url,
        (None, Some(api)) if base_host(&api).is_ok_and(|host| hosts.contains(&host)) => api,
        (None, _) => format!("https://{first}"),
    };
    let client_id = args.client_id.clone().unwrap_or_default();
    let setup = SignInSetup {
        provider: provider.name.clone(),
        parameters,
        client_id,
        scopes,
        hosts: hosts.into_iter().collect(),
        from: None,
    };
    Ok((base_url, setup))
}

/// From options to a connection whose token is got from another's sign-in, and where its API is.
///
/// # Errors
/// A sentence when something is missing; whether the provider does it, and whether the scopes are the parent's, is
/// the broker's to say.
fn derived(
    parent: &str,
    known: &[Connection],
    exchange: &[(String, String)],
    args: &SignInArgs,
    base_url: Option<String>,
) -> Result<(String, SignInSetup), String> {
    let api = ApiId::connection(parent).map_err(|why| why.to_string())?;
    let found = known.iter().find(|connection| connection.api == api);
    let of = found.and_then(|connection| connection.sign_in.as_ref());
    let of = of.ok_or_else(|| format!("there is no connection {parent} that people sign in at"))?;
    let identities = Identities::embedded().map_err(|why| why.to_string())?;
    let way = way(exchange)?;
    let mut hosts: BTreeSet<Host> = args.hosts.iter().cloned().collect();
    if hosts.is_empty() {
        match &base_url {
            Some(url) => hosts.extend([base_host(url)?]),
            // What is linked is another provider's; nothing here says where its token may go.
            None if matches!(way, DerivedWay::Vault { .. }) => {
                return Err("name with --host where tokens may go, such as --host www.googleapis.com".to_owned());
            }
            None => hosts.clone_from(&of.hosts),
        }
    }
    let parents = found.map(|connection| connection.base_url.clone()).unwrap_or_default();
    let base_url = match (base_url, args.hosts.first()) {
        (Some(url), _) => url,
        (None, Some(first)) if !base_host(&parents).is_ok_and(|host| hosts.contains(&host)) => {
            format!("https://{first}")
        }
        (None, _) => parents,
    };
    let setup = SignInSetup {
        provider: of.provider.clone(),
        parameters: of.parameters.clone(),
        client_id: of.client_id.clone(),
        scopes: scopes(known_provider(&identities, &of.provider)?, args)?,
        hosts,
        from: Some(Derived { parent: api, way }),
    };
    Ok((base_url, setup))
}

/// How a token is got, by what `--exchange` names.
fn way(exchange: &[(String, String)]) -> Result<DerivedWay, String> {
    let mut named = BTreeMap::new();
    for (name, value) in exchange {
        if !["audience", "resource", "connection"].contains(&name.as_str()) {
            return Err(format!("--exchange names audience, resource or connection, and not {name:?}"));
        }
        if named.insert(name.as_str(), value.clone()).is_some() {
            return Err(format!("--exchange names {name} twice"));
        }
    }
    let (audience, resource) = (named.remove("audience"), named.remove("resource"));
    match named.remove("connection") {
        Some(connection) if audience.is_none() && resource.is_none() => Ok(DerivedWay::Vault { connection }),
        Some(_) => Err("--exchange connection=… goes without audience and resource".to_owned()),
        None if exchange.is_empty() => Ok(DerivedWay::FewerScopes),
        None => Ok(DerivedWay::Exchange { audience, resource }),
    }
}

/// The scopes that the options name.
fn scopes(provider: &IdentityProvider, args: &SignInArgs) -> Result<BTreeSet<String>, String> {
    let mut scopes: BTreeSet<String> = args.scopes.iter().cloned().collect();
    for set in &args.scope_sets {
        let known = provider.sets.iter().find(|known| known.name == *set);
        let names = || provider.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ");
        let missing = || format!("{} has no set {set:?}; it has {}", provider.name, names());
        scopes.extend(known.ok_or_else(missing)?.scopes.clone());
    }
    Ok(scopes)
}

fn base_host(url: &str) -> Result<Host, String> {
    BaseUrl::parse(url).map(|base| base.host().clone()).map_err(|why| why.to_string())
}

fn known_provider<'a>(identities: &'a Identities, name: &str) -> Result<&'a IdentityProvider, String> {
    identities.provider(name).ok_or_else(|| {
        let names = identities.providers().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ");
        format!("there is no provider {name:?}; there are {names} (generic is any other)")
    })
}

/// The app's secret, from where the options say; typed where the provider wants one and there is a terminal.
fn client_secret(name: &str, setup: &SignInSetup, args: &SignInArgs) -> Result<Option<oauth3_core::WriteOnly>> {
    let identities = Identities::embedded()?;
    let needed = identities.provider(&setup.provider).is_some_and(|p| p.client_secret == SecretNeed::Needed);
    let given = args.client_secret_stdin || args.client_secret_from_env.is_some();
    let asked = needed && std::io::stdin().is_terminal();
    if !given && !asked {
        return Ok(None);
    }
    let source = ValueSource { stdin: args.client_secret_stdin, from_env: args.client_secret_from_env.clone() };
    secrets::read_value(&format!("the app's secret for {name}"), &source)
}

async fn list(owner: &Owner, out: Output) -> Result<()> {
    let sign_ins = look(owner.port()).await?;
    if out.is_json() {
        let items: Vec<_> = sign_ins.connections.iter().map(|connection| item(connection, &sign_ins)).collect();
        out.json(&serde_json::json!({ "connections": items }));
        return Ok(());
    }
    let rows: Vec<_> = sign_ins
        .connections
        .iter()
        .map(|c| {
            let sign_in = sign_ins.of(&c.api);
            let key = sign_in.as_ref().map_or_else(|| format!("key: {}", c.place), source);
            let account = sign_in.as_ref().and_then(|sign_in| sign_in.account()).unwrap_or_else(|| "-".into());
            let state = sign_in.as_ref().map_or_else(|| "-".into(), |sign_in| state(&sign_in.record));
            let used = sign_in.as_ref().and_then(|sign_in| sign_in.record.used_at).map_or("-".into(), when);
            [c.api.name().to_owned(), c.base_url.clone(), key, harmless(&account), state, used, joined(&c.rules)]
        })
        .collect();
    let none = "No connections yet; define one with `oauth3 connection add NAME --base-url URL` or `--provider P`.";
    out.table(["NAME", "ADDRESS", "SIGN-IN", "ACCOUNT", "STATE", "LAST USED", "ALLOWED"], &rows, none);
    Ok(())
}

/// One connection as scripts see it.
fn item(connection: &Connection, sign_ins: &SignIns) -> serde_json::Value {
    let mut item = in_seconds(connection);
    if let (Some(map), Some(sign_in)) = (item.as_object_mut(), sign_ins.of(&connection.api)) {
        map.insert("name".into(), connection.api.name().into());
        map.extend(fields(&sign_in));
    }
    item
}

/// The providers, what each needs, and its scopes.
fn providers(name: Option<&str>, out: Output) -> Result<Outcome> {
    let identities = Identities::embedded()?;
    let shown: Vec<&IdentityProvider> = match name {
        None => identities.providers().collect(),
        Some(name) => match known_provider(&identities, name) {
            Ok(provider) => vec![provider],
            Err(text) => return Ok(usage(&text, out)),
        },
    };
    if out.is_json() {
        let items: Vec<_> = shown.into_iter().map(provider_item).collect();
        out.json(&serde_json::json!({ "providers": items }));
        return Ok(Outcome::Done);
    }
    for provider in shown {
        out.line(format!("{}  {} · {}", bold(&provider.name), provider.title, provider.docs));
        for (name, parameter) in &provider.parameters {
            let how = match &parameter.default {
                Some(default) => format!(" [default: {default}]"),
                None if parameter.optional => " (if you need it)".to_owned(),
                None => String::new(),
            };
            out.line(format!("    --{}: {}{how}", name.replace('_', "-"), parameter.says));
        }
        match provider.client_secret {
            SecretNeed::Needed => out.line("    --client-id and --client-secret-stdin: of the app that you register"),
            SecretNeed::Optional => out.line("    --client-id: of the app that you register; its secret if it has one"),
            SecretNeed::None => out.line("    no --client-id: it registers oauth3 by itself"),
        }
        for set in &provider.sets {
            out.line(format!("  --scope-set {}: {}", bold(&set.name), set.says));
            if name.is_some() {
                for scope in &set.scopes {
                    let says = provider.says(scope).map(|says| format!(": {says}")).unwrap_or_default();
                    out.line(format!("      {scope}{says}"));
                }
            }
        }
    }
    Ok(Outcome::Done)
}

fn provider_item(provider: &IdentityProvider) -> serde_json::Value {
    let parameters: Vec<_> = provider
        .parameters
        .iter()
        .map(|(name, p)| serde_json::json!({ "name": name, "says": p.says, "default": p.default, "optional": p.optional }))
        .collect();
    let sets: Vec<_> = provider
        .sets
        .iter()
        .map(|set| {
            let scopes = set.scopes.iter().map(|s| serde_json::json!({ "scope": s, "says": provider.says(s) }));
            serde_json::json!({ "name": set.name, "says": set.says, "scopes": scopes.collect::<Vec<_>>() })
        })
        .collect();
    serde_json::json!({
        "name": provider.name, "title": provider.title, "docs": provider.docs, "parameters": parameters,
        "client_secret": match provider.client_secret {
            SecretNeed::Needed => "needed",
            SecretNeed::Optional => "optional",
            SecretNeed::None => "none",
        },
        "scope_sets": sets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn made(words: &[&str]) -> Result<(String, SignInSetup), String> {
        let line = ["oauth3", "connection", "add", "my-mail"].into_iter().chain(words.iter().copied());
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let crate::cli::Command::Connection(ConnectionCommand::Add(args)) = cli.command else { panic!() };
        setup(&args.provider.unwrap_or_default(), &args.sign_in, args.base_url)
    }

    #[test]
    fn a_provider_brings_its_address_hosts_and_scopes() {
        let (base, setup) = made(&["--provider", "microsoft", "--client-id", "c", "--scope-set", "mail-read"]).unwrap();
        assert_eq!(base, "https://graph.microsoft.com/v1.0");
        assert_eq!(joined(&setup.hosts), "graph.microsoft.com");
        assert!(setup.scopes.contains("Mail.Read") && setup.scopes.contains("offline_access"));
        let (base, setup) = made(&[
            "--provider",
            "generic",
            "--issuer",
            "https://id.example.com",
            "--client-id",
            "c",
            "--scope",
            "a",
            "--host",
            "api.example.com",
            "--host",
            "b.example.com",
        ])
        .unwrap();
        assert_eq!((base.as_str(), joined(&setup.scopes).as_str()), ("https://api.example.com", "a"));
        assert_eq!(setup.parameters["issuer"], "https://id.example.com");
        let (base, setup) = made(&[
            "--provider",
            "okta",
            "--domain",
            "a.okta.com",
            "--client-id",
            "c",
            "--base-url",
            "https://api.example.com/x",
        ])
        .unwrap();
        assert_eq!(
            (base.as_str(), joined(&setup.hosts).as_str()),
            ("https://api.example.com/x", "a.okta.com, api.example.com")
        );
        assert!(setup.scopes.contains("openid"), "without a word: who you are");
        let (_, setup) =
            made(&["--provider", "gitlab", "--parameter", "base=git.example.com", "--client-id", "c"]).unwrap();
        assert_eq!(joined(&setup.hosts), "git.example.com");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (words, says) in [
            (&["--provider", "nobody", "--client-id", "c"][..], "generic is any other"),
            (&["--provider", "generic", "--client-id", "c", "--issuer", "https://id.example.com"], "--host"),
            (&["--provider", "auth0", "--client-id", "c"], "domain"),
            (&["--provider", "github", "--client-id", "c", "--tenant", "x"], "no parameter tenant"),
            (&["--provider", "google", "--client-id", "c", "--scope-set", "mail"], "mail-read"),
            (&["--client-id", "c"], "--provider"),
            (&["--provider", "github", "--secret", "A_KEY"], "--secret"),
            (&[], "--base-url"),
        ] {
            let text = made(words).unwrap_err();
            assert!(text.contains(says), "{words:?}: {text}");
        }
    }
}
