//! libusersock(3), from include/usersock.h: what its comments say of each call.

use super::roff::Page;

/// A call: its name, declaration, and comment.
struct Call<'a> {
    name: &'a str,
    declaration: &'a str,
    comment: Vec<&'a str>,
}

/// The calls of a header of cbindgen's: a comment, then a declaration that ends in `);`.
fn calls(header: &str) -> Vec<Call<'_>> {
    let after = header.split_once("extern \"C\" {").map_or(header, |(_, rest)| rest);
    let blocks = after.split("\n/*\n").skip(1);
    let parse = |block: &'_ str| -> Option<(usize, usize)> {
        let end = block.find("\n */\n")?;
        let close = block[end..].find(");\n")? + end + 2;
        Some((end, close))
    };
    let call = |block| {
        let (end, close) = parse(block)?;
        let declaration = block[end + 5..close].trim();
        let name = declaration.split('(').next()?.rsplit([' ', '*']).next()?;
        let comment = block[..end].lines().map(str::trim).collect();
        name.starts_with("usk_").then_some(Call { name, declaration, comment })
    };
    blocks.filter_map(call).collect()
}

/// The page; `header`: the header's text.
pub(super) fn page(header: &str) -> String {
    let mut page = Page::new("libusersock", 3, "TCP sockets in user space: the C library");
    page.head("LIBRARY");
    page.text("`cc prog.c $(pkg-config --cflags --libs usersock)`");
    page.head("SYNOPSIS");
    page.bold("#include <usersock.h>");
    page.head("DESCRIPTION");
    let intro = header.split("*/").next().unwrap_or_default();
    let intro: Vec<&str> = intro.lines().map(|l| l.trim_start_matches(['/', ' ', '*'])).collect();
    let parts = intro.join("\n");
    parts.split("\n\n").filter(|part| !part.trim().is_empty()).for_each(|part| page.text(part));
    page.text("A configuration string is described in usersock(7).");
    page.head("CALLS");
    for call in calls(header) {
        page.subhead(call.name);
        page.bold(call.declaration);
        let text = call.comment.join("\n");
        match text.split_once("Requires:") {
            Some((what, requires)) => {
                page.text(what);
                page.text(&format!("Requires: {}", requires.trim_start()));
            }
            None => page.text(&text),
        }
    }
    page.head("SEE ALSO");
    page.text("usersock(1), usersock(7), socket(2), tcp(7)");
    page.end()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_call_of_the_header_is_in_the_page() {
        let header = include_str!("../../../include/usersock.h");
        let named: Vec<&str> = super::calls(header).iter().map(|c| c.name).collect();
        let declared = header.lines().filter(|l| !l.starts_with([' ', '/', '*']) && l.contains("usk_"));
        let declared: Vec<&str> = declared
            .filter_map(|l| l.split('(').next().filter(|_| l.contains('('))?.rsplit([' ', '*']).next())
            .filter(|name| name.starts_with("usk_"))
            .collect();
        assert!(declared.len() > 60, "{}", declared.len());
        let missing: Vec<_> = declared.iter().filter(|d| !named.contains(d)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
