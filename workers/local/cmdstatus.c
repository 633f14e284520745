/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The meaning of a command's end; see workers/local/cmdstatus.h. */
#include "workers/local/cmdstatus.h"

#include <string.h>
#include <sysexits.h>

#define DSN(a, b, c)                                                                               \
	{                                                                                          \
		a, b, c                                                                            \
	}

static const struct meaning {
	int code;
	uint8_t dsn[3];
	const char *text;
} meanings[] = {
	{ EX_USAGE, DSN(5, 3, 0), "command line usage error" },
	{ EX_DATAERR, DSN(5, 6, 0), "data format error" },
	{ EX_NOINPUT, DSN(5, 3, 0), "cannot open input" },
	{ EX_NOUSER, DSN(5, 1, 1), "user unknown" },
	{ EX_NOHOST, DSN(5, 1, 2), "host name unknown" },
	{ EX_UNAVAILABLE, DSN(5, 3, 0), "service unavailable" },
	{ EX_SOFTWARE, DSN(5, 3, 0), "internal software error" },
	{ EX_OSERR, DSN(4, 3, 0), "system resource problem" },
	{ EX_OSFILE, DSN(5, 3, 0), "critical OS file missing" },
	{ EX_CANTCREAT, DSN(5, 2, 0), "can't create user output file" },
	{ EX_IOERR, DSN(5, 3, 0), "input/output error" },
	{ EX_TEMPFAIL, DSN(4, 3, 0), "temporary failure" },
	{ EX_PROTOCOL, DSN(5, 5, 0), "remote error in protocol" },
	{ EX_NOPERM, DSN(5, 7, 0), "permission denied" },
	{ EX_CONFIG, DSN(5, 3, 5), "local configuration error" },
};

static const struct meaning *meaning_of(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
		if (meanings[i].code == code)
			return &meanings[i];
	}
	return NULL;
}

/* One to three digits and `end`; their count, 0 = something else. */
static size_t number(struct sv s, size_t at, uint8_t *out)
{
	unsigned value = 0;
	size_t n = 0;

	while (n < 3 && at + n < s.len && ascii_is_digit(s.p[at + n]))
		value = value * 10 + (unsigned)(s.p[at + n++] - '0');
	*out = (uint8_t)(value > 255 ? 255 : value);
	return n;
}

/* Does the text begin with a status code of its own? Its length, 0 = no. */
static size_t own_status(struct sv s, uint8_t dsn[3])
{
	size_t at = 2, n;

	if (s.len < 5 || strchr("245", s.p[0]) == NULL || s.p[1] != '.')
		return 0;
	dsn[0] = (uint8_t)(s.p[0] - '0');
	n = number(s, at, &dsn[1]);
	at += n;
	if (n == 0 || at == s.len || s.p[at] != '.')
		return 0;
	at++;
	n = number(s, at, &dsn[2]);
	at += n;
	return n > 0 && (at == s.len || ascii_is_space(s.p[at])) ? at : 0;
}

/* One line without control characters. */
static struct sv clean_output(struct sv output, char *room, size_t size)
{
	struct sv s = { room, size_min(output.len, size) };

	memcpy(room, output.p, s.len);
	for (size_t i = 0; i < s.len; i++) {
		if (room[i] == '\n')
			room[i] = ' ';
	}
	while (s.len > 0 && ascii_is_space(s.p[s.len - 1]))
		s.len--;
	str_make_printable(room, s.len);
	return s;
}

static void set_dsn(struct command_verdict *v, const uint8_t dsn[3])
{
	memcpy(v->dsn, dsn, 3);
}

static void add_output(struct command_verdict *v, struct sv out, const char *instead)
{
	if (out.len > 0) {
		buf_add_str(&v->text, ". Command output: ");
		buf_add_sv(&v->text, out);
	}
	buf_add_sv(&v->diag, out.len > 0 ? out : sv_from(instead));
}

static void judge_signal(int signal_number, struct sv command, struct sv out,
			 struct command_verdict *v)
{
	set_dsn(v, (const uint8_t[])DSN(4, 3, 0));
	buf_printf(&v->text, "Command died with signal %d: \"%.*s\"", signal_number,
		   (int)command.len, command.p);
	add_output(v, out, "internal software error");
}

/* As in Postfix a bounce, although it may have been done. */
static void judge_timeout(struct sv command, struct sv out, struct command_verdict *v)
{
	set_dsn(v, (const uint8_t[])DSN(5, 3, 0));
	buf_printf(&v->text, "Command time limit exceeded: \"%.*s\"", (int)command.len, command.p);
	add_output(v, out, "time limit exceeded");
}

static void judge_failure(int code, struct sv command, struct sv out, struct command_verdict *v)
{
	const struct meaning *m = meaning_of(code);
	uint8_t own[3];
	size_t skip = own_status(out, own);

	if (skip > 0) {
		struct sv rest = sv_trim((struct sv){ out.p + skip, out.len - skip });

		set_dsn(v, own);
		v->dsn[0] = own[0] == 4 ? 4 : 5;
		buf_add_sv(&v->text, rest);
		buf_add_sv(&v->diag, rest);
		return;
	}
	if (m != NULL) {
		set_dsn(v, m->dsn);
		buf_add_str(&v->text, m->text);
		add_output(v, out, m->text);
		return;
	}
	set_dsn(v, (const uint8_t[])DSN(5, 3, 0));
	buf_printf(&v->text, "Command died with status %d: \"%.*s\"", code, (int)command.len,
		   command.p);
	add_output(v, out, "unknown mail system error");
}

void command_judge(const struct command_end *e, struct sv command, struct command_verdict *v)
{
	char room[4096];
	struct sv out = clean_output(e->output, room, sizeof(room));

	buf_reset(&v->text);
	buf_reset(&v->diag);
	command.len = size_min(command.len, 1000);
	switch (e->how) {
	case COMMAND_TIMED_OUT:
		judge_timeout(command, out, v);
		return;
	case COMMAND_SIGNALED:
		judge_signal(e->code, command, out, v);
		return;
	case COMMAND_NOT_RUN:
		judge_failure(EX_TEMPFAIL, command, out, v);
		return;
	case COMMAND_EXITED:
		break;
	}
	if (e->code != 0) {
		judge_failure(e->code, command, out, v);
		return;
	}
	set_dsn(v, (const uint8_t[])DSN(2, 0, 0));
	buf_add_sv(&v->text, out);
}
