//! One Rust test per C case and way of running it. `kernel_oracle::NAME` runs the case on the kernel's sockets, which
//! verifies its expectations; `usersock_plain::NAME` and its siblings run the same file on ours, `preload_...::NAME`
//! what an unmodified program is under the preload shim. Below: `harness`
//! (compile, run, skip). Beside: `cases/*.c`, `cases/common.h`.

mod harness;
#[cfg(has_usersock)]
mod plugins;
#[cfg(has_usersock)]
mod posix;
mod programs;

use harness::{Sanitizer, run_on_kernel};

macro_rules! runs {
    ($(#[$gate:meta])? $module:ident, $run:path, $sanitizer:expr, [$($case:ident),*]) => {
        $(#[$gate])?
        mod $module {
            $(#[test]
            fn $case() { $run(stringify!($case), $sanitizer); })*
        }
    };
}

macro_rules! preload {
    ($module:ident, $calls:ident, [$($case:ident),* $(,)?]) => {
        runs!(
            #[cfg(has_usersock)]
            $module,
            crate::harness::preload::run_under_preload,
            crate::harness::preload::Calls::$calls,
            [$($case),*]
        );
    };
}

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        const CASES: &[&str] = &[$(stringify!($case)),*];
        runs!(kernel_oracle, super::run_on_kernel, super::Sanitizer::None, [$($case),*]);
        runs!(kernel_oracle_asan, super::run_on_kernel, super::Sanitizer::Address, [$($case),*]);
        runs!(kernel_oracle_tsan, super::run_on_kernel, super::Sanitizer::Thread, [$($case),*]);
        #[cfg(has_usersock)]
        use crate::harness::ours::run_on_usersock;
        runs!(#[cfg(has_usersock)] usersock_plain, super::run_on_usersock, super::Sanitizer::None, [$($case),*]);
        runs!(#[cfg(has_usersock)] usersock_asan, super::run_on_usersock, super::Sanitizer::Address, [$($case),*]);
        runs!(#[cfg(has_usersock)] usersock_tsan, super::run_on_usersock, super::Sanitizer::Thread, [$($case),*]);
        preload!(preload_numbers, Numbers, [$($case),*]);
        preload!(preload_functions, Functions, [$($case),*]);
    };
}

/// Cases that no sanitizer can follow: a cancelled thread's frames are left without the returns that sanitizers expect,
/// their interceptors delay a signal handler until the interrupted call is over, and their own thread-local memory does
/// not fit the least stack of a thread.
macro_rules! plain_cases {
    ($($case:ident),* $(,)?) => {
        const PLAIN_CASES: &[&str] = &[$(stringify!($case)),*];
        runs!(kernel_oracle_signals, super::run_on_kernel, super::Sanitizer::None, [$($case),*]);
        runs!(
            #[cfg(has_usersock)]
            usersock_signals,
            crate::harness::ours::run_on_usersock,
            super::Sanitizer::None,
            [$($case),*]
        );
    };
}

preload!(preload_signals, Functions, [cancel, each_step, jumps, restart, signal_masks]);
preload!(preload_signals_by_number, Numbers, [each_step, jumps]);
// A library does not see the program's handlers before they run; a shim does.
runs!(kernel_oracle_jumps, super::run_on_kernel, super::Sanitizer::None, [each_step, jumps]);
// Those with reads and polls. poll_select has sets beyond FD_SETSIZE, which the checks refuse.
preload!(preload_checked, Checked, [bulk, echo, errno_io, mmsg, positioned, queue_sizes, timeouts, udp, urgent]);

macro_rules! server {
    ($module:ident, $calls:ident, [$($case:ident),* $(,)?]) => {
        runs!(
            #[cfg(has_usersock)]
            $module,
            crate::harness::server::run_on_server,
            crate::harness::preload::Calls::$calls,
            [$($case),*]
        );
    };
}

// What docs/server.md names as different they leave out. Not here: backlog, repair, timestamping, zerocopy, of which
// nothing would be left.
server!(
    server,
    Functions,
    [
        accept4,
        any_descriptor,
        bulk,
        cancel,
        close_elsewhere,
        connect_nonblock,
        datagrams,
        descriptor_limit,
        dup_share,
        echo,
        epoll,
        epoll_nested,
        errno_io,
        errno_socket,
        extension_headers,
        failed_streams,
        fastopen,
        fault_unmapped,
        fdopen,
        flags,
        flow_labels,
        half_close,
        interfaces,
        iovec,
        jumps,
        linger,
        many_connections,
        md5sig,
        migrate_req,
        mmsg,
        names,
        options_ip,
        options_ip6,
        options_socket,
        options_tcp,
        pktoptions,
        poll_idle,
        poll_select,
        positioned,
        posix_events,
        posix_server,
        queue_sizes,
        raw,
        rebind,
        restart,
        reuse,
        reuseport_cbpf,
        sendfile_splice,
        shutdown_rules,
        sigio,
        signal_masks,
        small_stack,
        socket_filter,
        sockopt,
        source_filters,
        stream_calls,
        stream_names,
        tcp_ao,
        tcp_info,
        threads_share,
        timeouts,
        udp,
        unspecified,
        urgent,
    ]
);
server!(
    server_by_number,
    Numbers,
    [accept4, echo, errno_socket, failed_streams, flags, names, rebind, shutdown_rules, stream_names, tcp_info, urgent]
);
// Built with _FORTIFY_SOURCE.
server!(server_checked, Checked, [bulk, echo, errno_io, mmsg, queue_sizes, timeouts]);

plain_cases! {
    cancel,
    restart,
    signal_masks,
    small_stack,
}

cases! {
    accept4,
    any_descriptor,
    backlog,
    bulk,
    close_elsewhere,
    connect_nonblock,
    datagrams,
    descriptor_limit,
    dup_share,
    echo,
    epoll,
    epoll_nested,
    errno_io,
    errno_socket,
    fault_unmapped,
    extension_headers,
    failed_streams,
    fastopen,
    fdopen,
    flags,
    flow_labels,
    half_close,
    interfaces,
    iovec,
    linger,
    many_connections,
    md5sig,
    migrate_req,
    mmsg,
    names,
    options_ip,
    options_ip6,
    pktoptions,
    options_socket,
    options_tcp,
    poll_idle,
    poll_select,
    positioned,
    posix_events,
    posix_server,
    queue_sizes,
    raw,
    rebind,
    repair,
    reuse,
    sendfile_splice,
    shutdown_rules,
    sigio,
    reuseport_cbpf,
    socket_filter,
    sockopt,
    source_filters,
    stream_calls,
    stream_names,
    tcp_ao,
    tcp_info,
    threads_share,
    timeouts,
    timestamping,
    udp,
    unspecified,
    urgent,
    zerocopy,
}

/// Programs that are not cases: they take arguments and talk to another process.
const PROGRAMS: &[&str] = &["download", "echo_client", "echo_server", "webserver"];

/// Cases for programs that know nothing of usersock.
const UNMODIFIED_ONLY: &[&str] = &["each_step", "jumps"];

/// Cases about features that only usersock has (set-up calls; a stack is not shared by fork), so there is no oracle for
/// them.
const OURS_ONLY: &[&str] =
    &["fork", "fork_threads", "fork_tun", "interfaces_tun", "md5sig_tun", "setup", "sock_list", "wait_calls"];

#[cfg(has_usersock)]
mod usersock_only {
    use crate::harness::{Sanitizer, ours::run_in_namespace, ours::run_on_usersock};

    #[test]
    fn fork() {
        run_on_usersock("fork", Sanitizer::None);
    }

    #[test]
    fn fork_asan() {
        run_on_usersock("fork", Sanitizer::Address);
    }

    /// Without sanitizers: their own allocators have locks that a child of many threads inherits.
    #[test]
    fn fork_threads() {
        run_on_usersock("fork_threads", Sanitizer::None);
    }

    #[test]
    fn fork_tun() {
        run_in_namespace("fork_tun", Sanitizer::None);
    }

    #[test]
    fn fork_tun_asan() {
        run_in_namespace("fork_tun", Sanitizer::Address);
    }

    #[test]
    fn interfaces_tun() {
        run_in_namespace("interfaces_tun", Sanitizer::None);
    }

    #[test]
    fn md5sig_tun() {
        run_in_namespace("md5sig_tun", Sanitizer::None);
    }

    #[test]
    fn setup() {
        run_on_usersock("setup", Sanitizer::None);
    }

    #[test]
    fn sock_list() {
        run_on_usersock("sock_list", Sanitizer::None);
    }

    #[test]
    fn wait_calls() {
        run_in_namespace("wait_calls", Sanitizer::None);
    }

    #[test]
    fn sock_list_asan() {
        run_on_usersock("sock_list", Sanitizer::Address);
    }

    #[test]
    fn setup_asan() {
        run_on_usersock("setup", Sanitizer::Address);
    }
}

#[test]
fn every_c_file_is_registered() {
    let mut found: Vec<String> = std::fs::read_dir(harness::cases_dir())
        .expect("cases/ is readable")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .map(|path| path.file_stem().expect("stem").to_string_lossy().into_owned())
        .collect();
    let mut known: Vec<String> =
        [CASES, PLAIN_CASES, PROGRAMS, UNMODIFIED_ONLY, OURS_ONLY].concat().into_iter().map(String::from).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}
