# Streams that are closed one way.
timeout 300 $US nc -l $S 9000 > got & P=$!; PIDS="$PIDS $P"; opened S 9000 $P
took sent $UC nc -N $S 9000 < file; wait $P; took got cat got
timeout 300 $US nc -N -l $S 9001 < file & P=$!; PIDS="$PIDS $P"; opened S 9001 $P
took received $UC nc -d $S 9001; wait $P
