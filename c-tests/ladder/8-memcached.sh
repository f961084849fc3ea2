# accept in one thread, use in another; a program that gives up its rights before its first socket.
USER=root; if [ -n "$OTHER_USERS" ]; then USER=nobody; fi
serve S 11211 memcached -l $S -t 4 -U 0 -u $USER
for i in 1 2 3 4; do
    printf 'set a%d 0 0 5\r\nhello\r\nget a%d\r\nquit\r\n' $i $i > ask
    took nc-$i $UC nc -N $S 11211 < ask
done
took load $UC python3 "$LADDER/load.py" $S ${WHOLE:+1}0
