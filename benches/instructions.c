/*
 * What a small message costs: N operations over the loopback in one thread, to be counted by callgrind. The difference
 * between runs of N and 2 N is what N operations cost, set-up left out. `cargo xtask instructions` runs this.
 *
 * usage: instructions connection|exchange|message N
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usersock.h"

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

/* A byte from one end to the other. */
static void hand_over(int from, int to)
{
	char byte = 7;

	check(usk_send(from, &byte, 1, 0) == 1, "send");
	check(usk_recv(to, &byte, 1, 0) == 1, "recv");
}

static int open_client(const struct sockaddr_in *to)
{
	int fd = usk_socket(AF_INET, SOCK_STREAM, 0);

	check(fd >= 0, "socket");
	check(usk_connect(fd, (const struct sockaddr *)to, sizeof *to) == 0, "connect");
	return fd;
}

/* A connection, a byte each way, and both ends closed, the client's first. */
static void connection(int listener, const struct sockaddr_in *addr)
{
	int client = open_client(addr);
	int server = usk_accept(listener, NULL, NULL);

	check(server >= 0, "accept");
	hand_over(client, server);
	hand_over(server, client);
	check(usk_close(client) == 0, "close");
	check(usk_close(server) == 0, "close");
}

/* A byte each way: each carries the ACK of the other. */
static void exchange(int client, int server)
{
	hand_over(client, server);
	hand_over(server, client);
}

/* 100 bytes one way. The receiver sends nothing itself, so reading them sends an ACK of its own. */
static void message(int client, int server)
{
	char buf[100] = { 7 };

	check(usk_send(client, buf, sizeof buf, 0) == sizeof buf, "send");
	check(usk_recv(server, buf, sizeof buf, 0) == sizeof buf, "recv");
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof addr;
	int listener, client, server, yes = 1;
	long n;

	if (argc != 3 || (n = atol(argv[2])) <= 0) {
		fputs("usage: instructions connection|exchange|message N\n", stderr);
		return 2;
	}
	listener = usk_socket(AF_INET, SOCK_STREAM, 0);
	check(listener >= 0, "socket");
	check(usk_bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0, "bind");
	check(usk_listen(listener, 16) == 0, "listen");
	check(usk_getsockname(listener, (struct sockaddr *)&addr, &len) == 0, "getsockname");
	client = open_client(&addr);
	server = usk_accept(listener, NULL, NULL);
	check(server >= 0, "accept");
	check(usk_setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0, "TCP_NODELAY");

	while (n-- > 0) {
		if (strcmp(argv[1], "connection") == 0)
			connection(listener, &addr);
		else if (strcmp(argv[1], "exchange") == 0)
			exchange(client, server);
		else if (strcmp(argv[1], "message") == 0)
			message(client, server);
		else
			return 2;
	}
	return 0;
}
