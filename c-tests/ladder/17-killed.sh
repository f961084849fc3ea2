# Programs that are killed at any moment: their peers see an end, nothing hangs, and the stack goes on.
cat > send.py <<'END'
import socket, sys
data = open("file", "rb").read()
a = socket.create_server((sys.argv[1], 7001))
while True:
    s, _ = a.accept()
    try:
        s.recv(1)
        for _ in range(20): s.sendall(data)
    except OSError: pass
    s.close()
END
cat > take.py <<'END'
import socket, sys, time
end = time.monotonic() + 120
def take():
    s = socket.create_connection((sys.argv[1], 7001), 120)
    # The RST to a connection that nobody accepted any more may be the packet that is lost: probes bring another.
    for option, value in (socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 20):
        s.setsockopt(socket.IPPROTO_TCP, option, value)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.sendall(b"x")
    while s.recv(1 << 16): pass
while True:
    try: take()
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError): break
    assert time.monotonic() < end
print("the server has ended")
END
# The server: its peer sees the end, and the port is free at once for the next one.
for moment in $(moments 1 ${WHOLE:+1}3 0.7); do
    serve S 7001 python3 send.py $S; P=$PID
    $UC python3 take.py $S > took.said 2>&1 & Q=$!
    sleep $moment; kill -9 $P; wait $P || true
    wait $Q; grep -q 'the server has ended' took.said; echo "server killed: seen" >> results
done
# The client: the server goes on to the next one.
serve S 7001 python3 send.py $S
for moment in $(moments 2 ${WHOLE:+1}3 0.7); do
    $UC python3 take.py $S > took.said 2>&1 & Q=$!
    sleep $moment; kill -9 $Q; wait $Q || true
    took "client killed, the next one" $UC python3 -c "
import socket; s = socket.create_connection(('$S', 7001), 120); s.sendall(b'x')
print(s.makefile('rb').read(3000000) == open('file', 'rb').read())"
done
