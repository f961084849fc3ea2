"""Echoes a file through a storm of SIGALRM. storm.py serve|restart|interrupt ADDRESS"""
import signal, socket, sys, threading

role, address = sys.argv[1], (sys.argv[2], 7100)
count = 0


def handler(*_):
    global count
    count += 1


signal.signal(signal.SIGALRM, handler)
signal.siginterrupt(signal.SIGALRM, role == "interrupt")
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
if role == "serve":
    listener = socket.create_server(address)
    while True:
        connection, _ = listener.accept()
        while block := connection.recv(1 << 16):
            connection.sendall(block)
        connection.close()
with open("file", "rb") as file:
    data = file.read()
for _ in range(3):
    s = socket.create_connection(address)
    # The handler runs in the main thread, which receives.
    sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    sender.start()
    got = b""
    while block := s.recv(1 << 16):
        got += block
    sender.join()
    assert got == data, len(got)
while count < 100:
    signal.pause()
print("echoed")
