//! A transfer over a bad link, captured, checked by tshark: no malformed packet, no wrong checksum.

mod common;

use common::transfer::{Case, run_capturing};
use std::fs::File;
use std::process::Command;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};

#[test]
fn tshark_finds_no_malformed_packet_and_no_bad_checksum() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("SKIP tshark is not installed");
        return;
    }
    // All impairments but corruption, which tshark would report.
    let bad = Direction::default().delay(Duration::from_millis(5)).loss(0.02).reorder(0.02).duplicate(0.01);
    for v6 in [false, true] {
        let path = std::env::temp_dir().join(format!("usersock-tshark-{}-{v6}.pcap", std::process::id()));
        let case = Case { v6, link: LinkConfig::both(bad), bytes: [200_000; 2], ..Case::new(1) };
        run_capturing(&case, Some(Box::new(File::create(&path).unwrap())));
        let count = |filter: &str| {
            let mut tshark = Command::new("tshark");
            tshark.args(["-n", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", filter, "-r"]);
            let out = tshark.arg(&path).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let wrong = count("_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0");
        let good = count("tcp.checksum.status == 1").len();
        std::fs::remove_file(&path).unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(good > 250, "tshark verified {good} checksums");
    }
}
