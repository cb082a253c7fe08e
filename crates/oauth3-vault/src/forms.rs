//! The forms in which a value may come back: as it is, and as the usual encodings write it.

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// Shortest secret whose encoded forms are searched, in bytes. The raw form always is; but encodings of three
/// bytes are so short that ordinary text holds them by chance.
pub const MIN_ENCODED_SECRET_BYTES: usize = 6;

/// One way of writing a value. The same way of writing the placeholder makes the replacement.
pub(crate) type Form = fn(&[u8]) -> Zeroizing<Vec<u8>>;

/// Every form that is searched, for values of this many bytes.
pub(crate) fn forms(len: usize) -> &'static [Form] {
    if len < MIN_ENCODED_SECRET_BYTES { FORMS.get(..1).unwrap_or(FORMS) } else { FORMS }
}

const FORMS: &[Form] = &[
    |v| Zeroizing::new(v.to_vec()),
    |v| base64(v, 0, false, false),
    |v| base64(v, 1, false, false),
    |v| base64(v, 2, false, false),
    |v| base64(v, 0, false, true),
    |v| base64(v, 1, false, true),
    |v| base64(v, 2, false, true),
    |v| base64(v, 0, true, false),
    |v| base64(v, 1, true, false),
    |v| base64(v, 2, true, false),
    |v| base64(v, 0, true, true),
    |v| base64(v, 1, true, true),
    |v| base64(v, 2, true, true),
    |v| text(HEXLOWER.encode(v)),
    |v| text(HEXUPPER.encode(v)),
    // encodeURIComponent, RFC 3986 unreserved, form fields, everything; in both cases of the digits.
    |v| percent(v, b"-_.!~*'()", false, true),
    |v| percent(v, b"-_.!~*'()", false, false),
    |v| percent(v, b"-_.~", false, true),
    |v| percent(v, b"-_.~", false, false),
    |v| percent(v, b"-_.*", true, true),
    |v| percent(v, b"-_.*", true, false),
    // encodeURI: what delimits an address stays.
    |v| percent(v, b"-_.!~*'();/?:@&=+$,#", false, true),
    percent_all_upper,
    percent_all_lower,
    // JSON: plain, ASCII only, with an escaped slash, and safe inside HTML.
    |v| json(v, false, false, false),
    |v| json(v, true, false, false),
    |v| json(v, false, true, false),
    |v| json(v, true, true, false),
    |v| json(v, false, false, true),
    |v| json(v, true, false, true),
    json_widest,
    |v| html(v, "&quot;", "&#39;", None),
    |v| html(v, "&#34;", "&#39;", None),
    |v| html(v, "&quot;", "&#x27;", None),
    |v| html(v, "&quot;", "&apos;", None),
    |v| html(v, "&quot;", "'", None),
    |v| html(v, "\"", "'", None),
    |v| html(v, "&quot;", "&#39;", Some("&#x2F;")),
];

fn text(text: String) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.into_bytes())
}

/// The characters that this value decides when it stands `offset` bytes after a multiple of three.
/// With `end`, the value is what the encoded text ends with: its last character and the padding too.
fn base64(value: &[u8], offset: usize, url_safe: bool, end: bool) -> Zeroizing<Vec<u8>> {
    let mut shifted = Zeroizing::new(vec![0u8; offset]);
    shifted.reserve_exact(value.len());
    shifted.extend_from_slice(value);
    let encoding = if url_safe { &BASE64URL } else { &BASE64 };
    let mut encoded = Zeroizing::new(encoding.encode(&shifted).into_bytes());
    if !end {
        encoded.truncate(shifted.len() * 8 / 6);
    }
    // Characters that share bits with what stands before.
    let first = (offset * 8).div_ceil(6);
    Zeroizing::new(encoded.get(first..).unwrap_or_default().to_vec())
}

fn percent(value: &[u8], kept: &[u8], plus: bool, upper: bool) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        match byte {
            b' ' if plus => out.push(b'+'),
            b if b.is_ascii_alphanumeric() || kept.contains(b) => out.push(*b),
            b => escape(&mut out, *b, upper),
        }
    }
    out
}

fn percent_all_upper(value: &[u8]) -> Zeroizing<Vec<u8>> {
    percent_all(value, true)
}

fn percent_all_lower(value: &[u8]) -> Zeroizing<Vec<u8>> {
    percent_all(value, false)
}

fn percent_all(value: &[u8], upper: bool) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    value.iter().for_each(|byte| escape(&mut out, *byte, upper));
    out
}

