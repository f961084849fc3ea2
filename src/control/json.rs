//! JSON text (RFC 8259): a writer of one object on one line. Whatever the strings hold, the line is valid JSON and has
//! no line break inside.

use std::fmt::{Display, Write};

/// An object that is being written.
pub(super) struct Object(String);

impl Object {
    /// An object without members.
    pub(super) fn new() -> Object {
        Object("{".to_owned())
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        string(&mut self.0, key);
        self.0.push(':');
    }

    /// Adds a string.
    pub(super) fn text(mut self, key: &str, value: &str) -> Object {
        self.key(key);
        string(&mut self.0, value);
        self
    }

    /// Adds a number, `true` or `false`.
    pub(super) fn plain(mut self, key: &str, value: impl Display) -> Object {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// Adds an object.
    pub(super) fn object(self, key: &str, value: Object) -> Object {
        let text = value.end();
        self.plain(key, text)
    }

    /// Adds an array of objects.
    pub(super) fn array(self, key: &str, values: impl Iterator<Item = Object>) -> Object {
        let all: Vec<String> = values.map(Object::end).collect();
        self.plain(key, format_args!("[{}]", all.join(",")))
    }

    /// The text.
    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Appends a string in quotes. Control characters are escaped.
fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_line_whatever_its_strings_hold() {
        let inner = Object::new().plain("n", -1).plain("yes", true);
        let object = Object::new().text("a\"b", "c\\d\n\u{1}é").object("o", inner);
        let text = object.array("l", [Object::new(), Object::new().plain("x", 1)].into_iter()).end();
        assert_eq!(text, r#"{"a\"b":"c\\d\u000a\u0001é","o":{"n":-1,"yes":true},"l":[{},{"x":1}]}"#);
    }
}
