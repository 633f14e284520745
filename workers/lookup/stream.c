/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Connections to table servers; see workers/lookup/stream.h. */
#include "workers/lookup/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/ports.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"

#define READ_BYTES 16384u

void stream_init(struct stream *s)
{
	*s = (struct stream){ .fd = -1 };
}

void stream_close(struct stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	buf_fini(&s->in);
	s->used = 0;
}

void stream_begin(struct stream *s, int64_t timeout_ms)
{
	s->deadline_us = clock_mono_us_raw() + timeout_ms * 1000;
	/* what came unasked is no answer to anything */
	if (s->fd >= 0 && s->used < s->in.len)
		stream_close(s);
	buf_reset(&s->in);
	s->used = 0;
}

bool stream_was_idle(const struct stream *s, int err)
{
	return !s->fresh && (err == E_EOF || err == -EPIPE || err == -ECONNRESET);
}

static int wait_for(struct stream *s, short events)
{
	for (;;) {
		int64_t left_ms = (s->deadline_us - clock_mono_us_raw() + 999) / 1000;
		struct pollfd p = { .fd = s->fd, .events = events };

		if (left_ms <= 0)
			return E_TIMEDOUT;
		int n = poll(&p, 1, (int)left_ms);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno();
	}
}

static int connect_to(struct stream *s, int family, const struct sockaddr *sa, socklen_t len)
{
	int error = 0, err;
	socklen_t size = sizeof(error);

	s->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return err_errno();
	if (connect(s->fd, sa, len) == 0)
		return 0;
	err = errno == EINPROGRESS ? wait_for(s, POLLOUT) : err_errno();
	if (err == 0 && getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		error = errno;
	if (err == 0 && error != 0)
		err = -error;
	if (err != 0)
		stream_close(s);
	return err;
}

static int connect_unix(struct stream *s, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (!str_copy(sa.sun_path, sizeof(sa.sun_path), sv_from(path)))
		return E_CONFIG;
	return connect_to(s, AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa));
}

/* "host:port", "[address]:port", or a host alone. */
static bool split_host(const char *text, const char *port, char host[256], char service[64])
{
	const char *colon = strrchr(text, ':'), *end = colon;

	if (colon != NULL && memchr(text, ':', (size_t)(colon - text)) != NULL && text[0] != '[')
		colon = NULL; /* an IPv6 address by itself */
	if (text[0] == '[' && strchr(text, ']') != NULL) {
		end = strchr(text, ']');
		colon = end[1] == ':' ? end + 1 : NULL;
		text++;
	} else if (colon == NULL) {
		end = text + strlen(text);
	}
	if (colon != NULL)
		port = colon + 1;
	return port != NULL && end > text &&
	       str_copy(host, 256, (struct sv){ text, (size_t)(end - text) }) &&
	       str_copy(service, 64, sv_from(port));
}

static int connect_inet(struct stream *s, const char *where, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	char host[256], service[64];
	int err = E_NOENT;

	if (!split_host(where, port, host, service))
		return E_CONFIG;
	int rc = getaddrinfo(host, ports_known(service), &hints, &list);

	if (rc != 0)
		return rc == EAI_AGAIN ? E_AGAIN : rc == EAI_SERVICE ? E_CONFIG : E_NOENT;
	for (const struct addrinfo *a = list; a != NULL && err != 0; a = a->ai_next)
		err = connect_to(s, a->ai_family, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(list);
	return err;
}

int stream_connect(struct stream *s, const char *where, const char *port)
{
	int err;

	if (s->fd >= 0) {
		s->fresh = false;
		return 0;
	}
	if (where[0] == '/')
		err = connect_unix(s, where);
	else if (strncmp(where, "unix:", 5) == 0)
		err = connect_unix(s, where + 5);
	else
		err = connect_inet(s, strncmp(where, "inet:", 5) == 0 ? where + 5 : where, port);
	s->fresh = true;
	return err;
}

int stream_write(struct stream *s, struct sv data)
{
	while (data.len > 0) {
		ssize_t n = send(s->fd, data.p, data.len, MSG_NOSIGNAL);

		if (n > 0) {
			data.p += n;
			data.len -= (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		int err = n < 0 && errno == EAGAIN ? wait_for(s, POLLOUT) : err_errno();

		if (err != 0)
			return err;
	}
	return 0;
}

static int read_more(struct stream *s)
{
	for (;;) {
		char *p = buf_reserve(&s->in, READ_BYTES);
		ssize_t n = p != NULL ? recv(s->fd, p, READ_BYTES, 0) : -1;

		if (n > 0) {
			s->in.len += (size_t)n;
			return 0;
		}
		if (n == 0)
			return E_EOF;
		if (errno == EINTR)
			continue;
		int err = errno == EAGAIN ? wait_for(s, POLLIN) : err_errno();

		if (err != 0)
			return err;
	}
}

int stream_read(struct stream *s, size_t len, struct sv *data_r)
{
	while (s->in.len - s->used < len) {
		int err = read_more(s);

		if (err != 0)
			return err;
	}
	*data_r = (struct sv){ s->in.p + s->used, len };
	s->used += len;
	s->fresh = false;
	return 0;
}

int stream_read_line(struct stream *s, size_t max, struct sv *line_r)
{
	size_t looked = 0;

	for (;;) {
		size_t have = s->in.len - s->used;
		const char *from = have > 0 ? s->in.p + s->used : "";
		const char *nl = have > looked ? memchr(from + looked, '\n', have - looked) : NULL;

		if (nl != NULL) {
			*line_r = (struct sv){ from, (size_t)(nl - from) };
			s->used += line_r->len + 1;
			s->fresh = false;
			if (line_r->len > 0 && from[line_r->len - 1] == '\r')
				line_r->len--;
			return line_r->len > max ? E_LIMIT : 0;
		}
		looked = have;
		if (have > max + 1)
			return E_LIMIT;
		int err = read_more(s);

		if (err != 0)
			return err;
	}
}

int stream_read_netstring(struct stream *s, size_t max, struct sv *data_r)
{
	size_t len = 0;
	struct sv c;
	int err;

	for (unsigned digits = 0;; digits++) {
		err = stream_read(s, 1, &c);
		if (err != 0)
			return err;
		if (c.p[0] == ':' && digits > 0)
			break;
		if (!ascii_is_digit(c.p[0]) || digits > 8)
			return E_PEER;
		len = len * 10 + (size_t)(c.p[0] - '0');
	}
	if (len > max)
		return E_LIMIT;
	err = stream_read(s, len + 1, data_r);
	if (err != 0)
		return err;
	if (data_r->p[len] != ',')
		return E_PEER;
	data_r->len = len;
	return 0;
}
