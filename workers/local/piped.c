/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pipe(8) services: master.cf and macros; see workers/local/piped.h. */
#include "workers/local/piped.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "workers/local/mailcopy.h"

/* ---- macros ---- */

enum macro {
	M_TEXT, /* no macro: the text itself */
	M_CLIENT_ADDRESS,
	M_CLIENT_HELO,
	M_CLIENT_HOSTNAME,
	M_CLIENT_PORT,
	M_CLIENT_PROTOCOL,
	M_ENVID,
	M_NEXTHOP,
	M_QUEUE_ID,
	M_SASL_METHOD,
	M_SASL_SENDER,
	M_SASL_USERNAME,
	M_SENDER,
	M_SIZE,
	/* once for each recipient */
	M_DOMAIN,
	M_EXTENSION,
	M_MAILBOX,
	M_ORIGINAL_RECIPIENT,
	M_RECIPIENT,
	M_USER,
	M_COUNT
};
#define M_FIRST_OF_RECIPIENT M_DOMAIN

static const char *const macro_names[M_COUNT] = {
	[M_CLIENT_ADDRESS] = "client_address",
	[M_CLIENT_HELO] = "client_helo",
	[M_CLIENT_HOSTNAME] = "client_hostname",
	[M_CLIENT_PORT] = "client_port",
	[M_CLIENT_PROTOCOL] = "client_protocol",
	[M_ENVID] = "envid",
	[M_NEXTHOP] = "nexthop",
	[M_QUEUE_ID] = "queue_id",
	[M_SASL_METHOD] = "sasl_method",
	[M_SASL_SENDER] = "sasl_sender",
	[M_SASL_USERNAME] = "sasl_username",
	[M_SENDER] = "sender",
	[M_SIZE] = "size",
	[M_DOMAIN] = "domain",
	[M_EXTENSION] = "extension",
	[M_MAILBOX] = "mailbox",
	[M_ORIGINAL_RECIPIENT] = "original_recipient",
	[M_RECIPIENT] = "recipient",
	[M_USER] = "user",
};

struct part {
	enum macro macro;
	struct sv text; /* M_TEXT */
};

struct piped_arg {
	bool of_recipient;
	size_t part_count;
	const struct part *parts;
};

static enum macro macro_find(struct sv name)
{
	for (unsigned i = M_TEXT + 1; i < M_COUNT; i++) {
		if (sv_eq_str(name, macro_names[i]))
			return (enum macro)i;
	}
	return M_TEXT;
}

static bool is_name_byte(char c)
{
	return ascii_is_alnum(c) || c == '_';
}

/* The macro name behind a '$' at s.p[0]; the bytes it takes in all, 0 = unbalanced or no name. */
static size_t macro_name(struct sv s, struct sv *name_r)
{
	char close = s.len > 1 && s.p[1] == '{' ? '}' : s.len > 1 && s.p[1] == '(' ? ')' : '\0';
	size_t from = close != '\0' ? 2 : 1, to = from;

	while (to < s.len && is_name_byte(s.p[to]))
		to++;
	*name_r = (struct sv){ s.p + from, to - from };
	if (to == from || (close != '\0' && (to == s.len || s.p[to] != close)))
		return 0;
	return close != '\0' ? to + 1 : to;
}

/* ---- parsing ---- */

struct parser {
	const struct conf *c;
	const struct conf_transport *t;
	struct arena *a;
	struct piped *p;
	struct conf_diag *d;
	bool failed;
};

PRINTF_LIKE(3, 4)
static void report(struct parser *x, bool is_error, const char *fmt, ...)
{
	char *path = xasprintf("%s/master.cf", conf_dir(x->c));
	struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	conf_diag_add(x->d, is_error, path, x->t->service->line, "service %s: %s", x->t->name,
		      buf_cstr(&b));
	x->failed = x->failed || is_error;
	buf_fini(&b);
	free(path);
}

