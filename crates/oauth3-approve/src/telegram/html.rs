//! Text with Telegram's HTML entities, built so that no text can become markup.

/// Longest message, in UTF-16 code units after the markup is parsed (Bot API, sendMessage).
pub(crate) const MAX_MESSAGE_UNITS: usize = 4096;

/// A message's text. Everything that is added is escaped; markup comes from the method only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Html {
    markup: String,
    units: usize,
}

impl Html {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Our own words.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.push(text);
        self
    }

    /// Our own words, bold.
    pub(crate) fn bold(self, text: &str) -> Self {
        self.tagged("b", text)
    }

    /// A name or a short text of the agent's, in one line. Neither links nor commands come alive in it.
    pub(crate) fn code(self, text: &str) -> Self {
        self.tagged("code", text)
    }

    /// A longer text of the agent's, or a list. Neither links nor commands come alive in it.
    pub(crate) fn pre(self, text: &str) -> Self {
        self.tagged("pre", text)
    }

    /// Ends the line.
    pub(crate) fn end(self) -> Self {
        self.text("\n")
    }

    /// A labelled name in one line.
    pub(crate) fn field(self, label: &str, value: &str) -> Self {
        self.text(label).text(": ").code(value).end()
    }

    /// Length as the limit counts it.
    pub(crate) const fn units(&self) -> usize {
        self.units
    }

    /// The text to be sent with parse mode HTML.
    pub(crate) fn as_str(&self) -> &str {
        self.markup.trim_end()
    }

    fn tagged(mut self, tag: &str, text: &str) -> Self {
        // An empty entity is an error in some servers.
        if text.is_empty() {
            return self;
        }
        self.markup.push('<');
        self.markup.push_str(tag);
        self.markup.push('>');
        self.push(text);
        self.markup.push_str("</");
        self.markup.push_str(tag);
        self.markup.push('>');
        self
    }

    fn push(&mut self, text: &str) {
        for c in text.chars() {
            self.units += c.len_utf16();
            match c {
                '&' => self.markup.push_str("&amp;"),
                '<' => self.markup.push_str("&lt;"),
                '>' => self.markup.push_str("&gt;"),
                '"' => self.markup.push_str("&quot;"),
                _ => self.markup.push(c),
            }
        }
    }
}
