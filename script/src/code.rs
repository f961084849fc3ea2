//! The assertions between `%{` and `}%`. Above: `parser` reads a block, the runner evaluates it over the fields of
//! `tcp_info`.
//!
//! packetdrill hands such blocks to Python. Scripts need only a small part of it, which is implemented here with
//! Python's semantics: `assert condition, message`, `print(...)`, `name = value` and `name += value` (also `-=`, `*=`),
//! comparisons and chains of them (`1 <= x <= 3`), `and or not`, `+ - * // %`, `& | ^ ~ << >>`, parentheses, whole
//! numbers, strings and `'..%d..' % values`. Names assigned in one block are known in the later ones. Anything else is
//! an error of the script, at its line and column.
use crate::cursor::{Cursor, Number, Pos, Read, ScriptError, is_word};
use std::collections::HashMap;

/// A block of statements.
#[derive(Clone, Debug, PartialEq)]
pub struct Code(Vec<Statement>);

#[derive(Clone, Debug, PartialEq)]
enum Statement {
    Assert { pos: Pos, condition: Term, text: String, message: Option<Term> },
    Print(Vec<Term>),
    Set { name: String, value: Term },
}

/// A term; every one remembers where it stands, for errors found only on evaluation.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    pos: Pos,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Int(i128),
    Text(String),
    Name(String),
    Tuple(Vec<Term>),
    Unary(&'static str, Box<Term>),
    Binary(&'static str, Box<Term>, Box<Term>),
    Chain(Box<Term>, Vec<(&'static str, Term)>),
}

/// A value of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number; truth values are 0 and 1.
    Int(i128),
    /// A text.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Int(value) => value.fmt(f),
            Value::Text(text) => text.fmt(f),
        }
    }
}

/// Names and what they stand for: `tcp_info`'s fields, constants, and what blocks have assigned.
pub type Names = HashMap<String, i128>;

/// How deep terms may nest, so that a hostile text cannot exhaust the stack.
const MAX_DEPTH: u32 = 64;
/// How many operators one statement may have, for the same reason.
const MAX_OPERATORS: u32 = 250;

/// Operators of two operands, weakest first; each row binds tighter than the one before. Comparisons and `not` stand
/// between `and` and `|` and are read by rules of their own.
const LEVELS: [&[&str]; 6] = [&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "//", "%"]];
const COMPARISONS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];

impl Code {
    /// Reads a block that stands at `pos` of its script.
    pub fn parse(text: &str, pos: Pos) -> Result<Code, ScriptError> {
        let mut reader = Reader { cursor: Cursor::new(text, pos), depth: 0, operators: 0 };
        let mut statements = Vec::new();
        loop {
            reader.blank(true)?;
            while reader.cursor.peek() == Some(';') {
                reader.cursor.bump();
                reader.blank(true)?;
            }
            if reader.cursor.rest().is_empty() {
                return Ok(Code(statements));
            }
            reader.operators = 0;
            statements.push(reader.statement()?);
            reader.blank(false)?;
            if !matches!(reader.cursor.peek(), None | Some('\n' | ';')) {
                return reader.cursor.expected("the end of the statement");
            }
        }
    }

    /// Runs the block. `names` are read and, by assignments, written. Gives what `print` printed, or the first
    /// assertion that does not hold (or cannot be evaluated) with its place.
    pub fn run(&self, names: &mut Names) -> Result<Vec<String>, ScriptError> {
        let mut printed = Vec::new();
        for statement in &self.0 {
            match statement {
                Statement::Assert { pos, condition, text, message } => {
                    if truth(&condition.value(names)?) {
                        continue;
                    }
                    let mut why = format!("assertion failed: {text}");
                    if let Some(message) = message {
                        why += &format!(": {}", message.value(names)?);
                    }
                    return Err(ScriptError { pos: *pos, message: why });
                }
                Statement::Print(terms) => {
                    let values: Result<Vec<String>, _> =
                        terms.iter().map(|t| Ok(t.value(names)?.to_string())).collect();
                    printed.push(values?.join(" "));
                }
                Statement::Set { name, value } => match value.value(names)? {
                    Value::Int(number) => _ = names.insert(name.clone(), number),
                    Value::Text(_) => {
                        return Err(ScriptError { pos: value.pos, message: "a name stands for a number".into() });
                    }
                },
            }
        }
        Ok(printed)
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Int(value) => *value != 0,
        Value::Text(text) => !text.is_empty(),
    }
}