static void parse_arg(struct parser *x, const char *text, struct piped_arg *arg)
{
	struct sv rest = sv_from(text);
	struct part *parts = arena_alloc(x->a, (rest.len + 1) * sizeof(*parts));
	size_t n = 0;

	*arg = (struct piped_arg){ .parts = parts };
	while (rest.len > 0) {
		const char *dollar = memchr(rest.p, '$', rest.len);
		size_t plain = dollar == NULL ? rest.len : (size_t)(dollar - rest.p);
		struct sv name;

		if (plain > 0)
			parts[n++] = (struct part){ .text = { rest.p, plain } };
		rest.p += plain;
		rest.len -= plain;
		if (rest.len == 0)
			break;
		if (rest.len > 1 && rest.p[1] == '$') { /* "$$" is a dollar */
			parts[n++] = (struct part){ .text = { rest.p, 1 } };
			rest.p += 2;
			rest.len -= 2;
			continue;
		}
		size_t used = macro_name(rest, &name);

		parts[n].macro = used == 0 ? M_TEXT : macro_find(name);
		if (parts[n].macro == M_TEXT) {
			report(x, true, "unknown macro name in: %.200s", text);
			return;
		}
		arg->of_recipient |= parts[n].macro >= M_FIRST_OF_RECIPIENT;
		n++;
		rest.p += used;
		rest.len -= used;
	}
	arg->part_count = n;
}

static void parse_argv(struct parser *x, const char *first, unsigned from)
{
	const struct conf_service *s = x->t->service;
	struct piped_arg *args = arena_alloc(x->a, (s->arg_count - from + 1) * sizeof(*args));

	parse_arg(x, first, &args[0]);
	for (unsigned i = from; i < s->arg_count; i++)
		parse_arg(x, s->args[i], &args[i - from + 1]);
	x->p->args = args;
	x->p->arg_count = s->arg_count - from + 1;
	if (first[0] == '\0')
		report(x, true, "argv= needs a command");
	else if (args[0].of_recipient)
		report(x, true, "the command itself is a macro of a recipient");
}

static void parse_flags(struct parser *x, const char *value)
{
	static const struct {
		char letter;
		unsigned copy, own;
	} letters[] = {
		{ 'B', COPY_BLANK, 0 },        { 'D', COPY_DELIVERED_TO, 0 },
		{ 'F', COPY_FROM, 0 },         { 'O', COPY_ORIGINAL_TO, 0 },
		{ 'R', COPY_RETURN_PATH, 0 },  { 'X', 0, PIPED_FINAL },
		{ 'h', 0, PIPED_FOLD_DOMAIN }, { 'q', 0, PIPED_QUOTE },
		{ 'u', 0, PIPED_FOLD_USER },   { '.', COPY_DOTS, 0 },
		{ '>', COPY_QUOTE, 0 },
	};

	for (; *value != '\0'; value++) {
		size_t i = 0;

		while (i < ARRAY_LEN(letters) && letters[i].letter != *value)
			i++;
		if (i < ARRAY_LEN(letters)) {
			x->p->copy_flags |= letters[i].copy;
			x->p->flags |= letters[i].own;
		} else if (*value != ' ' && *value != '\t' && *value != ',') {
			report(x, true, "unknown flag: %c", *value);
		}
	}
}

static bool find_uid(const char *name, uid_t *uid_r, gid_t *gid_r)
{
	const struct passwd *pw;
	uint64_t n;

	if (str_to_u64(sv_from(name), INT32_MAX, &n) == 0) {
		pw = getpwuid((uid_t)n);
		*uid_r = (uid_t)n;
	} else {
		pw = getpwnam(name);
	}
	if (pw == NULL)
		return false;
	*uid_r = pw->pw_uid;
	*gid_r = pw->pw_gid;
	return true;
}

static bool find_gid(const char *name, gid_t *gid_r)
{
	const struct group *gr;
	uint64_t n;

	if (str_to_u64(sv_from(name), INT32_MAX, &n) == 0) {
		*gid_r = (gid_t)n;
		return true;
	}
	gr = getgrnam(name);
	if (gr != NULL)
		*gid_r = gr->gr_gid;
	return gr != NULL;
}

/* "user", "user:group", "user:" */
static void parse_user(struct parser *x, const char *value)
{
	struct piped *p = x->p;
	const char *colon = strchr(value, ':');
	char *user = colon == NULL ? arena_strdup(x->a, value)
				   : arena_strndup(x->a, value, (size_t)(colon - value));
	uid_t owner_uid = 0;
	gid_t owner_gid = 0;
	bool has_owner = find_uid(x->t->params->mail_owner, &owner_uid, &owner_gid);

	p->user_text = value;
	if (!find_uid(user, &p->uid, &p->gid))
		p->problem = arena_printf(x->a, "unknown user name: %.100s", user);
	else if (colon != NULL && colon[1] != '\0' && !find_gid(colon + 1, &p->gid))
		p->problem = arena_printf(x->a, "unknown group name: %.100s", colon + 1);
	if (p->problem != NULL) {
		report(x, false, "%s", p->problem);
		return;
	}
	if (p->uid == 0 || p->gid == 0)
		report(x, true, "user= has %s rights",
		       p->uid == 0 ? "root" : "the rights of group 0");
	else if (geteuid() == 0 && has_owner && (p->uid == owner_uid || p->gid == owner_gid))
		report(x, true, "user= is mail_owner (%s) or in its group",
		       x->t->params->mail_owner);
}

