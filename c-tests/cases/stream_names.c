/* The names that a stream's messages have: none, whichever call asks; and who the ends are, of each kind of socket. */
#include "common.h"

/* How a call asks for the name, and what becomes of the room for it. */
struct row {
    const char *what;
    bool room;      /* a buffer for the name */
    int given;      /* its size as the program says it */
    int after;      /* what the call leaves there */
    int error;
};
static const struct row rows[] = {
    {"a name", true, sizeof(struct sockaddr_storage), 0, 0},
    {"half a name", true, 5, 0, 0},
    {"no bytes of a name", true, 0, 0, 0},
    {"no buffer, but a size", false, 77, 77, 0},
    {"a size below 0", true, -1, -1, EINVAL},
};

static struct sockaddr_storage room;

static bool untouched(void)
{
    for (size_t i = 0; i < sizeof room; i++)
        if (((unsigned char *)&room)[i] != 0xee)
            return false;
    return true;
}

static struct msghdr header(const struct row *r, struct iovec *iov)
{
    memset(&room, 0xee, sizeof room);
    return (struct msghdr){
        .msg_name = r->room ? &room : NULL, .msg_namelen = (socklen_t)r->given, .msg_iov = iov, .msg_iovlen = 1};
}

/* The result, where `want` is it unless the row has an error. */
static void gives(const struct row *r, long got, long want)
{
    if (r->error)
        err_at(__FILE__, __LINE__, r->what, got, r->error);
    else
        eq_at(__FILE__, __LINE__, r->what, got, want);
    CHECK(untouched());
}

static void of_messages(int fd[2])
{
    char byte[4];
    struct iovec iov = {byte, 1}, iovs[4] = {{byte, 1}, {byte + 1, 1}, {byte + 2, 1}, {byte + 3, 1}};
    for (int i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        send_all(fd[0], "abcdefgh", 8);
        await_bytes(fd[1], 8);
        struct msghdr m = header(r, &iov);
        gives(r, usk_recvmsg(fd[1], &m, 0), 1);
        EQ((int)m.msg_namelen, r->after);
        m = header(r, &iov);
        err_at(__FILE__, __LINE__, r->what, usk_recvmsg(fd[1], &m, MSG_ERRQUEUE), r->error ? r->error : EAGAIN);

        m = header(r, &iov);
        socklen_t len = (socklen_t)r->given;
        /* The bytes are gone by the time that the size is found wrong. */
        gives(r, usk_recvfrom(fd[1], byte, 1, 0, (struct sockaddr *)m.msg_name, &len), 1);
        EQ((int)len, r->after);

        /* Of several messages each has a name or not; those for which there was nothing stay as they are. */
        struct mmsghdr v[4];
        for (int k = 0; k < 4; k++)
            v[k] = (struct mmsghdr){.msg_hdr = header(r, &iovs[k])};
        v[1].msg_hdr.msg_name = NULL;
        v[1].msg_hdr.msg_namelen = 33;
        v[2].msg_hdr.msg_iovlen = 0;
        gives(r, usk_recvmmsg(fd[1], v, 4, MSG_DONTWAIT, NULL), 4);
        if (r->error == 0) {
            EQ((int)v[0].msg_hdr.msg_namelen, r->after);
            EQ((int)v[1].msg_hdr.msg_namelen, 33);
            EQ((int)v[3].msg_hdr.msg_namelen, r->after);
        }
        while (usk_recv(fd[1], byte, sizeof byte, MSG_DONTWAIT) > 0)
            ;
        ERR(usk_recvmsg(fd[1], &m, MSG_DONTWAIT), r->room && r->given < 0 ? EINVAL : EAGAIN);
        for (int k = 0; k < 4; k++)
            v[k] = (struct mmsghdr){.msg_hdr = header(r, &iovs[k])};
        ERR(usk_recvmmsg(fd[1], v, 4, MSG_DONTWAIT, NULL), r->room && r->given < 0 ? EINVAL : EAGAIN);
        for (int k = 0; k < 4; k++)
            EQ((int)v[k].msg_hdr.msg_namelen, r->given);
    }
    /* recvfrom with a buffer and no place for the size. */
    send_all(fd[0], "x", 1);
    await_bytes(fd[1], 1);
    ERR(usk_recvfrom(fd[1], byte, 1, 0, (struct sockaddr *)&room, NULL), EFAULT);
    ERR(usk_recvfrom(fd[1], byte, 0, MSG_DONTWAIT, NULL, NULL), EAGAIN);
}

