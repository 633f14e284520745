/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP paths and header address lists: what is accepted is harmless to pass on. */
#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_controls(struct sv s)
{
	for (size_t i = 0; i < s.len; i++)
		ASSERT((unsigned char)s.p[i] >= ' ' && s.p[i] != 0x7f);
}

/* An accepted address can be written in external form and read back as the same. */
static void path(struct sv text, bool strict)
{
	struct buf addr = BUF_INIT, wire = BUF_INIT, back = BUF_INIT;
	struct sv rest, local, domain;
	int err = mail_addr_parse_path(text, strict, &addr, &rest);

	ASSERT(err == 0 || err == E_SYNTAX || err == E_LIMIT);
	if (err == 0) {
		ASSERT(addr.len <= MAIL_ADDR_MAX_BYTES && str_is_utf8(addr.p, addr.len));
		no_controls(buf_sv(&addr));
		buf_add_c(&wire, '<');
		if (mail_addr_split(buf_sv(&addr), &local, &domain) || addr.len == 0 ||
		    memchr(addr.p, '@', addr.len) == NULL)
			mail_addr_quote(buf_sv(&addr), &wire);
		buf_add_c(&wire, '>');
		if (domain.len > 0) {
			ASSERT(mail_addr_parse_path(buf_sv(&wire), true, &back, &rest) == 0);
			ASSERT(sv_eq(buf_sv(&back), buf_sv(&addr)));
		}
	}
	buf_fini(&addr);
	buf_fini(&wire);
	buf_fini(&back);
}

static void list(struct sv text)
{
	struct mail_addrlist l;
	struct mail_addrlist_item item;
	struct buf addr = BUF_INIT;
	size_t behind = 0;

	mail_addrlist_init(&l, text);
	while (mail_addrlist_next(&l, &item, &addr)) {
		ASSERT(item.begin >= behind && item.begin < item.end && item.end <= text.len);
		ASSERT(addr.len > 0 && addr.len <= MAIL_ADDR_MAX_BYTES);
		no_controls(buf_sv(&addr));
		behind = item.end;
	}
	buf_fini(&addr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sv text = { (const char *)data, size }, addr;
	struct buf out = BUF_INIT;

	path(text, false);
	path(text, true);
	list(text);
	mail_hostname_is_valid(text);
	mail_hostaddr_is_valid(text);
	mail_literal_parse(text, &addr);
	mail_addr_crack(text, true, true, &out);
	mail_addr_unquote(text, &out);
	buf_fini(&out);
	return 0;
}
