# Workers that share a listener, EPOLLEXCLUSIVE, SO_REUSEPORT; a reload under load; a new binary that has the listeners.
. "$LADDER/nginx.sh"
for reuse in "" reuseport; do
    conf own "worker_processes 4;" "server { listen $S:80 $reuse; root $DIR; }"
    # By its whole path, which it is replaced by.
    $US $(command -v nginx) -c $DIR/own.conf; until_ok listens S 80
    timeout 100 $UC wrk -t2 -c16 -d2 --timeout 60 http://$S/small > wrk.said & W=$!; sleep 0.5
    # As on the kernel, connections that are kept are reset, and no more than once each.
    kill -HUP $(cat own.pid); wait $W
    ! grep -E 'errors: connect [1-9]|write [1-9]|timeout [1-9]|Non-2xx' wrk.said
    took "reloaded $reuse" $UC curl -fsS http://$S/file
    old=$(cat own.pid); kill -USR2 $old
    until_ok test -s own.pid.oldbin; until_ok test -s own.pid
    kill -QUIT $old; until_ok test ! -e own.pid.oldbin
    [ "$(cat own.pid)" != $old ]
    took "replaced $reuse" $UC curl -fsS http://$S/file
    kill $(cat own.pid); until_ok test ! -e own.pid
done
