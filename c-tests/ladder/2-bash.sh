# dup2, and a child that inherits a socket.
serve S 8000 python3 -m http.server 8000 -b $S
echo one line > text
# tail(1) inherits the socket, which a stack in the process cannot give it: the shell itself reads there.
READ='tail -n 1 <&3'
if [ $CLIENT_SIDE = P ]; then READ='while IFS= read -r line <&3; do last=$line; done; echo "$last"'; fi
took got $UC bash -c "exec 3<>/dev/tcp/$S/8000"'; printf "GET /text HTTP/1.0\r\n\r\n" >&3; '"$READ"
grep -q "got: status 0" results
