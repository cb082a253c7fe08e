//! Fits a card into one message; what does not fit becomes a document, and the message says so.

use super::html::{Html, MAX_MESSAGE_UNITS};
use crate::card::{self, Card, CardFile};
use oauth3_core::{Execution, Runtime, Skill};

/// Units kept free for the sentences that are added when a document could not be sent.
const RESERVED_UNITS: usize = 300;

/// Most documents that the files of one skill become; more files are one archive.
const MAX_FILE_DOCUMENTS: usize = 8;

/// A card as a message and its documents.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The message.
    pub(crate) html: Html,
    /// What did not fit.
    pub(crate) files: Vec<File>,
}

/// One document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name.
    pub(crate) name: String,
    /// Exactly these bytes.
    pub(crate) bytes: Vec<u8>,
}

/// The parts that can leave the message, in the order in which they do.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    code: bool,
    args: bool,
    claim: bool,
    lists: bool,
}

/// Lays a card out. `attached` says whether documents can be sent; when not, the message says how else to read them.
pub(crate) fn layout(card: &Card, execution: &Execution, attached: bool) -> Layout {
    let mut left = Left { code: !card.code_is_exact, ..Left::default() };
    let mut html = message(card, execution, left, attached);
    let steps: [fn(&mut Left); 4] = [|l| l.code = true, |l| l.args = true, |l| l.claim = true, |l| l.lists = true];
    for step in steps {
        if html.units() + RESERVED_UNITS <= MAX_MESSAGE_UNITS {
            break;
        }
        step(&mut left);
        html = message(card, execution, left, attached);
    }
    let mut files = Vec::new();
    if left.claim || left.lists {
        let name = file_name(card, "request", "txt");
        files.push(File { name, bytes: card::render_text_without_code(card).into_bytes() });
    }
    if left.args {
        let bytes = serde_json::to_vec(&execution.args).unwrap_or_default();
        files.push(File { name: file_name(card, "args", "json"), bytes });
    }
    if left.code {
        files.extend(code_files(card, execution));
    }
    Layout { html, files }
}

/// The exact bytes of the code: each file as a document of its own, or the archive that is hashed when there are many.
fn code_files(card: &Card, execution: &Execution) -> Vec<File> {
    let whole = |extension| File { name: file_name(card, "code", extension), bytes: execution.code.clone() };
    let Ok(Skill::Several(bundle)) = Skill::read(&execution.code) else {
        return vec![whole(extension(execution.intent.runtime))];
    };
    let shown: Vec<_> = card.files.iter().filter(|file| !file.asset).collect();
    if shown.len() > MAX_FILE_DOCUMENTS {
        return vec![whole("tar")];
    }
    // Numbered, because two paths may end alike.
    let document = |(n, file): (usize, &&CardFile)| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let bytes = bundle.bytes(&file.path).unwrap_or_default().to_vec();
        File { name: format!("code-{}-{}-{name}", card.digest, n + 1), bytes }
    };
    shown.iter().enumerate().map(document).collect()
}

/// The least that a card can say; for a server that refuses the whole one.
pub(crate) fn minimal(card: &Card) -> Html {
    warned(Html::new().bold(&card.headline).end(), card)
        .field("Agent", &card.agent)
        .field("Skill", &card.skill)
        .field("Code", &format!("sha256 {}…", card.digest))
        .text("The chat server does not take the whole card. Read it with ")
        .code(&format!("oauth3 show {}", card.id))
        .text(" and approve it there.")
        .end()
}

/// With what nobody may miss: it never leaves the message.
fn warned(html: Html, card: &Card) -> Html {
    match card.warning() {
        Some(warning) => html.bold(&warning).end(),
        None => html,
    }
}

