# A handler that runs a thousand times a second, with and without SA_RESTART, in blocking calls of both ends.
serve S 7100 python3 "$LADDER/storm.py" serve $S
for how in restart interrupt; do took $how $UC python3 "$LADDER/storm.py" $how $S; done
