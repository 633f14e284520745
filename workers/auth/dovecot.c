/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/auth/dovecot.h. The texts are those of Postfix's smtpd. */
#include "workers/auth/dovecot.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/ports.h"
#include "conf/sasl.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"

#define LINE_MAX_BYTES 65536u
#define OUT_MAX_BYTES  (4u << 20)
#define MECHANISM_MAX  100u
#define RETRY_US       1000000
#define REPORT_US      10000000
#define CANNOT_CONNECT "Can't connect to authentication server"

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_GREETING, LINK_UP };

struct mechanism {
	char *name;
	unsigned has; /* SASL_NO_... bits of what it is, SASL_FORWARD_SECRECY and so on */
};

struct dovecot {
	struct loop *loop;
	char *path;
	struct dovecot_ops ops;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	enum link_state state;
	int fd;
	struct loop_fd lf;
	struct buf in, out;
	struct mechanism mechanisms[MECHANISM_MAX];
	unsigned mechanism_count;
	struct strmap *dialogues; /* by number: those that are busy or between steps there */
	struct dialogue *waiting; /* to begin when the server has greeted */
	uint32_t last_number;
	int64_t since_us; /* the state, or the last line that came */
	int64_t retry_us, report_us;
};

static struct sv key_of(const uint32_t *number)
{
	return (struct sv){ (const char *)number, sizeof(*number) };
}

/* ---- the connection ---- */

static void on_socket(void *ctx, unsigned events);

static void watch(struct dovecot *dc)
{
	bool writes = dc->out.len > 0 || dc->state == LINK_CONNECTING;

	if (dc->fd >= 0)
		loop_fd_mod(dc->loop, &dc->lf, LOOP_READ | (writes ? LOOP_WRITE : 0u));
}

static void finish(struct dovecot *dc, struct dialogue *d, enum auth_status status,
		   const char *text)
{
	if (d->number_there != 0)
		strmap_remove(dc->dialogues, key_of(&d->number_there));
	d->number_there = 0;
	d->state = DIALOGUE_IDLE;
	dialogue_result(d, status, text);
	dc->ops.done(dc->ops.ctx, d);
}

/* Those between two steps hear of it at their next one. */
static void fail_all(struct dovecot *dc, const char *text)
{
	struct sv key;
	void *value;
	size_t pos = 0;

	while (dc->waiting != NULL) {
		struct dialogue *d = dc->waiting;

		dc->waiting = d->next;
		finish(dc, d, AUTH_TEMP, text);
	}
	while (strmap_next(dc->dialogues, &pos, &key, &value)) {
		struct dialogue *d = value;

		if (d->state == DIALOGUE_BUSY) {
			finish(dc, d, AUTH_TEMP, text);
		} else {
			strmap_remove(dc->dialogues, key_of(&d->number_there));
			d->number_there = 0;
		}
		pos = 0;
	}
}

static void set_state(struct dovecot *dc, enum link_state state)
{
	dc->state = state;
	dc->since_us = clock_mono_us_raw();
}

static void disconnect(struct dovecot *dc, const char *text)
{
	bool was_up = dc->state == LINK_UP;

	if (dc->fd >= 0) {
		loop_fd_del(dc->loop, &dc->lf);
		close(dc->fd);
	}
	dc->fd = -1;
	set_state(dc, LINK_DOWN);
	dc->retry_us = dc->since_us + RETRY_US;
	dialogue_wipe(&dc->in);
	dialogue_wipe(&dc->out);
	while (dc->mechanism_count > 0)
		free(dc->mechanisms[--dc->mechanism_count].name);
	if (was_up)
		dc->ops.changed(dc->ops.ctx, dc);
	fail_all(dc, text);
}

static void connect_failed(struct dovecot *dc, int error)
{
	int64_t now = clock_mono_us_raw();

	if (now >= dc->report_us) {
		dc->report_us = now + REPORT_US;
		log_warn("SASL: Connect to Dovecot auth socket '%s' failed: %s", dc->path,
			 strerror(error));
	}
	disconnect(dc, CANNOT_CONNECT);
}

static void say(struct dovecot *dc, struct sv text)
{
	/* it does not move while it holds secrets */
	if (dc->out.cap < dc->out.len + text.len + 1) {
		struct buf bigger = BUF_INIT;

		buf_reserve(&bigger, 2 * dc->out.len + text.len + 4096);
		buf_add_sv(&bigger, buf_sv(&dc->out));
		dialogue_wipe(&dc->out);
		buf_fini(&dc->out);
		dc->out = bigger;
	}
	buf_add_sv(&dc->out, text);
}

