//! Finds what JavaScript and TypeScript import, by looking at their tokens.
//!
//! Not a parser, on purpose: a parser recurses, and what an agent sends must not be able to end the gateway. Whatever
//! this misses is not there when the code runs, and whatever it finds too much is shown to the owner; neither lets
//! anything in.

/// Most tokens between `import` and its `from`.
const MAX_CLAUSE_TOKENS: usize = 2000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'s> {
    Word(&'s str),
    Text(String),
    Sign(char),
}

/// The specifiers of static imports and re-exports, and of dynamic imports of a plain string, in their order. Imports
/// of types only are left out: they are gone when the code runs.
pub(crate) fn imports(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        if before == Some(&Token::Sign('.')) {
            continue;
        }
        let rest = tokens.get(at + 1..).unwrap_or_default();
        match token {
            Token::Word("import") => found.extend(imported(rest)),
            Token::Word("export") => found.extend(exported(rest)),
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn imported(rest: &[Token<'_>]) -> Option<String> {
    match rest {
        [Token::Text(text), ..] | [Token::Sign('('), Token::Text(text), Token::Sign(')' | ','), ..] => {
            Some(text.clone())
        }
        [Token::Word("type"), Token::Sign('{' | '*'), ..] => None,
        [Token::Word("type"), Token::Word(name), ..] if *name != "from" => None,
        [Token::Word(_) | Token::Sign('{' | '*'), ..] => from(rest),
        _ => None,
    }
}

fn exported(rest: &[Token<'_>]) -> Option<String> {
    matches!(rest, [Token::Sign('{' | '*'), ..]).then(|| from(rest)).flatten()
}

/// The text after `from`, where only what a clause is made of stands before it.
fn from(clause: &[Token<'_>]) -> Option<String> {
    for (at, token) in clause.iter().enumerate().take(MAX_CLAUSE_TOKENS) {
        match (token, clause.get(at + 1)) {
            (Token::Word("from"), Some(Token::Text(text))) => return Some(text.clone()),
            // `import { "a-b" as c } from`: names may be texts.
            (Token::Word(_) | Token::Text(_) | Token::Sign('{' | '}' | '*' | ','), _) => {}
            _ => return None,
        }
    }
    None
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    // Of each template that is open: how many braces are open in its expression.
    let mut templates: Vec<usize> = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if c.is_whitespace() {
            rest = after;
        } else if rest.starts_with("//") {
            rest = rest.find('\n').and_then(|at| rest.get(at..)).unwrap_or_default();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else if c == '"' || c == '\'' {
            let (text, after) = string(after, c);
            tokens.push(Token::Text(text));
            rest = after;
        } else if c == '`' {
            rest = template(after, &mut templates, &mut tokens);
        } else if c == '/' && may_begin_pattern(tokens.last()) {
            rest = pattern(after);
            tokens.push(Token::Sign('/'));
        } else if c == '{' {
            if let Some(open) = templates.last_mut() {
                *open += 1;
            }
            tokens.push(Token::Sign('{'));
            rest = after;
        } else if c == '}' {
            match templates.last_mut() {
                Some(0) => {
                    templates.pop();
                    rest = template(after, &mut templates, &mut tokens);
                    continue;
                }
                Some(open) => *open -= 1,
                None => {}
            }
            tokens.push(Token::Sign('}'));
            rest = after;
        } else if is_word(c) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            tokens.push(Token::Word(word));
            rest = after;
        } else {
            tokens.push(Token::Sign(c));
            rest = after;
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// A quoted string, of which the quote is read: its text, with the escapes that people write in specifiers.
fn string(rest: &str, quote: char) -> (String, &str) {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => text.extend(chars.next().map(|(_, c)| c)),
            '\n' => return (text, rest.get(at..).unwrap_or_default()),
            c if c == quote => return (text, rest.get(at + 1..).unwrap_or_default()),
            c => text.push(c),
        }
    }
    (text, "")
}

/// The text of a template up to its end or its next expression.
fn template<'s>(rest: &'s str, templates: &mut Vec<usize>, tokens: &mut Vec<Token<'s>>) -> &'s str {
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '`' => {
                tokens.push(Token::Sign('`'));
                return rest.get(at + 1..).unwrap_or_default();
            }
            '$' if chars.peek().is_some_and(|(_, next)| *next == '{') => {
                templates.push(0);
                tokens.push(Token::Sign('$'));
                return rest.get(at + 2..).unwrap_or_default();
            }
            _ => {}
        }
    }
    ""
}

/// Whether a slash begins a regular expression here: after anything that is no value.
fn may_begin_pattern(before: Option<&Token<'_>>) -> bool {
    match before {
        None => true,
        Some(Token::Text(_)) => false,
        Some(Token::Word(word)) => {
            matches!(*word, "return" | "typeof" | "case" | "in" | "of" | "void" | "delete" | "else" | "await" | "yield")
        }
        Some(Token::Sign(sign)) => !matches!(sign, ')' | ']' | '}' | '`'),
    }
}

fn pattern(rest: &str) -> &str {
    let mut in_class = false;
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '/' if !in_class => return rest.get(at + 1..).unwrap_or_default(),
            '\n' => return rest.get(at..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_is_found() {
        for source in [
            "import x from 'a';",
            "import \"a\"",
            "import { x, y as z } from \"a\"",
            "import * as x from 'a'",
            "import x, { y } from 'a'",
            "import { 'x-y' as z } from 'a'",
            "import type from 'a'",
            "export * from 'a'",
            "export * as ns from 'a'",
            "export { x } from 'a'",
            "const x = await import('a')",
            "import('a', { with: { type: 'json' } })",
            "import x from 'a' with { type: 'json' }",
            "/* c */ import /* d */ x // e\n from 'a'",
            "const t = `text ${await import('a')} ${`${1}`} more`;",
            "const r = /import 'b'/; import 'a'",
            "x = y / 2; import 'a'; z = 1 / 2",
            "import{x}from'a'",
            "if (a) { b } import 'a'",
        ] {
            assert_eq!(imports(source), ["a"], "{source}");
        }
    }

    #[test]
    fn what_only_looks_like_an_import_is_not() {
        for source in [
            "// import 'a'",
            "/* import 'a' */",
            "const s = \"import 'a'\"",
            "const t = `import 'a'`",
            "x.import('a')",
            "import(name)",
            "import(`a`)",
            "import.meta.url",
            "import type { T } from 'a'",
            "import type T from 'a'",
            "export type { T } from 'a'",
            "export const from = 'a'",
            "export { x }; const from = 'a'",
            "const r = /[/]import 'a'/",
            "important('a')",
        ] {
            assert_eq!(imports(source), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn nothing_that_is_sent_makes_it_recurse_or_panic() {
        for piece in ["`${", "{", "((", "import {", "'", "/*", "/", "\\", "import * as ", "\u{1f600}", "}`"] {
            let _ = imports(&piece.repeat(200_000));
        }
    }
}
