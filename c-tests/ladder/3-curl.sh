# Non-blocking connect, SO_ERROR, poll with descriptors of both kinds.
serve S 8000 python3 -m http.server 8000 -b $S
took file $UC curl -fsS http://$S:8000/file
took refused $UC curl -s http://$S:1/
took silent $UC curl -sm1 http://10.0.0.99/
took missing $UC curl -fs http://$S:8000/nothing
took parallel $UC curl -fsSZ $(for i in $(seq 20); do echo -o f$i http://$S:8000/file; done)
for i in $(seq 20); do took parallel-$i cat f$i; done
