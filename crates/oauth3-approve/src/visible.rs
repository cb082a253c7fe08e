//! Makes text of the agent's safe to look at: nothing invisible, nothing that reorders its surroundings.

use icu_properties::props::{BinaryProperty as _, DefaultIgnorableCodePoint, EnumeratedProperty as _, GeneralCategory};
use std::fmt::Write as _;

/// Most combining marks in a row; more would paint over the lines around.
const MAX_COMBINING_MARKS: usize = 3;

/// One line of text in which every character is seen as what it is. Control, format, invisible and
/// unassigned characters, line breaks and unusual spaces become escapes such as `\u{202e}`.
#[must_use]
pub(crate) fn one_line(text: &str) -> String {
    escape(text, false)
}

/// Like [`one_line`], with `\n` kept as the only line break.
#[must_use]
pub(crate) fn lines(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, keep_newlines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        let category = GeneralCategory::for_char(c);
        let mark = matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark);
        marks = if mark { marks + 1 } else { 0 };
        if (c == '\n' && keep_newlines) || (is_visible(c, category) && marks <= MAX_COMBINING_MARKS) {
            out.push(c);
            continue;
        }
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    out
}

fn is_visible(c: char, category: GeneralCategory) -> bool {
    let hidden = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Unassigned
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || (category == GeneralCategory::SpaceSeparator && c != ' ')
        || DefaultIgnorableCodePoint::for_char(c)
        // The braille pattern without dots: a symbol by category, a blank by looks.
        || c == '\u{2800}';
    !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_becomes_an_escape() {
        let check = |text: &str, shown: &str| assert_eq!(one_line(text), shown, "{text:?}");
        check("plain <b> & text", "plain <b> & text");
        check("ünïcödé 漢字 🔑", "ünïcödé 漢字 🔑");
        check("a\nb\tc\rd\0", "a\\nb\\tc\\rd\\u{0}");
        check("\u{202e}gpj.exe", "\\u{202e}gpj.exe");
        check("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}");
        check("line\u{2028}sep\u{2029}\u{85}", "line\\u{2028}sep\\u{2029}\\u{85}");
        check("space\u{a0}\u{3000}\u{2800}", "space\\u{a0}\\u{3000}\\u{2800}");
        check("\u{3164}\u{fe0f}\u{e0041}\u{ad}\u{34f}", "\\u{3164}\\u{fe0f}\\u{e0041}\\u{ad}\\u{34f}");
        assert_eq!(lines("a\nb\u{b}"), "a\nb\\u{b}");
    }

    #[test]
    fn marks_do_not_pile_up() {
        let shown = one_line("e\u{301}\u{301}\u{301}\u{301}\u{301}");
        assert_eq!(shown, "e\u{301}\u{301}\u{301}\\u{301}\\u{301}");
    }

    #[test]
    fn no_character_at_all_gets_through_unseen() {
        for c in (0..=0x0010_ffff_u32).filter_map(char::from_u32) {
            let category = GeneralCategory::for_char(c);
            let shown = one_line(&c.to_string());
            if matches!(category, GeneralCategory::Control | GeneralCategory::Format) {
                assert!(!shown.contains(c), "{:x}", u32::from(c));
            }
        }
    }
}
