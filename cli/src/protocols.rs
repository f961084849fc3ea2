//! `usersock protocols`: the protocols of a stack, as /proc/net/protocols shows the kernel's.

use crate::{Failure, On, out};
use std::io::Write;
use usersock::sock::proto::Listing;

/// Prints a line for each, below a line that names the columns.
pub fn run(on: &On) -> Result<(), Failure> {
    let stack = on.stack()?;
    let mut lines = vec![line(&COLUMNS.map(str::to_owned))];
    lines.extend(stack.registry.list().iter().map(|l| line(&cells(l))));
    out::print(|out| lines.iter().try_for_each(|text| writeln!(out, "{text}")))
}

/// Bytes, but for `memory`: pages of 4096.
const COLUMNS: [&str; 11] =
    ["protocol", "size", "sockets", "memory", "press", "maxhdr", "slab", "timewait", "request", "module", "socket"];

fn cells(l: &Listing) -> [String; 11] {
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    [
        l.name.clone(),
        l.obj_size.to_string(),
        l.sockets.to_string(),
        l.pages.to_string(),
        yes(l.pressure),
        l.max_header.to_string(),
        format!("{:#x}", l.slab_flags),
        l.timewait_size.to_string(),
        l.request_size.to_string(),
        yes(l.plugin),
        l.keys.iter().map(|&(family, ty, protocol)| socket(family, ty, protocol)).collect::<Vec<_>>().join(" "),
    ]
}

/// As ipv4/stream:6.
fn socket(family: i32, ty: i32, protocol: i32) -> String {
    let family = if family == libc::AF_INET { "ipv4" } else { "ipv6" };
    match ty {
        libc::SOCK_STREAM => format!("{family}/stream:{protocol}"),
        libc::SOCK_DGRAM => format!("{family}/dgram:{protocol}"),
        libc::SOCK_RAW => format!("{family}/raw:{protocol}"),
        libc::SOCK_SEQPACKET => format!("{family}/seqpacket:{protocol}"),
        _ => format!("{family}/{ty}:{protocol}"),
    }
}

fn line(cells: &[String; 11]) -> String {
    let [name, numbers @ .., socket] = cells;
    let middle: String = numbers.iter().map(|cell| format!(" {cell:>8}")).collect();
    format!("{name:<10}{middle}  {socket}")
}
