/*
 * What a small message costs: N operations over the loopback in one thread, to be counted by callgrind. The difference
 * between runs of N and 2 N is what N operations cost, set-up left out. `cargo xtask instructions` runs this.
 *
 * usage: instructions connection|exchange|message|datagram|batch N
 */
#define _GNU_SOURCE
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

enum { BATCH = 32, PAYLOAD = 64 };

/* A datagram there. */
static void datagram(int client, int server)
{
	char buf[PAYLOAD] = { 7 };

	check(usk_send(client, buf, sizeof buf, 0) == sizeof buf, "send");
	check(usk_recv(server, buf, sizeof buf, 0) == sizeof buf, "recv");
}

/* BATCH of them, by one call on each side. */
static void batch(int client, int server)
{
	static char bytes[BATCH][PAYLOAD];
	struct iovec iov[BATCH];
	struct mmsghdr all[BATCH];

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ bytes[i], PAYLOAD };
		all[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
	}
	check(usk_sendmmsg(client, all, BATCH, 0) == BATCH, "sendmmsg");
	check(usk_recvmmsg(server, all, BATCH, 0, NULL) == BATCH, "recvmmsg");
}

static void datagrams(const char *how, long n)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof addr;
	int server = usk_socket(AF_INET, SOCK_DGRAM, 0), client = usk_socket(AF_INET, SOCK_DGRAM, 0);

	check(server >= 0 && client >= 0, "socket");
	check(usk_bind(server, (struct sockaddr *)&addr, sizeof addr) == 0, "bind");
	check(usk_getsockname(server, (struct sockaddr *)&addr, &len) == 0, "getsockname");
	check(usk_connect(client, (struct sockaddr *)&addr, sizeof addr) == 0, "connect");
	if (strcmp(how, "batch") == 0)
		for (; n > 0; n -= BATCH)
			batch(client, server);
	else
		for (; n > 0; n--)
			datagram(client, server);
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof addr;
	int listener, client, server, yes = 1;
	long n;

	if (argc != 3 || (n = atol(argv[2])) <= 0) {
		fputs("usage: instructions connection|exchange|message|datagram|batch N\n", stderr);
		return 2;
	}
	if (strcmp(argv[1], "datagram") == 0 || strcmp(argv[1], "batch") == 0) {
		datagrams(argv[1], n);
		return 0;
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
