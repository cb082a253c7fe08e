//! Telegram's HTML style (Bot API, "HTML style"), strictly.

use std::fmt::Write as _;

/// Tags that Telegram knows, and the entity that each makes.
const TAGS: &[(&str, &str)] = &[
    ("b", "bold"),
    ("strong", "bold"),
    ("i", "italic"),
    ("em", "italic"),
    ("u", "underline"),
    ("s", "strikethrough"),
    ("code", "code"),
    ("pre", "pre"),
    ("blockquote", "blockquote"),
];
/// Most entities of a message; Telegram drops those beyond without a word, this is an error here.
const MAX_ENTITIES: usize = 100;

/// One entity: type, offset and length in UTF-16 units, and the text that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// `bold`, `code`, …
    pub kind: String,
    /// Where it begins.
    pub offset: usize,
    /// How long it is.
    pub length: usize,
    /// What it covers.
    pub text: String,
}

/// Parses text with HTML markup into plain text and entities.
///
/// # Errors
/// A description like Telegram's, when it would refuse the markup.
pub fn parse_html(markup: &str) -> Result<(String, Vec<Entity>), String> {
    let mut text = String::new();
    let mut units = 0;
    let mut open: Vec<(&'static str, &'static str, usize, usize)> = Vec::new();
    let mut entities = Vec::new();
    let mut rest = markup;
    while let Some(c) = rest.chars().next() {
        match c {
            '<' => {
                let end = rest.find('>').ok_or("unclosed start tag")?;
                let tag = &rest[1..end];
                rest = &rest[end + 1..];
                if let Some(name) = tag.strip_prefix('/') {
                    let (tag, kind, offset, byte) = open.pop().ok_or("unexpected end tag")?;
                    if tag != name {
                        return Err(format!("unmatched end tag, expected \"</{tag}>\", found \"</{name}>\""));
                    }
                    if units == offset {
                        return Err(format!("empty entity \"{kind}\""));
                    }
                    entities.push(Entity {
                        kind: kind.to_owned(),
                        offset,
                        length: units - offset,
                        text: text[byte..].to_owned(),
                    });
                } else {
                    let (name, kind) = TAGS
                        .iter()
                        .find(|(name, _)| *name == tag)
                        .ok_or_else(|| format!("unsupported start tag \"{tag}\""))?;
                    if open.iter().any(|(_, kind, ..)| ["code", "pre"].contains(kind)) {
                        return Err("entity within code".to_owned());
                    }
                    open.push((name, kind, units, text.len()));
                }
            }
            '&' => {
                let end = rest.find(';').ok_or("a lone ampersand")?;
                let c = match &rest[1..end] {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    other => return Err(format!("unknown entity {other:?}")),
                };
                text.push(c);
                units += 1;
                rest = &rest[end + 1..];
            }
            '>' => return Err("a lone >".to_owned()),
            c => {
                text.push(c);
                units += c.len_utf16();
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if let Some((tag, ..)) = open.pop() {
        return Err(format!("can't find end tag corresponding to start tag \"{tag}\""));
    }
    if entities.len() > MAX_ENTITIES {
        let mut why = String::new();
        let _ = write!(why, "{} entities", entities.len());
        return Err(why);
    }
    entities.sort_by_key(|e| e.offset);
    Ok((text, entities))
}
