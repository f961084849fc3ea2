"""Many idle connections, each of which echoes a line after all are there. idle.py serve|ask ADDRESS COUNT"""
import socket, sys

role, address, count = sys.argv[1], (sys.argv[2], 7000), int(sys.argv[3])
if role == "serve":
    listener = socket.create_server(address, backlog=128)
    connections = [listener.accept()[0] for _ in range(count)]
    for connection in connections:
        connection.sendall(connection.recv(16))
else:
    connections = [socket.create_connection(address) for _ in range(count)]
    for i, connection in enumerate(connections):
        connection.sendall(b"%d\n" % i)
    wrong = sum(connection.recv(16) != b"%d\n" % i for i, connection in enumerate(connections))
    ended = sum(connection.recv(16) == b"" for connection in connections)
    print(count, "connections,", wrong, "wrong,", ended, "ended")
