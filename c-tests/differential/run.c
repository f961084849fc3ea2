/* Runs a sequence's calls: the numbers of an op become the arguments of a function of calls.h. */
#include "sys.h"
#include "calls.h"
#include "sequence.h"
#include "served.h"

#define RUN(name, ...)                                                                                                 \
    static void run_##name(const int *a)                                                                               \
    {                                                                                                                  \
        call_##name(__VA_ARGS__);                                                                                      \
    }

RUN(socket, a[0], a[1], a[2], a[3])
RUN(bind, a[0], names[a[1]], lens[a[2]])
RUN(connect, a[0], names[a[1]], lens[a[2]])
RUN(listen, a[0], a[1])
RUN(accept, a[0], a[1], a[2], a[3])
RUN(shutdown, a[0], a[1])
RUN(close, a[0])
RUN(dup, a[0], a[1])
RUN(dup2, a[0], a[1])
RUN(dup3, a[0], a[1], a[2])
RUN(dupfd, a[0], a[1], a[2] ? F_DUPFD_CLOEXEC : F_DUPFD, a[3])
RUN(pass, a[0], a[1], a[2])
RUN(send, a[0], forms[a[1]], a[2], a[3])
RUN(sendto, a[0], forms[a[1]], a[2], a[3], names[a[4]], lens[a[5]])
RUN(write, a[0], forms[a[1]], a[2])
RUN(writev, a[0], forms[a[1]], a[2], shapes[a[3]])
RUN(sendmsg, a[0], forms[a[1]], a[2], shapes[a[3]], a[4], names[a[5]], lens[a[6]], controls[a[7]])
RUN(sendmmsg, a[0], forms[a[1]], a[2], a[3], a[4], names[a[5]], a[6])
RUN(recv, a[0], intos[a[1]], a[2], a[3])
RUN(read, a[0], intos[a[1]], a[2])
RUN(readv, a[0], intos[a[1]], a[2], shapes[a[3]])
RUN(recvfrom, a[0], intos[a[1]], a[2], a[3], a[4])
RUN(recvmsg, a[0], intos[a[1]], a[2], shapes[a[3]], a[4], a[5], a[6])
RUN(recvmmsg, a[0], a[1], a[2], a[3], a[4])
RUN(getsockname, a[0], a[1])
RUN(getpeername, a[0], a[1])
RUN(setsockopt, a[0], options[a[1]].level, options[a[1]].name, value_text(a[1], a[2]), lens[a[3]])
RUN(getsockopt, a[0], options[a[1]].level, options[a[1]].name, a[2])
RUN(fcntl, a[0], command_value(a[1]), a[2])
RUN(ioctl, a[0], (unsigned long)request_value(a[1]), a[2])
RUN(poll, a[0], a[1], a[2])
RUN(epoll_create, a[0], a[1])
RUN(epoll_ctl, a[0], a[1], a[2], (unsigned)a[3], event_forms[a[4]])
RUN(epoll_wait, a[0], intos[a[1]], a[2])
RUN(select, a[0], a[1], a[2], a[3], a[4], a[5])
RUN(sendfile, ends[a[0]], ends[a[1]], offsets[a[2]], counts[a[3]])
RUN(splice, ends[a[0]], offsets[a[1]], ends[a[2]], offsets[a[3]], counts[a[4]], (unsigned)a[5], a[6])
RUN(sleep, a[0])

