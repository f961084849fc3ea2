//! `src/sys` says what the headers in `include/usersock/` say: its constants, structs and calls are, word by word,
//! those of the source that the headers are written from; and a C compiler finds every
//! struct of the headers as large as it is here. In a copy of this folder alone there is nothing to compare with.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use usersock_plugin::sys::*;

fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("ffi/tests/header.rs").exists().then_some(root)
}

/// The headers for plug-ins, each with a file in `src/sys`.
const HEADERS: [&str; 8] = ["core", "proto", "over", "cong", "tcp", "ulp", "hooks", "device"];
/// Those that core.h and proto.h include, whose items are in the files of these.
const PARTS: [&str; 2] = ["sock", "ip"];

/// Their source files: HEADERS in ffi/tests/header.rs names them.
fn sources(root: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(root.join("ffi/tests/header.rs")).unwrap();
    let plugins = text
        .split("name: \"usersock/")
        .skip(1)
        .filter(|h| HEADERS.iter().chain(&PARTS).any(|name| h.starts_with(name)));
    let lists = plugins.filter_map(|h| Some(h.split_once("sources: &[")?.1.split_once(']')?.0));
    let names = lists.flat_map(|l| l.split('"').skip(1).step_by(2));
    names.map(|name| root.join(format!("ffi/src/{name}.rs"))).collect()
}

/// The C items of a file, by name: what they are, without comments, attributes and white space.
fn items(text: &str, found: &mut BTreeMap<String, String>) {
    let code: String = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with("#["))
        .map(|line| format!("{line} "))
        .collect();
    let code = code.replace("\"C-unwind\"", "\"C\"");
    for kind in ["const USK_", "struct usk_", "type usk_", "fn usk_"] {
        for (at, _) in code.match_indices(kind) {
            let rest = &code[at..];
            let until = if kind.starts_with("struct") {
                "} "
            } else if kind.starts_with("fn") {
                "{;"
            } else {
                ";"
            };
            let end = if until == "} " { rest.find("} ") } else { rest.find(|c| until.contains(c)) };
            // An array's length has a semicolon of its own.
            let Some(end) = end else { continue };
            let text: String = rest[..end].chars().filter(|c| !c.is_whitespace()).collect();
            let text = text.trim_end_matches(',').replace(",)", ")").replace(",>", ">").replace("pubopaque", "opaque");
            let head = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            // A call is no definition: those stand behind "fn ".
            found.entry(text[..head].to_owned()).or_insert(text);
        }
    }
}

/// Structs that are nothing but an address here.
fn is_opaque(text: &str) -> bool {
    text.ends_with("{_opaque:[u8;0]")
}

#[test]
fn the_declarations_are_those_of_the_headers() {
    let Some(root) = root() else { return println!("SKIP: no usersock beside this folder") };
    let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
    for file in sources(&root) {
        items(&std::fs::read_to_string(&file).unwrap(), &mut theirs);
    }
    for name in HEADERS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/sys/{name}.rs"));
        items(&std::fs::read_to_string(file).unwrap(), &mut ours);
    }
    // Of usersock.h.
    ours.remove("structusk_stack_t");
    assert!(theirs.len() > 200, "{} items found", theirs.len());
    let mut wrong = Vec::new();
    for (name, text) in &theirs {
        match ours.remove(name) {
            // What this crate has no use for yet.
            None => println!("not here: {text}"),
            Some(own) if own != *text && !is_opaque(&own) => wrong.push(format!("there: {text}\n here: {own}")),
            Some(_) => {}
        }
    }
    wrong.extend(ours.into_keys().map(|name| format!("only here: {name}")));
    assert!(wrong.is_empty(), "src/sys and the headers differ:\n{}", wrong.join("\n"));
}

macro_rules! sizes {
    ($($name:ident)*) => { &[$((stringify!($name), size_of::<$name>(), align_of::<$name>())),*] };
}
/// All structs that a plug-in reads or fills in.
const SIZES: &[(&str, usize, usize)] = sizes! {
    usk_addr_t usk_owned_t usk_sock_info_t usk_sysctl_t usk_packet_info_t usk_icmp_error_t usk_piece_t usk_merge_t
    usk_proto usk_cong_mark_t
    usk_cong_ack_t usk_cong_info_t usk_ack_sample_t usk_cong_ops usk_rate_sample_t usk_tcp_t usk_below_ops usk_ulp_t
    usk_ulp_ops usk_sock_view_t usk_hook_t usk_hdr_seg_t usk_sock_ops usk_sock_ops_filter_t usk_tx_info_t
    usk_pkt_sample_t usk_device_args_t usk_device_info_t
    usk_device_ops usk_tcp_conn_t usk_tcp_seg_t usk_tcp_ack_t usk_tcp_input_t usk_tcp_ops pollfd
};

macro_rules! offsets {
    ($($name:ident { $($field:ident)* })*) => {
        &[$($((stringify!($name), stringify!($field), std::mem::offset_of!($name, $field))),*),*]
    };
}
/// The last member of each table, and members behind gaps.
const OFFSETS: &[(&str, &str, usize)] = offsets! {
    usk_proto { mib_names socket_type slab_flags init poll rcv bind net_exit diag_dump drop_names timer diag_show
        merge }
    usk_cong_ops { priv_size init undo_cwnd get_info pkts_delivered }
    usk_ulp_ops { data_size init disconnect }
    usk_tcp_ops { data_size init getsockopt }
    usk_tcp_conn_t { sk opaque }
    usk_tcp_input_t { sacks sack }
    usk_sock_ops { timeout_init release option_exid detached }
    usk_sock_ops_filter_t { remote local_prefix remote_last }
    usk_tx_info_t { src flow_label ttl }
    usk_device_ops { open has_pending }
    usk_below_ops { send ioctl }
    usk_icmp_error_t { fatal error quoted quoted_len }
    usk_tcp_t { pacing_rate base_rtt_us sk reg }
    usk_hook_t { now opaque }
    usk_device_args_t { has_mac mac reg }
    usk_sock_info_t { error linger now }
    usk_hdr_seg_t { len syn syn_len }
};

#[test]
fn a_c_compiler_sees_the_same_structs() {
    let Some(root) = root() else { return println!("SKIP: no usersock beside this folder") };
    let headers = ["proto", "over", "cong", "tcp", "ulp", "hooks", "device"]
        .map(|name| format!("#include <usersock/{name}.h>\n"));
    let mut c = format!("{}#include <stddef.h>\n#include <poll.h>\n", headers.concat());
    for (name, size, align) in SIZES {
        let ty = if *name == "pollfd" { "struct pollfd" } else { name };
        c += &format!("_Static_assert(sizeof({ty}) == {size} && _Alignof({ty}) == {align}, \"{name}\");\n");
    }
    for (name, field, offset) in OFFSETS {
        c += &format!("_Static_assert(offsetof({name}, {field}) == {offset}, \"{name}.{field}\");\n");
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sys.c");
    std::fs::write(&file, c).unwrap();
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let out = Command::new(cc).args(["-std=gnu11", "-fsyntax-only", "-I"]).arg(root.join("include")).arg(file).output();
    let out = out.expect("a C compiler");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
