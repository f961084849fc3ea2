# select, a listener for both families, TCP_INFO, daemon(3).
# A server ends a test a little after its client, and refuses the next one until then: it says so and closes with what
# the client sent unread, so that the RST may be all that arrives; then it closes its listener and makes a new one.
measure() { # OPTIONS
    for _ in $(seq 200); do
        if timeout 100 $UC iperf3 -c $S -t 1 $1 > iperf.said 2>&1; then echo "$1: done" >> results; return; fi
        grep -qE 'server is busy|control socket has closed|unable to connect|control message: Connection reset' \
            iperf.said || { cat iperf.said; return 1; }
    done
    return 1
}
case $SERVER_SIDE$CLIENT_SIDE in
# No daemon; and UDP, of which a stack server has none. Its server answers from whatever address the route has.
PK | KP) serve S 5201 iperf3 -s -B $S; timeout 100 $UC iperf3 -c $S -t 1 -u -b 5M > iperf.said 2>&1 ;;
*) $US iperf3 -s -D -I $DIR/iperf.pid; until_ok listens S 5201; until_ok test -s iperf.pid ;;
esac
for how in "" "-R" "-P 8" "-C cubic" "--bidir"; do measure "$how"; done
if [ -s iperf.pid ]; then kill $(tr -d '\0' < iperf.pid); fi
