"""Programs on a stack server that dies under them. restart.py peer|program|bulk ADDRESS"""
import errno, os, socket, sys, threading, time

role, address = sys.argv[1], (sys.argv[2], 7200)


def echo(connection):
    try:
        while block := connection.recv(1 << 16):
            connection.sendall(block)
    except OSError:
        pass
    connection.close()


def peer():
    listener = socket.create_server(address)
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def program():
    s = socket.create_connection(address)
    s.sendall(b"x")
    assert s.recv(1) == b"x"
    print("ready", flush=True)
    try:
        assert s.recv(1) == b"", "bytes from a dead server"
    except ConnectionResetError:
        pass
    print("ended", flush=True)
    said = False
    while True:
        try:
            s = socket.create_connection(address)
            break
        except OSError as e:
            # Such a call may be on its way while the server comes back.
            assert e.errno in (errno.ENETDOWN, errno.ECONNREFUSED, errno.ECONNRESET), e
            if e.errno == errno.ENETDOWN and not said:
                said = True
                print("ENETDOWN", flush=True)
            time.sleep(0.05)
    s.sendall(b"y")
    assert s.recv(1) == b"y"
    listener = socket.create_server(("", 0))
    c = socket.create_connection(listener.getsockname())
    listener.accept()[0].sendall(b"z")
    assert c.recv(1) == b"z"
    print("again", flush=True)


def bulk():
    with open("file", "rb") as file:
        data = file.read()
    s = socket.create_connection(address)
    sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    sender.start()
    got = b""
    while block := s.recv(1 << 16):
        got += block
    sender.join()
    print(len(got))


{"peer": peer, "program": program, "bulk": bulk}[role]()
