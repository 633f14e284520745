/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sendmail: from standard input to postdrop; see workers/pickup/sendmail.h. */
#include "workers/pickup/sendmail.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/pickup/compose.h"
#include "workers/pickup/dropenv.h"
#include "workers/pickup/droppipe.h"

#define ARENA_CHUNK (64u << 10)
#define READ_BYTES  65536u

struct sending {
	const struct sendmail *s;
	struct compose text;
	struct arena arena;
	struct envelope env;
	uint64_t extracted;
	struct droppipe pipe;
};

/* ---- envelope ---- */

static void add_rcpt(void *ctx, struct sv addr)
{
	struct sending *se = ctx;
	struct env_rcpt r = { .notify = se->s->notify };
	const char *why;

	if (!dropenv_address_ok(addr, &why))
		command_fatal("%s: %.*s", why, (int)size_min(addr.len, 200), addr.p);
	if (se->env.rcpt_count >= MAILDROP_RCPT_MAX)
		command_fatal("too many recipients");
	r.addr = (struct sv){ arena_strndup(&se->arena, addr.p, addr.len), addr.len };
	env_add_rcpt(&se->env, &se->arena, &r);
}

static void add_extracted(void *ctx, struct sv addr)
{
	struct sending *se = ctx;
	int64_t limit = se->s->p->extract_recipient_limit;

	if (limit > 0 && ++se->extracted > (uint64_t)limit)
		command_fatal("too many recipients in message header");
	add_rcpt(ctx, addr);
}

struct first {
	struct buf addr;
	unsigned count;
};

static void keep_first(void *ctx, struct sv addr)
{
	struct first *f = ctx;

	if (f->count++ == 0)
		buf_add_sv(&f->addr, addr);
}

/* Of the command line: a line end there is an attempt at a header or a command. */
static void check_argument(const char *what, const char *text)
{
	for (const char *at = text; *at != '\0'; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			command_fatal("%s: control character in an address", what);
	}
}

/* -f: an address in any form, "" and "<>" for none; of anything else what begins it, as Postfix
 * does: a sender that nobody can read is no reason to lose a message. */
static struct sv sender_of(struct sending *se)
{
	const char *given = se->s->sender;
	struct first f = { .addr = BUF_INIT };
	const struct passwd *pw;
	const char *why;

	if (given == NULL) {
		pw = getpwuid(getuid());
		if (pw == NULL)
			command_fatal("unable to find your login name");
		return sv_from(arena_strdup(&se->arena, pw->pw_name));
	}
	check_argument("sender", given);
	bool empty = strspn(given, " \t<>") == strlen(given);

	if (!empty)
		compose_addresses(sv_from(given), keep_first, &f);
	if (!empty && f.count != 1)
		log_warn("-f option specified malformed sender: %s", given);
	struct sv sender = { arena_strndup(&se->arena, buf_cstr(&f.addr), f.addr.len), f.addr.len };

	buf_fini(&f.addr);
	if (!dropenv_address_ok(sender, &why))
		command_fatal("sender: %s", why);
	return sender;
}

/* -F, else $NAME, else what the user database says; '&' there stands for the login name. */
static struct sv full_name_of(struct sending *se)
{
	const struct passwd *pw = getpwuid(getuid());
	const char *env = getenv("NAME");
	struct buf b = BUF_INIT;

	if (se->s->full_name != NULL) {
		buf_add_str(&b, se->s->full_name);
	} else if (env != NULL && env[0] != '\0') {
		buf_add_str(&b, env);
	} else if (pw != NULL && pw->pw_gecos != NULL) {
		for (const char *g = pw->pw_gecos; *g != '\0' && *g != ','; g++) {
			if (*g == '&' && pw->pw_name[0] >= 'a' && pw->pw_name[0] <= 'z')
				buf_printf(&b, "%c%s", pw->pw_name[0] - 'a' + 'A', pw->pw_name + 1);
			else if (*g == '&')
				buf_add_str(&b, pw->pw_name);
			else
				buf_add_c(&b, *g);
		}
	}
	for (size_t i = 0; i < b.len; i++) {
		if ((unsigned char)b.p[i] < ' ' || b.p[i] == 0x7f)
			b.p[i] = ' ';
	}
	if (b.len > 250 || !str_is_utf8(b.p, b.len))
		buf_reset(&b);
	struct sv name = { arena_strndup(&se->arena, buf_cstr(&b), b.len), b.len };

	buf_fini(&b);
	return name;
}

/* Does the message need an SMTPUTF8 path? Addresses and header fields that are not ASCII do. */
static bool needs_utf8(const struct sending *se)
{
	const struct params *p = se->s->p;

	if (!p->smtputf8_enable)
		return false;
	if (se->s->smtputf8 != NULL && strcmp(se->s->smtputf8, "auto") != 0)
		return strcmp(se->s->smtputf8, "yes") == 0;
	if (strstr(p->smtputf8_autodetect_classes, "sendmail") == NULL &&
	    strstr(p->smtputf8_autodetect_classes, "all") == NULL)
		return false;
	if (!str_is_ascii(se->env.sender.p, se->env.sender.len))
		return true;
	for (size_t i = 0; i < se->env.rcpt_count; i++) {
		if (!str_is_ascii(se->env.rcpts[i].addr.p, se->env.rcpts[i].addr.len))
			return true;
	}
	struct sv header = buf_sv(&se->text.header);

	return !str_is_ascii(header.p, header.len) && str_is_utf8(header.p, header.len);
}

