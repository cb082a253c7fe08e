//! Native functions over bytes and text: encodings, URLs, digests, files.

use std::fs;
use std::io::{self, Write};

use hmac::Mac;
use rquickjs::convert::List;
use rquickjs::function::Func;
use rquickjs::{Ctx, Exception, Object, Result, TypedArray};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use url::{Url, form_urlencoded, quirks};

use super::raw;

/// Most random bytes in one call, as the Web Crypto API has it.
const RANDOM_BYTES_MAX: usize = 65_536;

/// Largest file that a program can read in one piece, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Puts the functions on `native`.
pub(super) fn install<'js>(native: &Object<'js>) -> Result<()> {
    native.set("encode", Func::from(encode))?;
    native.set("decode", Func::from(decode))?;
    native.set("parseUrl", Func::from(parse_url))?;
    native.set("setUrl", Func::from(set_url))?;
    native.set("parseForm", Func::from(parse_form))?;
    native.set("printForm", Func::from(print_form))?;
    native.set("random", Func::from(random))?;
    native.set("digest", Func::from(digest))?;
    native.set("hmac", Func::from(hmac))?;
    native.set("readFile", Func::from(read_file))?;
    native.set("writeFile", Func::from(write_file))?;
    native.set("removeFile", Func::from(remove_file))
}

fn encode<'js>(ctx: Ctx<'js>, text: String) -> Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx, text.into_bytes())
}

/// Decodes UTF-8. Returns the text and how many bytes it took: with `more` to come, an unfinished last character
/// stays for the next call. `None` for the text tells of bad bytes under `fatal`.
fn decode(bytes: TypedArray<'_, u8>, fatal: bool, more: bool) -> List<(Option<String>, usize)> {
    let bytes = raw::copy(&bytes);
    let mut text = String::with_capacity(bytes.len());
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let bad = chunk.invalid();
        if bad.is_empty() {
            continue;
        }
        if more && taken + bad.len() == bytes.len() && is_unfinished(bad) {
            break;
        }
        if fatal {
            return List((None, taken));
        }
        text.push(char::REPLACEMENT_CHARACTER);
        taken += bad.len();
    }
    List((Some(text), taken))
}

/// Whether bytes that are no character could become one with more bytes.
fn is_unfinished(bad: &[u8]) -> bool {
    std::str::from_utf8(bad).is_err_and(|error| error.error_len().is_none())
}

/// href, origin, protocol, username, password, host, hostname, port, pathname, search, hash.
fn parts(url: &Url) -> Vec<String> {
    let borrowed = [
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
    ];
    let first = [quirks::href(url).to_owned(), quirks::origin(url)];
    first.into_iter().chain(borrowed.into_iter().map(str::to_owned)).collect()
}

fn parse_url(text: String, base: Option<String>) -> Option<Vec<String>> {
    let base = match base {
        Some(base) => Some(Url::parse(&base).ok()?),
        None => None,
    };
    Url::options().base_url(base.as_ref()).parse(&text).ok().as_ref().map(parts)
}

/// Sets one part as the setters of the URL class do: what does not fit changes nothing.
fn set_url(href: String, part: String, value: String) -> Option<Vec<String>> {
    let mut url = Url::parse(&href).ok()?;
    match part.as_str() {
        "href" => quirks::set_href(&mut url, &value).ok()?,
        "hash" => quirks::set_hash(&mut url, &value),
        "pathname" => quirks::set_pathname(&mut url, &value),
        "search" => quirks::set_search(&mut url, &value),
        "host" => drop(quirks::set_host(&mut url, &value)),
        "hostname" => drop(quirks::set_hostname(&mut url, &value)),
        "password" => drop(quirks::set_password(&mut url, &value)),
        "port" => drop(quirks::set_port(&mut url, &value)),
        "protocol" => drop(quirks::set_protocol(&mut url, &value)),
        "username" => drop(quirks::set_username(&mut url, &value)),
        _ => return None,
    }
    Some(parts(&url))
}