static void flush(struct dovecot *dc)
{
	while (dc->fd >= 0 && dc->out.len > 0 && dc->state >= LINK_GREETING) {
		ssize_t n = send(dc->fd, dc->out.p, dc->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			disconnect(dc, AUTH_LOST);
			return;
		}
		if ((size_t)n == dc->out.len)
			dialogue_wipe(&dc->out);
		else
			buf_consume(&dc->out, (size_t)n);
	}
	watch(dc);
}

static void connected(struct dovecot *dc)
{
	char hello[64];

	set_state(dc, LINK_GREETING);
	snprintf(hello, sizeof(hello), "VERSION\t1\t0\nCPID\t%u\n", (unsigned)getpid());
	say(dc, sv_from(hello));
	flush(dc);
}

static void try_connect(struct dovecot *dc)
{
	dc->fd = socket(dc->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (dc->fd < 0) {
		connect_failed(dc, errno);
		return;
	}
	loop_fd_add(dc->loop, &dc->lf, dc->fd, LOOP_READ | LOOP_WRITE, on_socket, dc);
	set_state(dc, LINK_CONNECTING);
	if (connect(dc->fd, (const struct sockaddr *)&dc->addr, dc->addr_len) == 0)
		connected(dc);
	else if (errno != EINPROGRESS)
		connect_failed(dc, errno);
}

static void read_some(struct dovecot *dc)
{
	static char data[16384];
	ssize_t n = recv(dc->fd, data, sizeof(data), 0);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0 || dovecot_input(dc, data, (size_t)n) != 0)
		disconnect(dc, AUTH_LOST);
}

