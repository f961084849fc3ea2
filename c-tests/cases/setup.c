/* Features that only usersock has: stacks side by side, sysctls, counters, captures. There is no oracle for this
 * one. */
#include "common.h"

int main(void)
{
    begin("setup");
    EQ(usk_init(NULL), 0); /* again is no error: the stack is there */

    /* Two stacks are two networks: the same port in each, and no packet passes between them. */
    usk_stack_t *a = usk_stack_new(""), *b = usk_stack_new("sysctl.net.ipv4.tcp_sack=0");
    CHECK(a && b);
    struct addr any = at("127.0.0.1", 7777);
    int la = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0)),
        lb = (int)OK(usk_socket_on(b, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(la, &any.sa, any.len));
    OK(usk_bind(lb, &any.sa, any.len));
    OK(usk_listen(la, 1));
    int c = (int)OK(usk_socket_on(b, AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(c, &any.sa, any.len), ECONNREFUSED);
    OK(usk_close(c));
    c = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(c, &any.sa, any.len));
    int s = (int)OK(usk_accept(la, NULL, NULL));
    send_all(c, "hello", 5);
    EXPECT(s, "hello");

    /* sysctls: set by the configuration, read, written, refused. */
    char value[64];
    OK(usk_sysctl_get(b, "net.ipv4.tcp_sack", value, sizeof value));
    EQ(strcmp(value, "0"), 0);
    EQ(usk_sysctl_get(a, "net.ipv4.tcp_sack", value, sizeof value), 1); /* the length, without the zero */
    EQ(strcmp(value, "1"), 0);
    OK(usk_sysctl_set(a, "net.ipv4.tcp_sack", "0"));
    OK(usk_sysctl_get(a, "net.ipv4.tcp_sack", value, sizeof value));
    EQ(strcmp(value, "0"), 0);
    OK(usk_sysctl_get(NULL, "net.ipv4.tcp_sack", value, sizeof value)); /* NULL is the default stack */
    EQ(strcmp(value, "1"), 0);
    ERR(usk_sysctl_set(a, "net.ipv4.tcp_sack", "several"), EINVAL);
    ERR(usk_sysctl_get(a, "net.ipv4.tcp_nothing", value, sizeof value), ENOENT);
    ERR(usk_sysctl_set(a, "net.ipv4.tcp_nothing", "1"), ENOENT);
    ERR(usk_sysctl_get(a, NULL, value, sizeof value), EFAULT);

    /* Counters by Linux's names; each stack has its own. */
    uint64_t opened_a = 0, opened_b = 0;
    OK(usk_mib_read(a, "TcpActiveOpens", &opened_a));
    OK(usk_mib_read(b, "TcpActiveOpens", &opened_b));
    EQ(opened_a, 1);
    EQ(opened_b, 1);
    uint64_t passive = 0;
    OK(usk_mib_read(a, "TcpPassiveOpens", &passive));
    EQ(passive, 1);
    ERR(usk_mib_read(a, "TcpNothing", &passive), ENOENT);
    ERR(usk_mib_read(a, "TcpPassiveOpens", NULL), EFAULT);

    /* A capture: something is written, and it opens with the number of a pcap or pcapng file. */
    char path[] = "/tmp/usersock_setup_XXXXXX";
    int f = (int)OK(mkstemp(path));
    OK(usk_pcap_start(a, path));
    send_all(c, "captured", 8);
    EXPECT(s, "captured");
    OK(usk_pcap_stop(a));
    uint32_t magic = 0;
    EQ(pread(f, &magic, sizeof magic, 0), sizeof magic);
    CHECK(magic == 0xa1b23c4d || magic == 0xa1b2c3d4 || magic == 0x0a0d0d0a);
    struct stat st;
    OK(fstat(f, &st));
    CHECK(st.st_size > 100);
    OK(unlink(path));
    close(f);
    ERR(usk_pcap_stop(a), EINVAL); /* none is running */
    ERR(usk_pcap_start(a, "/nowhere/at/all"), ENOENT);

    /* An invalid configuration. */
    CHECK(usk_stack_new("no such key=1") == NULL);
    CHECK(usk_stack_new("sysctl.net.ipv4.tcp_nothing=1") == NULL);
    CHECK(usk_stack_new("addr=300.1.1.1/24") == NULL);

    int all[4] = {c, s, la, lb};
    for (int i = 0; i < 4; i++)
        OK(usk_close(all[i]));
    usk_stack_free(a);
    usk_stack_free(b);
    usk_stack_free(NULL);
    return done();
}
