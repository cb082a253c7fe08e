//! From the source that was approved to plain ES modules: types stripped, imports of others refused, positions kept.
//!
//! Every program takes the same way through oxc, plain JavaScript too: what parses as JavaScript may mean something
//! else as TypeScript (`f<T>(x)` are two comparisons), and the way costs a fraction of a millisecond.

use oxc::allocator::Allocator;
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::diagnostics::OxcDiagnostic;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::transformer::{TransformOptions, Transformer};
use std::collections::BTreeMap;

use super::modules::BASE;

/// Deepest nesting of brackets. The parser recurses and has no limit of its own; this is far below what its stack
/// holds and far above what people write.
const NESTING_MAX: usize = 2000;

/// A module ready to run.
#[derive(Debug)]
pub(super) struct Script {
    /// JavaScript source of one module.
    pub(super) code: String,
    /// What it imports statically, as written.
    pub(super) imports: Vec<String>,
    /// From positions in `code` to positions in what was approved.
    pub(super) marks: Marks,
}

/// Reads `source` as one TypeScript module of this name. `serves` says whether an import can be served.
///
/// # Errors
/// A message for the owner of the code, with line and column, when it is no UTF-8, does not parse or imports what
/// is not served.
pub(super) fn compile(name: &str, source: &[u8], serves: &dyn Fn(&str) -> bool) -> Result<Script, String> {
    let source = text(name, source)?;
    refuse_deep_nesting(source)?;
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::ts()).parse();
    if let Some(first) = parsed.diagnostics.first() {
        return Err(syntax_error(name, source, first));
    }
    let imports = imports(name, source, &parsed.module_record, serves)?;

    let mut program = parsed.program;
    let semantic = SemanticBuilder::new().with_check_syntax_error(true).with_enum_eval(true).build(&program);
    if let Some(first) = semantic.diagnostics.first() {
        return Err(syntax_error(name, source, first));
    }
    let scoping = semantic.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, name.as_ref(), &options).build_with_scoping(scoping, &mut program);
    if let Some(first) = transformed.diagnostics.first() {
        return Err(syntax_error(name, source, first));
    }
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(name.into()),
            comments: CommentOptions::disabled(),
            ..CodegenOptions::default()
        })
        .build(&program);
    let tokens = printed.map.iter().flat_map(|map| map.get_tokens());
    let mut marks: Marks = tokens
        .map(|token| Mark {
            at: (token.get_dst_line(), token.get_dst_col()),
            source: (token.get_src_line(), token.get_src_col()),
        })
        .collect();
    marks.sort_unstable_by_key(|mark| mark.at);
    Ok(Script { code: printed.code, imports, marks })
}

/// Reads `source` as JSON: a module whose default export is its value.
///
/// # Errors
/// A message for the owner of the code when it is no UTF-8 or no JSON.
pub(super) fn json(name: &str, source: &[u8]) -> Result<Script, String> {
    let source = text(name, source)?;
    serde_json::from_str::<serde::de::IgnoredAny>(source)
        .map_err(|error| format!("error: {name} is not JSON: {error}"))?;
    // A JSON string is a JavaScript string; parsing it keeps names such as __proto__ plain.
    let literal = serde_json::Value::from(source).to_string();
    Ok(Script { code: format!("export default JSON.parse({literal});"), imports: Vec::new(), marks: Marks::new() })
}

fn text<'s>(name: &str, source: &'s [u8]) -> Result<&'s str, String> {
    let source = std::str::from_utf8(source).map_err(|error| {
        format!("error: The code is no UTF-8 text: bad byte at offset {} of {name}", error.valid_up_to())
    })?;
    Ok(source.strip_prefix('\u{feff}').unwrap_or(source))
}

/// The sentence for an import that is not served.
pub(super) fn import_refusal(specifier: &str) -> String {
    let mend = if specifier.starts_with("node:") {
        "Use runtime deno or node for node: built-ins"
    } else if specifier.starts_with('.') {
        "Send that file in `files` too, and name it whole, with its extension"
    } else {
        "Put everything into the skill's own files, or use runtime deno or node"
    };
    format!("The import of \"{specifier}\" is refused: what runs is only what was approved. {mend}.")
}

/// What is imported statically. What cannot be served is refused before anything runs, with its place.
fn imports(
    module: &str,
    source: &str,
    record: &oxc::syntax::module_record::ModuleRecord<'_>,
    serves: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    let wanted = record
        .requested_modules
        .iter()
        .flat_map(|(name, requests)| requests.iter().map(move |request| (name.as_str(), request)))
        .filter(|(_, request)| !request.is_type);
    let refused = wanted.clone().filter(|(name, _)| !serves(name)).min_by_key(|(_, r)| r.statement_span.start);
    if let Some((name, request)) = refused {
        let place = Place::find(module, source, request.statement_span.start as usize);
        return Err(format!("error: {}\n{place}", import_refusal(name)));
    }
    Ok(wanted.map(|(name, _)| name.to_owned()).collect())
}

