# Programs that run out of descriptors: accept and socket say EMFILE, and all is well again afterwards.
cat > few.py <<'END'
import errno, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
held, code = [], None
while code is None:
    try: held.append(socket.create_connection((sys.argv[1], 80)))
    except OSError as e: code = e.errno
print(errno.errorcode[code], len(held) > 200)
for s in held: s.close()
s = socket.create_connection((sys.argv[1], 80)); s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
print(s.makefile("rb").read().endswith(b"small\n"))
END
. "$LADDER/nginx.sh"
# A worker with fewer descriptors than connections that are asked of it.
conf own "daemon off; master_process off; worker_rlimit_nofile 64;" "server { listen $S:80; root $DIR; }"
sed -i 's/worker_connections 256/worker_connections 1024/' own.conf
(ulimit -n 256; exec $US nginx -c $DIR/own.conf) > nginx.said 2>&1 & PIDS="$PIDS $!"; opened S 80 $!
took few $UC python3 few.py $S
took after $UC curl -fsS http://$S/file
