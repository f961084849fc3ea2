/* usk_sock_list: the sockets of a stack, as ss(8) shows them. */
#include "common.h"

enum { ROOM = 32 };
static usk_sock_entry_t list[ROOM];

static int name_port(const uint64_t name[4])
{
    struct sockaddr_in6 in; /* the port is where that of IPv4 is */
    memcpy(&in, name, sizeof in);
    return ntohs(in.sin6_port);
}

static int family_of(const uint64_t name[4])
{
    struct sockaddr_storage any = {0};
    memcpy(&any, name, 32);
    return any.ss_family;
}

/* The only entry of a protocol, state and local port; or none. */
static const usk_sock_entry_t *find(uint32_t protocol, uint32_t state, int port)
{
    const usk_sock_entry_t *found = NULL;
    memset(list, 0x5a, sizeof list);
    long n = OK(usk_sock_list(NULL, list, ROOM, sizeof list[0]));
    CHECK(n <= ROOM);
    for (long i = 0; i < n; i++) {
        if (list[i].protocol != protocol || list[i].state != state || name_port(list[i].local) != port)
            continue;
        CHECK(!found);
        found = &list[i];
    }
    return found;
}

static int local_port(int fd)
{
    struct sockaddr_in6 at;
    socklen_t len = sizeof at;
    OK(usk_getsockname(fd, (struct sockaddr *)&at, &len));
    return ntohs(at.sin6_port);
}

static void streams(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    EQ(usk_sock_list(NULL, NULL, 0, sizeof list[0]), 0); /* it is bound to nothing yet */
    OK(usk_bind(listener, (struct sockaddr *)&at, sizeof at));
    OK(usk_listen(listener, 9));
    int port = local_port(listener), client = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    at.sin_port = htons((uint16_t)port);
    OK(usk_connect(client, (struct sockaddr *)&at, sizeof at));
    const usk_sock_entry_t *e = find(IPPROTO_TCP, 10, port);
    CHECK(e);
    EQ(e->rqueue, 1);
    EQ(e->wqueue, 9);
    EQ(e->family, AF_INET);
    EQ(e->type, SOCK_STREAM);
    EQ(family_of(e->local), AF_INET);
    EQ(family_of(e->peer), 0);

    int conn = (int)OK(usk_accept(listener, NULL, NULL));
    EQ(find(IPPROTO_TCP, 10, port)->rqueue, 0);
    EQ(usk_send(client, "hello", 5, 0), 5);
    e = find(IPPROTO_TCP, 1, port);
    CHECK(e && e->id);
    EQ(e->rqueue, 5);
    EQ(name_port(e->peer), local_port(client));
    e = find(IPPROTO_TCP, 1, local_port(client));
    CHECK(e);
    EQ(e->rqueue, 0);
    EQ(name_port(e->peer), port);

    /* More sockets than room: the number of all is said, and nothing is written behind. */
    memset(list, 0x5a, sizeof list);
    EQ(usk_sock_list(NULL, list, 1, sizeof list[0]), 3);
    EQ(list[0].state, 10); /* listeners first */
    EQ(list[1].state, 0x5a5a5a5a);
    /* An older program's shorter entry, and a newer one's longer. */
    unsigned char *bytes = (unsigned char *)list;
    memset(list, 0x5a, sizeof list);
    EQ(usk_sock_list(NULL, list, 3, 16), 3);
    uint32_t family;
    memcpy(&family, bytes + 2 * 16 + 8, 4);
    EQ(family, AF_INET);
    EQ(bytes[48], 0x5a);
    EQ(usk_sock_list(NULL, list, 2, sizeof list[0] + 8), 3);
    EQ(bytes[sizeof list[0] + 7], 0);
    ERR(usk_sock_list(NULL, list, 1, 0), EINVAL);
    ERR(usk_sock_list(NULL, NULL, 1, sizeof list[0]), EFAULT);

    /* The end that closes first stays in TIME_WAIT, without a sock. */
    int client_port = local_port(client);
    char b[8];
    OK(usk_close(client));
    EQ(usk_recv(conn, b, sizeof b, 0), 5);
    EQ(usk_recv(conn, b, sizeof b, 0), 0);
    CHECK(find(IPPROTO_TCP, 8, port)); /* CLOSE_WAIT */
    OK(usk_close(conn));
    e = find(IPPROTO_TCP, 6, client_port);
    CHECK(e);
    EQ(e->id, 0);
    EQ(name_port(e->peer), port);
    OK(usk_close(listener));
    CHECK(!find(IPPROTO_TCP, 10, port));
}

static void datagrams(void)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int a = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0)), b = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    OK(usk_bind(a, (struct sockaddr *)&at, sizeof at));
    int port = local_port(a);
    at.sin6_port = htons((uint16_t)port);
    OK(usk_connect(b, (struct sockaddr *)&at, sizeof at));
    EQ(usk_send(b, "hello", 5, 0), 5);
    const usk_sock_entry_t *e = find(IPPROTO_UDP, 7, port);
    CHECK(e && e->rqueue > 5);
    EQ(e->family, AF_INET6);
    EQ(family_of(e->local), AF_INET6);
    EQ(family_of(e->peer), 0);
    e = find(IPPROTO_UDP, 1, local_port(b));
    CHECK(e);
    EQ(name_port(e->peer), port);
    OK(usk_close(b));
    OK(usk_close(a));
    CHECK(!find(IPPROTO_UDP, 7, port));
    int raw = usk_socket(AF_INET, SOCK_RAW, 253);
    if (raw < 0) {
        EQ(errno, EPERM);
        return;
    }
    memset(list, 0, sizeof list);
    long n = OK(usk_sock_list(NULL, list, ROOM, sizeof list[0])), seen = 0;
    for (long i = 0; i < n; i++)
        seen += list[i].type == SOCK_RAW && list[i].protocol == 253;
    EQ(seen, 1);
    OK(usk_close(raw));
}

int main(void)
{
    begin("sock_list");
    streams();
    datagrams();
    return done();
}