#define ROW(name, ...) {#name, {__VA_ARGS__}, run_##name}
const int op_count = CALL_COUNT;
const struct call_row calls[CALL_COUNT] = {
    [C_SOCKET] = ROW(socket, A_INT, A_DOMAIN, A_TYPE, A_PROTO),
    [C_BIND] = ROW(bind, A_SLOT, A_NAME, A_LEN),
    [C_CONNECT] = ROW(connect, A_SLOT, A_NAME, A_LEN),
    [C_LISTEN] = ROW(listen, A_SLOT, A_INT),
    [C_ACCEPT] = ROW(accept, A_SLOT, A_INT, A_INT, A_INT),
    [C_SHUTDOWN] = ROW(shutdown, A_SLOT, A_INT),
    [C_CLOSE] = ROW(close, A_SLOT),
    [C_DUP] = ROW(dup, A_SLOT, A_INT),
    [C_DUP2] = ROW(dup2, A_SLOT, A_INT),
    [C_DUP3] = ROW(dup3, A_SLOT, A_INT, A_FD_FLAGS),
    [C_DUPFD] = ROW(dupfd, A_SLOT, A_INT, A_DUPFD, A_INT),
    [C_PASS] = ROW(pass, A_SLOT, A_INT, A_FLAGS),
    [C_SEND] = ROW(send, A_SLOT, A_FORM, A_INT, A_FLAGS),
    [C_SENDTO] = ROW(sendto, A_SLOT, A_FORM, A_INT, A_FLAGS, A_NAME, A_LEN),
    [C_WRITE] = ROW(write, A_SLOT, A_FORM, A_INT),
    [C_WRITEV] = ROW(writev, A_SLOT, A_FORM, A_INT, A_SHAPE),
    [C_SENDMSG] = ROW(sendmsg, A_SLOT, A_FORM, A_INT, A_SHAPE, A_FLAGS, A_NAME, A_LEN, A_CONTROL),
    [C_SENDMMSG] = ROW(sendmmsg, A_SLOT, A_FORM, A_INT, A_INT, A_FLAGS, A_NAME, A_INT),
    [C_RECV] = ROW(recv, A_SLOT, A_INTO, A_INT, A_FLAGS),
    [C_READ] = ROW(read, A_SLOT, A_INTO, A_INT),
    [C_READV] = ROW(readv, A_SLOT, A_INTO, A_INT, A_SHAPE),
    [C_RECVFROM] = ROW(recvfrom, A_SLOT, A_INTO, A_INT, A_FLAGS, A_INT),
    [C_RECVMSG] = ROW(recvmsg, A_SLOT, A_INTO, A_INT, A_SHAPE, A_FLAGS, A_INT, A_INT),
    [C_RECVMMSG] = ROW(recvmmsg, A_SLOT, A_INT, A_INT, A_FLAGS, A_INT),
    [C_GETSOCKNAME] = ROW(getsockname, A_SLOT, A_INT),
    [C_GETPEERNAME] = ROW(getpeername, A_SLOT, A_INT),
    [C_SETSOCKOPT] = ROW(setsockopt, A_SLOT, A_OPTION, A_VALUE, A_LEN),
    [C_GETSOCKOPT] = ROW(getsockopt, A_SLOT, A_OPTION, A_INT),
    [C_FCNTL] = ROW(fcntl, A_SLOT, A_COMMAND, A_INT),
    [C_IOCTL] = ROW(ioctl, A_SLOT, A_REQUEST, A_INT),
    [C_POLL] = ROW(poll, A_EVENTS, A_INT, A_INT),
    [C_EPOLL_CREATE] = ROW(epoll_create, A_INT, A_INT),
    [C_EPOLL_CTL] = ROW(epoll_ctl, A_SLOT, A_EPOLL_OP, A_SLOT, A_EPOLL_EVENTS, A_EVENT_FORM),
    [C_EPOLL_WAIT] = ROW(epoll_wait, A_SLOT, A_INTO, A_INT),
    [C_SELECT] = ROW(select, A_INT, A_INT, A_INT, A_INT, A_INT, A_INT),
    [C_SENDFILE] = ROW(sendfile, A_END, A_END, A_OFFSET, A_COUNT),
    [C_SPLICE] = ROW(splice, A_END, A_OFFSET, A_END, A_OFFSET, A_COUNT, A_SPLICE, A_INT),
    [C_SLEEP] = ROW(sleep, A_INT),
};

void print_call(const struct op *op)
{
    const struct call_row *c = &calls[op->call];
    printf("call_%s(", c->name);
    for (int i = 0; i < MAX_ARGS && c->args[i] != A_NONE; i++) {
        printf("%s", i ? ", " : "");
        print_arg(c->args[i], op->a, i);
    }
    printf(");");
}

void run_op(const struct op *op)
{
    calls[op->call].run(op->a);
    let_server_work();
}

bool settles(const struct op *op)
{
    (void)op;
    return true;
}

void begin_sequence(void)
{
    begin_calls();
    /* A server's connect takes its time. */
    if (mostly_tcp)
        patience_us = 20000;
    new_network();
    let_server_work();
}

/* What a slot's later socket took the place of stays open until here: closing is a call like the others. */
void end_sequence(void)
{
    for (int i = 0; i < opened_count; i++)
        if (opened[i] >= 0)
            sys->close(opened[i]);
    end_network();
}
