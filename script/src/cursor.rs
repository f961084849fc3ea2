//! Characters of a script with their positions: blanks, comments, words, numbers, strings. Below `parser` and its
//! siblings. Which characters belong together depends on where one stands (`1:1001` is a sequence range in a packet and
//! half an IPv6 address in an option), so there is no token stream: each grammar rule asks the cursor for what it
//! expects.
use std::fmt;

/// A place in a script; both count from 1. Columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a text is not a script, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Where reading stopped.
    pub pos: Pos,
    /// What was wrong there.
    pub message: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pos, self.message)
    }
}

impl std::error::Error for ScriptError {}

/// Result of reading a part of a script.
pub(crate) type Read<T> = Result<T, ScriptError>;

/// A number as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Digits, or `0x` and hexadecimal digits.
    Int(i64),
    /// Digits with a point, kept in millionths.
    Millionths(i64),
}

/// A reading position in a script's text.
#[derive(Clone)]
pub(crate) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    column: u32,
}

impl<'t> Cursor<'t> {
    /// At the start of `text`, which stands at `pos` of the script.
    pub fn new(text: &'t str, pos: Pos) -> Self {
        Cursor { text, at: 0, line: pos.line, column: pos.column }
    }

    /// Where the cursor stands.
    pub fn pos(&self) -> Pos {
        Pos { line: self.line, column: self.column }
    }

    /// An error here.
    pub fn error<T>(&self, message: impl Into<String>) -> Read<T> {
        Err(ScriptError { pos: self.pos(), message: message.into() })
    }

    /// An error that says what was expected, and what is there.
    pub fn expected<T>(&self, what: &str) -> Read<T> {
        let found: String = self.rest().lines().next().unwrap_or("").chars().take(24).collect();
        if self.at == self.text.len() {
            self.error(format!("expected {what}, found the end of the script"))
        } else {
            self.error(format!("expected {what}, found `{found}`"))
        }
    }

