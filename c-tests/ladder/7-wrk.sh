# An epoll a thread, many connections.
. "$LADDER/nginx.sh"
conf own "daemon off; master_process off;" "server { listen $S:80; root $DIR; }"
serve S 80 nginx -c $DIR/own.conf
asks http://$S/small
for i in 1 2 3; do took $i $UC curl -fsS http://$S/file; done