fn message(card: &Card, execution: &Execution, left: Left, attached: bool) -> Html {
    let place = |name: &str| {
        if attached {
            format!("attached as {name}")
        } else {
            format!("NOT SHOWN HERE: oauth3 show {0}, oauth3 approve {0}", card.id)
        }
    };
    let request = file_name(card, "request", "txt");
    let mut html = warned(Html::new().bold(&card.headline).end(), card);
    if !card.remark.is_empty() {
        // Errors may quote what the code dialled, and are short by nature; the rest is in `show`.
        let remark: String = card.remark.chars().take(300).collect();
        let more = if remark.len() < card.remark.len() { " … (more: oauth3 show)" } else { "" };
        html = html.code(&remark).text(more).end();
    }
    if card.refused > 0 {
        html = html.text(&format!("⚠️ {} refused by the egress (oauth3 audit)", card.refused)).end();
    }
    html = html.end().field("Agent", &card.agent).field("Skill", &card.skill);
    if left.claim {
        html = html.text("The agent's claim and source: ").text(&place(&request)).end();
    } else {
        if !card.claim.is_empty() {
            html = html.text("The agent claims (not checked):").end().pre(&card.claim).end();
        }
        if let Some(source) = &card.source {
            html = html.text("Fetched from: ").code(source).end();
        }
    }
    html = html.field("Runtime", card.runtime);
    if !card.limits.is_empty() {
        html = limits(html.text("Limits: "), card).end();
    }
    if left.lists {
        let (files, secrets, hosts) = (card.files.len(), card.secrets.len(), card.hosts.len());
        let files = if files == 0 { String::new() } else { format!("{files} files, ") };
        let files = match card.packages.first() {
            Some(total) => format!("{files}imports ({total}), "),
            None => files,
        };
        let counts = format!("{files}{secrets} secrets, {hosts} hosts: too many for this message, ");
        html = html.bold("⚠️ ").text(&counts).text(&place(&request)).end();
    } else {
        if card.is_access {
            html = match &card.account {
                Some(_) => list(html, "Secrets", vec![card::access_secrets(card)]),
                None => html.text("Secrets: ").text(&card::access_secrets(card)).end(),
            };
        } else {
            html = list(html, "Secrets", card.secrets.iter().map(|s| card::secret_line(s, card.status)).collect());
        }
        html = list(html, "Network", card.hosts.clone());
    }
    if left.args {
        html = html.text("Arguments: ").text(&place(&file_name(card, "args", "json"))).end();
    } else if !card.args.is_empty() {
        html = html.text("Arguments:").end().pre(&card.args).end();
    }
    let size = format!(" · {}", card::bytes(card.code_bytes));
    let what = if card.is_access { "Terms: sha256 " } else { "Code: sha256 " };
    html = html.text(what).code(&card.digest).text("…").text(&size);
    if !card.files.is_empty() && !left.lists {
        html = list(html.end(), "Files", card.files.iter().map(card::file_line).collect());
    }
    if !card.packages.is_empty() && !left.lists {
        html = list(html.end(), "Imports", card.packages.clone());
    }
    if left.code {
        let names: Vec<String> = code_files(card, execution).into_iter().map(|file| file.name).collect();
        html = html.text(", ").text(&place(&names.join(", "))).end();
    } else {
        html = html.end().pre(card.code.trim_end_matches('\n')).end();
    }
    html = html.text("Request: ").code(&card.id).end();
    if card.status.is_open() {
        html = html.text("Expires: ").text(&card.expires_at).end();
    }
    html
}

/// In one line; what is out of the ordinary is bold.
fn limits(mut html: Html, card: &Card) -> Html {
    for (n, limit) in card.limits.iter().enumerate() {
        html = html.text(if n == 0 { "" } else { " · " });
        let text = card::limit_text(limit);
        html = if limit.usual.is_some() { html.bold(&text) } else { html.text(&text) };
    }
    html
}

/// All items in one entity: a message has room for 100 entities only.
fn list(html: Html, label: &str, items: Vec<String>) -> Html {
    if items.is_empty() {
        return html.text(label).text(": none").end();
    }
    html.text(label).text(":").end().pre(&items.join("\n")).end()
}

const fn extension(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Embedded | Runtime::Deno => "ts",
        Runtime::Node => "js",
        Runtime::Python => "py",
        Runtime::Shell => "sh",
    }
}

/// The digest in the name ties the document to its card.
fn file_name(card: &Card, what: &str, extension: &str) -> String {
    format!("{what}-{}.{extension}", card.digest)
}
