# Ten thousand connections that wait, and each of which still works.
ulimit -n $(ulimit -Hn)
# Connected one by one: of 10,000 each SYN that a lossy link loses would cost a second.
N=2000; if [ -n "$LINK" ]; then N=500; elif [ -n "$WHOLE" ]; then N=10000; fi
if [ $(ulimit -n) -lt $((N + 100)) ]; then echo "ulimit -n is $(ulimit -n), too few for $N connections"; exit 1; fi
serve S 7000 python3 "$LADDER/idle.py" serve $S $N
took idle $UC python3 "$LADDER/idle.py" ask $S $N
wait $PID
