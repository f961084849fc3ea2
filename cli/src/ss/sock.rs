//! A socket as the control socket's list has it, and what ss(8) prints of it: the two ends, and the words of its
//! options -o, -e, -p, -m and -i.

use super::cong;
use super::figure::{short, time};
use super::holders::Holders;
use serde_json::Value;
use std::net::IpAddr;

/// `tcpi_options`.
const OPTIONS: [(u64, &str); 5] = [(1, "ts"), (2, "sack"), (8, "ecn"), (16, "ecnseen"), (32, "fastopen")];
/// A threshold that no loss has set yet.
const NO_SSTHRESH: u64 = 0xffff;

/// One line of the list.
#[derive(Debug)]
pub(crate) struct Sock {
    /// The line itself; None: it was added to.
    line: Option<String>,
    v: Value,
}

impl Sock {
    pub(crate) fn new(line: String, v: Value) -> Sock {
        Sock { line: Some(line), v }
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.v[key].as_str().unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.v[key].as_u64().unwrap_or_default()
    }

    pub(crate) fn state(&self) -> &str {
        self.text("state")
    }

    pub(crate) fn netid(&self) -> &str {
        self.text("netid")
    }

    pub(super) fn is_v6(&self) -> bool {
        self.number("family") == libc::AF_INET6 as u64
    }

    /// Whether it is one that no program can hold: a request, a closed connection.
    pub(super) fn is_mini(&self) -> bool {
        self.number("id") == 0
    }

    pub(super) fn queues(&self) -> [String; 2] {
        ["recv_q", "send_q"].map(|key| self.number(key).to_string())
    }

    fn end(&self, key: &str) -> Option<(IpAddr, u16)> {
        let port = self.v[format!("{key}_port")].as_u64()?;
        Some((self.text(key).parse().ok()?, port as u16))
    }

    /// Of a stack server's socket: adds the programs that have it, and the inode of their descriptor.
    pub(super) fn hold(&mut self, holders: &Holders) {
        let id = self.number("id");
        if let (Some(inode), Some(users)) = (holders.inode(id), holders.of(id)) {
            (self.v["inode"], self.v["users"]) = (inode.into(), users);
            self.line = None;
        }
    }

    /// The whole of it, as JSON.
    pub(super) fn json(&self) -> String {
        self.line.clone().unwrap_or_else(|| self.v.to_string())
    }

    pub(crate) fn local(&self) -> Option<(IpAddr, u16)> {
        self.end("local")
    }

    pub(crate) fn peer(&self) -> Option<(IpAddr, u16)> {
        self.end("peer")
    }

    /// The request for it alone.
    pub(crate) fn again(&self) -> String {
        format!("sockets {}", self.number("id"))
    }

    /// Its ends, for a person.
    pub(crate) fn ends(&self) -> String {
        let one = |e: Option<(IpAddr, u16)>, local| {
            e.map_or_else(|| "*:*".to_owned(), |(_, port)| format!("{}:{port}", self.address(e, local)))
        };
        format!("{} {}", one(self.local(), true), one(self.peer(), false))
    }

    /// The request that ends it.
    pub(super) fn kill(&self) -> String {
        let end = |e: Option<(IpAddr, u16)>| match e {
            Some((ip, port)) => std::net::SocketAddr::new(ip, port).to_string(),
            None => "-".to_owned(),
        };
        format!("kill {} {} {}", self.number("id"), end(self.local()), end(self.peer()))
    }

