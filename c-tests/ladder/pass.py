"""A server that forks for each connection, and clients that hand theirs on. pass.py HOW ADDRESS"""
import ctypes, errno, select, socket, socketserver, struct, subprocess, sys

how, address = sys.argv[1], (sys.argv[2], 9000)


libc = ctypes.CDLL(None, use_errno=True)


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("parts", ctypes.POINTER(Part)),
                ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int), ("pad", ctypes.c_int), ("len", ctypes.c_uint)]


def message(data, control):
    """Control data is a list of messages, or an address and a length."""
    if isinstance(control, list):
        # Each has one int.
        buffer = b"".join(struct.pack("@Nii4s4x", 20, level, kind, value) for level, kind, value in control)
        control = ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value, len(buffer)
        kept.append(buffer)
    return Message(None, 0, ctypes.pointer(Part(data, len(data))), 1, *(control or (None, 0)))


kept = []


def sendmmsg(s, messages):
    """The bytes of each that was sent."""
    vector = (Message * len(messages))(*(message(*m) for m in messages))
    n = libc.sendmmsg(s.fileno(), vector, len(messages), 0)
    if n == -1:
        raise OSError(ctypes.get_errno(), "sendmmsg")
    return [m.len for m in vector[:n]]


def refuses(s):
    """Control data that cannot be read, and such as is nobody's."""
    other = [(socket.SOL_SOCKET, 9999, bytes(4)), (socket.SOL_SOCKET, socket.SCM_RIGHTS, bytes(4))]
    for control, error in (((8, 64), errno.EFAULT), (other, errno.EINVAL)):
        m = message(b"x", control)
        for call, count in ((libc.sendmsg, ()), (libc.sendmmsg, (1,))):
            ctypes.set_errno(0)
            got = call(s.fileno(), ctypes.byref(m), *count, 0), ctypes.get_errno()
            assert got == (-1, error), (got, error)


# Several do not fit into a socket at once, and one is cut.
PIECE = 100_003


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with open("file", "rb") as file:
            data = file.read()
        # TCP ignores a descriptor that comes with a byte, alone and beside control data of another level; one that is
        # not open would be EBADF if it were looked at.
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 1 << 20))
        ttl = (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", 64))
        socket.send_fds(self.request, [data[:1]], [0])
        self.request.sendmsg([data[1:2]], [rights, ttl])
        self.request.sendmsg([data[2:3]], [ttl, rights])
        sent = sendmmsg(self.request, [(data[3:4], None), (data[4:5], [rights]), (data[5:6], [ttl, rights])])
        assert sent == [1, 1, 1], sent
        refuses(self.request)
        self.request.setblocking(False)
        at = 6
        while at < len(data):
            begins = range(at, min(at + 8 * PIECE, len(data)), PIECE)
            try:
                at += sum(sendmmsg(self.request, [(data[i:i + PIECE], [rights]) for i in begins]))
            except BlockingIOError:
                select.select([], [self.request], [])


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