/// A rough count, which takes brackets in strings and comments for code.
fn refuse_deep_nesting(source: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(format!("error: The code nests brackets more than {NESTING_MAX} deep"));
        }
    }
    Ok(())
}

fn syntax_error(module: &str, source: &str, diagnostic: &OxcDiagnostic) -> String {
    let mut text = format!("error: The code does not parse: {}", diagnostic.message);
    if let Some(label) = diagnostic.labels.first() {
        let place = Place::find(module, source, label.offset() as usize);
        text.push_str(&format!("\n{place}"));
    }
    if let Some(help) = &diagnostic.help {
        text.push_str(&format!("\n    help: {help}"));
    }
    text
}

/// A place in the source, shown as its line with a mark below and the position in the form of a stack frame.
struct Place<'s> {
    module: &'s str,
    text: &'s str,
    line: usize,
    column: usize,
}

impl<'s> Place<'s> {
    /// Longest line that is shown, in bytes: minified code has lines without end.
    const SHOWN_LINE_BYTES: usize = 200;

    fn find(module: &'s str, source: &'s str, offset: usize) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let text = source.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        Self { module, text, line: before.matches('\n').count() + 1, column }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.text.trim().is_empty() && self.text.len() <= Self::SHOWN_LINE_BYTES {
            let lead: String =
                self.text.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "{}\n{lead}^", self.text)?;
        }
        write!(f, "    at {}:{}:{}", self.module, self.line, self.column)
    }
}

/// The source map of one module, in the order of the code.
pub(super) type Marks = Vec<Mark>;

/// One entry of a source map; lines and columns count from zero.
#[derive(Debug)]
pub(super) struct Mark {
    at: (u32, u32),
    source: (u32, u32),
}

/// Maps positions of the stripped code back to the approved source.
#[derive(Debug, Default)]
pub(super) struct Positions {
    modules: BTreeMap<String, Marks>,
}

impl Positions {
    /// Adds a module.
    pub(super) fn add(&mut self, name: &str, marks: Marks) {
        self.modules.insert(name.to_owned(), marks);
    }

    /// Rewrites a stack trace of the engine: positions become those of the source, frames of the prelude go away.
    pub(super) fn map_stack(&self, stack: &str) -> String {
        let frames = stack.lines().filter(|line| !line.contains("(oauth3:") && !line.contains("at oauth3:"));
        // The engine shows native functions as `at call (native)`; they tell the reader nothing.
        let frames = frames.filter(|line| !line.ends_with("(native)"));
        let lines: Vec<String> = frames.map(|line| self.map_line(line)).collect();
        lines.join("\n")
    }

    fn map_line(&self, line: &str) -> String {
        let Some((before, after)) = line.split_once(BASE) else { return line.to_owned() };
        let path = after.split(':').next().unwrap_or_default();
        let (name, after) = (format!("{BASE}{path}"), after.get(path.len()..).unwrap_or_default());
        let (position, tail) = match after.strip_suffix(')') {
            Some(position) => (position, ")"),
            None => (after, ""),
        };
        let mut numbers = position.split(':').skip(1).map(|number| number.parse::<u32>().ok());
        let (Some(Some(row)), Some(column)) = (numbers.next(), numbers.next().unwrap_or(Some(1))) else {
            return line.to_owned();
        };
        let (row, column) = self.source_of(&name, row, column.max(1));
        let before = before.replace("<anonymous> (", "(");
        match before.strip_suffix("at (") {
            Some(indent) => format!("{indent}at {name}:{row}:{column}"),
            None => format!("{before}{name}:{row}:{column}{tail}"),
        }
    }

    /// The source position of a position in the code, both counted from one.
    fn source_of(&self, name: &str, row: u32, column: u32) -> (u32, u32) {
        let marks = self.modules.get(name).map(Vec::as_slice).unwrap_or_default();
        let at = (row.saturating_sub(1), column.saturating_sub(1));
        let next = marks.partition_point(|mark| mark.at <= at);
        match next.checked_sub(1).and_then(|index| marks.get(index)).filter(|mark| mark.at.0 == at.0) {
            Some(mark) => (mark.source.0 + 1, mark.source.1 + 1),
            None => (row, column),
        }
    }
}
