# epoll, level-triggered; writev.
serve S 6379 redis-server --port 6379 --bind $S --protected-mode no --save '' --dir $DIR
did benchmark $UC redis-benchmark -h $S -t set,get -c 50 -n ${WHOLE:+5}20000 -P 16 --csv
did one-by-one $UC redis-benchmark -h $S -t set,get -c 50 -n 2000 --csv
took set $UC redis-cli -h $S -x set file < file
took get $UC redis-cli -h $S get file
$UC redis-cli -h $S shutdown nosave || true; wait $PID
