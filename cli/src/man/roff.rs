//! A manual page in the language of man(7). Whatever the text holds, it is text: no line of it is taken for a request.

/// A page that is being written.
pub(super) struct Page(String);

/// Text for roff: backslashes and hyphens are themselves, a line does not begin with a request.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if line.starts_with(['.', '\'']) {
            out += "\\&";
        }
        for c in line.chars() {
            match c {
                '\\' => out += "\\e",
                '-' => out += "\\-",
                c => out.push(c),
            }
        }
    }
    out
}

/// The same for text with `code` in backticks and **strong** words, which become bold.
pub(super) fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut part = |bold: bool, text: &str| {
        let text = escape(text);
        // In the middle of a line a dot is no request.
        let inside = !out.is_empty() && !out.ends_with('\n');
        let text = if inside { text.strip_prefix("\\&").unwrap_or(&text) } else { &text };
        out += &if bold { format!("\\fB{text}\\fR") } else { text.to_owned() };
    };
    for (i, code) in text.split('`').enumerate() {
        match i % 2 {
            1 => part(true, code),
            _ => code.split("**").enumerate().for_each(|(j, plain)| part(j % 2 == 1, plain)),
        }
    }
    out
}

/// A word of a macro's argument.
fn quoted(text: &str) -> String {
    format!("\"{}\"", inline(text).replace('"', "\\(dq"))
}

impl Page {
    /// A page `name(section)` with its line in whatis(1).
    pub(super) fn new(name: &str, section: u8, about: &str) -> Page {
        let mut page =
            Page(format!(".TH {} {section} \"\" \"usersock {}\"\n", quoted(name), env!("CARGO_PKG_VERSION")));
        // Flush left: configuration strings are long words.
        page.0 += ".ad l\n.nh\n";
        page.head("NAME");
        page.0 += &format!("{} \\- {}\n", escape(name), inline(about));
        page
    }

    /// A section.
    pub(super) fn head(&mut self, title: &str) {
        self.0 += &format!(".SH {}\n", quoted(title));
    }

    /// A section in a section.
    pub(super) fn subhead(&mut self, title: &str) {
        self.0 += &format!(".SS {}\n", quoted(title));
    }

    /// A paragraph.
    pub(super) fn text(&mut self, text: &str) {
        self.0 += ".PP\n";
        self.lines(text);
    }

    fn lines(&mut self, text: &str) {
        for line in inline(text).split('\n').map(str::trim).filter(|line| !line.is_empty()) {
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            self.0 += &format!("{guard}{line}\n");
        }
    }

    /// Lines as they stand.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.0 += &format!(".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", escape(text.trim_end()));
    }

    /// The lines of a declaration or synopsis, bold.
    pub(super) fn bold(&mut self, text: &str) {
        self.0 += ".PP\n.nf\n";
        for line in text.trim_end().lines() {
            self.0 += &format!("\\fB{}\\fR\n", escape(line));
        }
        self.0 += ".fi\n";
    }

    /// A term and its text.
    pub(super) fn item(&mut self, term: &str, text: &str) {
        self.0 += &format!(".TP\n{}\n", inline(term));
        self.lines(text);
    }

    /// An entry of a list with dots.
    pub(super) fn bullet(&mut self, text: &str) {
        self.0 += ".IP \\(bu 2\n";
        self.lines(text);
    }

    /// The page's text.
    pub(super) fn end(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_a_request() {
        assert_eq!(escape(".so x\n'quoted\na-b\\c"), "\\&.so x\n\\&'quoted\na\\-b\\ec");
        assert_eq!(inline("`.x` and **a-b**, `-t`"), "\\fB\\&.x\\fR and \\fBa\\-b\\fR, \\fB\\-t\\fR");
        let mut page = Page::new("x", 1, "y");
        page.text("a\n  .so b\n'c");
        let requests: Vec<&str> = page.0.lines().filter(|l| l.starts_with(['.', '\''])).collect();
        assert_eq!(requests[3..], [".SH \"NAME\"", ".PP"]);
        assert!(page.end().ends_with("a\n\\&.so b\n\\&'c\n"));
    }
}
