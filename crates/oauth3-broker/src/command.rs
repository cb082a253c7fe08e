//! A command line in place of code: `runtime` is `command`, and the code is its words.
//!
//! It becomes a script of one program, with the token of each connection also under the names that such programs look
//! for. The script is what is shown, hashed and run, like any other code.

use crate::Broker;
use oauth3_core::{AgentName, Connection, Declared, Draft, Fault, Runtime, SecretName, Source};
use oauth3_policy::may_ask_for_command;
use oauth3_provider::{GitAccess, Identities};
use std::collections::BTreeSet;

/// What a request names as its runtime.
const COMMAND: &str = "command";
/// Most words of a command line.
const MAX_WORDS: usize = 256;
/// Longest name of a program, in bytes.
const MAX_PROGRAM_BYTES: usize = 64;

impl Broker {
    /// The draft with its command line made a script; another draft as it is.
    pub(crate) async fn compose_command(&self, agent: &AgentName, mut draft: Draft) -> Result<Draft, Fault> {
        if ![&draft.body, &draft.metadata].iter().any(|place| place.runtime.as_deref() == Some(COMMAND)) {
            return Ok(draft);
        }
        let Source::Inline(line) = &draft.source else {
            return Err(invalid("a command stands in the request itself, as its code"));
        };
        let words = words(line)?;
        let program = words.first().map(String::as_str).unwrap_or_default();
        if !may_ask_for_command(program, &self.config.commands, agent) {
            let text = format!("{program} is not on the owner's list of commands; see [commands] allow in oauth3.toml");
            return Err(Fault::DeniedByPolicy(text));
        }
        let named: BTreeSet<SecretName> = [&draft.body, &draft.metadata]
            .into_iter()
            .flat_map(|place| place.secrets.iter().flatten())
            .filter_map(|name| SecretName::parse(name).ok())
            .collect();
        let connections = if named.is_empty() { Vec::new() } else { self.ports.store.connections().await? };
        let used: Vec<(&SecretName, &Connection)> = named
            .iter()
            .filter_map(|name| {
                Some((name, connections.iter().find(|other| Some(&other.api) == name.connection().as_ref())?))
            })
            .collect();
        if [&draft.body, &draft.metadata].iter().all(|place| place.network.is_none()) {
            let hosts = used.iter().filter_map(|(_, connection)| connection.sign_in.as_ref());
            let hosts: BTreeSet<String> = hosts.flat_map(|setup| &setup.hosts).map(ToString::to_string).collect();
            draft.body.network = Some(hosts.into_iter().collect());
        }
        draft.source = Source::Inline(script(&self.config.identities, &words, &used)?.into_bytes());
        for place in [&mut draft.body, &mut draft.metadata] {
            as_shell(place);
        }
        Ok(draft)
    }
}

fn as_shell(place: &mut Declared) {
    if place.runtime.as_deref() == Some(COMMAND) {
        place.runtime = Some(Runtime::Shell.as_str().to_owned());
    }
}

/// The words of a command line: a JSON array of them, or a line that is split as a shell splits it, with nothing in it
/// replaced.
fn words(line: &[u8]) -> Result<Vec<String>, Fault> {
    let text = std::str::from_utf8(line).map_err(|_| invalid("a command line is UTF-8"))?.trim();
    let words = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| invalid("a command that begins with [ is a JSON array of words"))?
    } else {
        shlex::split(text).ok_or_else(|| invalid("the quotes of the command line do not match"))?
    };
    let fine = |word: &String| !word.contains('\0');
    if words.len() > MAX_WORDS || !words.iter().all(fine) {
        return Err(invalid("a command has at most 256 words, and none has a NUL"));
    }
    let program = words.first().map(String::as_str).unwrap_or_default();
    // A bare name: which file that is, the system's own directories say, not the agent.
    let bare = (1..=MAX_PROGRAM_BYTES).contains(&program.len())
        && program.starts_with(|c: char| c.is_ascii_alphanumeric())
        && program.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if bare { Ok(words) } else { Err(invalid("a command begins with the name of a program, without a path")) }
}

