//! Addresses with parts that only the owner knows: `{name}`, and `[…{name}…]` for what vanishes without it.

use std::collections::BTreeMap;

/// What is wrong with a template; a mistake in a file of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("a brace or bracket is not closed")]
    Open,
    #[error("nothing says what {{{0}}} is")]
    Unknown(String),
}

/// Fills the values in. `{tid}` stays as it is: it is of each token.
pub(crate) fn fill(template: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('[') {
        let (group, after) = after.split_once(']').ok_or(TemplateError::Open)?;
        filled.push_str(&plain(before, values)?);
        match plain(group, values) {
            Ok(group) => filled.push_str(&group),
            Err(TemplateError::Unknown(_)) => {}
            Err(why) => return Err(why),
        }
        rest = after;
    }
    filled.push_str(&plain(rest, values)?);
    Ok(filled)
}

fn plain(template: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(TemplateError::Open)?;
        filled.push_str(before);
        match values.get(name) {
            Some(value) => filled.push_str(value),
            None if name == "tid" => filled.push_str("{tid}"),
            None => return Err(TemplateError::Unknown(name.to_owned())),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Whether a text is a part of a host name or a path, and ends neither.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_and_groups_vanish_without_them() {
        let values = BTreeMap::from([("domain".to_owned(), "id.test".to_owned())]);
        for (template, filled) in [
            ("https://{domain}/a", Ok("https://id.test/a".to_owned())),
            ("https://{domain}[/oauth2/{server}]/v1", Ok("https://id.test/v1".to_owned())),
            ("[https://{domain}]", Ok("https://id.test".to_owned())),
            ("https://{domain}/{tid}/v2", Ok("https://id.test/{tid}/v2".to_owned())),
            ("{server}", Err(TemplateError::Unknown("server".to_owned()))),
            ("{domain", Err(TemplateError::Open)),
            ("[{domain}", Err(TemplateError::Open)),
        ] {
            assert_eq!(fill(template, &values), filled, "{template}");
        }
    }
}
