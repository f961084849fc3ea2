//! `usersock protocols`: the protocols of a stack, as /proc/net/protocols shows the kernel's, with the shared object
//! that each comes from; and what serves TCP's sockets in its place (TCP_STACK).

use crate::{Failure, OnOrRunning, out};
use serde_json::Value;
use std::io::Write;
use usersock::sock::registry::Listing;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock protocols
  usersock protocols --plugin ./tiny.so          # with those of a plug-in
  usersock protocols -N web                      # those of a running instance: which build of tiny.so has it?")]
pub(crate) struct Args {
    #[command(flatten)]
    stack: OnOrRunning,
}

/// Prints a line for each, below a line that names the columns.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    match args.stack.peer()? {
        Some(mut peer) => rows.extend(peer.ask("protocols")?.iter().flat_map(|(_, v)| from_json(v))),
        None => rows.extend(args.stack.on.stack()?.registry.list().iter().flat_map(cells)),
    }
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    out::print(|out| rows.iter().try_for_each(|row| writeln!(out, "{}", line(row, &widths))))
}

type Row = [String; 12];

/// Bytes, but for `memory`: pages of 4096.
const COLUMNS: [&str; 12] = [
    "protocol", "size", "sockets", "memory", "press", "maxhdr", "slab", "timewait", "request", "module", "build-id",
    "socket",
];

fn yes(b: bool) -> String {
    if b { "yes" } else { "no" }.to_owned()
}

/// `module`: "no" for a protocol of the program's own; `build_id`: "-" if it was built without one.
fn module(name: Option<&str>, build_id: &str) -> [String; 2] {
    let id = if build_id.is_empty() { "-" } else { build_id };
    [name.unwrap_or("no").to_owned(), id.to_owned()]
}

/// What serves sockets of `protocol` in its place: of its numbers only that of the sockets is its own.
fn alternative(protocol: &str, name: &str, sockets: u64) -> Row {
    let mut row: Row = std::array::from_fn(|_| "-".to_owned());
    (row[0], row[2]) = (format!("{protocol}/{name}"), sockets.to_string());
    row
}

/// A line for the protocol, and one for each alternative to it.
fn cells(l: &Listing) -> Vec<Row> {
    let others = l.alternatives.iter().map(|(name, sockets)| alternative(&l.name, name, *sockets as u64));
    std::iter::once(protocol_cells(l)).chain(others).collect()
}

fn protocol_cells(l: &Listing) -> Row {
    let (name, id) = l.module.as_ref().map_or((None, ""), |(name, id)| (Some(name.as_str()), id.as_str()));
    let [module, build_id] = module(name, id);
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
        module,
        build_id,
        l.keys.iter().map(|&(family, ty, protocol)| socket(family, ty, protocol)).collect::<Vec<_>>().join(" "),
    ]
}

/// The same of a line of the control socket.
fn from_json(v: &Value) -> Vec<Row> {
    let alternatives = v["alternatives"].as_array().map_or(&[][..], Vec::as_slice);
    let others = alternatives.iter().map(|a| {
        let name = a["name"].as_str().unwrap_or_default();
        alternative(v["protocol"].as_str().unwrap_or_default(), name, a["sockets"].as_u64().unwrap_or_default())
    });
    std::iter::once(protocol_of_json(v)).chain(others).collect()
}

fn protocol_of_json(v: &Value) -> Row {
    let text = |key: &str| v[key].as_str().unwrap_or_default();
    let number = |key: &str| v[key].as_i64().unwrap_or_default().to_string();
    let [module, build_id] = module(v["module"].as_str(), text("build_id"));
    let keys = v["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let key = |k: &Value| {
        let part = |name: &str| k[name].as_i64().unwrap_or_default() as i32;
        socket(part("family"), part("type"), part("protocol"))
    };
    [
        text("protocol").to_owned(),
        number("size"),
        number("sockets"),
        number("pages"),
        yes(v["pressure"] == true),
        number("max_header"),
        format!("{:#x}", v["slab"].as_u64().unwrap_or_default()),
        number("timewait"),
        number("request"),
        module,
        build_id,
        keys.iter().map(key).collect::<Vec<_>>().join(" "),
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

/// The name to the left, numbers to the right.
fn line(row: &Row, widths: &[usize]) -> String {
    let [name, middle @ .., socket] = row;
    let padded = middle.iter().zip(&widths[1..]).map(|(cell, width)| format!(" {cell:>width$}"));
    format!("{name:<width$}{}  {socket}", padded.collect::<String>(), width = widths[0])
}
