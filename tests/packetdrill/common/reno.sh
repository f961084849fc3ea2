#!/bin/sh
# defaults.sh, with growth by RFC 5681 instead of CUBIC. Paths are from the folder of the script, where the commands of a script run.
../common/defaults.sh
sysctl -q net.ipv4.tcp_congestion_control=reno
