/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control socket, client side; see daemon/control.h. Called by posthaste, postqueue, postsuper. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/control.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/str.h"

struct control_conn {
	int fd;
	char packet[CONTROL_PACKET_MAX + 2];
};

static int connect_to(const char *queue_directory, const char *name, struct control_conn **c_r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct control_conn *c;

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", queue_directory, name) >=
	    (int)sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_errno();
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int err = err_errno();

		close(fd);
		return err;
	}
	c = xcalloc(1, sizeof(*c));
	c->fd = fd;
	*c_r = c;
	return 0;
}

int control_connect(const char *queue_directory, struct control_conn **c_r)
{
	return connect_to(queue_directory, "control/socket", c_r);
}

int control_connect_public(const char *queue_directory, struct control_conn **c_r)
{
	return connect_to(queue_directory, "public/showq", c_r);
}

void control_disconnect(struct control_conn **c)
{
	if (*c == NULL)
		return;
	close((*c)->fd);
	free(*c);
	*c = NULL;
}

int control_call(struct control_conn *c, unsigned argc, const char *const *argv, control_data_fn fn,
		 void *ctx, char *text, size_t text_size)
{
	struct buf req;

	buf_init(&req, CONTROL_PACKET_MAX);
	for (unsigned i = 0; i < argc; i++)
		buf_add(&req, argv[i], strlen(argv[i]) + 1);
	if (req.overflow || argc > CONTROL_ARGS_MAX) {
		buf_fini(&req);
		return E_LIMIT;
	}
	ssize_t n = send(c->fd, req.p, req.len, MSG_NOSIGNAL);

	buf_fini(&req);
	if (n < 0)
		return err_errno();
	for (;;) {
		n = recv(c->fd, c->packet, sizeof(c->packet) - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno();
		if (n == 0)
			return E_EOF;
		if (c->packet[0] == 'D' && fn != NULL)
			fn(ctx, c->packet + 1, (size_t)n - 1);
		if (c->packet[0] == 'E' && n >= 2) {
			if (text != NULL)
				str_copy(text, text_size,
					 (struct sv){ c->packet + 2, (size_t)n - 2 });
			return c->packet[1] - '0';
		}
	}
}
