# fork for each connection, latches, signalfd in epoll.
chown nobody . ; as="setpriv --reuid nobody --clear-groups"
$as initdb -D $DIR/data -A trust -U me > initdb.said 2>&1; echo 'host all all 10.0.0.0/8 trust' >> data/pg_hba.conf
$as $US postgres -D $DIR/data -h $S -k $DIR > postgres.said 2>&1 & P=$!; PIDS="$PIDS $P"; opened S 5432 $P
did initialize $UC pgbench -h $S -U me -i -q postgres
bench() { # NAME OPTIONS: no transaction fails
    local name=$1; shift
    did "$name" $UC pgbench -h $S -U me "$@" postgres; grep 'number of failed transactions' did.said >> results
}
bench kept -c ${WHOLE:+1}8 -j 4 -T ${WHOLE:+1}3
bench anew -C -c 4 -j 2 -T 2
