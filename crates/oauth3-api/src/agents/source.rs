//! What is to run, as agents send it: one file, several, an archive, or an address.

use super::problem::Problem;
use super::request::text;
use super::strict::{Named, Object};
use data_encoding::BASE64;
use oauth3_core::{Parts, Several, SkillFile, Source};
use serde::Deserialize;
use serde_json::Value;

/// The fields of the body that say it.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) code: Option<Value>,
    pub(super) files: Option<Vec<Object<File>>>,
    pub(super) archive_base64: Option<Value>,
    pub(super) skill_url: Option<Value>,
    pub(super) entry: Option<Value>,
    pub(super) assets: Option<Vec<String>>,
}

/// One of `files`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    path: Option<Value>,
    content: Option<Value>,
    content_base64: Option<Value>,
}

impl Named for File {
    const WHAT: &'static str = "each of `files` as an object";
}

impl Fields {
    /// Exactly one of the four. Paths and sizes are checked later, where all of them are known.
    pub(super) fn read(self) -> Result<Source, Problem> {
        let code = text("code", self.code)?;
        let archive = text("archive_base64", self.archive_base64)?;
        let url = text("skill_url", self.skill_url)?;
        let entry = text("entry", self.entry)?;
        let alone = entry.is_none() && self.assets.is_none();
        let assets = self.assets.unwrap_or_default();
        let parts = match (code, self.files, archive, url) {
            (Some(code), None, None, None) if alone => return Ok(Source::Inline(code.into_bytes())),
            (Some(_), None, None, None) => {
                return Err(Problem::invalid("`entry` and `assets` go with several files; `code` is one"));
            }
            (None, None, None, Some(url)) if alone => return Ok(Source::Url(url)),
            (None, None, None, Some(url)) => Parts::Url(url),
            (None, Some(files), None, None) => {
                Parts::Files(files.into_iter().map(|Object(file)| file.read()).collect::<Result<_, _>>()?)
            }
            (None, None, Some(archive), None) => Parts::Archive(base64("archive_base64", &archive)?),
            (None, None, None, None) => {
                return Err(Problem::invalid("one of `code`, `files`, `archive_base64` or `skill_url` is required"));
            }
            _ => {
                let text = "more than one of `code`, `files`, `archive_base64` and `skill_url` is there; send one";
                return Err(Problem::invalid(text));
            }
        };
        Ok(Source::Several(Several { parts, entry, assets }))
    }
}

impl File {
    fn read(self) -> Result<SkillFile, Problem> {
        let path = text("path", self.path)?.ok_or_else(|| Problem::invalid("each of `files` has a `path`"))?;
        let bytes = match (text("content", self.content)?, text("content_base64", self.content_base64)?) {
            (Some(content), None) => content.into_bytes(),
            (None, Some(content)) => base64("content_base64", &content)?,
            _ => return Err(Problem::invalid("each of `files` has either `content` or `content_base64`")),
        };
        Ok(SkillFile { path, bytes })
    }
}

fn base64(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    BASE64.decode(text.as_bytes()).map_err(|_| Problem::invalid(format!("`{name}` is not base64 (RFC 4648, padded)")))
}
