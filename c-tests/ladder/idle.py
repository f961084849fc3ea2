"""Many idle connections, each of which echoes a line after all are there. idle.py serve|ask ADDRESS COUNT"""
import selectors, socket, sys

role, address, count = sys.argv[1], (sys.argv[2], 7000), int(sys.argv[3])
# So many at a time: with a segment of each at once the 500 packets of a TUN device's queue would be too few, and what
# is lost would be sent again by timers that go off at once, for minutes.
BATCH = 200
if role == "serve":
    listener = socket.create_server(address, backlog=128)
    connections = [listener.accept()[0] for _ in range(count)]
    # In the order in which they speak: where a handshake's last segment was lost, that is not the order of connecting.
    with selectors.DefaultSelector() as waiting:
        for connection in connections:
            waiting.register(connection, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                line = key.fileobj.recv(16)
                key.fileobj.sendall(line)
                if not line:
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()
else:
    connections = [socket.create_connection(address) for _ in range(count)]
    wrong = ended = 0
    batches = [connections[begin:begin + BATCH] for begin in range(0, count, BATCH)]
    for begin, some in zip(range(0, count, BATCH), batches):
        lines = [b"%d\n" % (begin + i) for i in range(len(some))]
        for connection, line in zip(some, lines):
            connection.sendall(line)
        wrong += sum(connection.recv(16) != line for connection, line in zip(some, lines))
    for some in batches:
        for connection in some:
            connection.shutdown(socket.SHUT_WR)
        ended += sum(connection.recv(16) == b"" for connection in some)
    print(wrong, "wrong,", count - ended, "not ended")