/* A name in what is sent is ignored where the connection is there. */
static void of_what_is_sent(int fd[2])
{
    struct addr other = at("192.0.2.1", 9);
    char got[3];
    struct iovec iov = {"b", 1};
    struct mmsghdr m = {.msg_hdr = {.msg_name = &other, .msg_namelen = other.len, .msg_iov = &iov, .msg_iovlen = 1}};
    EQ(usk_sendto(fd[0], "a", 1, 0, &other.sa, other.len), 1);
    EQ(usk_sendmsg(fd[0], &m.msg_hdr, 0), 1);
    EQ(usk_sendmmsg(fd[0], &m, 1, 0), 1);
    EQ(usk_recv(fd[1], got, 3, MSG_WAITALL), 3);
    CHECK(memcmp(got, "abb", 3) == 0);
}

/* An IPv6 listener takes IPv4's connections: their addresses are mapped. */
static void mapped(void)
{
    int l = listener(at("::", 0), 4);
    struct addr to = at("127.0.0.1", port_of(sock_name(l))), peer = {.len = sizeof peer.storage};
    int c = connected(SOCK_STREAM, to), a = (int)OK(usk_accept4(l, &peer.sa, &peer.len, SOCK_CLOEXEC));
    struct addr mine = at("::ffff:127.0.0.1", port_of(sock_name(c)));
    EQ(peer.len, sizeof peer.in6);
    CHECK(same_addr(peer, mine) && same_addr(peer_name(a), mine));
    CHECK(same_addr(sock_name(a), at("::ffff:127.0.0.1", port_of(to))) && same_addr(peer_name(c), to));
    int fd[2] = {c, a};
    of_messages(fd);
    close_pair(fd);
    OK(usk_close(l));
}

/* Datagrams have names: the kernel's or ours, but of AF_INET. */
static void of_datagrams(int family)
{
    int fd[2];
    udp_pair(family, fd);
    CHECK(same_addr(peer_name(fd[0]), sock_name(fd[1])));
    char byte;
    struct iovec iov = {&byte, 1};
    struct addr from[3];
    struct mmsghdr v[3];
    for (int i = 0; i < 3; i++) {
        EQ(usk_send(fd[0], "d", 1, 0), 1);
        v[i] = (struct mmsghdr){.msg_hdr = {
            .msg_name = &from[i].storage, .msg_namelen = sizeof from[i].storage, .msg_iov = &iov, .msg_iovlen = 1}};
    }
    await(fd[1], POLLIN);
    EQ(usk_recvmmsg(fd[1], v, 3, MSG_WAITFORONE, NULL), 3);
    for (int i = 0; i < 3; i++) {
        EQ(v[i].msg_hdr.msg_namelen, family == AF_INET ? sizeof from[i].in : sizeof from[i].in6);
        CHECK(same_addr(from[i], sock_name(fd[0])));
    }
    close_pair(fd);
}

int main(void)
{
    begin("stream_names");
    int families[2] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        int fd[2], back[2];
        tcp_pair(families[i], fd);
        of_messages(fd);
        back[0] = fd[1], back[1] = fd[0];
        of_messages(back);
        of_what_is_sent(fd);
        of_what_is_sent(back);
        close_pair(fd);
        of_datagrams(families[i]);
    }
    mapped();
    return done();
}
