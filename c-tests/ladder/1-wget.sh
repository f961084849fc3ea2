# One thread: blocking connect, select, MSG_PEEK.
serve S 8000 python3 -m http.server 8000 -b $S
for i in 1 2 3; do took $i $UC wget -qO- http://$S:8000/file; done
took missing $UC wget -qO- http://$S:8000/nothing
