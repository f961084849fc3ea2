# epoll, edge-triggered and with EPOLLRDHUP; FIONREAD, sendfile, TCP_CORK; a proxy.
. "$LADDER/nginx.sh"
conf behind "daemon off; master_process off;" "server { listen $C:8000; root $DIR; }"
serve C 8000 nginx -c $DIR/behind.conf
conf front "daemon off; master_process off;" "
    server { listen $S:80; root $DIR; }
    server { listen $S:81; location / { proxy_pass http://$C:8000; } }"
serve S 80 nginx -c $DIR/front.conf
for port in 80 81; do for i in 1 2 3; do took $port-$i $UC curl -fsS http://$S:$port/file; done; done
asks http://$S/small; asks http://$S:81/small
did ab $UC ab -s 100 -k -n ${WHOLE:+2}2000 -c 20 http://$S/small
