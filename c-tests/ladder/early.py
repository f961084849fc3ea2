"""A download by a socket that an epoll set has, edge-triggered, before it connects. early.py ADDRESS"""
import select, socket, sys

s = socket.socket()
s.setblocking(False)
ready = select.epoll()
ready.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
s.connect_ex((sys.argv[1], 8080))


def wait(event):
    while not any(events & event for _, events in ready.poll(60)):
        pass


while True:  # an unconnected socket is writable, and hung up
    wait(select.EPOLLOUT)
    try:
        s.getpeername()
        break
    except OSError:
        pass
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
s.sendall(b"GET / HTTP/1.0\r\n\r\n")
got = b""
while True:
    try:
        block = s.recv(1 << 16)
    except BlockingIOError:
        wait(select.EPOLLIN)
        continue
    if not block:
        break
    got += block
sys.stdout.buffer.write(got.partition(b"\r\n\r\n")[2])
