/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writing commands, reading EHLO keywords; see workers/deliver/command.h. */
#include "workers/deliver/command.h"

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "workers/mail/envelope.h"
#include "workers/mail/xtext.h"

static const struct keyword {
	const char *name;
	unsigned feature;
} keywords[] = {
	{ "PIPELINING", CLIENT_F_PIPELINING },
	{ "SIZE", CLIENT_F_SIZE },
	{ "8BITMIME", CLIENT_F_8BITMIME },
	{ "DSN", CLIENT_F_DSN },
	{ "SMTPUTF8", CLIENT_F_SMTPUTF8 },
	{ "CHUNKING", CLIENT_F_CHUNKING },
	{ "ENHANCEDSTATUSCODES", CLIENT_F_ENHANCED },
	{ "STARTTLS", CLIENT_F_STARTTLS },
	{ "AUTH", CLIENT_F_AUTH },
	{ "XFORWARD", CLIENT_F_XFORWARD },
};

static const struct {
	const char *name;
	unsigned part;      /* which of the two commands it goes with */
	bool unknown_stays; /* "unknown" is a value like others */
} origins[ORIGIN_COUNT] = {
	[ORIGIN_NAME] = { "NAME", 0, false },    [ORIGIN_ADDR] = { "ADDR", 0, false },
	[ORIGIN_PORT] = { "PORT", 0, false },    [ORIGIN_PROTO] = { "PROTO", 1, false },
	[ORIGIN_HELO] = { "HELO", 1, true },     [ORIGIN_IDENT] = { "IDENT", 1, true },
	[ORIGIN_SOURCE] = { "SOURCE", 1, true },
};

static unsigned keyword_find(struct sv word)
{
	for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
		if (sv_eq_nocase(word, sv_from(keywords[i].name)))
			return keywords[i].feature;
	}
	return 0;
}

unsigned client_keywords_parse(struct sv list)
{
	unsigned bits = 0;

	for (size_t at = 0; at < list.len;) {
		size_t from = at;

		while (at < list.len && list.p[at] != ',' && !ascii_is_space(list.p[at]))
			at++;
		bits |= keyword_find((struct sv){ list.p + from, at - from });
		at += at < list.len;
	}
	return bits;
}

/* "NAME ADDR ...": the bits. */
static unsigned xforward_attributes(struct sv list)
{
	unsigned bits = 0;

	while ((list = sv_trim(list)).len > 0) {
		size_t n = 0;

		while (n < list.len && !ascii_is_space(list.p[n]))
			n++;
		for (unsigned i = 0; i < ORIGIN_COUNT; i++) {
			if (sv_eq_nocase((struct sv){ list.p, n }, sv_from(origins[i].name)))
				bits |= 1u << (CLIENT_XFORWARD_SHIFT + i);
		}
		list = (struct sv){ list.p + n, list.len - n };
	}
	return bits;
}

bool command_xforward(struct buf *out, const struct client_tx *tx, unsigned features, unsigned part)
{
	size_t at = out->len;

	for (unsigned i = 0; i < ORIGIN_COUNT; i++) {
		struct sv value = tx->origin[i];

		if (origins[i].part != part || value.len == 0 ||
		    (features & 1u << (CLIENT_XFORWARD_SHIFT + i)) == 0 ||
		    (!origins[i].unknown_stays && sv_eq_str(value, "unknown")))
			continue;
		buf_printf(out, "%s %s=", out->len == at ? "XFORWARD" : "", origins[i].name);
		mail_xtext_encode(value, out);
	}
	if (out->len == at)
		return false;
	buf_add_str(out, "\r\n");
	return true;
}

unsigned command_ehlo_keyword(struct sv line, uint64_t *size)
{
	struct sv word = { line.p, 0 }, arg;
	unsigned feature;

	while (word.len < line.len && !ascii_is_space(line.p[word.len]) && line.p[word.len] != '=')
		word.len++;
	feature = keyword_find(word);
	if (feature == CLIENT_F_SIZE) {
		arg = sv_trim((struct sv){ line.p + word.len, line.len - word.len });
		if (str_to_u64(arg, UINT64_MAX, size) != 0)
			*size = 0; /* no number: a limit exists, its value is unknown */
	}
	if (feature == CLIENT_F_XFORWARD)
		feature =
			xforward_attributes((struct sv){ line.p + word.len, line.len - word.len });
	return feature;
}

