//! Arguments of system calls. Above: `parser`. Structures are read as they are written, name by name; `binding` in the
//! runner gives them their meaning, so that an unknown structure is an error of the call that takes it, with its name.
use crate::ast::{Expr, Field};
use crate::cursor::{Cursor, Number, Read, is_word};
use crate::defines::Defines;

/// How deep lists, structures and sums may nest. Scripts need four; the bound keeps a hostile text from exhausting the
/// stack.
const MAX_DEPTH: u32 = 32;
/// How many symbols one sum may have; a number has 64 bits.
const MAX_FLAGS: u32 = 64;

/// Expressions separated by commas, up to and including `close`.
pub(crate) fn list(cursor: &mut Cursor<'_>, names: &Defines, close: &str) -> Read<Vec<Expr>> {
    list_at(cursor, names, close, 0)
}

/// One expression.
pub(crate) fn expression(cursor: &mut Cursor<'_>, names: &Defines) -> Read<Expr> {
    sum(cursor, names, 0)
}

fn list_at(cursor: &mut Cursor<'_>, names: &Defines, close: &str, depth: u32) -> Read<Vec<Expr>> {
    let mut items = Vec::new();
    if cursor.eat(close)? {
        return Ok(items);
    }
    loop {
        items.push(sum(cursor, names, depth)?);
        if cursor.eat(close)? {
            return Ok(items);
        }
        cursor.expect(",")?;
    }
}

/// `a | b | c`, binding to the left.
fn sum(cursor: &mut Cursor<'_>, names: &Defines, depth: u32) -> Read<Expr> {
    if depth > MAX_DEPTH {
        return cursor.error("nested too deep");
    }
    let mut left = single(cursor, names, depth + 1)?;
    let mut flags = 0;
    while cursor.eat("|")? {
        flags += 1;
        if flags > MAX_FLAGS {
            return cursor.error("too many flags");
        }
        left = Expr::Or(Box::new(left), Box::new(single(cursor, names, depth + 1)?));
    }
    Ok(left)
}

fn single(cursor: &mut Cursor<'_>, names: &Defines, depth: u32) -> Read<Expr> {
    cursor.skip()?;
    match cursor.peek() {
        Some('.') if cursor.eat("...")? => Ok(Expr::Ellipsis),
        Some('"') => {
            let mut bytes = Vec::new();
            while cursor.peek() == Some('"') {
                bytes.extend(unescape(cursor)?);
                cursor.skip()?;
            }
            Ok(if cursor.eat("...")? { Expr::StrPrefix(bytes) } else { Expr::Str(bytes) })
        }
        Some('[') if cursor.eat("[")? => list_at(cursor, names, "]", depth).map(Expr::List),
        Some('{') if cursor.eat("{")? => fields(cursor, names, depth).map(Expr::Struct),
        _ if cursor.at_number()? => match cursor.number("a number")? {
            Number::Int(value) => Ok(Expr::Int(value)),
            Number::Millionths(_) => cursor.error("an argument is a whole number"),
        },
        Some(c) if is_word(c) => word(cursor, names, depth),
        _ => cursor.expected("an expression"),
    }
}

/// A symbol, `f(args)`, or `symbol = value`; a defined name is replaced by what it stands for.
fn word(cursor: &mut Cursor<'_>, names: &Defines, depth: u32) -> Read<Expr> {
    let word = cursor.word("a symbol")?;
    if cursor.eat("(")? {
        return Ok(Expr::Apply(word.to_owned(), list_at(cursor, names, ")", depth)?));
    }
    if cursor.eat("=")? {
        return Ok(Expr::Assign(word.to_owned(), Box::new(sum(cursor, names, depth + 1)?)));
    }
    let Some(value) = names.get(word) else { return Ok(Expr::Word(word.to_owned())) };
    if let Some(text) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
        return Ok(Expr::Str(text.as_bytes().to_vec()));
    }
    let mut inner = Cursor::new(value, cursor.pos());
    if inner.at_number()?
        && let Ok(Number::Int(number)) = inner.number("a number")
        && inner.rest().is_empty()
    {
        return Ok(Expr::Int(number));
    }
    Ok(Expr::Word(value.to_owned()))
}

/// Members of a structure, up to and including `}`.
fn fields(cursor: &mut Cursor<'_>, names: &Defines, depth: u32) -> Read<Vec<Field>> {
    let mut fields = Vec::new();
    if cursor.eat("}")? {
        return Ok(fields);
    }
    loop {
        fields.push(field(cursor, names, depth)?);
        if cursor.eat("}")? {
            return Ok(fields);
        }
        cursor.expect(",")?;
    }
}

/// `name = value`, `name(count) = value` or a bare value.
fn field(cursor: &mut Cursor<'_>, names: &Defines, depth: u32) -> Read<Field> {
    let mut ahead = cursor.clone();
    let name = ahead.peek_word()?;
    if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        ahead.word("a member")?;
        let count = match ahead.eat("(")? {
            true => match ahead.eat("...")? {
                true => Some(Expr::Ellipsis),
                false => Some(sum(&mut ahead, names, depth + 1)?),
            },
            false => None,
        };
        if (count.is_none() || ahead.eat(")")?) && ahead.eat("=")? {
            *cursor = ahead;
            return Ok(Field { name: Some(name.to_owned()), count, value: sum(cursor, names, depth + 1)? });
        }
    }
    Ok(Field { name: None, count: None, value: sum(cursor, names, depth + 1)? })
}

/// A string in double quotes, with C's escapes.
fn unescape(cursor: &mut Cursor<'_>) -> Read<Vec<u8>> {
    let pos = cursor.clone();
    let text = cursor.quoted('"')?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('f') => 0x0c,
            Some('v') => 0x0b,
            Some('b') => 0x08,
            Some('a') => 0x07,
            Some(c @ ('\\' | '"' | '\'' | '?')) => c as u8,
            Some('x') => {
                let mut value = None;
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(16)) {
                    value = Some((value.unwrap_or(0u32) << 4 | digit) & 0xff);
                    chars.next();
                }
                match value {
                    Some(value) => value as u8,
                    None => return pos.error("\\x without a hexadecimal digit"),
                }
            }
            Some(c) if c.is_digit(8) => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                    value = value << 3 | digit;
                    chars.next();
                }
                value as u8
            }
            _ => return pos.error("unknown escape in a string"),
        });
    }
    Ok(bytes)
}
