//! `usersock serve`: the stack server. Below: `usersock_spliced::server`.

use crate::sys::{drop_capabilities, raise_descriptor_limit};
use crate::{Failure, On, out};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use usersock::config::Config;
use usersock::driver::EventLoop;
use usersock::error::Error;
use usersock_spliced::instance::{Instance, VARIABLE};
use usersock_spliced::server::Server;
use usersock_spliced::sys;

/// Whether the server may ask the kernel for a ring.
const IO_URING: &str = "USERSOCK_IO_URING";

/// Which stack, and for whom.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock serve --config tun=tun0,addr=10.0.0.2/24 > server.env &
  env $(cat server.env) LD_PRELOAD=/usr/local/lib/libusersock_preload.so nginx

The server prints a line NAME=VALUE for the environment of its programs as soon as they can be started. If the variable
USERSOCK_SERVER is set already, it is for those. Programs must be in the same network namespace. `usersock run` does all
this, with a namespace and a device. USERSOCK_IO_URING=off: the server does without io_uring, for a seccomp filter that
kills who asks for it.")]
pub struct Args {
    #[command(flatten)]
    on: On,
}

/// Serves until a signal says to end.
pub fn run(args: &Args) -> Result<(), Failure> {
    let instance = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().map_err(|_| Failure::Usage(format!("{VARIABLE}: it is 48 hexadecimal digits")))?,
        Err(_) => Instance::new(sys::random().map_err(broken("random numbers"))?),
    };
    serve(&args.on.text()?, instance, || out::print(|out| writeln!(out, "{VARIABLE}={instance}")))
}

/// The server, until SIGINT or SIGTERM. `ready` is called as soon as programs can be started.
pub fn serve(config: &str, instance: Instance, ready: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let io_uring = match std::env::var_os(IO_URING) {
        None => true,
        Some(value) if value == "on" => true,
        Some(value) if value == "off" => false,
        Some(_) => return Err(Failure::Usage(format!("{IO_URING}: it is on or off"))),
    };
    // A descriptor for each connection of all programs, each of which has a limit of its own.
    raise_descriptor_limit();
    // Before any thread: those that follow inherit it.
    let signals = sys::Signals::hold(&[libc::SIGINT, libc::SIGTERM]);
    let driver = EventLoop::new().map_err(|e| Failure::Broken(format!("eventfd: {e}")))?;
    let driver = Arc::new(driver);
    // A device that is open needs no privilege any more, and packets of anybody are read from it.
    let mut dropped = Ok(());
    let stack = Config::parse(config)?.build_opened(driver.clone(), || dropped = drop_capabilities())?;
    dropped.map_err(|e| Failure::Broken(format!("capabilities: {e}")))?;
    let mut server = Server::new(stack, driver.clone(), instance, io_uring).map_err(broken("server"))?;
    server.tell_held();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let wait = move || {
        signals.wait();
        stopped.store(true, Ordering::SeqCst);
        driver.wake();
    };
    thread::Builder::new().spawn(wait).map_err(|e| Failure::Broken(format!("thread: {e}")))?;
    ready()?;
    server.run(&stop).map_err(broken("server"))
}

fn broken(what: &'static str) -> impl Fn(Error) -> Failure {
    move |e| Failure::Broken(format!("{what}: {e}"))
}
