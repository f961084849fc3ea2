# epoll_pwait; a socket that a set has before it connects.
cat > server.js <<'END'
require("http").createServer((q, r) => r.end(require("fs").readFileSync("file"))).listen(8080, process.argv[2]);
END
serve S 8080 node server.js $S
for i in 1 2 3; do took curl-$i $UC curl -fsS http://$S:8080/; done
took node $UC node -e "require('http').get('http://$S:8080/', r => r.pipe(process.stdout))"
took early $UC python3 "$LADDER/early.py" $S