/// Names and values in turn.
fn parse_form(text: String) -> Vec<String> {
    form_urlencoded::parse(text.as_bytes()).flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect()
}

fn print_form(pairs: Vec<String>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    let mut pairs = pairs.iter();
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next()) {
        form.append_pair(name, value);
    }
    form.finish()
}

fn random<'js>(ctx: Ctx<'js>, length: usize) -> Result<TypedArray<'js, u8>> {
    let mut bytes = vec![0; length.min(RANDOM_BYTES_MAX)];
    match getrandom::fill(&mut bytes) {
        Ok(()) => TypedArray::new(ctx, bytes),
        Err(_) => Err(Exception::throw_internal(&ctx, "the system has no random bytes")),
    }
}

fn digest<'js>(ctx: Ctx<'js>, name: String, bytes: TypedArray<'js, u8>) -> Result<TypedArray<'js, u8>> {
    let bytes = raw::copy(&bytes);
    let sum = match name.as_str() {
        "SHA-1" => Sha1::digest(bytes).to_vec(),
        "SHA-256" => Sha256::digest(bytes).to_vec(),
        "SHA-384" => Sha384::digest(bytes).to_vec(),
        "SHA-512" => Sha512::digest(bytes).to_vec(),
        _ => return Err(Exception::throw_type(&ctx, "no such digest")),
    };
    TypedArray::new(ctx, sum)
}

fn hmac<'js>(
    ctx: Ctx<'js>,
    name: String,
    key: TypedArray<'js, u8>,
    bytes: TypedArray<'js, u8>,
) -> Result<TypedArray<'js, u8>> {
    let (key, bytes) = (raw::copy(&key), raw::copy(&bytes));
    let sum = match name.as_str() {
        "SHA-1" => {
            hmac::Hmac::<Sha1>::new_from_slice(&key).map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
        }
        "SHA-256" => hmac::Hmac::<Sha256>::new_from_slice(&key)
            .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec()),
        "SHA-384" => hmac::Hmac::<Sha384>::new_from_slice(&key)
            .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec()),
        "SHA-512" => hmac::Hmac::<Sha512>::new_from_slice(&key)
            .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec()),
        _ => return Err(Exception::throw_type(&ctx, "no such digest")),
    };
    match sum {
        Ok(sum) => TypedArray::new(ctx, sum),
        Err(_) => Err(Exception::throw_type(&ctx, "bad key")),
    }
}

/// The name of the error class in `Deno.errors` and a message, as one text `Name: message`.
fn file_error(ctx: &Ctx<'_>, error: &io::Error, path: &str) -> rquickjs::Error {
    let class = match error.kind() {
        io::ErrorKind::NotFound => "NotFound",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "PermissionDenied",
        io::ErrorKind::AlreadyExists => "AlreadyExists",
        io::ErrorKind::IsADirectory => "IsADirectory",
        _ => "Error",
    };
    Exception::throw_message(ctx, &format!("{class}: {error}: '{path}'"))
}

fn read_file<'js>(ctx: Ctx<'js>, path: String) -> Result<TypedArray<'js, u8>> {
    let read = || {
        let length = fs::metadata(&path)?.len();
        if length > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(fs::File::open(&path)?, FILE_BYTES_MAX), &mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => TypedArray::new(ctx, bytes),
        Err(error) => Err(file_error(&ctx, &error, &path)),
    }
}

fn write_file<'js>(ctx: Ctx<'js>, path: String, bytes: TypedArray<'js, u8>, append: bool) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    let written = options.open(&path).and_then(|mut file| file.write_all(&raw::copy(&bytes)));
    written.map_err(|error| file_error(&ctx, &error, &path))
}

fn remove_file(ctx: Ctx<'_>, path: String) -> Result<()> {
    fs::remove_file(&path).map_err(|error| file_error(&ctx, &error, &path))
}
