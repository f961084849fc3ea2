# The shim does programs no harm: constructors, early calls, children.
took true $UC true
took pipe $UC bash -c 'ls / | grep -c usr'
took ssl $UC python3 -c 'import ssl'
took gawk $UC gawk 'BEGIN { print 7 }'
took status $UC sh -c 'echo a; exit 3'
# A program that asks the kernel for a TCP socket does not live on.
took escaped "$STRICT" python3 -c 'import socket; socket.socket(socket.AF_INET6)'
grep -q 'escaped: status 159' results