fn script(identities: &Identities, words: &[String], used: &[(&SecretName, &Connection)]) -> Result<String, Fault> {
    let mut script = String::new();
    let mut line = |text: String| script.extend([text.as_str(), "\n"]);
    let mut git = 0;
    for (name, connection) in used {
        let (Some(setup), token) = (&connection.sign_in, name.variable()) else { continue };
        let Some(provider) = identities.provider(&setup.provider) else { continue };
        for variable in &provider.variables {
            line(format!("export {variable}=\"${token}\""));
        }
        let GitAccess { host, user } = match &provider.git {
            Some(git) if setup.hosts.iter().any(|bound| bound.name() == git.host) => git,
            _ => continue,
        };
        line(format!("export GIT_CONFIG_KEY_{git}='credential.https://{host}.helper'"));
        line(format!("export GIT_CONFIG_VALUE_{git}='!echo username={user}; echo \"password=${token}\"; :'"));
        git += 1;
    }
    if git > 0 {
        line(format!("export GIT_CONFIG_COUNT={git}"));
    }
    let quoted = shlex::try_join(words.iter().map(String::as_str)).map_err(|_| invalid("a word has a NUL"))?;
    line(format!("exec {quoted}"));
    Ok(script)
}

fn invalid(text: &str) -> Fault {
    Fault::InvalidRequest(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::{ApiId, Host, KeyPlace, SignInSetup, Timestamp};

    fn connection(name: &str, provider: &str, hosts: &[&str]) -> Connection {
        Connection {
            api: ApiId::connection(name).unwrap(),
            base_url: "https://api.example.com".into(),
            place: KeyPlace::Bearer,
            rules: BTreeSet::new(),
            sign_in: Some(SignInSetup {
                provider: provider.into(),
                parameters: [].into(),
                client_id: "c".into(),
                scopes: BTreeSet::new(),
                hosts: hosts.iter().map(|host| Host::parse(host).unwrap()).collect(),
                from: None,
            }),
            created_at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn words_are_split_and_never_expanded() {
        let words = |line: &str| words(line.as_bytes());
        assert_eq!(words("gh api /user --jq '.login'").unwrap(), ["gh", "api", "/user", "--jq", ".login"]);
        assert_eq!(words(r#"["gh", "$HOME `id` ; rm"]"#).unwrap(), ["gh", "$HOME `id` ; rm"]);
        for bad in ["", "/bin/sh -c x", "./gh", "-x", "gh 'a", "[1]", "[\"gh\"", "[\"gh\\u0000\"]", "a=b gh"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn programs_find_the_token_under_their_own_names() {
        let identities = Identities::embedded().unwrap();
        let github = connection("my-code", "github", &["api.github.com", "github.com"]);
        let name = SecretName::of_connection(&github.api).unwrap();
        let words = ["gh".to_owned(), "api".to_owned(), "it's $HOME".to_owned()];
        let made = script(&identities, &words, &[(&name, &github)]).unwrap();
        let expected = "export GH_TOKEN=\"$MY_CODE_TOKEN\"\n\
             export GITHUB_TOKEN=\"$MY_CODE_TOKEN\"\n\
             export GIT_CONFIG_KEY_0='credential.https://github.com.helper'\n\
             export GIT_CONFIG_VALUE_0='!echo username=x-access-token; echo \"password=$MY_CODE_TOKEN\"; :'\n\
             export GIT_CONFIG_COUNT=1\n\
             exec gh api \"it's \"'$HOME'\n";
        assert_eq!(made, expected);
        let api_only = connection("my-code", "github", &["api.github.com"]);
        assert!(!script(&identities, &words, &[(&name, &api_only)]).unwrap().contains("GIT_CONFIG"));
    }
}
