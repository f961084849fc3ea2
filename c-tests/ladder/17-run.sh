# kill -9 of any process of `usersock run` at any moment: no process, no namespace and no file stays, and nothing hangs.
# A namespace of networks without a process is gone, and its devices with it.
export USERSOCK_DIR=/run/instances USERSOCK_PRELOAD=$SHIM; mkdir -m 700 $USERSOCK_DIR
nothing_left() { ! ps -eo comm= | grep -qE 'usersock|python3'; }
no_files() { "$USERSOCK" ps > /dev/null; [ -z "$(ls $USERSOCK_DIR)" ]; }
child() { ps -eo pid=,ppid=,comm= | awk -v parent="$1" -v name=$2 '$2 == parent && $3 ~ name { print $1; exit }'; }
for who in program stack keeper launcher; do
    for moment in $(moments 4 ${WHOLE:+1}3 0.8); do
        "$USERSOCK" run --instance x -- python3 "$LADDER/busy.py" $who > run.said 2>&1 & L=$!
        sleep $moment
        keeper=$(child $L usersock)
        case $who in
        program) victim=$(child "$keeper" python3) ;;
        stack) victim=$(child "$keeper" usersock-server) ;;
        keeper) victim=$keeper ;;
        launcher) victim=$L ;;
        esac
        # What is not there yet, or has become another process by now, leaves it to the launcher.
        kill -9 ${victim:-$L} 2>/dev/null || kill -9 $L 2>/dev/null || true
        until_ok ended $L; code=0; wait $L || code=$?; [ $code != 0 ]
        until_ok nothing_left; until_ok no_files
        echo "$who killed: nothing left" >> results
    done
done