static void on_socket(void *ctx, unsigned events)
{
	struct dovecot *dc = ctx;
	int error = 0;
	socklen_t len = sizeof(error);

	if (dc->state == LINK_CONNECTING) {
		if (getsockopt(dc->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
			error = errno;
		if (error != 0)
			connect_failed(dc, error);
		else if ((events & LOOP_WRITE) != 0)
			connected(dc);
		return;
	}
	if ((events & LOOP_READ) != 0)
		read_some(dc);
	if (dc->fd >= 0)
		flush(dc);
}

/* ---- what the server says ---- */

static int bad_server(const char *why)
{
	log_warn("SASL: %s", why);
	return E_PEER;
}

static int on_version(struct dovecot *dc UNUSED, struct sv args)
{
	uint64_t major;

	if (str_to_u64(sv_next_part(&args, '\t'), UINT32_MAX, &major) != 0)
		return bad_server("Protocol version error");
	if (major != 1)
		return bad_server("Protocol version mismatch");
	return 0;
}

static int on_mechanism(struct dovecot *dc, struct sv args)
{
	static const struct {
		const char *word;
		unsigned bit;
	} words[] = {
		{ "plaintext", SASL_NO_PLAINTEXT },          { "active", SASL_NO_ACTIVE },
		{ "dictionary", SASL_NO_DICTIONARY },        { "anonymous", SASL_NO_ANONYMOUS },
		{ "forward-secrecy", SASL_FORWARD_SECRECY }, { "mutual-auth", SASL_MUTUAL_AUTH },
	};
	struct sv name = sv_next_part(&args, '\t');
	unsigned has = 0;

	if (dc->state == LINK_UP || name.len == 0 || name.len >= AUTH_MECHANISM_SIZE ||
	    dc->mechanism_count == MECHANISM_MAX)
		return 0;
	for (size_t i = 0; i < name.len; i++) {
		if (!ascii_is_alnum(name.p[i]) && name.p[i] != '-' && name.p[i] != '_')
			return 0;
	}
	while (args.len > 0) {
		struct sv word = sv_next_part(&args, '\t');

		if (sv_eq_nocase(word, SV("private")))
			return 0;
		for (size_t i = 0; i < ARRAY_LEN(words); i++)
			has |= sv_eq_nocase(word, sv_from(words[i].word)) ? words[i].bit : 0;
	}
	dc->mechanisms[dc->mechanism_count++] =
		(struct mechanism){ xstrndup(name.p, name.len), has };
	return 0;
}

static void begin(struct dovecot *dc, struct dialogue *d);

static int on_ready(struct dovecot *dc, struct sv args UNUSED)
{
	if (dc->state == LINK_UP)
		return 0;
	set_state(dc, LINK_UP);
	dc->report_us = 0;
	dc->ops.changed(dc->ops.ctx, dc);
	while (dc->waiting != NULL) {
		struct dialogue *d = dc->waiting;

		dc->waiting = d->next;
		begin(dc, d);
	}
	return 0;
}

static int on_server_pid(struct dovecot *dc, struct sv args UNUSED)
{
	if (dc->mechanism_count > 0)
		return 0;
	return bad_server("Connected to wrong auth socket (auth-master instead of auth-client)");
}

/* The dialogue that is waiting for this answer; NULL: nobody is, or not any more. */
static struct dialogue *take_number(struct dovecot *dc, struct sv *args)
{
	uint64_t number;
	uint32_t key;

	if (str_to_u64(sv_next_part(args, '\t'), UINT32_MAX, &number) != 0)
		return NULL;
	key = (uint32_t)number;
	struct dialogue *d = strmap_get(dc->dialogues, key_of(&key));

	return d != NULL && d->state == DIALOGUE_BUSY ? d : NULL;
}

static bool take_value(struct sv word, struct sv name, struct sv *value)
{
	if (word.len < name.len || memcmp(word.p, name.p, name.len) != 0)
		return false;
	*value = (struct sv){ word.p + name.len, word.len - name.len };
	return true;
}

/* user= and reason=; the reason in `out`. */
static void take_args(struct dialogue *d, struct sv args, struct buf *out)
{
	struct sv v;

	buf_reset(&d->user);
	while (args.len > 0) {
		struct sv word = sv_next_part(&args, '\t');

		if (take_value(word, SV("user="), &v)) {
			buf_reset(&d->user);
			buf_add_sv(&d->user, (struct sv){ v.p, size_min(v.len, AUTH_USER_MAX) });
			if (d->user.len > 0)
				str_make_printable(d->user.p, d->user.len);
		} else if (take_value(word, SV("reason="), &v)) {
			buf_reset(out);
			buf_add_sv(out, v);
		}
	}
}

static int on_ok(struct dovecot *dc, struct sv args)
{
	struct dialogue *d = take_number(dc, &args);
	struct buf reason = BUF_INIT;

	if (d == NULL)
		return 0;
	take_args(d, args, &reason);
	buf_fini(&reason);
	if (d->user.len == 0) {
		dialogue_line(d, "missing Dovecot server OK username field");
		finish(dc, d, AUTH_FAILED, "Authentication backend error");
	} else {
		finish(dc, d, AUTH_DONE, "");
	}
	return 0;
}

static int on_fail(struct dovecot *dc, struct sv args)
{
	struct dialogue *d = take_number(dc, &args);
	struct buf reason = BUF_INIT;

	if (d == NULL)
		return 0;
	take_args(d, args, &reason);
	finish(dc, d, AUTH_FAILED, buf_cstr(&reason));
	buf_fini(&reason);
	return 0;
}

static int on_continue(struct dovecot *dc, struct sv args)
{
	struct dialogue *d = take_number(dc, &args);

	if (d == NULL)
		return 0;
	if (!dialogue_is_base64(args)) {
		dialogue_line(d, "bad Dovecot server CONT reply field");
		finish(dc, d, AUTH_FAILED, "Authentication backend error");
		return 0;
	}
	char *text = xstrndup(args.p, args.len);

	d->state = DIALOGUE_IDLE;
	dialogue_result(d, AUTH_MORE, text);
	free(text);
	dc->ops.done(dc->ops.ctx, d);
	return 0;
}

static int on_line(struct dovecot *dc, struct sv line)
{
	static const struct {
		const char *word;
		int (*fn)(struct dovecot *dc, struct sv args);
	} words[] = {
		{ "VERSION", on_version }, { "MECH", on_mechanism }, { "SPID", on_server_pid },
		{ "DONE", on_ready },      { "OK", on_ok },          { "FAIL", on_fail },
		{ "CONT", on_continue },
	};
	struct sv word = sv_next_part(&line, '\t');

	if (memchr(word.p, '\0', word.len + line.len) != NULL)
		return bad_server("Protocol error");
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (sv_eq_str(word, words[i].word))
			return words[i].fn(dc, line);
	}
	return 0; /* there may be more in a later minor version */
}

int dovecot_input(struct dovecot *dc, const char *data, size_t len)
{
	size_t used = 0;
	int err = 0;

	dc->since_us = clock_mono_us_raw();
	buf_add(&dc->in, data, len);
	while (err == 0) {
		const char *from = dc->in.len > used ? dc->in.p + used : NULL;
		const char *end = from != NULL ? memchr(from, '\n', dc->in.len - used) : NULL;

		if (end == NULL)
			break;
		used += (size_t)(end - from) + 1;
		err = on_line(dc, (struct sv){ from, (size_t)(end - from) });
	}
	buf_consume(&dc->in, size_min(used, dc->in.len));
	if (err == 0 && dc->in.len > LINE_MAX_BYTES)
		err = bad_server("Protocol error");
	return err;
}

/* ---- dialogues ---- */

static void begin(struct dovecot *dc, struct dialogue *d)
{
	struct buf line = BUF_INIT, offer = BUF_INIT;

	dovecot_offer(dc, d->service->options[d->encrypted], &offer);
	bool known = sasl_has_mechanism(buf_cstr(&offer), d->mechanism);

	buf_fini(&offer);
	if (!known || d->mechanism[0] == '\0') {
		finish(dc, d, AUTH_FAILED, "Invalid authentication mechanism");
		return;
	}
	if (!dialogue_is_base64(buf_sv(&d->in))) {
		finish(dc, d, AUTH_FAILED, "Invalid base64 data in initial response");
		return;
	}
	buf_reserve(&line, d->in.len + 1024);
	d->number_there = ++dc->last_number != 0 ? dc->last_number : ++dc->last_number;
	strmap_put(dc->dialogues, key_of(&d->number_there), d);
	d->state = DIALOGUE_BUSY;
	d->begun = true;
	buf_printf(&line, "AUTH\t%u\t%s\tservice=%s\tnologin\tlip=%s\trip=%s", d->number_there,
		   d->mechanism, d->service->p->smtpd_sasl_service, d->server_addr, d->client_addr);
	if (d->encrypted)
		buf_add_str(&line, "\tsecured");
	if (d->has_input) {
		buf_add_str(&line, "\tresp=");
		buf_add_sv(&line, buf_sv(&d->in));
	}
	buf_add_c(&line, '\n');
	say(dc, buf_sv(&line));
	dialogue_wipe(&line);
	buf_fini(&line);
	flush(dc);
}

static void go_on(struct dovecot *dc, struct dialogue *d)
{
	char head[32];

	if (d->number_there == 0) {
		finish(dc, d, AUTH_TEMP, AUTH_LOST);
		return;
	}
	if (!dialogue_is_base64(buf_sv(&d->in))) {
		snprintf(head, sizeof(head), "CANCEL\t%u\n", d->number_there);
		say(dc, sv_from(head));
		finish(dc, d, AUTH_FAILED, "Invalid base64 data in continued response");
		flush(dc);
		return;
	}
	d->state = DIALOGUE_BUSY;
	snprintf(head, sizeof(head), "CONT\t%u\t", d->number_there);
	say(dc, sv_from(head));
	say(dc, buf_sv(&d->in));
	say(dc, SV("\n"));
	flush(dc);
}

void dovecot_step(struct dovecot *dc, struct dialogue *d)
{
	if (d->begun) {
		go_on(dc, d);
	} else if (dc->out.len > OUT_MAX_BYTES) {
		finish(dc, d, AUTH_TEMP, AUTH_LOST); /* it does not read */
	} else if (dc->state == LINK_UP) {
		begin(dc, d);
	} else {
		d->state = DIALOGUE_QUEUED;
		d->next = dc->waiting;
		dc->waiting = d;
		dc->retry_us = 0; /* somebody wants it */
		if (dc->state == LINK_DOWN && dc->loop != NULL)
			try_connect(dc);
	}
}

void dovecot_cancel(struct dovecot *dc, struct dialogue *d)
{
	struct dialogue **at = &dc->waiting;
	char line[32];

	while (*at != NULL && *at != d)
		at = &(*at)->next;
	if (*at == d)
		*at = d->next;
	if (d->number_there != 0) {
		strmap_remove(dc->dialogues, key_of(&d->number_there));
		snprintf(line, sizeof(line), "CANCEL\t%u\n", d->number_there);
		say(dc, sv_from(line));
		d->number_there = 0;
		flush(dc);
	}
	d->state = DIALOGUE_IDLE;
}

bool dovecot_offer(const struct dovecot *dc, unsigned options, struct buf *out)
{
	const unsigned wanted = options & (SASL_FORWARD_SECRECY | SASL_MUTUAL_AUTH);
	const unsigned unwanted = options & ~wanted;

	for (unsigned i = 0; i < dc->mechanism_count; i++) {
		const struct mechanism *m = &dc->mechanisms[i];

		if ((m->has & wanted) != wanted || (m->has & unwanted) != 0)
			continue;
		if (out->len > 0)
			buf_add_c(out, ' ');
		buf_add_str(out, m->name);
	}
	return dc->state == LINK_UP;
}

void dovecot_tick(struct dovecot *dc, int64_t timeout_us)
{
	int64_t now = clock_mono_us_raw();
	struct sv key;
	void *value;
	size_t pos = 0;
	bool busy = dc->state == LINK_CONNECTING || dc->state == LINK_GREETING;

	if (dc->state == LINK_DOWN && now >= dc->retry_us && dc->loop != NULL)
		try_connect(dc);
	while (!busy && strmap_next(dc->dialogues, &pos, &key, &value))
		busy = ((struct dialogue *)value)->state == DIALOGUE_BUSY &&
		       now - ((struct dialogue *)value)->since_us > timeout_us;
	/* it has said nothing for long, and somebody waits */
	if (busy && now - dc->since_us > timeout_us) {
		log_warn("SASL: no answer from Dovecot auth socket '%s'", dc->path);
		disconnect(dc, AUTH_LOST);
	}
}

/* ---- beginning and end ---- */

static int set_unix(struct dovecot *dc, const char *path, const char *queue_directory)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&dc->addr;
	int n = snprintf(un->sun_path, sizeof(un->sun_path), "%s%s%s",
			 path[0] == '/' ? "" : queue_directory, path[0] == '/' ? "" : "/", path);

	un->sun_family = AF_UNIX;
	dc->addr_len = sizeof(*un);
	return n > 0 && (size_t)n < sizeof(un->sun_path) ? 0 : E_CONFIG;
}

