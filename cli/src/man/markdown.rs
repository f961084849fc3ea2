//! Our own Markdown as a manual page: headings, paragraphs, lists, tables, code in fences or indented. Above:
//! usersock(7), whose source is docs/config.md.

use super::roff::Page;

/// A line's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blank,
    Title,
    Head,
    Subhead,
    Fence,
    Code,
    Row,
    Bullet,
    Text,
}

fn kind(line: &str) -> Kind {
    match line {
        "" => Kind::Blank,
        _ if line.starts_with("# ") => Kind::Title,
        _ if line.starts_with("## ") => Kind::Head,
        _ if line.starts_with("### ") => Kind::Subhead,
        _ if line.trim_start().starts_with("```") => Kind::Fence,
        _ if line.starts_with("    ") => Kind::Code,
        _ if line.starts_with('|') => Kind::Row,
        _ if line.starts_with("- ") => Kind::Bullet,
        _ => Kind::Text,
    }
}

/// The words of a link, with its target if that is outside.
fn links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((words, target)) = after.split_once("](") else { break };
        let Some((target, after)) = target.split_once(')') else { break };
        out += before;
        out += words;
        if target.starts_with("http") {
            out += &format!(" <{target}>");
        }
        rest = after;
    }
    out + rest
}

/// Appends a document's text, its title left out. Tables become lists of terms: the first column is the term.
pub(super) fn append(page: &mut Page, text: &str) {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let kind_here = kind(line);
        at += 1;
        match kind_here {
            Kind::Blank | Kind::Title => {}
            Kind::Head => page.head(&line[3..].to_uppercase()),
            Kind::Subhead => page.subhead(&line[4..]),
            Kind::Fence => {
                let code: Vec<&str> = lines[at..].iter().copied().take_while(|l| kind(l) != Kind::Fence).collect();
                at += code.len() + 1;
                page.verbatim(&code.join("\n"));
            }
            Kind::Code => {
                // Blank lines belong to it while code follows.
                let more = lines[at..].iter().take_while(|l| matches!(kind(l), Kind::Code | Kind::Blank)).count();
                let block = &lines[at - 1..at + more];
                at += more;
                let text: Vec<&str> = block.iter().map(|l| l.get(4..).unwrap_or("")).collect();
                page.verbatim(text.join("\n").trim_end());
            }
            Kind::Row => row(page, line, kind(lines.get(at.wrapping_sub(2)).unwrap_or(&""))),
            Kind::Bullet | Kind::Text => {
                let more = lines[at..].iter().take_while(|l| {
                    kind(l) == Kind::Text
                        || kind_here == Kind::Bullet && l.starts_with("  ") && !l.starts_with("      ")
                });
                let more = more.count();
                let whole = lines[at - 1..at + more].iter().map(|l| l.trim()).collect::<Vec<_>>().join("\n");
                at += more;
                match kind_here {
                    Kind::Bullet => page.bullet(&links(whole.trim_start_matches("- "))),
                    _ => page.text(&links(&whole)),
                }
            }
        }
    }
}

/// A row of a table; the first one has the headings, the second is a rule.
fn row(page: &mut Page, line: &str, before: Kind) {
    if before != Kind::Row || line.starts_with("|---") {
        return;
    }
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    if let [term, rest @ ..] = &cells[..] {
        let text = match rest {
            [what, without] => format!("{what}.\nWithout it: {without}."),
            rest => rest.join("\n") + ".",
        };
        page.item(term, &links(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_becomes_its_macro() {
        let text = "# Title\n\nA [link](x.md) and\n`code`.\n\n## Keys\n\n| key | value | without |\n|---|---|---|\n\
                    | `a=N` | one | two |\n\n    indented\n\n    more\n\n### Sub\n\n- point\n  goes on\n- next\n\n\
                    ```sh\n.so x\n```\n";
        let mut page = Page::new("x", 7, "y");
        append(&mut page, text);
        let page = page.end();
        let (_, body) = page.split_once("y\n").unwrap();
        assert_eq!(
            body,
            ".PP\nA link and\n\\fBcode\\fR.\n.SH \"KEYS\"\n.TP\n\\fBa=N\\fR\none.\nWithout it: two.\n.PP\n.RS 4\n.nf\n\
             indented\n\nmore\n.fi\n.RE\n.SS \"Sub\"\n.IP \\(bu 2\npoint\ngoes on\n.IP \\(bu 2\nnext\n.PP\n.RS 4\n.nf\n\
             \\&.so x\n.fi\n.RE\n"
        );
    }
}
