//! The rungs. Their scripts are in `../../ladder`, those with a number by the number of the rung.

use crate::climb::{Rung, Sides, climb};
use crate::play::{Form, Side};

/// Each side is one process at a time.
const SINGLE: Sides = Sides::Single;
const FORKS: Sides = Sides::Forks;
/// What no kernel can be compared with: the client's stack server is killed.
const CLIENT: Sides = Sides::Only(Form(Side::Kernel, Side::Usersock));
/// The same of what makes its namespaces itself.
const OWN: Sides = Sides::Only(Form::ORACLE);

/// A test for each rung.
macro_rules! rungs {
    ($($test:ident: $name:literal, $sides:ident, $needs:expr;)*) => {
        $(#[test]
        fn $test() {
            let script = include_str!(concat!("../../ladder/", $name, ".sh"));
            climb(&Rung { name: $name, needs: &$needs, sides: $sides, script });
        })*
    };
}

rungs! {
    rung_0_the_shim_is_harmless: "0-harmless", SINGLE, ["python3", "gawk"];
    rung_1_wget: "1-wget", SINGLE, ["wget", "python3"];
    rung_2_bash_reads_and_writes_dev_tcp: "2-bash", SINGLE, ["python3"];
    rung_3_curl_and_its_exit_codes: "3-curl", SINGLE, ["curl", "python3"];
    rung_4_nc_and_half_closed_streams: "4-nc", SINGLE, ["nc"];
    rung_5_iperf3: "5-iperf3", SINGLE, ["iperf3"];
    rung_6_redis: "6-redis", SINGLE, ["redis-server", "redis-benchmark", "redis-cli"];
    rung_7_wrk_has_threads: "7-wrk", SINGLE, ["nginx", "wrk", "curl"];
    rung_8_memcached_has_threads: "8-memcached", SINGLE, ["memcached", "nc", "python3"];
    rung_9_nginx_sends_files_and_is_a_proxy: "9-nginx", FORKS, ["nginx", "wrk", "curl", "ab"];
    rung_10_node_and_a_socket_that_epoll_has_early: "10-node", SINGLE, ["node", "curl", "python3"];
    rung_11_haproxy_splices: "11-haproxy", FORKS, ["haproxy", "python3", "curl"];
    rung_12_nginx_reloads_and_replaces_its_binary: "12-reload", FORKS, ["nginx", "wrk", "curl"];
    rung_13_redis_saves_while_it_serves: "13-bgsave", FORKS, ["redis-server", "redis-benchmark", "redis-cli"];
    rung_14_postgres_forks_for_each_connection: "14-postgres", FORKS, ["initdb", "pgbench", "postgres", "setpriv"];
    rung_15_sshd_and_scp: "15-sshd", FORKS, ["sshd", "ssh", "scp", "ssh-keygen", "curl", "python3"];
    rung_16_sockets_are_inherited_and_passed_on: "16-inherit", FORKS, ["python3", "gunicorn", "curl"];
    rung_17_many_idle_connections: "17-idle", FORKS, ["python3"];
    rung_17_few_descriptors: "17-descriptors", FORKS, ["nginx", "curl", "python3"];
    rung_17_a_storm_of_signals: "17-signals", FORKS, ["python3"];
    rung_17_programs_that_are_killed: "17-killed", FORKS, ["python3"];
    rung_17_a_stack_server_that_is_killed_and_started_again: "17-restart", CLIENT, ["python3"];
    rung_17_nothing_is_left_of_what_is_killed: "17-run", OWN, ["python3", "ps"];
}