    /// The address of an end as ss writes it: `*` is any of both families.
    pub(super) fn address(&self, end: Option<(IpAddr, u16)>, local: bool) -> String {
        // A raw IPv6 socket receives IPv6 alone, but not by this option.
        let only = self.v["v6only"] == true && self.netid() != "raw";
        let any = match (self.is_v6(), only) {
            (false, _) => "0.0.0.0",
            (true, true) => "[::]",
            (true, false) => "*",
        };
        let device = Some(self.text("device")).filter(|name| local && !name.is_empty());
        let text = match end.map(|(ip, _)| ip).filter(|ip| !ip.is_unspecified()) {
            None => any.to_owned(),
            Some(IpAddr::V4(ip)) if self.is_v6() => format!("[::ffff:{ip}]"),
            Some(IpAddr::V4(ip)) => ip.to_string(),
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        text + &device.map_or_else(String::new, |name| format!("%{name}"))
    }

    /// -p
    pub(super) fn users(&self) -> Option<String> {
        let users = self.v["users"].as_array().filter(|users| !users.is_empty())?;
        let one = |u: &Value| {
            let fd = u["fd"].as_i64().map_or_else(String::new, |fd| format!(",fd={fd}"));
            format!("(\"{}\",pid={}{fd})", u["name"].as_str().unwrap_or_default(), u["pid"])
        };
        Some(format!("users:({})", users.iter().map(one).collect::<Vec<_>>().join(",")))
    }

    /// -o
    pub(super) fn timer(&self) -> Option<String> {
        let t = &self.v["timer"];
        let name = t["name"].as_str()?;
        Some(format!("timer:({name},{},{})", time(t["ms"].as_u64().unwrap_or_default()), t["retrans"]))
    }

    /// -e. A socket in the program's own process has no inode.
    pub(super) fn extended(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.number("uid") != 0 {
            words.push(format!("uid:{}", self.number("uid")));
        }
        words.push(format!("ino:{}", self.number("inode")));
        if self.is_mini() {
            return words;
        }
        words.push(format!("sk:{}", self.text("cookie")));
        if self.is_v6() && matches!(self.state(), "LISTEN" | "UNCONN") {
            words.push(format!("v6only:{}", u8::from(self.v["v6only"] == true)));
        }
        let shut = self.number("shutdown");
        let arrow = |bit, open| if shut & bit == 0 { open } else { '-' };
        words.push(format!("{}-{}", arrow(1, '<'), arrow(2, '>')));
        words
    }

    /// -m
    pub(super) fn memory(&self) -> Option<String> {
        let mem = self.v["skmem"].as_object()?;
        let word = |key: &str| format!("{key}{}", mem.get(key).unwrap_or(&Value::Null));
        Some(format!("skmem:({})", ["r", "rb", "t", "tb", "f", "w", "o", "bl", "d"].map(word).join(",")))
    }

    /// -i, of a plug-in's protocol: what it shows of the socket itself.
    pub(super) fn columns(&self) -> Option<String> {
        let columns = self.v["columns"].as_object()?;
        let words: Vec<String> =
            columns.iter().filter_map(|(name, value)| Some(format!("{name}:{}", value.as_str()?))).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// A field of `struct tcp_info`.
    pub(crate) fn tcpi(&self, field: &str) -> u64 {
        self.v["tcp_info"][field].as_u64().unwrap_or_default()
    }

    /// -i; `options`: with those that the ends have agreed on.
    pub(super) fn info(&self, options: bool) -> Option<String> {
        self.v["tcp_info"].as_object()?;
        let mut words: Vec<String> = Vec::new();
        if options && self.state() != "LISTEN" {
            let set = self.tcpi("options");
            words.extend(OPTIONS.iter().filter(|(bit, _)| set & bit != 0).map(|(_, name)| (*name).to_owned()));
        }
        words.push(self.text("cong").to_owned());
        if !self.text("ulp").is_empty() {
            words.push(format!("tcp-ulp-{}", self.text("ulp")));
        }
        // Ours: the kernel does not say which programs see a socket.
        if !self.text("hooks").is_empty() {
            words.push(format!("hooks:{}", self.text("hooks")));
        }
        if !self.text("stack").is_empty() {
            words.push(format!("tcp-stack-{}", self.text("stack")));
        }
        if self.state() == "LISTEN" {
            words.push(format!("cwnd:{}", self.tcpi("snd_cwnd")));
            self.some(&mut words, &[("unacked", "unacked")]);
            return Some(words.join(" "));
        }
        self.timing(&mut words);
        self.amounts(&mut words);
        let algorithm = cong::Info::of(&self.v["cong_info"], self.text("cong"));
        words.extend(algorithm.as_ref().and_then(cong::Info::words));
        self.rates(&mut words, algorithm.as_ref().and_then(cong::Info::rtt));
        self.limits(&mut words);
        self.losses(&mut words);
        self.receiving(&mut words);
        Some(words.join(" "))
    }

    /// Adds `name:value` unless the value is zero.
    fn some(&self, words: &mut Vec<String>, list: &[(&str, &str)]) {
        let values = list.iter().map(|(name, field)| (name, self.tcpi(field)));
        words.extend(values.filter(|(_, n)| *n != 0).map(|(name, n)| format!("{name}:{n}")));
    }

    fn timing(&self, words: &mut Vec<String>) {
        let ms = |field| self.tcpi(field) as f64 / 1000.0;
        let shifts = self.tcpi("wscales");
        if self.tcpi("options") & 4 != 0 {
            words.push(format!("wscale:{},{}", shifts & 15, shifts >> 4));
        }
        words.push(format!("rto:{}", short(ms("rto"))));
        self.some(words, &[("backoff", "backoff")]);
        if self.tcpi("rtt") != 0 {
            words.push(format!("rtt:{}/{}", short(ms("rtt")), short(ms("rttvar"))));
        }
        if self.tcpi("ato") != 0 {
            words.push(format!("ato:{}", short(ms("ato"))));
        }
        let sizes = [("mss", "snd_mss"), ("pmtu", "pmtu"), ("rcvmss", "rcv_mss"), ("advmss", "advmss")];
        self.some(words, &sizes);
        self.some(words, &[("cwnd", "snd_cwnd")]);
        if self.tcpi("snd_ssthresh") < NO_SSTHRESH {
            words.push(format!("ssthresh:{}", self.tcpi("snd_ssthresh")));
        }
    }

    fn amounts(&self, words: &mut Vec<String>) {
        let names = ["bytes_sent", "bytes_retrans", "bytes_acked", "bytes_received", "segs_out", "segs_in"];
        self.some(words, &names.map(|name| (name, name)));
        self.some(words, &["data_segs_out", "data_segs_in"].map(|name| (name, name)));
    }

    /// `rtt`: the algorithm's own.
    fn rates(&self, words: &mut Vec<String>, rtt: Option<u64>) {
        let (rtt, cwnd) = (rtt.unwrap_or_else(|| self.tcpi("rtt")), self.tcpi("snd_cwnd"));
        if rtt != 0 && cwnd != 0 {
            let bits = cwnd as f64 * self.tcpi("snd_mss") as f64 * 8_000_000.0 / rtt as f64;
            words.push(format!("send {bits:.0}bps"));
        }
        let ages = [("lastsnd", "last_data_sent"), ("lastrcv", "last_data_recv"), ("lastack", "last_ack_recv")];
        self.some(words, &ages);
        let bits = |field| self.tcpi(field).saturating_mul(8);
        let (pacing, max) = (self.tcpi("pacing_rate"), self.tcpi("max_pacing_rate"));
        if pacing != 0 && pacing != u64::MAX {
            let max = if max == u64::MAX { String::new() } else { format!("/{}bps", max.saturating_mul(8)) };
            words.push(format!("pacing_rate {}bps{max}", bits("pacing_rate")));
        }
        if self.tcpi("delivery_rate") != 0 {
            words.push(format!("delivery_rate {}bps", bits("delivery_rate")));
        }
        self.some(words, &[("delivered", "delivered"), ("delivered_ce", "delivered_ce")]);
        if self.tcpi("delivery_rate_app_limited") & 1 != 0 {
            words.push("app_limited".to_owned());
        }
    }

    fn limits(&self, words: &mut Vec<String>) {
        let busy = self.tcpi("busy_time");
        if busy == 0 {
            return;
        }
        words.push(format!("busy:{}ms", busy / 1000));
        for field in ["rwnd_limited", "sndbuf_limited"] {
            let us = self.tcpi(field);
            if us != 0 {
                words.push(format!("{field}:{}ms({:.1}%)", us / 1000, 100.0 * us as f64 / busy as f64));
            }
        }
    }

    fn losses(&self, words: &mut Vec<String>) {
        self.some(words, &[("unacked", "unacked")]);
        let (now, total) = (self.tcpi("retrans"), self.tcpi("total_retrans"));
        if now != 0 || total != 0 {
            words.push(format!("retrans:{now}/{total}"));
        }
        self.some(words, &["lost", "sacked", "dsack_dups"].map(|name| (name, name)));
        if self.tcpi("reordering") != 3 {
            words.push(format!("reordering:{}", self.tcpi("reordering")));
        }
        self.some(words, &[("reord_seen", "reord_seen")]);
    }

    fn receiving(&self, words: &mut Vec<String>) {
        let ms = |field| self.tcpi(field) as f64 / 1000.0;
        if self.tcpi("rcv_rtt") != 0 {
            words.push(format!("rcv_rtt:{}", short(ms("rcv_rtt"))));
        }
        self.some(words, &[("rcv_space", "rcv_space"), ("rcv_ssthresh", "rcv_ssthresh"), ("notsent", "notsent_bytes")]);
        if !matches!(self.tcpi("min_rtt"), 0 | 0xffff_ffff) {
            words.push(format!("minrtt:{}", short(ms("min_rtt"))));
        }
        self.some(words, &["rcv_ooopack", "snd_wnd", "rcv_wnd"].map(|name| (name, name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_of_a_plug_in_shows_its_columns_in_its_order() {
        let columns = |line: &str| Sock::new(line.to_owned(), serde_json::from_str(line).unwrap()).columns();
        let line = r#"{"netid":"p136","columns":{"send_cscov":"8","recv_cscov":"20"}}"#;
        assert_eq!(columns(line).as_deref(), Some("send_cscov:8 recv_cscov:20"));
        assert_eq!(columns(r#"{"netid":"udp"}"#), None);
    }
}
