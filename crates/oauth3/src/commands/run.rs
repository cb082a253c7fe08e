//! `run`: submit code yourself, wait for the approval, show the result.

use super::Outcome;
use super::requests::summary;
use crate::cli::{ExecArgs, RunArgs};
use crate::output::{Output, harmless};
use crate::owner::Owner;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use oauth3_core::{
    ApiId, Bundle, Declared, Draft, Execution, MAX_SKILL_FILES, Parts, SecretName, Several, SkillFile, Source, Status,
};
use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// One long poll.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the names of archives end with.
const ARCHIVES: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Submits, waits, shows.
pub(crate) async fn run(owner: &Owner, args: RunArgs, out: Output) -> Result<Outcome> {
    follow(owner, draft(args)?, out).await
}

/// The same for one program with the token of a connection.
pub(crate) async fn exec(owner: &Owner, args: ExecArgs, out: Output) -> Result<Outcome> {
    let connection = ApiId::connection(&args.connection)?;
    let network = args.network.iter().map(ToString::to_string).collect::<Vec<_>>();
    let body = Declared {
        secrets: Some(vec![SecretName::of_connection(&connection)?.to_string()]),
        network: (!network.is_empty()).then_some(network),
        timeout: args.timeout,
        runtime: Some("command".to_owned()),
        ..Declared::default()
    };
    let source = Source::Inline(serde_json::to_vec(&args.command)?);
    let skill_id = format!("exec:{}", connection.name());
    let draft = Draft { skill_id, source, args: serde_json::Map::new(), body, metadata: Declared::default() };
    follow(owner, draft, out).await
}

async fn follow(owner: &Owner, draft: Draft, out: Output) -> Result<Outcome> {
    let port = owner.running()?;
    let submitted = port.submit(draft).await?;
    let mut execution = submitted.execution;
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    tell(&progress, &execution);
    while !execution.status.is_final() {
        let seen = execution.status;
        execution = port.wait(&execution.id, seen, PATIENCE).await?;
        if execution.status != seen {
            tell(&progress, &execution);
        }
    }
    progress.finish_and_clear();
    finish(&execution, out);
    Ok(Outcome::of(execution.status))
}

/// A spinner on a terminal, plain lines elsewhere; always on standard error.
fn tell(progress: &ProgressBar, execution: &Execution) {
    let text = match execution.status {
        Status::Pending => format!("{0} waits for approval: oauth3 approve {0}", execution.id),
        Status::AwaitingSecrets => format!("{} waits for a secret that is not stored yet", execution.id),
        status => format!("{} is {status}", execution.id),
    };
    if progress.is_hidden() { eprintln!("{text}") } else { progress.set_message(text) }
}

fn finish(execution: &Execution, out: Output) {
    if out.is_json() {
        return out.json(&summary(execution));
    }
    if let Some(result) = &execution.result {
        let mut stdout = std::io::stdout().lock();
        // Whoever reads may have gone; that is their choice.
        let _ = stdout.write_all(shown(&result.stdout, stdout.is_terminal()).as_bytes());
        let _ = stdout.flush();
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(shown(&result.stderr, stderr.is_terminal()).as_bytes());
    }
    if let Some(error) = &execution.error {
        eprintln!("oauth3: {} {}: {}", execution.id, execution.status, harmless(error));
    }
}

/// A terminal would obey what it is sent; a file or a pipe gets exactly what the code printed.
fn shown(output: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { harmless(output).into() } else { output.into() }
}

/// What a path holds, and the code whose header counts, as far as that can be told here.
fn source(args: &RunArgs) -> Result<(Source, Vec<u8>)> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let several = |parts| Several { parts, entry: args.entry.clone(), assets: args.assets.clone() };
    let name = args.file.to_string_lossy().to_ascii_lowercase();
    if args.file.is_dir() {
        let mut files = Vec::new();
        collect(&args.file, "", &mut files)?;
        let bundle = Bundle::new(files, args.entry.as_deref(), &args.assets)?;
        let files = bundle.files().map(|(path, bytes)| SkillFile { path: path.to_owned(), bytes: bytes.to_vec() });
        let mut several = several(Parts::Files(files.collect()));
        several.entry = Some(bundle.entry().to_owned());
        return Ok((Source::Several(several), bundle.bytes(bundle.entry()).unwrap_or_default().to_vec()));
    }
    let bytes = read(&args.file)?;
    if ARCHIVES.iter().any(|end| name.ends_with(end)) {
        return Ok((Source::Several(several(Parts::Archive(bytes))), Vec::new()));
    }
    anyhow::ensure!(args.entry.is_none() && args.assets.is_empty(), "--entry and --asset go with several files");
    Ok((Source::Inline(bytes.clone()), bytes))
}

/// The plain files below a directory. What begins with a dot stays out, as shells have it.
fn collect(directory: &Path, prefix: &str, files: &mut Vec<SkillFile>) -> Result<()> {
    let cannot = || format!("cannot read {}", directory.display());
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let (path, kind) = (format!("{prefix}{name}"), entry.file_type().with_context(cannot)?);
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            anyhow::ensure!(files.len() < MAX_SKILL_FILES, "a skill has at most {MAX_SKILL_FILES} files");
            let bytes = std::fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.push(SkillFile { path, bytes });
        } else {
            anyhow::bail!("{path} is neither a file nor a directory; a skill is made of plain files");
        }
    }
    Ok(())
}

fn draft(args: RunArgs) -> Result<Draft> {
    let (source, code) = source(&args)?;
    let map = args.args.into_iter().map(|(name, value)| (name, value.into())).collect();
    let header = oauth3_core::parse_header(&code).map_err(anyhow::Error::msg)?;
    let file_name = || {
        let stem = args.file.file_stem()?.to_str()?;
        let kept: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
        Some(kept.trim_start_matches(['.', '_', '-']).to_owned()).filter(|s| !s.is_empty())
    };
    let skill_id = header.skill_id.or_else(file_name).unwrap_or_else(|| "run".into());
    // An option that was not given names nothing; the header may.
    let names = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let body = Declared {
        secrets: names(args.secrets.iter().map(ToString::to_string).collect()),
        network: names(args.network.iter().map(ToString::to_string).collect()),
        timeout: args.timeout,
        runtime: args.runtime.map(|r| r.to_string()),
        limits: (!args.limits.is_empty()).then(|| args.limits.into_iter().collect()),
        ..Declared::default()
    };
    Ok(Draft { skill_id, source, args: map, body, metadata: Declared::default() })
}
