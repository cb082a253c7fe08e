//! A form with a file in it (RFC 7578).

use data_encoding::HEXLOWER;

/// Random bytes in the separator between parts.
const BOUNDARY_RANDOM_BYTES: usize = 16;

/// A form that is being put together.
pub(crate) struct Multipart {
    boundary: String,
    body: Vec<u8>,
}

impl Multipart {
    /// An empty form that `content` can be put into. `None` when the system has no randomness to give.
    pub(crate) fn new(content: &[u8]) -> Option<Self> {
        loop {
            let mut random = [0u8; BOUNDARY_RANDOM_BYTES];
            getrandom::fill(&mut random).ok()?;
            let boundary = format!("oauth3-{}", HEXLOWER.encode(&random));
            // Chance makes a clash all but impossible; looking makes it impossible.
            if !content.windows(boundary.len()).any(|window| window == boundary.as_bytes()) {
                return Some(Self { boundary, body: Vec::with_capacity(content.len() + 1024) });
            }
        }
    }

    /// Adds a field. `name` is ours; `value` is any text.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.part(&format!("form-data; name=\"{name}\""), None, value.as_bytes());
        self
    }

    /// Adds a file. `file_name` is ours too and holds neither quotes nor line breaks.
    pub(crate) fn file(mut self, name: &str, file_name: &str, bytes: &[u8]) -> Self {
        let disposition = format!("form-data; name=\"{name}\"; filename=\"{file_name}\"");
        self.part(&disposition, Some("application/octet-stream"), bytes);
        self
    }

    /// The content type and the body.
    pub(crate) fn finish(mut self) -> (String, Vec<u8>) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body)
    }

    fn part(&mut self, disposition: &str, content_type: Option<&str>, bytes: &[u8]) {
        let kind = content_type.map(|t| format!("Content-Type: {t}\r\n")).unwrap_or_default();
        let head = format!("--{}\r\nContent-Disposition: {disposition}\r\n{kind}\r\n", self.boundary);
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
    }
}
