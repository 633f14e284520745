/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Results of address probes, which go to the verify worker and to nobody else. Without one at the
 * moment they are lost, which costs another probe when somebody asks. Called by notify.c.
 */
#include <string.h>

#include "conf/verify_use.h"
#include "workers/rewrite/rewrite.h"

#define TEXT_MAX 1000u

static void tell(struct rewrite *r, struct sv addr, enum verify_status status, struct sv text)
{
	struct buf rec = BUF_INIT;
	struct proto_verify_result h = { .kind = PROTO_VERIFY_RESULT,
					 .status = status,
					 .addr_len = (uint32_t)addr.len,
					 .text_len = (uint32_t)size_min(text.len, TEXT_MAX) };

	buf_add(&rec, &h, sizeof(h));
	buf_add_sv(&rec, addr);
	buf_add(&rec, text.p, h.text_len);
	worker_send(r->w, r->verify->link, rec.p, rec.len);
	buf_fini(&rec);
}

void probed_tell(struct rewrite *r, const struct envelope *env, const struct env_rcpt *rcpt,
		 const uint8_t dsn[3], struct sv text)
{
	enum verify_status status = dsn[0] == 2   ? VERIFY_OK
				    : dsn[0] == 5 ? VERIFY_BOUNCE
						  : VERIFY_DEFER;

	if (r->verify == NULL)
		return;
	tell(r, env->verify, status, text);
	/* as it was rewritten: that may be asked about, too */
	if (!sv_eq(env->verify, rcpt->addr))
		tell(r, rcpt->addr, status, text);
}
