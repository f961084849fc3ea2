#!/bin/sh
# What every script starts from, so that neither a machine's settings nor what another script changed shows. Run by the kernel's
# shell under packetdrill; read by the runner of script/tests/packetdrill.rs.
sysctl -q net.ipv4.tcp_rmem="4096 540000 $((15*1024*1024))"
sysctl -q net.ipv4.tcp_wmem="4096 $((256*1024)) 4194304"
sysctl -q net.ipv4.tcp_timestamps=1 net.ipv4.tcp_sack=1 net.ipv4.tcp_dsack=1 net.ipv4.tcp_window_scaling=1
sysctl -q net.ipv4.tcp_syn_retries=5 net.ipv4.tcp_synack_retries=5 net.ipv4.tcp_retries2=15
sysctl -q net.ipv4.tcp_ecn=0
sysctl -q net.ipv4.tcp_early_retrans=3 net.ipv4.tcp_recovery=1 net.ipv4.tcp_reordering=3
sysctl -q net.ipv4.tcp_slow_start_after_idle=0 net.ipv4.tcp_no_metrics_save=1
