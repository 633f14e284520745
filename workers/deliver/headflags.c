/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Headers in front of what is sent; see workers/deliver/headflags.h. */
#include "workers/deliver/headflags.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

PRINTF_LIKE(5, 6)
static void tell(const struct conf *c, const struct conf_transport *ct, struct conf_diag *d,
		 bool is_error, const char *fmt, ...)
{
	char *path = xasprintf("%s/master.cf", conf_dir(c));
	struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	conf_diag_add(d, is_error, path, ct->service->line, "service %s: %s", ct->name,
		      buf_cstr(&text));
	buf_fini(&text);
	free(path);
}

static unsigned flag_of(char letter)
{
	switch (letter) {
	case 'D':
		return HEAD_DELIVERED_TO;
	case 'O':
		return HEAD_ORIGINAL_TO;
	case 'R':
		return HEAD_RETURN_PATH;
	case 'X':
		return HEAD_FINAL;
	default:
		return 0;
	}
}

static int read_word(const struct conf *c, const struct conf_transport *ct, const char *word,
		     unsigned *flags, struct conf_diag *d)
{
	if (strncmp(word, "flags=", 6) != 0) {
		tell(c, ct, d, true, "unknown attribute: %.200s", word);
		return E_CONFIG;
	}
	for (const char *p = word + 6; *p != '\0'; p++) {
		unsigned flag = flag_of(*p);

		*flags |= flag;
		if (flag == 0 && *p != ' ' && *p != '\t' && *p != ',') {
			tell(c, ct, d, true, "unknown flag: %c", *p);
			return E_CONFIG;
		}
	}
	return 0;
}

int headflags_read(const struct conf *c, const struct conf_transport *ct, unsigned *flags_r,
		   struct conf_diag *d)
{
	unsigned own;
	int err = 0;

	*flags_r = 0;
	if (ct->kind != TRANSPORT_SMTP && ct->kind != TRANSPORT_LMTP)
		return 0;
	for (unsigned i = 0; i < ct->service->arg_count && err == 0; i++)
		err = read_word(c, ct, ct->service->args[i], flags_r, d);
	/* what names the recipient is true for one of them only */
	if (!ct->params->enable_original_recipient)
		*flags_r &= ~(unsigned)HEAD_ORIGINAL_TO;
	own = *flags_r & (HEAD_DELIVERED_TO | HEAD_ORIGINAL_TO);
	if (err == 0 && own != 0 && ct->destination_recipient_limit != 1) {
		tell(c, ct, d, false, "flag %c requires %s_destination_recipient_limit = 1",
		     (own & HEAD_DELIVERED_TO) != 0 ? 'D' : 'O', ct->name);
		*flags_r &= ~own;
	}
	return err;
}

static void put(struct buf *out, const char *name, struct sv addr, const char *behind)
{
	buf_add_str(out, name);
	if (addr.len > 0)
		mail_addr_quote(addr, out);
	buf_add_str(out, behind);
}

void headflags_put(unsigned flags, struct sv sender, struct sv orig, struct sv rcpt,
		   struct buf *out)
{
	if ((flags & HEAD_RETURN_PATH) != 0)
		put(out, "Return-Path: <", sender, ">\r\n");
	if ((flags & HEAD_ORIGINAL_TO) != 0)
		put(out, "X-Original-To: ", orig.len > 0 ? orig : rcpt, "\r\n");
	if ((flags & HEAD_DELIVERED_TO) != 0)
		put(out, "Delivered-To: ", rcpt, "\r\n");
}

bool headflags_is_loop(struct sv content, struct sv rcpt)
{
	static const struct sv name = { "Delivered-To:", 13 };

	while (content.len > 0) {
		const char *nl = memchr(content.p, '\n', content.len);
		size_t n = nl == NULL ? content.len : (size_t)(nl - content.p) + 1;
		struct sv line = sv_trim((struct sv){ content.p, n });

		if (line.len == 0)
			return false;
		if (line.len > name.len && sv_eq_nocase((struct sv){ line.p, name.len }, name) &&
		    sv_eq_nocase(sv_trim((struct sv){ line.p + name.len, line.len - name.len }),
				 rcpt))
			return true;
		content = (struct sv){ content.p + n, content.len - n };
	}
	return false;
}