fn escape(out: &mut Vec<u8>, byte: u8, upper: bool) {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let digit = |n: u8| digits.get(usize::from(n & 15)).copied().unwrap_or(b'0');
    out.extend([b'%', digit(byte >> 4), digit(byte)]);
}

/// The inside of a JSON string (RFC 8259 §7). Bytes that are not UTF-8 stay as they are.
fn json(value: &[u8], ascii: bool, slash: bool, html_safe: bool) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(String::with_capacity(value.len() * 6));
    let Ok(value) = std::str::from_utf8(value) else { return Zeroizing::new(value.to_vec()) };
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if slash => out.push_str("\\/"),
            c if c < ' ' || (ascii && !c.is_ascii()) || (html_safe && matches!(c, '<' | '>' | '&')) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    Zeroizing::new(out.as_bytes().to_vec())
}

/// As .NET writes it: upper-case digits, and more characters escaped than anywhere else.
fn json_widest(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(String::with_capacity(value.len() * 6));
    let Ok(value) = std::str::from_utf8(value) else { return Zeroizing::new(value.to_vec()) };
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || !c.is_ascii() || "\"'<>&+`".contains(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
            c => out.push(c),
        }
    }
    Zeroizing::new(out.as_bytes().to_vec())
}

fn html(value: &[u8], double: &str, single: &str, slash: Option<&str>) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 6));
    for byte in value {
        match (byte, slash) {
            (b'&', _) => out.extend_from_slice(b"&amp;"),
            (b'<', _) => out.extend_from_slice(b"&lt;"),
            (b'>', _) => out.extend_from_slice(b"&gt;"),
            (b'"', _) => out.extend_from_slice(double.as_bytes()),
            (b'\'', _) => out.extend_from_slice(single.as_bytes()),
            (b'/', Some(slash)) => out.extend_from_slice(slash.as_bytes()),
            (b, _) => out.push(*b),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether one of the forms of `value` stands in `text`.
    fn found(value: &str, text: &str) -> bool {
        forms(value.len()).iter().any(|form| {
            let pattern = form(value.as_bytes());
            text.as_bytes().windows(pattern.len()).any(|w| w == &pattern[..])
        })
    }

    #[test]
    fn every_usual_encoding_holds_a_form() {
        let value = "p/ä\"<&'k \\y+=1";
        for text in [
            "p/ä\"<&'k \\y+=1",
            // Python: json.dumps, json.dumps(ensure_ascii=False), urllib quote, quote_plus, quote(safe='').
            r#"{"a": "p/\u00e4\"<&'k \\y+=1"}"#,
            r#"{"a": "p/ä\"<&'k \\y+=1"}"#,
            "p%2F%C3%A4%22%3C%26%27k+%5Cy%2B%3D1",
            "p%2F%C3%A4%22%3C%26%27k%20%5Cy%2B%3D1",
            // JavaScript: encodeURIComponent; then the same in lower case.
            "p%2F%C3%A4%22%3C%26'k%20%5Cy%2B%3D1",
            "p%2f%c3%a4%22%3c%26'k%20%5cy%2b%3d1",
            // PHP json_encode, Go json.Marshal.
            r#""p\/\u00e4\"<&'k \\y+=1""#,
            r#""p/ä\"\u003c\u0026'k \\y+=1""#,
            // .NET System.Text.Json.
            r#""p/\u00E4\u0022\u003C\u0026\u0027k \\y\u002B=1""#,
            // Python html.escape, Go html.EscapeString.
            "p/ä&quot;&lt;&amp;&#x27;k \\y+=1",
            "p/ä&#34;&lt;&amp;&#39;k \\y+=1",
        ] {
            assert!(found(value, text), "{text}");
        }
    }

    #[test]
    fn base64_is_found_wherever_the_value_stands() {
        for prefix in ["", "u", "us", "user:", "Aladdin:"] {
            for suffix in ["", "x", "xy", "\n"] {
                let whole = format!("{prefix}open sesame?>{suffix}");
                assert!(found("open sesame?>", &BASE64.encode(whole.as_bytes())), "{whole}");
                assert!(found("open sesame?>", &BASE64URL.encode(whole.as_bytes())), "{whole}");
            }
        }
    }

    #[test]
    fn short_values_are_searched_raw_only() {
        assert_eq!(forms(MIN_ENCODED_SECRET_BYTES - 1).len(), 1);
        assert_eq!(forms(MIN_ENCODED_SECRET_BYTES).len(), FORMS.len());
    }
}
