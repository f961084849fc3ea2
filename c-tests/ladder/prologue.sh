# What each script of the ladder begins with; play.rs says what it finds in its environment. A command that fails ends
# the script, and what it printed is shown.
set -eE
cd "$DIR"
: > results
PIDS= STACKS=
# sshd and others have files there.
mount -t tmpfs tmpfs /run; mkdir -m 700 /run/usersock
trap 'code=$?; echo "line $LINENO: $BASH_COMMAND"; tail -n 20 *.said 2>/dev/null; exit $code' ERR

# Waits until a command succeeds.
until_ok() { for _ in $(seq 3000); do if "$@"; then return; fi; sleep 0.02; done; echo "in vain: $*"; return 1; }

ended() { ! kill -0 $1 2>/dev/null; }
begun() { [ -s $2 ] || ended $1; }

# Starts the stack of a side, and makes a program that puts others on it.
side() { # NUMBER K|U|P LINK
    local on=$DIR/on$1 config="tun=tun$1,addr=10.0.$1.2/24,gw=10.0.$1.1,control=/run/usersock/$1$3"
    ip tuntap add dev tun$1 mode tun; ip addr add 10.0.$1.1/24 dev tun$1; ip link set tun$1 up
    case $2 in
    K) echo 'exec "$@"' ;;
    P) echo "exec '$STRICT' env 'USERSOCK_CONFIG=$config' 'LD_PRELOAD=$SHIM' \"\$@\"" ;;
    U)
        "$USERSOCK" serve --config "$config" > stack$1.env 2> stack$1.said & STACKS="$STACKS $1:$!"
        until_ok begun $! stack$1.env; test -s stack$1.env
        echo "exec '$STRICT' env $(cat stack$1.env) 'LD_PRELOAD=$SHIM' \"\$@\"" ;;
    esac > $on.sh
    { echo '#!/bin/sh'; cat $on.sh; } > $on; chmod 755 $on; rm $on.sh
}
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
# What the link loses it loses once on the way.
case $SERVER_SIDE in
K) side 0 K; side 1 $CLIENT_SIDE "$LINK" ;;
*) side 0 $SERVER_SIDE "$LINK"; side 1 $CLIENT_SIDE ;;
esac
US=$DIR/on0; UC=$DIR/on1
S=10.0.0.2; if [ $SERVER_SIDE = K ]; then S=10.0.0.1; fi
C=10.0.1.2; if [ $CLIENT_SIDE = K ]; then C=10.0.1.1; fi

# Sockets of a side that a filter of ss(8) chooses.
sockets() { # S|C FILTER
    case $1 in S) local n=0 side=$SERVER_SIDE ;; C) local n=1 side=$CLIENT_SIDE ;; esac
    if [ $side = K ]; then ss -Htan "$2"; else "$USERSOCK" ss -N /run/usersock/$n -Htan $2; fi
}
listens() { [ -n "$(sockets $1 "sport = :$2" 2>/dev/null | grep LISTEN)" ]; }
# Waits until a process listens, and fails when it ends instead.
opened() { # S|C PORT PID
    listens_or_ended() { listens $1 $2 || ended $3; }
    until_ok listens_or_ended "$@"; listens $1 $2
}
# Starts a server on a side, and waits until its port is open.
serve() { # S|C PORT COMMAND...
    local where=$1 port=$2 on=$US; shift 2
    if [ $where = C ]; then on=$UC; fi
    $on "$@" > server$port.said 2>&1 & PID=$!; PIDS="$PIDS $PID"
    opened $where $port $PID
}
# Ends a server.
stop() { kill $1; wait $1 || true; }
# Records a command's exit status and the sum of what it printed.
took() { # NAME COMMAND...
    local name=$1 code=0; shift
    timeout 300 "$@" > took.out 2> took.said || code=$?
    echo "$name: status $code, $(sha256sum < took.out | cut -c-16)" >> results
}
# Records that a command succeeds, which it must.
did() { # NAME COMMAND...
    local name=$1; shift
    timeout 300 "$@" > did.said 2>&1
    echo "$name: done" >> results
}
# Moments, in seconds, by the seed of the run.
moments() { # NUMBER COUNT MOST
    awk -v seed=$((SEED * 100 + $1)) -v count=$2 -v most=$3 \
        'BEGIN { srand(seed); for (i = 0; i < count; i++) printf "%.3f ", rand() * most }'
}
# The programs have ended: the stacks know of no socket any more, and end as they are told.
no_sockets() { [ -z "$("$USERSOCK" ss -N /run/usersock/$1 -Htan exclude time-wait)" ]; }
finish() {
    local p stack
    for p in $PIDS; do kill $p 2>/dev/null || true; done
    for p in $PIDS; do wait $p || true; done
    # Where both sides are usersock's the kernel only forwards, and its TCP has connected and accepted nothing.
    if [ $SERVER_SIDE$CLIENT_SIDE = UU ]; then
        awk '/^Tcp:/ && $6 != "ActiveOpens" && ($6 || $7) { print "kernel TCP: " $0; exit 1 }' /proc/net/snmp
    fi
    for stack in $STACKS; do
        until_ok no_sockets ${stack%:*}
        kill ${stack#*:}; wait ${stack#*:}
    done
    # What a sanitizer has to say of any process.
    if ls /run/report.* > /dev/null 2>&1; then head -n 60 /run/report.*; return 1; fi
}
