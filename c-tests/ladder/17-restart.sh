# A stack server that is killed while programs run, and started again. Connections end, new calls say ENETDOWN until it
# is back, and the same programs go on then. The kernel's stack cannot be killed: there is nothing to compare with.
STACK=${STACKS##*:}
restart() {
    # The program knows its server by what the first one said.
    rm -f again.env
    env $(cat stack1.env) "$USERSOCK" serve --config "tun=tun1,addr=10.0.1.2/24,gw=10.0.1.1,control=/run/usersock/1" \
        > again.env 2> stack1.said & STACK=$!; STACKS="1:$STACK"
    until_ok begun $STACK again.env; cmp again.env stack1.env
}
serve S 7200 python3 "$LADDER/restart.py" peer $S
for _ in 1 2 3; do
    $UC python3 "$LADDER/restart.py" program $S > program.said 2>&1 & P=$!
    until_ok grep -q ready program.said
    kill -9 $STACK; wait $STACK || true; rm -f /run/usersock/1
    until_ok grep -q ENETDOWN program.said; ! ended $P
    restart
    wait $P; cat program.said >> results
done
# At any moment of a transfer: it ends, well or not.
for moment in $(moments 3 ${WHOLE:+2}4 0.5); do
    $UC timeout 100 python3 "$LADDER/restart.py" bulk $S > bulk.said 2>&1 & P=$!
    sleep $moment; kill -9 $STACK; wait $STACK || true; rm -f /run/usersock/1
    code=0; wait $P || code=$?; [ $code != 124 ]
    restart
done
took again $UC python3 "$LADDER/restart.py" bulk $S
