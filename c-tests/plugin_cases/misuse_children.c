/* Children and listeners of a protocol, handled as they must not be: each call is refused, accept(2) gives each child
 * once, and whatever nobody has taken ends with its listener. The scenes run in setsockopt of the program's own
 * protocol. */
#include "common.h"
#include "misuse.h"

static usk_sock_t *no_child(usk_sock_t *sk, int nonblock, int *err)
{
    (void)sk, (void)nonblock;
    *err = 0; /* not an errno */
    return NULL;
}


static usk_sock_t *new_child(usk_owned_t *listener, uint16_t port, usk_owned_t *o)
{
    usk_addr_t remote = loopback;
    remote.port = port;
    usk_sock_t *child = usk_new_child(listener);
    CHECK(child != NULL);
    EQ(usk_lock_sock(child, o), 0);
    EQ(usk_hash(o), -EINVAL); /* no ends yet */
    EQ(usk_set_ends(o, &loopback, &remote), 0);
    EQ(usk_hash(o), 0);
    EQ(usk_set_state(o, TCP_ESTABLISHED), 0);
    return child;
}

static void children(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    /* Not listening: nobody would ever take it. */
    usk_sock_t *child = new_child(o, 100, &c);
    EQ(usk_accept_push(o, child), -EINVAL);
    EQ(usk_done(&c), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    EQ(usk_listen_start(o, 1), 0);
    EQ(usk_accept_push(o, sk), -EINVAL); /* itself */
    EQ(usk_accept_push(o, NULL), -EINVAL);
    /* The same ends twice. */
    child = new_child(o, 100, &c);
    usk_sock_t *twin = usk_new_child(o);
    usk_addr_t remote = loopback;
    remote.port = 100;
    usk_owned_t t;
    EQ(usk_lock_sock(twin, &t), 0);
    EQ(usk_set_ends(&t, &loopback, &remote), 0);
    EQ(usk_hash(&t), -EADDRINUSE);
    EQ(usk_done(&t), 0);
    usk_release_sock(&t);
    usk_sock_put(twin);
    EQ(usk_accept_push(o, child), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    /* One may wait beyond the backlog, and no more. */
    child = new_child(o, 101, &c);
    EQ(usk_accept_push(o, child), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    child = new_child(o, 102, &c);
    EQ(usk_accept_push(o, child), -ENOBUFS);
    EQ(usk_done(&c), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    EQ(usk_set_state(o, TCP_CLOSE), -EINVAL); /* two wait */
    usk_sock_info_t info;
    EQ(usk_sock_info(o, &info, sizeof info), sizeof info);
    EQ(info.ack_backlog, 2);
    EQ(info.max_ack_backlog, 1);
}

/* The first of two that wait ends: accept(2) gives the second, once. */
static void ended_child(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    (void)sk;
    EQ(usk_listen_start(o, 4), 0);
    for (int i = 0; i < 2; i++) {
        usk_sock_t *child = new_child(o, (uint16_t)(200 + i), &c);
        EQ(usk_accept_push(o, child), 0);
        if (i == 0)
            EQ(usk_done(&c), 0);
        else
            EQ(usk_accept_push(o, child), -EALREADY);
        usk_release_sock(&c);
        usk_sock_put(child);
    }
}

/* A listener that stops would close a connection that this thread owns: it is refused, not waited for. */
static void stop_owning(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    (void)sk;
    EQ(usk_listen_start(o, 4), 0);
    usk_sock_t *child = new_child(o, 300, &c);
    EQ(usk_accept_push(o, child), 0);
    EQ(usk_listen_stop(o), -EDEADLK);
    usk_sock_info_t info;
    EQ(usk_sock_info(o, &info, sizeof info), sizeof info);
    EQ(info.state, TCP_LISTEN);
    EQ(info.ack_backlog, 1);
    usk_release_sock(&c);
    EQ(destroyed, 0);
    EQ(usk_listen_stop(o), 0);
    EQ(destroyed, 1);
    EQ(usk_sock_state(child), TCP_CLOSE);
    usk_sock_put(child);
    EQ(destroyed, 1);
    /* One that has been accepted, or is no child, is not queued. */
    EQ(usk_listen_start(o, 4), 0);
    child = new_child(o, 301, &c);
    EQ(usk_accept_push(o, child), 0);
    usk_release_sock(&c);
    int err = 0, other = (int)OK(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, NUMBER));
    usk_release_sock(o);
    usk_sock_t *accepted = usk_accept_wait(sk, 1, &err);
    CHECK(accepted == child);
    EQ(usk_lock_sock(sk, o), 0);
    EQ(usk_accept_push(o, accepted), -EALREADY);
    EQ(usk_accept_push(o, last_made), -EINVAL);
    OK(usk_close(other));
    EQ(usk_lock_sock(child, &c), 0);
    EQ(usk_done(&c), 0);
    usk_release_sock(&c);
    usk_sock_put(accepted);
    usk_sock_put(child);
}

/* A child of which the plug-in keeps nothing: destroy runs all the same, once, and when nothing leads to it. */
static void forgotten(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    (void)sk;
    EQ(usk_listen_start(o, 4), 0);
    usk_sock_put(usk_new_child(o));
    EQ(destroyed, 1);
    usk_sock_t *child = usk_sock_hold(usk_new_child(o));
    usk_sock_put(child);
    EQ(destroyed, 1);
    usk_sock_put(child);
    EQ(destroyed, 2);
    child = new_child(o, 400, &c); /* in the table, where packets find it */
    usk_release_sock(&c);
    usk_sock_put(child);
    EQ(destroyed, 2);
    usk_addr_t remote = loopback;
    remote.port = 400;
    CHECK(usk_proto_lookup(registered, &loopback, &remote, 1) == child);
    EQ(usk_lock_sock(child, &c), 0);
    EQ(usk_unhash(&c), 0);
    usk_release_sock(&c);
    EQ(destroyed, 2);
    usk_sock_put(child);
    EQ(destroyed, 3);
}

/* SO_REUSEADDR shares a port, but not its connections: one listens (as TCP). */
static void shared_port(const struct addr *at_5000)
{
    int one = opened(), two = opened();
    OK(set_int(one, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(set_int(two, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_bind(one, &at_5000->sa, at_5000->len));
    OK(usk_bind(two, &at_5000->sa, at_5000->len));
    OK(usk_listen(one, 1));
    OK(usk_listen(one, 2));
    ERR(usk_listen(two, 1), EADDRINUSE);
    ERR(usk_accept(two, NULL, NULL), EINVAL);
    int three = opened();
    OK(set_int(three, SOL_SOCKET, SO_REUSEADDR, 1));
    ERR(usk_bind(three, &at_5000->sa, at_5000->len), EADDRINUSE);
    OK(usk_close(one));
    OK(usk_listen(two, 1));
    OK(usk_close(two));
    OK(usk_close(three));
}

int main(void)
{
    begin("misuse_children");
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    now_registered = table();
    begun();
    int fd, l;

    OK(usk_close(played(forgotten)));
    EQ(destroyed, 4);

    /* A listener goes with two children that wait: they end. */
    struct addr at_5000 = at("127.0.0.1", 5000);
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    destroyed = 0;
    play_on(l, stop_owning);
    OK(usk_close(l));
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    destroyed = 0;
    play_on(l, children);
    EQ(destroyed, 3);
    OK(usk_close(l));
    EQ(destroyed, 6);

    /* shutdown(2) does the same, and leaves the port bound. */
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    destroyed = 0;
    play_on(l, children);
    OK(usk_shutdown(l, SHUT_RD));
    EQ(destroyed, 5);
    ERR(usk_accept(l, NULL, NULL), EINVAL);
    OK(usk_listen(l, 1));
    OK(usk_close(l));

    /* One that ended while it waited is passed over. */
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    play_on(l, ended_child);
    fd = (int)OK(usk_accept(l, NULL, NULL));
    EQ(port_of(peer_name(fd)), 201);
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    /* The connection outlives its listener, whose port only one with SO_REUSEADDR gets, and only if both have it. */
    OK(usk_close(l));
    l = opened();
    ERR(usk_bind(l, &at_5000.sa, at_5000.len), EADDRINUSE);
    OK(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
    ERR(usk_bind(l, &at_5000.sa, at_5000.len), EADDRINUSE);
    struct addr elsewhere = at("127.0.0.2", 5000), any = at("0.0.0.0", 5000);
    ERR(usk_bind(l, &any.sa, any.len), EADDRINUSE);
    OK(usk_bind(l, &elsewhere.sa, elsewhere.len));
    OK(usk_close(fd));
    OK(usk_close(l));

    /* A listener that goes closes what nobody has, and no more. */
    int other = opened();
    struct addr at_5002 = at("127.0.0.1", 5002);
    OK(usk_bind(other, &at_5002.sa, at_5002.len));
    destroyed = 0;
    play_on(other, ended_child);
    int mine = (int)OK(usk_accept(other, NULL, NULL));
    OK(usk_close(other));
    EQ(destroyed, 2);
    EQ(usk_send(mine, "here", 4, 0), 4);
    OK(usk_close(mine));
    EQ(destroyed, 3);

    shared_port(&at_5000);

    /* accept that says neither a child nor why not. */
    unloaded(the_plugin);
    now_registered = table();
    now_registered.accept = no_child;
    begun();
    l = opened();
    OK(usk_listen(l, 1));
    ERR(usk_accept(l, NULL, NULL), EIO);
    OK(usk_close(l));

    unloaded(the_plugin);
    usk_stack_free(stack);
    return done();
}