    /// What is left.
    pub fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The next character, not taken.
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes one character.
    pub fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    /// Takes `count` bytes, which must end at a character boundary.
    fn take(&mut self, count: usize) -> &'t str {
        let taken = &self.rest()[..count];
        for _ in taken.chars() {
            self.bump();
        }
        taken
    }

    /// Takes characters while `keep` holds.
    pub fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let count = self.rest().find(|c| !keep(c)).unwrap_or(self.rest().len());
        self.take(count)
    }

    /// Passes blanks, line ends and comments (`//` and `/* */`). A comment without an end is an error.
    pub fn skip(&mut self) -> Read<()> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                match self.rest()[2..].find("*/") {
                    Some(end) => _ = self.take(end + 4),
                    None => return self.error("comment without an end"),
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Passes blanks and takes `symbol` if it is next.
    pub fn eat(&mut self, symbol: &str) -> Read<bool> {
        self.skip()?;
        let found = self.rest().starts_with(symbol);
        if found {
            self.take(symbol.len());
        }
        Ok(found)
    }

    /// Passes blanks and takes `symbol`, or fails.
    pub fn expect(&mut self, symbol: &str) -> Read<()> {
        if self.eat(symbol)? { Ok(()) } else { self.expected(&format!("`{symbol}`")) }
    }

    /// Whether the text is at its end but for blanks and comments.
    pub fn at_end(&mut self) -> Read<bool> {
        self.skip()?;
        Ok(self.rest().is_empty())
    }

    /// The word that is next (letters, digits, underscores), not taken; empty if none.
    pub fn peek_word(&mut self) -> Read<&'t str> {
        self.skip()?;
        let rest = self.rest();
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        Ok(&rest[..end])
    }

    /// Takes `word` if it is the next whole word.
    pub fn eat_word(&mut self, word: &str) -> Read<bool> {
        let found = self.peek_word()? == word;
        if found {
            self.take(word.len());
        }
        Ok(found)
    }

    /// Takes a word.
    pub fn word(&mut self, what: &str) -> Read<&'t str> {
        let word = self.peek_word()?;
        if word.is_empty() {
            return self.expected(what);
        }
        Ok(self.take(word.len()))
    }

    /// Whether a number is next: a digit, or a sign or point followed by a digit.
    pub fn at_number(&mut self) -> Read<bool> {
        self.skip()?;
        let rest = self.rest().strip_prefix('-').unwrap_or(self.rest());
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        Ok(rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// Takes a number. `0...0.2` is `0`, `...`, `0.2`: a point belongs to a number only if a digit follows it.
    pub fn number(&mut self, what: &str) -> Read<Number> {
        if !self.at_number()? {
            return self.expected(what);
        }
        let negative = self.eat("-")?;
        let sign = if negative { -1 } else { 1 };
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.take(2);
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return match u64::from_str_radix(digits, 16) {
                Ok(value) => Ok(Number::Int(sign * value as i64)),
                Err(_) => self.error("a hexadecimal number of 1 to 16 digits was expected"),
            };
        }
        let whole = self.take_while(|c| c.is_ascii_digit());
        let mut after = self.rest().chars();
        let fraction = (after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit())).then(|| {
            self.take(1);
            self.take_while(|c| c.is_ascii_digit())
        });
        let value: i64 = match if whole.is_empty() { Ok(0) } else { whole.parse() } {
            Ok(value) => value,
            Err(_) => return self.error(format!("number {whole} is out of range")),
        };
        let Some(fraction) = fraction else { return Ok(Number::Int(sign * value)) };
        let millionths =
            fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |sum, d| sum * 10 + i64::from(d - b'0'));
        match value.checked_mul(1_000_000).and_then(|v| v.checked_add(millionths)) {
            Some(value) => Ok(Number::Millionths(sign * value)),
            None => self.error(format!("number {whole} is out of range")),
        }
    }

    /// Takes a whole number between `low` and `high`.
    pub fn integer(&mut self, what: &str, low: i64, high: i64) -> Read<i64> {
        self.skip()?;
        let start = self.clone();
        match self.number(what)? {
            Number::Int(value) if (low..=high).contains(&value) => Ok(value),
            Number::Int(value) => start.error(format!("{what} {value} is not between {low} and {high}")),
            Number::Millionths(_) => start.error(format!("{what} is to be a whole number")),
        }
    }

    /// Takes a number of seconds, as microseconds; below zero is an error.
    pub fn seconds(&mut self) -> Read<i64> {
        self.skip()?;
        let start = self.clone();
        let micros = match self.number("a time in seconds")? {
            Number::Int(value) => value.checked_mul(1_000_000),
            Number::Millionths(value) => Some(value),
        };
        match micros {
            Some(value) if value >= 0 => Ok(value),
            _ => start.error("a time is not below zero, nor beyond 64 bits"),
        }
    }

    /// Takes what stands between `quote` and the next one that no backslash precedes.
    pub fn quoted(&mut self, quote: char) -> Read<&'t str> {
        let start = self.clone();
        if self.peek() != Some(quote) {
            return self.expected(&format!("`{quote}`"));
        }
        self.bump();
        let text = self.rest();
        let from = self.at;
        while let Some(c) = self.peek() {
            if c == quote {
                let inner = &text[..self.at - from];
                self.bump();
                return Ok(inner);
            }
            self.bump();
            if c == '\\' {
                self.bump();
            }
        }
        start.error(format!("no closing {quote}"))
    }

    /// Takes what stands before `end`, and `end`.
    pub fn until(&mut self, end: &str) -> Read<&'t str> {
        match self.rest().find(end) {
            Some(count) => {
                let inner = self.take(count);
                self.take(end.len());
                Ok(inner)
            }
            None => self.error(format!("no closing {end}")),
        }
    }
}

/// Whether a character belongs to a word.
pub(crate) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