void command_hello(struct buf *out, const char *verb, const char *name)
{
	buf_printf(out, "%s %s\r\n", verb, name);
}

/* Mail of which nothing is known may have 8 bits. */
bool client_downgrades(const struct client_tx *tx, unsigned features)
{
	return tx->may_downgrade && !tx->is_7bit && (features & CLIENT_F_8BITMIME) == 0;
}

/* As RFC 5321 wants it, or as it is meant; but nothing that could end the command. */
static void add_address(struct buf *out, struct sv addr, bool raw)
{
	for (size_t i = 0; i < addr.len; i++)
		raw = raw && (unsigned char)addr.p[i] >= ' ' && addr.p[i] != 127;
	if (raw)
		buf_add_sv(out, addr);
	else
		mail_addr_quote(addr, out);
}

void command_mail(struct buf *out, const struct client_tx *tx, unsigned features, bool raw)
{
	buf_add_str(out, "MAIL FROM:<");
	add_address(out, tx->sender, raw);
	buf_add_c(out, '>');
	if ((features & CLIENT_F_SIZE) != 0 && !client_downgrades(tx, features))
		buf_printf(out, " SIZE=%llu", (unsigned long long)tx->size);
	if ((features & CLIENT_F_8BITMIME) != 0 && tx->is_8bit)
		buf_add_str(out, " BODY=8BITMIME");
	if ((features & CLIENT_F_8BITMIME) != 0 && tx->is_7bit)
		buf_add_str(out, " BODY=7BIT");
	if ((features & CLIENT_F_SMTPUTF8) != 0 && tx->needs_utf8)
		buf_add_str(out, " SMTPUTF8");
	if ((features & CLIENT_F_DSN) != 0) {
		if (tx->ret == DSN_RET_FULL || tx->ret == DSN_RET_HDRS)
			buf_printf(out, " RET=%s", tx->ret == DSN_RET_FULL ? "FULL" : "HDRS");
		if (tx->envid.len > 0) {
			buf_add_str(out, " ENVID=");
			mail_xtext_encode(tx->envid, out);
		}
	}
	if ((features & CLIENT_F_AUTH) != 0)
		buf_add_str(out, " AUTH=<>");
	buf_add_str(out, "\r\n");
}

static void add_notify(struct buf *out, unsigned notify)
{
	static const struct {
		unsigned bit;
		const char *word;
	} words[] = { { NOTIFY_SUCCESS, "SUCCESS" },
		      { NOTIFY_FAILURE, "FAILURE" },
		      { NOTIFY_DELAY, "DELAY" } };
	const char *separator = " NOTIFY=";

	if ((notify & NOTIFY_NEVER) != 0) {
		buf_add_str(out, " NOTIFY=NEVER");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if ((notify & words[i].bit) == 0)
			continue;
		buf_printf(out, "%s%s", separator, words[i].word);
		separator = ",";
	}
}

void command_rcpt(struct buf *out, const struct client_rcpt *r, unsigned features, bool raw)
{
	buf_add_str(out, "RCPT TO:<");
	add_address(out, r->to.len > 0 ? r->to : r->addr, raw);
	buf_add_c(out, '>');
	if ((features & CLIENT_F_DSN) != 0) {
		add_notify(out, r->notify);
		if (r->orcpt.len > 0) {
			const char *semi = memchr(r->orcpt.p, ';', r->orcpt.len);
			size_t type = semi != NULL ? (size_t)(semi - r->orcpt.p) + 1 : 0;

			/* the address type is an atom and stays, the rest is xtext */
			buf_add_str(out, " ORCPT=");
			buf_add(out, r->orcpt.p, type);
			mail_xtext_encode((struct sv){ r->orcpt.p + type, r->orcpt.len - type },
					  out);
		} else {
			struct sv orig = r->orig.len > 0 ? r->orig : r->addr;

			/* so that a report names what the sender knows; other characters would need
			 * the type utf-8 (RFC 6533) */
			if (str_is_ascii(orig.p, orig.len)) {
				buf_add_str(out, " ORCPT=rfc822;");
				mail_xtext_encode(orig, out);
			}
		}
	}
	buf_add_str(out, "\r\n");
}
