/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postdrop: takes one message from standard input (workers/pickup/maildrop.h) into the maildrop.
 * Set-gid setgid_group, started by sendmail; everything it reads is its caller's. Exit status 0
 * means: on stable storage. Smtpd on standard input tells EX_UNAVAILABLE (too big), EX_DATAERR and
 * EX_NOPERM apart from what another try may mend.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "conf/map.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/mailaddr.h"
#include "workers/pickup/dropenv.h"
#include "workers/pickup/maildrop.h"

#define ARENA_CHUNK (64u << 10)
#define ARENA_LIMIT (64u << 20)

static struct {
	char data[MAILDROP_PIECE_MAX];
	size_t pos, len;
} input;

/* Exactly n bytes of standard input; what ends before was cut off. */
static void get(char *out, size_t n)
{
	while (n > 0) {
		if (input.pos == input.len) {
			ssize_t got = read(STDIN_FILENO, input.data, sizeof(input.data));

			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				command_fatal_as(EX_DATAERR, "malformed input: it was cut off");
			input.pos = 0;
			input.len = (size_t)got;
		}
		size_t part = size_min(n, input.len - input.pos);

		memcpy(out, input.data + input.pos, part);
		input.pos += part;
		out += part;
		n -= part;
	}
}

static uint32_t get_length(uint32_t max)
{
	char head[4];

	get(head, sizeof(head));
	uint32_t len = maildrop_get_u32(head);

	if (len > max)
		command_fatal_as(EX_DATAERR, "malformed input: a length is out of bounds");
	return len;
}

/* Postfix's rule for the spool: queue_minfree, and one and a half messages of the largest size. */
static void check_space(const struct params *p, int dir_fd)
{
	struct statvfs vfs;
	uint64_t want =
		u64_max((uint64_t)p->queue_minfree, (uint64_t)p->message_size_limit * 3 / 2);

	if (fstatvfs(dir_fd, &vfs) == 0 && (uint64_t)vfs.f_bavail * vfs.f_frsize < want)
		command_fatal("Insufficient system storage");
}

/* ---- local_login_sender_maps ---- */

static bool pattern_allows(struct sv pattern, struct sv sender, const struct params *p)
{
	struct sv local, domain, plocal, pdomain;

	if (sv_eq_str(pattern, "*"))
		return true;
	if (sender.len == 0)
		return sv_eq_str(pattern, p->empty_address_local_login_sender_maps_lookup_key);
	if (!mail_addr_split(sender, &local, &domain))
		domain = sv_from(p->myorigin);
	if (!mail_addr_split(pattern, &plocal, &pdomain))
		pdomain = sv_from(p->myorigin);
	return sv_eq_nocase(domain, pdomain) && (plocal.len == 0 || sv_eq_nocase(local, plocal));
}

static void check_sender(const struct conf *c, struct sv sender, uid_t uid)
{
	const struct params *p = conf_params(c);
	struct map_list *maps;
	struct conf_diag d;
	struct buf patterns = BUF_INIT;
	const char *user = command_user(uid);
	bool ok = false;

	if (uid == 0 || strcmp(p->local_login_sender_maps, "static:*") == 0)
		return;
	conf_diag_init(&d);
	if (map_list_open(c, p->local_login_sender_maps, "local_login_sender_maps", &maps, &d) != 0)
		command_fatal("local_login_sender_maps: %s", buf_cstr(&d.text));
	if (map_list_get(maps, sv_from(user), &patterns) == MAP_ERROR)
		command_fatal("local_login_sender_maps lookup error");
	for (const char *at = buf_cstr(&patterns); !ok && *at != '\0';) {
		size_t n = strcspn(at, ", \t");

		ok = n > 0 && pattern_allows((struct sv){ at, n }, sender, p);
		at += n;
		at += strspn(at, ", \t");
	}
	if (!ok)
		command_fatal_as(EX_NOPERM, "User %s(%u) is not allowed to send as <%.*s>", user,
				 (unsigned)uid, (int)sender.len, sender.p);
}

/* ---- the message ---- */

