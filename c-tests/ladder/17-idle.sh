# Ten thousand connections that wait, and each of which still works.
ulimit -n $(ulimit -Hn)
N=2000; if [ -n "$WHOLE" ]; then N=10000; fi
if [ $(ulimit -n) -lt $((N + 100)) ]; then echo "ulimit -n is $(ulimit -n), too few for $N connections"; exit 1; fi
serve S 7000 python3 "$LADDER/idle.py" serve $S $N
took idle $UC python3 "$LADDER/idle.py" ask $S $N
wait $PID
