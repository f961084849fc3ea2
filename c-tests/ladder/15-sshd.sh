# fork, a second exec, a seccomp filter, a terminal, close_range; a forwarded port.
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key
chmod 700 . ; cp key.pub authorized
serve S 2222 /usr/sbin/sshd -D -e -p 2222 -o ListenAddress=$S -h $DIR/host -o PidFile=none \
    -o AuthorizedKeysFile=$DIR/authorized -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes \
    -o 'Subsystem=sftp internal-sftp' -f /dev/null
options="-i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -F /dev/null"
took command $UC ssh $options -p 2222 $S 'echo through; exit 3'
took terminal $UC ssh $options -tt -p 2222 $S 'test -t 0 && echo terminal'
took input $UC ssh $options -p 2222 $S 'sha256sum' < file
# A file of some size when there is time for it.
if [ -n "$WHOLE" ]; then for _ in $(seq 30); do cat file; done > large; else ln file large; fi
took scp $UC scp -q $options -P 2222 large $S:$DIR/copy; took copied cat copy
took back $UC scp -q $options -P 2222 $S:$DIR/copy back; took copied-back cat back
serve S 8000 python3 -m http.server 8000 -b $S
$UC ssh $options -N -L $C:9100:$S:8000 -p 2222 $S > forward.said 2>&1 & PIDS="$PIDS $!"; opened C 9100 $!
took forwarded $UC curl -fsS http://$C:9100/file