/* What the caller says, and nothing else of it, encoded anew. */
static void take_envelope(const struct conf *c, struct buf *out)
{
	struct arena arena;
	struct envelope e;
	const char *why;
	uint32_t len = get_length(MAILDROP_ENV_MAX);
	char *data = xmalloc(len + 1);

	get(data, len);
	arena_init(&arena, ARENA_CHUNK, ARENA_LIMIT);
	if (dropenv_decode((struct sv){ data, len }, &arena, &e, &why) != 0)
		command_fatal_as(EX_DATAERR, "%s", why);
	check_sender(c, e.sender, getuid());
	e.arrival_us = clock_wall().us;
	if (env_encode(&e, out) != 0)
		command_fatal("envelope");
	arena_fini(&arena);
	free(data);
}

static NORETURN void write_failed(int err)
{
	command_fatal("queue file write error: %s", err_str(err));
}

/* Size as the message will have with CRLF. */
static void take_content(const struct params *p, struct maildrop_writer *w)
{
	uint64_t size = 0, limit = (uint64_t)p->message_size_limit;
	char *piece = xmalloc(MAILDROP_PIECE_MAX);
	uint32_t len;

	while ((len = get_length(MAILDROP_PIECE_MAX)) > 0) {
		get(piece, len);
		size += len;
		for (const char *at = piece;
		     (at = memchr(at, '\n', len - (size_t)(at - piece))) != NULL; at++)
			size++;
		if (limit > 0 && size > limit) {
			maildrop_abort(w);
			command_fatal_as(EX_UNAVAILABLE, "message file too big");
		}
		int err = maildrop_add(w, piece, len);

		if (err != 0)
			write_failed(err);
	}
	free(piece);
}

static struct maildrop_writer writer = { .fd = -1 };

/* Nothing unfinished stays behind: at an exit, and when the caller gives up. */
static void forget(void)
{
	maildrop_abort(&writer);
}

static void on_signal(int signo)
{
	if (writer.fd >= 0)
		unlinkat(writer.dir_fd, writer.tmp, 0);
	_exit(128 + signo);
}

static void take_message(const struct conf *c)
{
	const struct params *p = conf_params(c);
	struct buf env = BUF_INIT;
	char magic[sizeof(MAILDROP_PIPE_MAGIC) - 1];
	int dir_fd = maildrop_open_dir(p->queue_directory, MAILDROP_DIR);

	if (dir_fd < 0)
		command_fatal("%s/%s: %s", p->queue_directory, MAILDROP_DIR, err_str(dir_fd));
	check_space(p, dir_fd);
	get(magic, sizeof(magic));
	if (memcmp(magic, MAILDROP_PIPE_MAGIC, sizeof(magic)) != 0)
		command_fatal_as(EX_DATAERR, "malformed input: not from the sendmail command");
	take_envelope(c, &env);
	int err = maildrop_create(&writer, dir_fd, buf_sv(&env));

	if (err != 0)
		write_failed(err);
	buf_fini(&env);
	take_content(p, &writer);
	err = maildrop_commit(&writer);
	if (err != 0)
		write_failed(err);
}

int main(int argc, char **argv)
{
	const char *dir = NULL;
	bool tell = false;
	int opt;

	command_start("postdrop", EXIT_FAILURE);
	while ((opt = getopt(argc, argv, "c:rv")) != -1) {
		if (opt == 'c')
			dir = optarg;
		else if (opt == 'r')
			tell = true;
		else if (opt == '?')
			command_fatal("usage: postdrop [-c config_dir] [-v]");
	}
	if (optind < argc)
		command_fatal("usage: postdrop [-c config_dir] [-v]");
	struct conf *c = command_conf(dir);

	if (!command_user_may(c, "authorized_submit_users", getuid()))
		command_fatal_as(EX_NOPERM, "User %s(%u) is not allowed to submit mail",
				 command_user(getuid()), (unsigned)getuid());
	atexit(forget);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	take_message(c);
	if (tell) /* whoever wants to know is gone or not: the message is safe */
		(void)!printf("%s\n", writer.name);
	conf_free(&c);
	return EX_OK;
}