static void parse_eol(struct parser *x, const char *value)
{
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	char *out = arena_alloc(x->a, strlen(value) + 1);
	size_t n = 0;

	while (*value != '\0') {
		const char *at;
		unsigned octal = 0;
		int digits = 0;

		if (*value != '\\' || value[1] == '\0') {
			out[n++] = *value++;
			continue;
		}
		value++;
		at = strchr(from, *value);
		while (digits < 3 && *value >= '0' && *value <= '7') {
			octal = octal * 8 + (unsigned)(*value++ - '0');
			digits++;
		}
		if (digits > 0)
			out[n++] = (char)octal;
		else
			out[n++] = at != NULL ? to[at - from] : *value;
		value += digits == 0;
	}
	x->p->eol = (struct sv){ out, n };
}

static void parse_directory(struct parser *x, const char *value)
{
	x->p->directory = value;
}

static void parse_null_sender(struct parser *x, const char *value)
{
	x->p->null_sender = value;
}

static void parse_size(struct parser *x, const char *value)
{
	if (str_to_u64(sv_from(value), INT64_MAX, &x->p->size_limit) < 0)
		report(x, true, "size=%.100s: expected a number of bytes", value);
}

static void parse_chroot(struct parser *x, const char *value UNUSED)
{
	report(x, true,
	       "chroot= is not supported: commands run with the right of one user only, not with "
	       "root's right to change the root directory");
}

static const struct attribute {
	const char *name;
	void (*parse)(struct parser *x, const char *value);
} attributes[] = {
	{ "flags=", parse_flags },
	{ "user=", parse_user },
	{ "directory=", parse_directory },
	{ "eol=", parse_eol },
	{ "null_sender=", parse_null_sender },
	{ "size=", parse_size },
	{ "chroot=", parse_chroot },
};

static void parse_attribute(struct parser *x, const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		size_t len = strlen(attributes[i].name);

		if (strncmp(text, attributes[i].name, len) == 0) {
			attributes[i].parse(x, text + len);
			return;
		}
	}
	report(x, true, "unknown attribute: %.200s", text);
}

static void check_one_recipient(struct parser *x)
{
	unsigned both = x->p->copy_flags & (COPY_DELIVERED_TO | COPY_ORIGINAL_TO);

	if (both == 0 || x->t->destination_recipient_limit == 1)
		return;
	const char *why = arena_printf(x->a, "flag %c requires %s_destination_recipient_limit = 1",
				       both & COPY_DELIVERED_TO ? 'D' : 'O', x->t->name);

	report(x, false, "%s", why);
	if (x->p->problem == NULL)
		x->p->problem = why;
}

int piped_parse(const struct conf *c, const struct conf_transport *t, struct arena *a,
		const struct piped **p_r, struct conf_diag *d)
{
	struct piped *p = arena_calloc(a, sizeof(*p));
	struct parser x = { .c = c, .t = t, .a = a, .p = p, .d = d };
	const struct conf_service *s = t->service;
	unsigned i = 0;

	*p_r = p;
	p->name = t->name;
	p->directory = "";
	p->eol = SV("\n");
	p->null_sender = "MAILER-DAEMON";
	for (; i < s->arg_count && strncmp(s->args[i], "argv=", 5) != 0; i++)
		parse_attribute(&x, s->args[i]);
	if (i < s->arg_count)
		parse_argv(&x, s->args[i] + 5, i + 1);
	else
		report(&x, true, "missing argv= attribute");
	if (p->user_text == NULL)
		report(&x, true, "missing user= attribute");
	check_one_recipient(&x);
	return x.failed ? E_CONFIG : 0;
}

/* ---- expanding ---- */

static void add_folded(struct sv s, bool fold, struct buf *out)
{
	size_t from = out->len;

	buf_add_sv(out, s);
	if (fold && out->p != NULL)
		str_lower(out->p + from, out->len - from);
}

/* A recipient's address with the foldings of h and u, quoted with q. */
static void add_address(const struct piped *p, struct sv addr, struct buf *out)
{
	struct buf folded = BUF_INIT;
	struct sv local, domain;
	bool has_domain = mail_addr_split(addr, &local, &domain);

	add_folded(local, (p->flags & PIPED_FOLD_USER) != 0, &folded);
	if (has_domain) {
		buf_add_c(&folded, '@');
		add_folded(domain, (p->flags & PIPED_FOLD_DOMAIN) != 0, &folded);
	}
	if (p->flags & PIPED_QUOTE)
		mail_addr_quote(buf_sv(&folded), out);
	else
		buf_add_sv(out, buf_sv(&folded));
	buf_fini(&folded);
}