static void make_envelope(struct sending *se)
{
	const struct sendmail *s = se->s;

	se->env.sender = sender_of(se);
	se->env.full_name = full_name_of(se);
	se->env.envid = s->envid != NULL ? sv_from(s->envid) : SV("");
	se->env.ret = s->ret;
	se->env.body = s->body;
	for (unsigned i = 0; i < s->rcpt_count; i++) {
		check_argument("recipient", s->rcpts[i]);
		if (compose_addresses(sv_from(s->rcpts[i]), add_rcpt, se) == 0)
			command_fatal("bad recipient address: %s", s->rcpts[i]);
	}
	if (s->extract) {
		if (se->text.header_cut)
			command_fatal("message header is too large for -t");
		compose_recipients(buf_sv(&se->text.header), add_extracted, se);
		if (se->env.rcpt_count == 0)
			command_fatal("%s(%u): No recipient addresses found in message header",
				      command_user(getuid()), (unsigned)getuid());
	}
	if (s->verp != NULL && se->env.sender.len == 0)
		command_fatal("%s(%u): -V option requires non-null sender address",
			      command_user(getuid()), (unsigned)getuid());
	if (s->verp != NULL)
		se->env.verp = sv_from(s->verp);
	if (s->probe)
		se->env.flags |= ENVF_PROBE;
	else if (s->report)
		se->env.flags |= ENVF_REPORT;
	if (needs_utf8(se))
		se->env.flags |= ENVF_SMTPUTF8;
}

/* More of the message; false when input has failed or ended. */
static bool read_more(struct sending *se)
{
	static char data[READ_BYTES];
	ssize_t n;

	do
		n = read(STDIN_FILENO, data, sizeof(data));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		command_fatal("%s(%u): error reading input: %s", command_user(getuid()),
			      (unsigned)getuid(), strerror(errno));
	if (n == 0)
		compose_end(&se->text);
	else
		compose_feed(&se->text, data, (size_t)n);
	return !se->text.done;
}

/* The message of a probe, which nobody gets; only its report shows it. */
static void compose_probe(struct sending *se)
{
	const struct sendmail *s = se->s;
	struct buf b = BUF_INIT;

	if (s->sender != NULL && strspn(s->sender, " \t<>") != strlen(s->sender))
		buf_printf(&b, "From: %s\n", s->sender);
	buf_add_str(&b, "Subject: probe\nTo:");
	for (unsigned i = 0; i < s->rcpt_count; i++)
		buf_printf(&b, "\t%s%s\n", s->rcpts[i], i + 1 < s->rcpt_count ? "," : "");
	buf_add_c(&b, '\n');
	compose_feed(&se->text, b.p, b.len);
	compose_end(&se->text);
	buf_fini(&b);
}

/* Told on standard output, as by Postfix. */
static void tell_report(const struct sending *se)
{
	const struct sendmail *s = se->s;
	struct sv to = se->env.sender;

	if (s->probe || s->report)
		printf("Mail Delivery Status Report will be mailed to <%.*s>.\n", (int)to.len,
		       to.p);
}

static void put_content(struct sending *se, struct buf *b)
{
	droppipe_put(&se->pipe, b->p, b->len);
	buf_reset(b);
}

int sendmail_send(const struct sendmail *s)
{
	struct sending se = { .s = s };
	struct buf env = BUF_INIT;
	char name[MAILDROP_NAME_SIZE];
	bool more = true;

	arena_init(&se.arena, ARENA_CHUNK, 0);
	compose_init(&se.text, !s->ignore_dots,
		     (enum conf_line_endings)s->p->sendmail_fix_line_endings);
	if (s->probe) {
		for (unsigned i = 0; i < s->rcpt_count; i++)
			check_argument("recipient", s->rcpts[i]);
		if (s->sender != NULL)
			check_argument("sender", s->sender);
		compose_probe(&se);
		more = false;
	}
	while (more && !se.text.header_done)
		more = read_more(&se);
	make_envelope(&se);
	if (env_encode(&se.env, &env) != 0)
		command_fatal("the envelope is too large");
	int err = droppipe_start(&se.pipe, s->p, s->conf_dir, buf_sv(&env));

	if (err != 0)
		command_fatal("cannot start postdrop: %s", err_str(err));
	put_content(&se, &se.text.header);
	put_content(&se, &se.text.body);
	while (more && !se.pipe.failed) {
		more = read_more(&se);
		put_content(&se, &se.text.body);
	}
	int status = droppipe_end(&se.pipe, name);

	if (status == 0)
		tell_report(&se);
	buf_fini(&env);
	compose_fini(&se.text);
	arena_fini(&se.arena);
	/* of postdrop's reasons none is passed on: Postfix's has one status for all */
	return status == 0 ? EX_OK : EX_TEMPFAIL;
}
