"""Many idle connections, each of which echoes a line after all are there. idle.py serve|ask ADDRESS COUNT"""
import socket, sys

role, address, count = sys.argv[1], (sys.argv[2], 7000), int(sys.argv[3])
# So many at a time: with a segment of each at once the 500 packets of a TUN device's queue would be too few, and what
# is lost would be sent again by timers that go off at once, for minutes.
BATCH = 200
if role == "serve":
    listener = socket.create_server(address, backlog=128)
    connections = [listener.accept()[0] for _ in range(count)]
    for connection in connections:
        connection.sendall(connection.recv(16))
    for connection in connections:
        assert connection.recv(16) == b""
        connection.close()
else:
    connections = [socket.create_connection(address) for _ in range(count)]
    wrong = ended = 0
    for begin in range(0, count, BATCH):
        some = range(begin, begin + BATCH)
        for i in some:
            connections[i].sendall(b"%d\n" % i)
        wrong += sum(connections[i].recv(16) != b"%d\n" % i for i in some)
    for begin in range(0, count, BATCH):
        some = range(begin, begin + BATCH)
        for i in some:
            connections[i].shutdown(socket.SHUT_WR)
        ended += sum(connections[i].recv(16) == b"" for i in some)
    print(wrong, "wrong,", count - ended, "not ended")
