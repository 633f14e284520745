/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: the statistics endpoint. Each input is sent to it over a loopback connection, then
 * the sending side is closed; whatever it was, the server answers or closes, and serves the next
 * one.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workers/stats/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static struct sockaddr_in address;
static struct board_shm board;
static struct stats_http http = { .board = &board, .src = { .board = &board } };

static void start(void)
{
	struct conf_diag d;
	struct conf *conf = NULL;
	socklen_t len = sizeof(address);

	conf_diag_init(&d);
	if (conf_load_dir("/nonexistent", &conf, &d) != 0)
		conf = NULL; /* transports are not needed without destinations */
	conf_diag_fini(&d);
	http.conf = conf;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	address = (struct sockaddr_in){ .sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		abort();
	base = event_base_new();
	struct evhttp *server = stats_http_new(base, &http);

	if (server == NULL || evhttp_accept_socket(server, fd) != 0)
		abort();
}

/* Drain what the server says until it closes; at most `turns` turns of its loop. */
static void serve(int fd, int turns)
{
	char buf[65536];

	for (int i = 0; i < turns; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		stats_http_turn(&http);
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n == 0)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct linger now = { 1, 0 };

	if (base == NULL)
		start();
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	for (size_t off = 0; off < size;) {
		ssize_t n = send(fd, data + off, size - off, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n <= 0)
			break;
		off += (size_t)n;
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	shutdown(fd, SHUT_WR);
	serve(fd, 6);
	/* a reset instead of TIME_WAIT: thousands of inputs must not use up the ports */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	event_base_loop(base, EVLOOP_NONBLOCK);
	return 0;
}
