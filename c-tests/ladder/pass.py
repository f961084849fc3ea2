"""A server that forks for each connection, and clients that hand theirs on. pass.py HOW ADDRESS"""
import socket, socketserver, subprocess, sys

how, address = sys.argv[1], (sys.argv[2], 9000)


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with open("file", "rb") as file:
            data = file.read()
        # TCP ignores a descriptor that comes with a byte.
        socket.send_fds(self.request, [data[:1]], [0])
        self.request.sendall(data[1:])


class Forking(socketserver.ForkingMixIn, socketserver.TCPServer):
    allow_reuse_address = True


def fetch(s):
    while block := s.recv(1 << 16):
        sys.stdout.buffer.write(block)


if how == "serve":
    Forking(address, Handler).serve_forever()
s = socket.create_connection(address)
if how == "fork":
    fetch(s)
elif how == "pass_fds":
    sys.exit(subprocess.run(["sh", "-c", f"cat <&{s.fileno()}"], pass_fds=[s.fileno()]).returncode)
elif how == "rights":
    a, b = socket.socketpair()
    socket.send_fds(a, [b"x"], [s.fileno()])
    s.close()
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    passed = socket.socket(fileno=fds[0], family=socket.AF_INET, type=socket.SOCK_STREAM)
    assert passed.getpeername() == address
    fetch(passed)
elif how == "makefile":
    sys.stdout.buffer.write(s.makefile("rb").read())