static int set_inet(struct dovecot *dc, const char *text)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	const char *colon = strrchr(text, ':');
	char host[256];

	if (colon == NULL ||
	    !str_copy(host, sizeof(host), (struct sv){ text, (size_t)(colon - text) }))
		return E_CONFIG;
	size_t n = strlen(host);
	char *name = host;

	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		name++;
	}
	if (getaddrinfo(name[0] != '\0' ? name : "localhost", ports_known(colon + 1), &hints,
			&list) != 0)
		return E_CONFIG;
	memcpy(&dc->addr, list->ai_addr, list->ai_addrlen);
	dc->addr_len = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

int dovecot_new(struct loop *loop, const char *path, const char *queue_directory,
		const struct dovecot_ops *ops, struct conf_diag *d, struct dovecot **dc_r)
{
	struct dovecot *dc = xcalloc(1, sizeof(*dc));
	int err;

	dc->path = xstrdup(path);
	dc->fd = -1;
	dc->ops = *ops;
	dc->dialogues = strmap_new();
	if (str_starts_nocase(path, "inet:"))
		err = set_inet(dc, path + 5);
	else
		err = set_unix(dc, str_starts_nocase(path, "unix:") ? path + 5 : path,
			       queue_directory);
	if (err != 0)
		conf_diag_add(d, true, NULL, 0,
			      "parameter smtpd_sasl_path: \"%s\" is no address of a server", path);
	*dc_r = dc;
	if (err == 0 && loop != NULL)
		dovecot_start(dc, loop);
	else if (err != 0)
		dovecot_free(dc_r);
	return err;
}

void dovecot_start(struct dovecot *dc, struct loop *loop)
{
	dc->loop = loop;
	try_connect(dc);
}

void dovecot_free(struct dovecot **dcp)
{
	struct dovecot *dc;

	TAKE(dc, *dcp);
	if (dc == NULL)
		return;
	if (dc->fd >= 0) {
		loop_fd_del(dc->loop, &dc->lf);
		close(dc->fd);
	}
	while (dc->mechanism_count > 0)
		free(dc->mechanisms[--dc->mechanism_count].name);
	strmap_free(&dc->dialogues);
	dialogue_wipe(&dc->out);
	buf_fini(&dc->in);
	buf_fini(&dc->out);
	free(dc->path);
	free(dc);
}

const char *dovecot_path(const struct dovecot *dc)
{
	return dc->path;
}

bool dovecot_is_up(const struct dovecot *dc)
{
	return dc->state == LINK_UP;
}
