"""Processes that send to each other without end, until one fails."""
import ctypes, os, signal, socket, sys

listener = socket.create_server(("10.0.0.2", 7300))
parent = os.getpid()
if os.fork() == 0:
    # PR_SET_PDEATHSIG: what a program leaves behind would go on, as it should.
    if sys.argv[1] in ("program", "stack"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    while True:
        connection, _ = listener.accept()
        try:
            while block := connection.recv(1 << 16):
                connection.sendall(block)
        except ConnectionError:
            pass
        connection.close()
while True:
    s = socket.create_connection(("10.0.0.2", 7300))
    for _ in range(20):
        s.sendall(b"x" * 50000)
        left = 50000
        while left:
            block = s.recv(left)
            assert block
            left -= len(block)
    s.close()
