/* Threads with the least stack: the C library takes each thread's part of our thread-local memory from it, so a library
 * that has much of that makes pthread_create(3) fail in programs whose threads have nothing to do with sockets. */
#include "common.h"
#include <limits.h>
#include <pthread.h>

static int ends[2];

static void *say(void *arg)
{
    EQ(usk_write(ends[1], arg, 1), 1);
    return arg;
}

int main(void)
{
    begin("small_stack");
    OK(pipe(ends));
    /* The library has begun to work: what it makes at its first call is there. */
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));

    pthread_attr_t attr;
    EQ(pthread_attr_init(&attr), 0);
    EQ(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN), 0);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        char byte = 0;
        EQ(pthread_create(&thread, &attr, say, "abcdefgh" + i), 0);
        EQ(pthread_join(thread, NULL), 0);
        EQ(usk_read(ends[0], &byte, 1), 1);
        EQ(byte, 'a' + i);
    }
    EQ(pthread_attr_destroy(&attr), 0);
    OK(usk_close(fd));
    return done();
}