static void add_sender(const struct piped *p, struct sv sender, struct buf *out)
{
	if (sender.len == 0)
		sender = sv_from(p->null_sender);
	if (p->flags & PIPED_QUOTE && sender.len > 0)
		mail_addr_quote(sender, out);
	else
		buf_add_sv(out, sender);
}

static void add_of_recipient(const struct piped *p, const struct piped_mail *m,
			     const struct env_rcpt *r, enum macro macro, struct buf *out)
{
	bool fold_user = (p->flags & PIPED_FOLD_USER) != 0;
	struct sv local, domain, base, ext;

	mail_addr_split(r->addr, &local, &domain);
	mail_addr_split_ext(local, m->delimiters, &base, &ext);
	switch (macro) {
	case M_RECIPIENT:
		add_address(p, r->addr, out);
		break;
	case M_ORIGINAL_RECIPIENT:
		add_address(p, r->orig_addr.len > 0 ? r->orig_addr : r->addr, out);
		break;
	case M_DOMAIN:
		add_folded(domain, (p->flags & PIPED_FOLD_DOMAIN) != 0, out);
		break;
	case M_MAILBOX:
		add_folded(local, fold_user, out);
		break;
	case M_USER:
		add_folded(base, fold_user, out);
		break;
	case M_EXTENSION:
		add_folded(ext, fold_user, out);
		break;
	default:
		break;
	}
}

static void add_macro(const struct piped *p, const struct piped_mail *m, const struct env_rcpt *r,
		      enum macro macro, struct buf *out)
{
	const struct envelope *e = m->env;
	const struct sv plain[M_FIRST_OF_RECIPIENT] = {
		[M_CLIENT_ADDRESS] = e->client_addr,  [M_CLIENT_HELO] = e->helo,
		[M_CLIENT_HOSTNAME] = e->client_name, [M_CLIENT_PORT] = e->client_port,
		[M_CLIENT_PROTOCOL] = e->proto,       [M_ENVID] = e->envid,
		[M_QUEUE_ID] = m->queue_id,           [M_SASL_METHOD] = e->sasl_method,
		[M_SASL_SENDER] = e->sasl_sender,     [M_SASL_USERNAME] = e->sasl_user,
	};

	if (macro >= M_FIRST_OF_RECIPIENT)
		add_of_recipient(p, m, r, macro, out);
	else if (macro == M_SENDER)
		add_sender(p, e->sender, out);
	else if (macro == M_SIZE)
		buf_add_uint(out, m->size);
	else if (macro == M_NEXTHOP)
		add_folded(m->nexthop, (p->flags & PIPED_FOLD_DOMAIN) != 0, out);
	else
		buf_add_sv(out, plain[macro]);
}

static const char *expand_arg(const struct piped *p, const struct piped_mail *m,
			      const struct env_rcpt *r, const struct piped_arg *arg,
			      struct buf *text, struct arena *a)
{
	buf_reset(text);
	for (size_t i = 0; i < arg->part_count; i++) {
		if (arg->parts[i].macro == M_TEXT)
			buf_add_sv(text, arg->parts[i].text);
		else
			add_macro(p, m, r, arg->parts[i].macro, text);
	}
	return arena_strndup(a, buf_cstr(text), text->len);
}

int piped_expand(const struct piped *p, const struct piped_mail *m, struct arena *a,
		 const char ***argv_r, size_t *argc_r)
{
	size_t count = 0, n = 0;
	struct buf text = BUF_INIT;
	const char **argv;
	int err = 0;

	for (size_t i = 0; i < p->arg_count; i++)
		count += p->args[i].of_recipient ? m->rcpt_count : 1;
	argv = arena_calloc(a, (count + 1) * sizeof(*argv));
	for (size_t i = 0; i < p->arg_count && argv != NULL; i++) {
		size_t times = p->args[i].of_recipient ? m->rcpt_count : 1;

		for (size_t k = 0; k < times; k++) {
			argv[n] = expand_arg(p, m, m->rcpts[k], &p->args[i], &text, a);
			if (argv[n++] == NULL)
				err = E_LIMIT;
		}
	}
	buf_fini(&text);
	*argv_r = argv;
	*argc_r = n;
	return argv == NULL ? E_LIMIT : err;
}
