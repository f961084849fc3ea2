//! Events and their times. Above: [`parse`], the one entry. Below: `packets`, `expr` and `code` for what happens in an
//! event.
use crate::ast::{Action, Command, Direction, Event, Micros, Script, ScriptOption, SystemCall, When};
use crate::code::Code;
use crate::cursor::{Cursor, Pos, Read, ScriptError, is_word};
use crate::defines::Defines;

/// Reads a script. `defines` are names given from outside, as by packetdrill's `-D`; the script's own `--define` lines
/// come after them. Total: any text gives a script, or the place and reason why it is none.
pub fn parse(text: &str, defines: &[(&str, &str)]) -> Result<Script, ScriptError> {
    let mut cursor = Cursor::new(text, Pos { line: 1, column: 1 });
    let mut script = Script::default();
    let mut names = Defines::default();
    defines.iter().for_each(|(name, value)| names.add(name, value));
    while cursor.eat("--")? {
        let option = option(&mut cursor)?;
        if let ("define", Some(value)) = (option.name.as_str(), &option.value) {
            match value.split_once('=') {
                Some((name, value)) => names.add(name, value),
                None => {
                    return Err(ScriptError { pos: option.pos, message: "--define=NAME=value has no value".into() });
                }
            }
        }
        script.options.push(option);
    }
    if let Some(command) = untimed_command(&mut cursor, &names)? {
        script.init = Some(command);
    }
    while !cursor.at_end()? {
        let pos = cursor.pos();
        if let Some(command) = untimed_command(&mut cursor, &names)? {
            if !cursor.at_end()? {
                return Err(ScriptError { pos, message: "a command between events has a time before it".into() });
            }
            script.cleanup = Some(command);
            break;
        }
        let event = event(&mut cursor, &names)?;
        script.events.push(event);
    }
    Ok(script)
}

/// `name=value` or `name`, after the dashes. A value is one word of any characters, a text in quotes, or `NAME=` and
/// either.
fn option(cursor: &mut Cursor<'_>) -> Read<ScriptOption> {
    let pos = cursor.pos();
    let name = cursor.word("the name of an option")?.to_owned();
    let mut value = None;
    if cursor.rest().starts_with('=') {
        cursor.bump();
        value = Some(match cursor.peek() {
            Some('"') => cursor.quoted('"')?.to_owned(),
            _ => {
                let start = cursor.take_while(|c| !c.is_whitespace() && c != '"' && c != '`').to_owned();
                match cursor.peek() {
                    Some(quote @ ('"' | '`')) => format!("{start}{quote}{}{quote}", cursor.quoted(quote)?),
                    _ => start,
                }
            }
        });
        if value.as_deref() == Some("") {
            return cursor.expected("the value of the option");
        }
    }
    Ok(ScriptOption { pos, name, value })
}

/// A backtick command, or a word defined as one, if that is next.
fn untimed_command(cursor: &mut Cursor<'_>, names: &Defines) -> Read<Option<Command>> {
    cursor.skip()?;
    let pos = cursor.pos();
    if cursor.peek() == Some('`') {
        return Ok(Some(Command { pos, text: cursor.quoted('`')?.to_owned() }));
    }
    let word = cursor.peek_word()?;
    let command = names.get(word).and_then(|value| value.strip_prefix('`')?.strip_suffix('`'));
    if let Some(text) = command {
        cursor.word("a command")?;
        return Ok(Some(Command { pos, text: text.to_owned() }));
    }
    Ok(None)
}

/// One event: a time, then what happens. A packet without a time leaves or arrives at once after the event before it.
fn event(cursor: &mut Cursor<'_>, names: &Defines) -> Read<Event> {
    let pos = cursor.pos();
    let mut end = None;
    let when = if cursor.eat("*")? {
        When::Any
    } else if cursor.eat("+")? {
        let start = cursor.seconds()?;
        if cursor.eat("~")? {
            cursor.expect("+")?;
            When::RelativeRange(start, cursor.seconds()?)
        } else {
            end = end_time(cursor)?;
            When::Relative(start)
        }
    } else if cursor.at_number()? {
        let start = cursor.seconds()?;
        if cursor.eat("~")? {
            When::AbsoluteRange(start, cursor.seconds()?)
        } else {
            end = end_time(cursor)?;
            When::Absolute(start)
        }
    } else if matches!(cursor.peek(), Some('<' | '>')) {
        When::Relative(0)
    } else {
        return cursor.expected("the time of an event");
    };
    match when {
        When::RelativeRange(a, b) | When::AbsoluteRange(a, b) if b < a => {
            return Err(ScriptError { pos, message: "the range of times ends before it starts".into() });
        }
        When::Relative(start) | When::Absolute(start) if end.is_some_and(|end| end < start) => {
            return Err(ScriptError { pos, message: "the call ends before it starts".into() });
        }
        _ => {}
    }
    let action = action(cursor, names, end)?;
    let outbound = matches!(&action, Action::Packet(packet) if packet.direction == Direction::Outbound);
    if !outbound && !matches!(when, When::Relative(_) | When::Absolute(_)) {
        return Err(ScriptError { pos, message: "only an outbound packet can have a range of times, or `*`".into() });
    }
    if end.is_some() && !matches!(action, Action::Call(_)) {
        return Err(ScriptError { pos, message: "only a system call has an end".into() });
    }
    Ok(Event { pos, when, action })
}

/// `...` and the time at which a blocking call returns.
fn end_time(cursor: &mut Cursor<'_>) -> Read<Option<Micros>> {
    if cursor.eat("...")? {
        cursor.eat("+")?;
        return cursor.seconds().map(Some);
    }
    Ok(None)
}

/// What happens in an event.
fn action(cursor: &mut Cursor<'_>, names: &Defines, end: Option<Micros>) -> Read<Action> {
    cursor.skip()?;
    if cursor.eat("<")? {
        return Ok(Action::Packet(crate::packets::packet(cursor, names, Direction::Inbound)?));
    }
    if cursor.eat(">")? {
        return Ok(Action::Packet(crate::packets::packet(cursor, names, Direction::Outbound)?));
    }
    if cursor.eat("%{")? {
        let pos = cursor.pos();
        let text = cursor.until("}%")?;
        return Ok(Action::Code(Code::parse(text, pos)?));
    }
    if let Some(command) = untimed_command(cursor, names)? {
        return Ok(Action::Command(command));
    }
    if cursor.peek().is_some_and(is_word) {
        return Ok(Action::Call(system_call(cursor, names, end)?));
    }
    cursor.expected("a packet, a system call, a command or a block of code")
}

/// `name(args) = result ERRNO (note)`. Without `= result`, any result that is no error will do.
fn system_call(cursor: &mut Cursor<'_>, names: &Defines, end: Option<Micros>) -> Read<SystemCall> {
    let pos = cursor.pos();
    let name = cursor.word("the name of a system call")?.to_owned();
    cursor.expect("(")?;
    let args = crate::expr::list(cursor, names, ")")?;
    let mut call = SystemCall { pos, end, name, args, result: None, errno: None };
    if !cursor.eat("=")? {
        return Ok(call);
    }
    call.result = match crate::expr::expression(cursor, names)? {
        crate::ast::Expr::Ellipsis => None,
        value => Some(value),
    };
    let word = cursor.peek_word()?;
    if word.starts_with(|c: char| c.is_ascii_uppercase()) {
        call.errno = Some(cursor.word("an errno")?.to_owned());
    }
    if cursor.eat("(")? {
        cursor.until(")")?;
    }
    Ok(call)
}
