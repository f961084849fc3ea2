//! What the language means, row by row, and that no text at all makes the parser panic.
use crate::ast::*;
use crate::code::Names;
use crate::{Pos, parse};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn one(text: &str) -> Event {
    let mut script = parse(text, &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(script.events.len(), 1, "{text}");
    script.events.remove(0)
}

fn segment(text: &str) -> Segment {
    match one(text).action {
        Action::Packet(Packet { body: Body::Tcp(segment), .. }) => segment,
        other => panic!("{text}: {other:?}"),
    }
}

fn call(text: &str) -> SystemCall {
    match one(text).action {
        Action::Call(call) => call,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn times_are_read_in_every_form() {
    for (text, when) in [
        ("0 > . 1:1(0) ack 1", When::Absolute(0)),
        ("1.5 > . 1:1(0) ack 1", When::Absolute(1_500_000)),
        (".25 > . 1:1(0) ack 1", When::Absolute(250_000)),
        ("+.000001 > . 1:1(0) ack 1", When::Relative(1)),
        ("+2 > . 1:1(0) ack 1", When::Relative(2_000_000)),
        ("+.1~+.3 > . 1:1(0) ack 1", When::RelativeRange(100_000, 300_000)),
        ("0.1~0.3 > . 1:1(0) ack 1", When::AbsoluteRange(100_000, 300_000)),
        ("* > . 1:1(0) ack 1", When::Any),
        ("> 1:1001", When::Relative(0)),
    ] {
        assert_eq!(one(text).when, when, "{text}");
    }
}

#[test]
fn a_blocking_call_has_an_end() {
    for (text, start, end) in [
        ("0...0.2 accept(3, ..., ...) = 4", When::Absolute(0), 200_000),
        ("+0...0.010 connect(3, ..., ...) = 0", When::Relative(0), 10_000),
        ("+.1...+.5 read(3, ..., 10) = 10", When::Relative(100_000), 500_000),
    ] {
        assert_eq!((one(text).when, call(text).end), (start, Some(end)), "{text}");
    }
}

#[test]
fn flags_are_the_letters_of_the_header() {
    use TcpFlags as F;
    for (text, bits, ae, ace) in [
        ("S", F::SYN, false, None),
        ("S.", F::SYN | F::ACK, false, None),
        (".", F::ACK, false, None),
        ("FP.", F::FIN | F::PSH | F::ACK, false, None),
        ("R.", F::RST | F::ACK, false, None),
        ("SEWA", F::SYN | F::ECE | F::CWR, true, None),
        ("P.5", F::PSH | F::ACK, false, Some(5)),
        (".5", F::ACK, false, Some(5)),
        ("-", 0, false, None),
    ] {
        let flags = segment(&format!("+0 > {text} 1:1(0) ack 1")).flags;
        assert_eq!(flags, Some(TcpFlags { bits, ae, ace }), "{text}");
    }
}

#[test]
fn a_segment_keeps_what_was_written_and_nothing_else() {
    let full = segment("+0 < P. 1:1001(1000) ack 2 win 257 urg 3 <nop,nop,TS val 100 ecr 7>");
    assert_eq!(full.seq, Some((1, 1000)));
    assert_eq!((full.ack, full.window, full.urgent), (Some(2), Some(257), 3));
    let options = vec![TcpOption::Nop, TcpOption::Nop, TcpOption::Timestamp { val: 100, ecr: 7 }];
    assert_eq!(full.options, Options::These(options));

    let bare = segment("+0 > . 1:1(0)");
    assert_eq!((bare.ack, bare.window, bare.options), (None, None, Options::These(vec![])));
    assert_eq!(segment("+0 > . 1:1(0) ack 1 <...>").options, Options::Any);
    assert_eq!(segment("+0 < 40000 > 8080 S 0:0(0) win 1000").ports, Some((40000, 8080)));
    assert_eq!(segment("+0 > R 4294967295:4294967295(0)").seq, Some((u32::MAX, 0)));
    assert_eq!(segment("+0 > . 4294967295:999(1000) ack 1").seq, Some((u32::MAX, 1000)), "the circle closes");
}

#[test]
fn every_option_is_read() {
    let text = "+0 < S 0:0(0) win 0 <mss 1000,sackOK,nop,wscale 8,TS val 1 ecr 0,eol>";
    assert_eq!(
        segment(text).options,
        Options::These(vec![
            TcpOption::Mss(1000),
            TcpOption::SackPermitted,
            TcpOption::Nop,
            TcpOption::WindowScale(8),
            TcpOption::Timestamp { val: 1, ecr: 0 },
            TcpOption::Eol,
        ])
    );
    for (text, want) in [
        ("sack 1001:2001 3001:4001", TcpOption::Sack(vec![(1001, 2001), (3001, 4001)])),
        ("FO", TcpOption::FastOpen(vec![])),
        ("FO c00c1e", TcpOption::FastOpen(vec![0xc0, 0x0c, 0x1e])),
        ("FOEXP 12345678", TcpOption::FastOpenExp(vec![0x12, 0x34, 0x56, 0x78])),
        ("md5 00ff", TcpOption::Md5(vec![0, 0xff])),
        ("ECN e1b 1 ceb 2", TcpOption::AccEcn { e1b_first: true, counters: vec![1, 2] }),
    ] {
        assert_eq!(segment(&format!("+0 > . 1:1(0) ack 1 <{text}>")).options, Options::These(vec![want]), "{text}");
    }
}

#[test]
fn the_terse_form_reads_as_in_the_examples() {
    let text = "+0 send(3, 4000) = 4000\n+0 > 1:1001  > 1001:2001  > 2001:3001\n\
                +.020 < ack 1 sack 1001:2001\n+.001 < ack 1\n0.5 < ack 1 sack 1:2 3:4\n.75 > 1:1001(1000)";
    let script = parse(text, &[]).unwrap();
    let times: Vec<When> = script.events.iter().map(|e| e.when).collect();
    let zero = When::Relative(0);
    let late = [When::Relative(20_000), When::Relative(1000), When::Absolute(500_000), When::Absolute(750_000)];
    assert_eq!(times, [&[zero, zero, zero, zero][..], &late].concat());
    assert!(segment("> 1:1001").terse());
    assert_eq!(segment("> 1:1001").seq, Some((1, 1000)));
    assert_eq!(segment("> 1:1001").options, Options::Any);
    let sack = segment("< ack 1 sack 1001:2001");
    assert_eq!((sack.seq, sack.ack), (None, Some(1)));
    let options = vec![TcpOption::Nop, TcpOption::Nop, TcpOption::Sack(vec![(1001, 2001)])];
    assert_eq!(sack.options, Options::These(options));
}

#[test]
fn ip_fields_udp_and_icmp_are_read() {
    let Action::Packet(ecn) = one("+0 < [ect0] . 1:1(0) ack 1 win 1").action else { panic!() };
    assert_eq!(ecn.ip.tos, Some(Tos::Ecn(2)));
    let Action::Packet(tos) = one("+0 > (tos 0x28, flowlabel 0x12345) udp (7)").action else { panic!() };
    assert_eq!((tos.ip.tos, tos.ip.flow_label), (Some(Tos::Octet(0x28)), Some(0x12345)));
    assert_eq!(tos.body, Body::Udp { ports: None, len: 7 });
    let Action::Packet(icmp) = one("+0 < [ttl 3] icmp unreachable frag_needed mtu 1200 [1:1461(1460)]").action else {
        panic!()
    };
    assert_eq!(icmp.ip.ttl, Some(3));
    let quoted = Quoted::Tcp { seq: 1, len: 1460 };
    let want = Icmp { kind: "unreachable".into(), code: Some("frag_needed".into()), mtu: Some(1200), id: None, quoted };
    assert_eq!(icmp.body, Body::Icmp(want));
}

#[test]
fn calls_keep_their_arguments_as_written() {
    let name = r#"{sa_family = AF_INET, sin_port = htons(8080), sin_addr = inet_addr("192.0.2.1")}"#;
    let connect = call(&format!("+0 connect(3, {name}, 16) = -1 EINPROGRESS (Operation now in progress)"));
    assert_eq!(connect.result, Some(Expr::Int(-1)));
    assert_eq!(connect.errno.as_deref(), Some("EINPROGRESS"));
    let Expr::Struct(fields) = &connect.args[1] else { panic!("{:?}", connect.args) };
    let names: Vec<_> = fields.iter().filter_map(|f| f.name.as_deref()).collect();
    assert_eq!(names, ["sa_family", "sin_port", "sin_addr"]);
    assert_eq!(fields[1].value, Expr::Apply("htons".into(), vec![Expr::Int(8080)]));

    let message = call(
        "+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=MSG_EOR|MSG_OOB, msg_control=[]}, 0) = 3",
    );
    let Expr::Struct(fields) = &message.args[1] else { panic!("{:?}", message.args) };
    assert_eq!(fields[0], Field { name: Some("msg_name".into()), count: Some(Expr::Ellipsis), value: Expr::Ellipsis });
    assert_eq!(fields[1].count, Some(Expr::Int(1)));
    assert!(matches!(fields[2].value, Expr::Or(..)));

    assert_eq!(call("+0 write(4, \"a\\x41\\n\" \"b\", 4) = 4").args[1], Expr::Str(b"aA\nb".to_vec()));
    assert_eq!(call("+0 write(4, \"GET\"..., 400) = 400").args[1], Expr::StrPrefix(b"GET".to_vec()));
    assert_eq!(call("+0 getsockopt(3, 1, 4, [0], [4]) = 0").args[3], Expr::List(vec![Expr::Int(0)]));
    assert_eq!(call("+0 socket(...) = ...").result, None, "any result");
}

#[test]
fn names_given_from_outside_or_by_define_are_replaced() {
    let text = "--define=LEN=100\n--define=CC=\"reno\"\n--mtu=1500\n`set up`\n+0 write(3, ..., LEN) = LEN\n\
                +0 setsockopt(3, SOL_TCP, TCP_CONGESTION, CC, 4) = 0\n+0 < icmp unreachable CODE [1:1(0)]\n`clean up`";
    let script = parse(text, &[("CODE", "host_unreachable")]).unwrap();
    assert_eq!(script.options.len(), 3);
    assert_eq!(script.init.map(|c| c.text).as_deref(), Some("set up"));
    assert_eq!(script.cleanup.map(|c| c.text).as_deref(), Some("clean up"));
    let Action::Call(write) = &script.events[0].action else { panic!() };
    assert_eq!((&write.args[2], &write.result), (&Expr::Int(100), &Some(Expr::Int(100))));
    let Action::Call(option) = &script.events[1].action else { panic!() };
    assert_eq!(option.args[3], Expr::Str(b"reno".to_vec()));
    let Action::Packet(Packet { body: Body::Icmp(icmp), .. }) = &script.events[2].action else { panic!() };
    assert_eq!(icmp.code.as_deref(), Some("host_unreachable"));
}

#[test]
fn errors_name_line_and_column() {
    for (text, line, column, part) in [
        ("+0 > . 1:2(5) ack 1", 1, 8, "the range has 1 bytes"),
        ("// fine\n\n  +0 < S 0:0(0) win 70000", 3, 21, "not between 0 and 65535"),
        ("+0 > Q 1:1(0)", 1, 6, "no TCP flags"),
        ("+0 > . 1:1(0) ack", 1, 18, "found the end of the script"),
        ("+0 < . 1:1(0) <...>", 1, 19, "outbound"),
        ("+0~+1 close(3) = 0", 1, 1, "only an outbound packet"),
        ("+.3~+.1 > . 1:1(0)", 1, 1, "ends before it starts"),
        ("+0 frob 3", 1, 9, "expected `(`"),
        ("+0 close(3 = 0", 1, 12, "expected `,`"),
        ("/* open", 1, 1, "comment without an end"),
        ("+0 %{ assert 1 ==", 1, 6, "no closing }%"),
        ("+0 %{\n assert tcpi_x = 3 }%", 2, 16, "the end of the statement"),
        ("+0 `true", 1, 4, "no closing `"),
        ("`a`\n`b`\n+0 close(3) = 0", 2, 1, "has a time before it"),
        ("+0 > gre: . 1:1(0)", 1, 6, "not supported"),
        ("+0 < . 1:1(0) <sack 1:2 3:4 5:6 7:8 9:10>", 1, 41, "5 SACK blocks"),
        ("99999999999999 close(3) = 0", 1, 1, "beyond 64 bits"),
    ] {
        let error = parse(text, &[]).expect_err(text);
        assert_eq!(error.pos, Pos { line, column }, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

#[test]
fn assertions_have_pythons_meaning() {
    let mut names = Names::from([("cwnd".into(), 10), ("TCPI_OPT_SACK".into(), 2), ("options".into(), 6)]);
    for (text, holds) in [
        ("assert cwnd == 10, cwnd", true),
        ("assert cwnd != 10", false),
        ("assert 9 <= cwnd < 11, 'cwnd=%d' % cwnd", true),
        ("assert 9 <= cwnd < 10, 'cwnd=%d' % cwnd", false),
        ("assert (options & TCPI_OPT_SACK) != 0", true),
        ("assert options & 1 or cwnd > 9 and not cwnd == 11", true),
        ("assert -7 // 2 == -4 and -7 % 3 == 2 and 2 + 3 * 4 == 14", true),
        ("assert 1 << 4 | 1 == 17", true),
        ("print(cwnd); cwnd += 5; assert cwnd == 15\ncwnd = 10 # back\n", true),
        ("assert cwnd == 10, cwnd;\\\n assert cwnd > 3", true),
        ("assert 0x10 == 16, '%x of %s' % (cwnd, 'x')", true),
    ] {
        let code = crate::code::Code::parse(text, Pos { line: 1, column: 1 }).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(code.run(&mut names).is_ok(), holds, "{text}");
    }
    let code = crate::code::Code::parse("\nassert cwnd < 10, 'cwnd=%d' % cwnd", Pos { line: 3, column: 9 }).unwrap();
    assert_eq!(code.run(&mut names).unwrap_err().to_string(), "4:1: assertion failed: cwnd < 10: cwnd=10");
}

#[test]
fn code_that_is_not_understood_is_an_error_and_never_ignored() {
    for text in
        ["import os", "x / 2 == 3", "assert f(1)", "x", "assert 1.5 > 1", "for x in y: z", "assert (1", "x = [1]"]
    {
        assert!(crate::code::Code::parse(text, Pos { line: 1, column: 1 }).is_err(), "{text}");
    }
    for text in
        ["assert unknown == 1", "x = 1 // 0", "assert 'a' < 1", "x = 1 << 200", "x = '%d' % (1, 2)", "x = 'text'"]
    {
        let code = crate::code::Code::parse(text, Pos { line: 1, column: 1 }).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(code.run(&mut Names::new()).is_err(), "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let deep = "(".repeat(100_000);
    assert!(crate::code::Code::parse(&format!("assert {deep}"), Pos { line: 1, column: 1 }).is_err());
    for open in ["[", "{", "f(", "a=", "{a="] {
        assert!(parse(&format!("+0 f({}", open.repeat(100_000)), &[]).is_err());
    }
    assert!(crate::code::Code::parse(&format!("assert {}", "not -".repeat(100_000)), Pos::default()).is_err());
    assert!(parse(&format!("+0 f({}1)", "1|".repeat(100_000)), &[]).is_err());
}

/// Pieces of scripts, so that random texts get further than the first character.
const PIECES: [&str; 40] = [
    "+0",
    ".1",
    "~",
    "...",
    "*",
    "<",
    ">",
    " ",
    "\n",
    "S.",
    "1:1001(1000)",
    "1:1",
    "ack 1",
    "win 5",
    "urg 1",
    "<mss 1000",
    ",",
    "sack",
    "TS val 1 ecr 2>",
    "close",
    "(",
    ")",
    "= 0",
    "= -1 EINVAL",
    "%{",
    "}%",
    "assert x == 1",
    "'%d' % x",
    "`",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "icmp unreachable",
    "udp",
    "--define=A=",
    "//",
    "é",
];

/// The same in every run.
fn same_cases() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(0x9293), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(same_cases())]
    #[test]
    fn any_text_is_a_script_or_an_error_inside_it(text in ".{0,200}") {
        if let Err(error) = parse(&text, &[]) {
            prop_assert!(error.pos.line as usize <= text.split('\n').count());
        }
    }

    #[test]
    fn any_pieces_of_scripts_are_a_script_or_an_error(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60),
    ) {
        let text = pieces.concat();
        if let Ok(script) = parse(&text, &[("A", "`x`"), ("S", "\"y\"")]) {
            for event in script.events {
                if let Action::Code(code) = event.action { let _ = code.run(&mut Names::new()); }
            }
        }
    }
}
