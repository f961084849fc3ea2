/* Threads that share sockets: several writers of framed records and several readers on one connection; every byte is
 * accounted for, each record arrives whole and each writer's in order. Several threads accept from one listener. */
#include "common.h"

enum { WRITERS = 4, RECORDS = 3000, READERS = 3, RECORD = 512 };

struct record {
    uint32_t writer, number;
    unsigned char body[RECORD - 8];
};

static int conn[2];
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER, reading = PTHREAD_MUTEX_INITIALIZER;
static uint32_t expected[WRITERS]; /* under `reading` */
static long records_read;          /* under `reading` */

static void *writer(void *arg)
{
    struct record r = {.writer = (uint32_t)(intptr_t)arg};
    for (uint32_t n = 0; n < RECORDS; n++) {
        r.number = n;
        for (size_t i = 0; i < sizeof r.body; i++)
            r.body[i] = pattern(r.writer, (uint64_t)n * sizeof r.body + i);
        /* A blocking send that waits for room releases the socket meanwhile, so another thread's bytes may get into the
         * middle of the record, as on Linux. The mutex keeps the record whole. */
        CHECK(pthread_mutex_lock(&writing) == 0);
        EQ(usk_send(conn[0], &r, sizeof r, 0), sizeof r);
        CHECK(pthread_mutex_unlock(&writing) == 0);
    }
    return NULL;
}

static void *reader(void *arg)
{
    (void)arg;
    struct record r;
    for (;;) {
        /* WAITALL may let another thread in while it sleeps; the mutex keeps a record in one thread's hands. */
        CHECK(pthread_mutex_lock(&reading) == 0);
        long n = OK(usk_recv(conn[1], &r, sizeof r, MSG_WAITALL));
        if (n == 0) {
            CHECK(pthread_mutex_unlock(&reading) == 0);
            return NULL;
        }
        EQ(n, sizeof r);
        CHECK(r.writer < WRITERS);
        EQ(r.number, expected[r.writer]);
        expected[r.writer]++;
        records_read++;
        for (size_t i = 0; i < sizeof r.body; i++)
            CHECK(r.body[i] == pattern(r.writer, (uint64_t)r.number * sizeof r.body + i));
        CHECK(pthread_mutex_unlock(&reading) == 0);
    }
}

/* Readers without a mutex: the order among threads is open, the sum is not. */
struct tally {
    uint64_t bytes, sum;
};

static void *free_reader(void *arg)
{
    struct tally *t = arg;
    unsigned char buf[1500];
    for (;;) {
        long n = OK(usk_recv(conn[1], buf, sizeof buf, 0));
        if (n == 0)
            return NULL;
        t->bytes += (uint64_t)n;
        for (long i = 0; i < n; i++)
            t->sum += buf[i];
    }
}

static void *free_writer(void *arg)
{
    struct tally *t = arg;
    unsigned char buf[999];
    for (uint64_t round = 0; round < 1500; round++) {
        for (size_t i = 0; i < sizeof buf; i++)
            buf[i] = pattern(round, i + t->bytes);
        send_all(conn[0], buf, sizeof buf);
        for (size_t i = 0; i < sizeof buf; i++)
            t->sum += buf[i];
        t->bytes += sizeof buf;
    }
    return NULL;
}

static int shared_listener;

static void *acceptor(void *arg)
{
    long count = 0;
    (void)arg;
    for (;;) {
        int fd = (int)OK(usk_accept(shared_listener, NULL, NULL));
        char c;
        EQ(usk_recv(fd, &c, 1, 0), 1);
        OK(usk_send(fd, &c, 1, 0));
        OK(usk_close(fd));
        if (c == 'q')
            return (void *)count;
        count++;
    }
}

int main(void)
{
    begin("threads_share");
    pthread_t w[WRITERS], r[READERS];

    tcp_pair(AF_INET, conn);
    for (intptr_t i = 0; i < WRITERS; i++)
        w[i] = spawn(writer, (void *)i);
    for (int i = 0; i < READERS; i++)
        r[i] = spawn(reader, NULL);
    for (int i = 0; i < WRITERS; i++)
        join(w[i]);
    OK(usk_shutdown(conn[0], SHUT_WR));
    for (int i = 0; i < READERS; i++)
        join(r[i]);
    EQ(records_read, WRITERS * RECORDS);
    close_pair(conn);

    tcp_pair(AF_INET6, conn);
    struct tally in[READERS] = {0}, out[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++)
        w[i] = spawn(free_writer, &out[i]);
    for (int i = 0; i < READERS; i++)
        r[i] = spawn(free_reader, &in[i]);
    for (int i = 0; i < WRITERS; i++)
        join(w[i]);
    OK(usk_shutdown(conn[0], SHUT_WR));
    for (int i = 0; i < READERS; i++)
        join(r[i]);
    struct tally a = {0}, b = {0};
    for (int i = 0; i < WRITERS; i++)
        a.bytes += out[i].bytes, a.sum += out[i].sum;
    for (int i = 0; i < READERS; i++)
        b.bytes += in[i].bytes, b.sum += in[i].sum;
    EQ(b.bytes, a.bytes);
    EQ(b.sum, a.sum);
    close_pair(conn);

    /* Each connection goes to exactly one of the threads asleep in accept. */
    shared_listener = listener(local(AF_INET), 64);
    struct addr to = sock_name(shared_listener);
    for (int i = 0; i < READERS; i++)
        r[i] = spawn(acceptor, NULL);
    enum { CALLS = 200 };
    for (int i = 0; i < CALLS + READERS; i++) {
        int fd = connected(SOCK_STREAM, to);
        char c = i < CALLS ? 'c' : 'q', d = 0;
        OK(usk_send(fd, &c, 1, 0));
        EQ(usk_recv(fd, &d, 1, 0), 1);
        EQ(d, c);
        OK(usk_close(fd));
    }
    long total = 0;
    for (int i = 0; i < READERS; i++) {
        void *n;
        CHECK(pthread_join(r[i], &n) == 0);
        total += (long)(intptr_t)n;
    }
    EQ(total, CALLS);
    OK(usk_close(shared_listener));
    return done();
}
