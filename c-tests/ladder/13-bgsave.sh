# fork with live sockets: a daemon that saves while it serves.
$US redis-server --port 6379 --bind $S --protected-mode no --daemonize yes --io-threads 4 --dir $DIR \
    --pidfile $DIR/redis.pid --save '' --logfile $DIR/redis.said
until_ok listens S 6379
did benchmark $UC redis-benchmark -h $S -t set,get -c 50 -n ${WHOLE:+2}20000 -P 16 --csv & B=$!
for i in 1 2 3; do $UC redis-cli -h $S bgsave; sleep 0.3; done; $UC redis-cli -h $S bgrewriteaof
wait $B
took set $UC redis-cli -h $S -x set file < file
took get $UC redis-cli -h $S get file
$UC redis-cli -h $S shutdown save || true
until_ok test ! -e redis.pid; [ -s dump.rdb ]
