# MSG_MORE, pipes and splice, EPOLLRDHUP, threads.
serve C 8000 python3 -m http.server 8000 -b $C
cat > ha.cfg <<END
global
    nbthread 4
defaults
    timeout connect 60s
    timeout client 60s
    timeout server 60s
    option splice-auto
frontend http
    mode http
    bind $S:80
    default_backend http
backend http
    mode http
    server a $C:8000
listen tcp
    mode tcp
    bind $S:81
    server a $C:8000
END
serve S 80 haproxy -f ha.cfg
for port in 80 81; do
    for i in 1 2 3; do took $port-$i $UC curl -fsS http://$S:$port/file; done
    took $port-parallel $UC curl -fsSZ $(for i in $(seq 8); do echo -o f$port-$i http://$S:$port/file; done)
    for i in $(seq 8); do took $port-parallel-$i cat f$port-$i; done
done
