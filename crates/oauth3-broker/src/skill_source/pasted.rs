//! The addresses that people paste, turned into those of the raw files behind them.

use url::Url;

/// Rewrites pages of gists, GitHub and GitLab files; anything else stays as it is.
pub(super) fn to_raw(url: Url) -> Url {
    rewritten(&url).unwrap_or(url)
}

fn rewritten(url: &Url) -> Option<Url> {
    let parts: Vec<&str> = url.path_segments()?.filter(|part| !part.is_empty()).collect();
    let raw = match (url.host_str()?, parts.as_slice()) {
        ("gist.github.com", [user, id]) if is_hex(id) => {
            format!("https://gist.githubusercontent.com/{user}/{id}/raw{}", file(url))
        }
        ("gist.github.com", [user, id, revision]) if is_hex(id) && is_hex(revision) => {
            format!("https://gist.githubusercontent.com/{user}/{id}/raw/{revision}{}", file(url))
        }
        ("gist.github.com", [user, id, "raw", file @ ..]) if is_hex(id) => {
            let file = file.iter().map(|part| format!("/{part}")).collect::<String>();
            format!("https://gist.githubusercontent.com/{user}/{id}/raw{file}")
        }
        // Without its owner; this answers with a redirect to the raw file.
        ("gist.github.com", [id]) if is_gist_id(id) => format!("https://gist.github.com/{id}/raw{}", file(url)),
        ("github.com" | "www.github.com", [owner, repository, "blob" | "raw", reference, path @ ..])
            if !path.is_empty() =>
        {
            format!("https://raw.githubusercontent.com/{owner}/{repository}/{reference}/{}", path.join("/"))
        }
        // GitLab, wherever it is hosted.
        (_, _) if url.path().contains("/-/blob/") => {
            let mut raw = url.clone();
            raw.set_path(&url.path().replacen("/-/blob/", "/-/raw/", 1));
            raw.set_query(None);
            raw.set_fragment(None);
            return Some(raw);
        }
        _ => return None,
    };
    Url::parse(&raw).ok()
}

/// A gist's file, from the anchor that its page gives it: `#file-weather-ts` for `weather.ts`. The anchor
/// has a dash for each dot; the last one is taken for the extension's.
fn file(url: &Url) -> String {
    match url.fragment().and_then(|fragment| fragment.strip_prefix("file-")) {
        Some(anchor) if !anchor.is_empty() => match anchor.rsplit_once('-') {
            Some((stem, extension)) => format!("/{stem}.{extension}"),
            None => format!("/{anchor}"),
        },
        _ => String::new(),
    }
}

/// Old gists are numbered, and 20 or more digits of hex name the others: a person's page is neither.
fn is_gist_id(text: &str) -> bool {
    is_hex(text) && (text.len() >= 20 || text.bytes().all(|b| b.is_ascii_digit()))
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}
