//! What commands print: tables and sentences for people, JSON for scripts.

use oauth3_core::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

/// Columns of a terminal that does not tell, and the fewest that are believed.
pub(crate) const COLUMNS: usize = 100;
const MIN_COLUMNS: usize = 60;

/// Writes to standard output; a closed pipe is no error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// For people, or for scripts.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Columns of the terminal that reads it; none when none does.
    pub(crate) fn width(self) -> Option<usize> {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        Some(if columns == 0 { COLUMNS } else { columns.max(MIN_COLUMNS) })
    }

    /// Prints `value` as JSON, or the sentence.
    pub(crate) fn result(self, value: &impl Serialize, sentence: impl AsRef<str>) {
        if self.json { self.json(value) } else { self.line(sentence) }
    }

    /// Prints one value as a line of JSON.
    pub(crate) fn json(self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(escaped(&text)),
            Err(error) => eprintln!("cannot print as JSON: {error}"),
        }
    }

    /// Prints one line.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        let mut out = std::io::stdout().lock();
        // Whoever reads may have gone; that is their choice.
        let _ = writeln!(out, "{}", text.as_ref());
        let _ = out.flush();
    }

    /// Prints columns under their heads, or a sentence when there are no rows.
    pub(crate) fn table<const N: usize>(self, heads: [&str; N], rows: &[[String; N]], empty: &str) {
        if rows.is_empty() {
            return self.line(empty);
        }
        let columns = self.width().unwrap_or(usize::MAX);
        let mut widths = heads.map(|h| h.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let render = |cells: &[&str]| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = padded.collect::<Vec<_>>().join("  ").trim_end().to_owned();
            // A row that breaks in two is no table any more; `show` and `--json` have the whole.
            if line.chars().count() <= columns { line } else { line.chars().take(columns - 1).chain(['…']).collect() }
        };
        self.line(bold(&render(&heads)));
        for row in rows {
            self.line(render(&row.each_ref().map(String::as_str)));
        }
    }
}

/// Bold on a terminal, plain elsewhere.
pub(crate) fn bold(text: &str) -> String {
    styled("1", text)
}

/// Dim on a terminal, plain elsewhere.
pub(crate) fn dim(text: &str) -> String {
    styled("2", text)
}

/// Green on a terminal, plain elsewhere.
pub(crate) fn green(text: &str) -> String {
    styled("32", text)
}

/// Red on a terminal, plain elsewhere.
pub(crate) fn red(text: &str) -> String {
    styled("31", text)
}

fn styled(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A time as people write it, UTC.
pub(crate) fn when(at: Timestamp) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    time::OffsetDateTime::from_unix_timestamp(at.unix_seconds())
        .ok()
        .and_then(|t| t.format(format).ok())
        .unwrap_or_else(|| at.unix_seconds().to_string())
}

/// The words of a text in lines of at most `width` columns, as far as words allow.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Names in a row, or a dash.
pub(crate) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    if items.is_empty() { "-".into() } else { items.join(", ") }
}

/// Text of an agent's making, safe on a terminal: no control or format characters but newlines and tabs.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// JSON whose strings hold no such characters either: a terminal may show it, and a parser reads the same.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(is_harmful) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.into()
}

fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let text = "a\u{1b}[2J\u{9b}31m\u{202e}b\u{e0041}\n\té";
        assert_eq!(harmless(text), "a\u{fffd}[2J\u{fffd}31m\u{fffd}b\u{fffd}\n\té");
        let json = serde_json::to_string(text).unwrap();
        let shown = escaped(&json);
        assert!(!shown.contains(is_harmful), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text, "a parser reads the same");
    }
}
