"""A load for memcached: threads that set values and get them back, for some seconds. load.py ADDRESS SECONDS"""
import random, socket, sys, threading, time

end = time.monotonic() + float(sys.argv[2])
good = []


def load(n):
    numbers, asked = random.Random(n), 0
    connection = socket.create_connection((sys.argv[1], 11211))
    answers = connection.makefile("rb")
    while asked < 50 or time.monotonic() < end:
        data = numbers.randbytes(numbers.randrange(1, 20000))
        connection.sendall(b"set k%d 0 0 %d\r\n" % (n, len(data)) + data + b"\r\nget k%d\r\n" % n)
        assert answers.readline() == b"STORED\r\n"
        assert answers.readline() == b"VALUE k%d 0 %d\r\n" % (n, len(data))
        assert answers.read(len(data) + 7) == data + b"\r\nEND\r\n"
        asked += 1
    good.append(n)


threads = [threading.Thread(target=load, args=(n,)) for n in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(good))