struct Reader<'t> {
    cursor: Cursor<'t>,
    /// How many parentheses and operators are open.
    depth: u32,
    /// Operators seen in this statement: a long sum is a deep tree too.
    operators: u32,
}

impl Reader<'_> {
    /// Passes blanks, continued lines (a backslash at the end) and, with `lines` or inside parentheses, line ends; and
    /// comments.
    fn blank(&mut self, lines: bool) -> Read<()> {
        loop {
            self.cursor.take_while(|c| c.is_whitespace() && (lines || c != '\n'));
            if self.cursor.peek() == Some('#') {
                self.cursor.take_while(|c| c != '\n');
            } else if self.cursor.rest().starts_with("\\\n") {
                self.cursor.bump();
                self.cursor.bump();
            } else {
                return Ok(());
            }
        }
    }

    fn eat(&mut self, symbol: &str) -> Read<bool> {
        self.blank(false)?;
        let found = self.cursor.rest().starts_with(symbol);
        if found {
            for _ in symbol.chars() {
                self.cursor.bump();
            }
        }
        Ok(found)
    }

    fn eat_word(&mut self, word: &str) -> Read<bool> {
        self.blank(false)?;
        let after = self.cursor.rest().strip_prefix(word);
        if after.is_some_and(|rest| !rest.starts_with(is_word)) { self.eat(word) } else { Ok(false) }
    }

    fn statement(&mut self) -> Read<Statement> {
        let pos = self.cursor.pos();
        if self.eat_word("assert")? {
            self.blank(false)?;
            let from = self.cursor.rest();
            let condition = self.term()?;
            let text = from[..from.len() - self.cursor.rest().len()].trim().to_owned();
            let message = if self.eat(",")? { Some(self.term()?) } else { None };
            return Ok(Statement::Assert { pos, condition, text, message });
        }
        if self.eat_word("print")? {
            if !self.eat("(")? {
                return self.cursor.expected("`(`");
            }
            return Ok(Statement::Print(self.terms_until_close()?));
        }
        let name = self.cursor.take_while(is_word).to_owned();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return self.cursor.expected("assert, print or an assignment");
        }
        self.blank(false)?;
        for (symbol, op) in [("+=", "+"), ("-=", "-"), ("*=", "*")] {
            if self.eat(symbol)? {
                let left = Term { pos, kind: Kind::Name(name.clone()) };
                let value = self.term()?;
                let value = Term { pos, kind: Kind::Binary(op, Box::new(left), Box::new(value)) };
                return Ok(Statement::Set { name, value });
            }
        }
        if self.cursor.rest().starts_with('=') && !self.cursor.rest().starts_with("==") {
            self.cursor.bump();
            return Ok(Statement::Set { name, value: self.term()? });
        }
        Err(ScriptError { pos, message: format!("`{name}` opens no statement: assert, print or an assignment") })
    }

    fn terms_until_close(&mut self) -> Read<Vec<Term>> {
        let mut terms = Vec::new();
        self.blank(true)?;
        while !self.eat(")")? {
            if !terms.is_empty() && !self.eat(",")? {
                return self.cursor.expected("`,` or `)`");
            }
            self.blank(true)?;
            terms.push(self.term()?);
            self.blank(true)?;
        }
        Ok(terms)
    }

    fn term(&mut self) -> Read<Term> {
        self.deeper(|r| r.logic("or", |r| r.logic("and", Reader::negation)))
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Read<Term>) -> Read<Term> {
        self.depth += 1;
        let term = if self.depth > MAX_DEPTH { self.cursor.error("nested too deep") } else { read(self) };
        self.depth -= 1;
        term
    }

    fn count_operator(&mut self) -> Read<()> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS { self.cursor.error("too many operators in one statement") } else { Ok(()) }
    }

    fn logic(&mut self, op: &'static str, operand: impl Fn(&mut Self) -> Read<Term>) -> Read<Term> {
        let mut left = operand(self)?;
        while self.eat_word(op)? {
            self.count_operator()?;
            left = Term { pos: left.pos, kind: Kind::Binary(op, Box::new(left), Box::new(operand(self)?)) };
        }
        Ok(left)
    }

    fn negation(&mut self) -> Read<Term> {
        self.blank(false)?;
        let pos = self.cursor.pos();
        if self.eat_word("not")? {
            let inner = self.deeper(Reader::negation)?;
            return Ok(Term { pos, kind: Kind::Unary("not", Box::new(inner)) });
        }
        let first = self.level(0)?;
        let mut rest = Vec::new();
        while let Some(op) = self.operator(&COMPARISONS)? {
            rest.push((op, self.level(0)?));
        }
        Ok(if rest.is_empty() { first } else { Term { pos, kind: Kind::Chain(Box::new(first), rest) } })
    }

    /// Takes one of `ops`, unless the text is a longer operator, or an assignment, that begins with it.
    fn operator(&mut self, ops: &[&'static str]) -> Read<Option<&'static str>> {
        self.blank(false)?;
        // Longest first, so that `<` is not seen in `<<` or `<=`, nor `|` in `|=`.
        let rest = self.cursor.rest();
        let all = ["<<", ">>", "==", "!=", "<=", ">=", "//", "|", "^", "&", "+", "-", "*", "%", "<", ">"];
        let found = all.into_iter().find(|op| rest.starts_with(op));
        if let Some(op) = found.filter(|op| ops.contains(op)) {
            self.eat(op)?;
            self.count_operator()?;
            return Ok(Some(op));
        }
        Ok(None)
    }

    fn level(&mut self, level: usize) -> Read<Term> {
        let Some(ops) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        while let Some(op) = self.operator(ops)? {
            let right = self.level(level + 1)?;
            left = Term { pos: left.pos, kind: Kind::Binary(op, Box::new(left), Box::new(right)) };
        }
        if self.cursor.rest().starts_with('/') && !self.cursor.rest().starts_with("//") {
            return self.cursor.error("`/` is not understood; `//` divides whole numbers");
        }
        Ok(left)
    }

    fn unary(&mut self) -> Read<Term> {
        self.blank(false)?;
        let pos = self.cursor.pos();
        for op in ["-", "~", "+"] {
            if self.eat(op)? {
                let inner = self.deeper(Reader::unary)?;
                return Ok(Term { pos, kind: Kind::Unary(op, Box::new(inner)) });
            }
        }
        match self.cursor.peek() {
            Some(quote @ ('\'' | '"')) => Ok(Term { pos, kind: Kind::Text(self.cursor.quoted(quote)?.to_owned()) }),
            Some('(') => {
                self.cursor.bump();
                let mut terms = self.terms_until_close()?;
                match terms.len() {
                    1 => Ok(terms.remove(0)),
                    _ => Ok(Term { pos, kind: Kind::Tuple(terms) }),
                }
            }
            Some(c) if c.is_ascii_digit() => match self.cursor.number("a number")? {
                Number::Int(value) => Ok(Term { pos, kind: Kind::Int(value.into()) }),
                Number::Millionths(_) => self.cursor.error("only whole numbers are understood"),
            },
            Some(c) if is_word(c) => {
                let name = self.cursor.take_while(is_word).to_owned();
                match name.as_str() {
                    "True" => Ok(Term { pos, kind: Kind::Int(1) }),
                    "False" => Ok(Term { pos, kind: Kind::Int(0) }),
                    _ if self.cursor.peek() == Some('(') => self.cursor.error(format!("no function {name} is known")),
                    _ => Ok(Term { pos, kind: Kind::Name(name) }),
                }
            }
            _ => self.cursor.expected("a value"),
        }
    }
}

impl Term {
    fn fail<T>(&self, message: impl Into<String>) -> Read<T> {
        Err(ScriptError { pos: self.pos, message: message.into() })
    }

    fn int(&self, names: &Names) -> Read<i128> {
        match self.value(names)? {
            Value::Int(value) => Ok(value),
            Value::Text(_) => self.fail("a number was expected, not a text"),
        }
    }

    fn value(&self, names: &Names) -> Read<Value> {
        Ok(Value::Int(match &self.kind {
            Kind::Int(value) => *value,
            Kind::Text(text) => return Ok(Value::Text(text.clone())),
            Kind::Name(name) => match names.get(name) {
                Some(value) => *value,
                None => return self.fail(format!("no name {name} is known")),
            },
            Kind::Tuple(_) => return self.fail("a list of values stands only after `%`"),
            Kind::Unary("not", inner) => i128::from(!truth(&inner.value(names)?)),
            Kind::Unary("~", inner) => !inner.int(names)?,
            Kind::Unary("+", inner) => inner.int(names)?,
            Kind::Unary(_, inner) => match inner.int(names)?.checked_neg() {
                Some(value) => value,
                None => return self.fail("out of range"),
            },
            Kind::Chain(first, rest) => {
                let mut left = first.value(names)?;
                for (op, term) in rest {
                    let right = term.value(names)?;
                    if !self.compare(op, &left, &right)? {
                        return Ok(Value::Int(0));
                    }
                    left = right;
                }
                1
            }
            Kind::Binary("and", a, b) => {
                let left = a.value(names)?;
                return if truth(&left) { b.value(names) } else { Ok(left) };
            }
            Kind::Binary("or", a, b) => {
                let left = a.value(names)?;
                return if truth(&left) { Ok(left) } else { b.value(names) };
            }
            Kind::Binary("%", a, b) => match a.value(names)? {
                Value::Text(format) => return self.format(&format, b, names).map(Value::Text),
                Value::Int(left) => self.arithmetic("%", left, b.int(names)?)?,
            },
            Kind::Binary(op, a, b) => self.arithmetic(op, a.int(names)?, b.int(names)?)?,
        }))
    }

    fn compare(&self, op: &str, left: &Value, right: &Value) -> Read<bool> {
        let order = match (left, right) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            _ if op == "==" => return Ok(false),
            _ if op == "!=" => return Ok(true),
            _ => return self.fail("a number and a text have no order"),
        };
        Ok(match op {
            "==" => order.is_eq(),
            "!=" => order.is_ne(),
            "<=" => order.is_le(),
            ">=" => order.is_ge(),
            "<" => order.is_lt(),
            _ => order.is_gt(),
        })
    }

    fn arithmetic(&self, op: &str, a: i128, b: i128) -> Read<i128> {
        let shift = || u32::try_from(b).ok().filter(|&b| b < 127);
        let result = match op {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            // Python rounds towards minus infinity, and a remainder has the sign of the divisor.
            "//" => a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
            "%" => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            "<<" => shift().and_then(|b| a.checked_mul(1 << b)),
            ">>" => shift().map(|b| a >> b),
            "&" => Some(a & b),
            "|" => Some(a | b),
            _ => Some(a ^ b),
        };
        match result {
            Some(value) => Ok(value),
            None => self.fail(format!("{a} {op} {b} has no value")),
        }
    }

    /// `'..%d..' % value` or `% (values)`.
    fn format(&self, format: &str, values: &Term, names: &Names) -> Read<String> {
        let mut values = match &values.kind {
            Kind::Tuple(terms) => terms.iter(),
            _ => std::slice::from_ref(values).iter(),
        };
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let conversion = chars.next();
            if conversion == Some('%') {
                out.push('%');
                continue;
            }
            let Some(value) = values.next() else { return self.fail("the format asks for more values than are given") };
            match conversion {
                Some('d' | 'u' | 'i') => out += &value.int(names)?.to_string(),
                Some('x') => out += &format!("{:x}", value.int(names)?),
                Some('s') => out += &value.value(names)?.to_string(),
                _ => return self.fail("the format knows %d, %u, %x, %s and %%"),
            }
        }
        if values.next().is_some() { self.fail("the format asks for fewer values than are given") } else { Ok(out) }
    }
}
