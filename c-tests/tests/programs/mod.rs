//! The programs that take arguments (web server, download, echo), built for the kernel's sockets and set against each
//! other over 127.0.0.1: what they do is then known before they run on usersock across a TUN device.
//! Above: `cases.rs`. Below: `harness`.

use crate::harness::{Sanitizer, build_for_kernel, out_dir};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A server that is ended with the test, whatever happens in between.
struct Server(Child, u16);

impl Server {
    /// Starts it and reads the port from its line "listening ADDR PORT".
    fn start(name: &str, args: &[&str]) -> Server {
        let exe = build_for_kernel(name, Sanitizer::Address.or_none());
        let mut child = Command::new(exe).args(args).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("its first line");
        let port = line.trim().rsplit(' ').next().and_then(|p| p.parse().ok()).expect("a port");
        Server(child, port)
    }

    /// Waits for it to end by itself.
    fn finish(mut self) {
        assert!(self.0.wait().expect("waited").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends `text` on one connection and gives all that comes back.
fn ask(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn web_server_and_download_carry_a_file() {
    let dir = out_dir().join("www-file");
    std::fs::create_dir_all(&dir).expect("folder");
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(dir.join("file.bin"), &data).expect("written");
    let server = Server::start("webserver", &["--once", "2", "127.0.0.1", "0", dir.to_str().expect("utf-8")]);
    let download = build_for_kernel("download", Sanitizer::Address.or_none());
    let fetch = |path: &str, out: &str| {
        Command::new(&download).args(["127.0.0.1", &server.1.to_string(), path]).arg(out_dir().join(out)).output()
    };
    let done = fetch("/file.bin", "fetched").expect("download runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("3000000 bytes in "));
    assert!(std::fs::read(out_dir().join("fetched")).expect("read") == data);
    let missing = fetch("/nothing", "missing").expect("download runs");
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("404"));
    server.finish();
}

#[test]
fn web_server_answers_by_the_book() {
    let dir = out_dir().join("www-book/inside");
    std::fs::create_dir_all(&dir).expect("folder");
    std::fs::write(dir.join("a.txt"), "hello").expect("written");
    std::fs::write(dir.join("../secret"), "no").expect("written");
    let _ = std::os::unix::fs::symlink("../secret", dir.join("link"));
    let server = Server::start("webserver", &["127.0.0.1", "0", dir.to_str().expect("utf-8")]);
    let long = format!("GET /a.txt HTTP/1.1\r\nHost: h\r\nX: {}\r\n", "x".repeat(16384));
    for (request, want) in [
        ("GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200 OK"),
        ("GET /%61.txt?q=1 HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404 Not Found"),
        ("GET /../secret HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("GET /%2e%2e/secret HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("GET /link HTTP/1.0\r\n\r\n", "404 Not Found"),
        ("POST /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", "405 Method Not Allowed"),
        ("GET /a%00b HTTP/1.0\r\n\r\n", "400 Bad Request"),
        ("GET /%zz HTTP/1.0\r\n\r\n", "400 Bad Request"),
        ("GET a.txt HTTP/1.0\r\n\r\n", "400 Bad Request"),
        ("GET /a.txt HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        ("GET /a.txt HTTP/2.0\r\nHost: h\r\n\r\n", "505 HTTP Version Not Supported"),
        (&long, "431 Request Header Fields Too Large"),
    ] {
        let answer = ask(server.1, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {want}\r\n")), "{request:.60?} gave {answer}");
        assert!(!answer.contains("no\n") || want != "200 OK");
    }
    // Two requests sent at once on one connection: two answers in order, the first without a body.
    let both = ask(
        server.1,
        "HEAD /a.txt HTTP/1.1\r\nHost: h\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(both.matches("Content-Length: 5\r\n").count(), 2);
    assert_eq!(both.matches("hello").count(), 1);
    assert!(both.ends_with("\r\n\r\nhello"));
}

#[test]
fn echo_client_gets_its_bytes_back() {
    for addr in ["127.0.0.1", "::1"] {
        let server = Server::start("echo_server", &[addr, "0", "1"]);
        let client = build_for_kernel("echo_client", Sanitizer::Address.or_none());
        let port = server.1.to_string();
        let run = Command::new(client).args([addr, &port, "3000000"]).output().expect("the client runs");
        assert_eq!(String::from_utf8_lossy(&run.stdout), "echoed 3000000\n");
        assert!(run.status.success());
        server.finish();
    }
}
