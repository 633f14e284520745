/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * reject_unverified_sender, reject_unverified_recipient: what the verify worker knows or finds out
 * about an address (workers/verify). It is asked like a remote table; how long it may wait for a
 * probe is part of the question, since listeners differ in that.
 */
#include <string.h>

#include "conf/map_remote.h"
#include "conf/verify_use.h"
#include "lib/log.h"
#include "policy/policy_int.h"

#define ANSWER_MS 3000 /* beyond what it waits */

struct unverified { /* the parameters of one of the two */
	const char *addr, *reply_class, *dsn, *reason;
	int64_t defer_code, reject_code;
	int tempfail_action;
};

/* A temporary refusal with its own code, as ..._tempfail_action says. */
static enum policy_verdict tempfail(struct policy_run *r, const struct unverified *u, int64_t code,
				    const char *what, const char *why)
{
	return u->tempfail_action == TEMPFAIL_DEFER
		       ? policy_reject(r, code, u->dsn, "<%s>: %s rejected: %s%.250s", u->addr,
				       u->reply_class, what, why)
		       : policy_defer_if_permit(r, code, u->dsn, "<%s>: %s rejected: %s%.250s",
						u->addr, u->reply_class, what, why);
}

static enum policy_verdict act(struct policy_run *r, const struct unverified *u,
			       enum verify_status status, const char *why)
{
	int64_t code = status == VERIFY_OK       ? 0
		       : status == VERIFY_BOUNCE ? u->reject_code
						 : u->defer_code;

	if (code >= 400 && u->reason[0] != '\0')
		why = u->reason;
	if (code < 300)
		return POLICY_DUNNO;
	if (code < 500)
		return tempfail(r, u, code, "unverified address: ", why);
	return policy_reject(r, code, u->dsn, "<%s>: %s rejected: undeliverable address: %s",
			     u->addr, u->reply_class, why);
}

static enum policy_verdict check(struct policy_run *r, const struct unverified *u)
{
	const struct params *p = r->pc->p;
	int64_t wait_ms = (p->address_verify_poll_count - 1) * p->address_verify_poll_delay;
	struct buf key = BUF_INIT, answer = BUF_INIT;

	if (!map_memo_is_entered()) { /* an access table named it, nothing else needs a memo */
		map_remote_will_ask();
		r->need.kind = POLICY_NEED_TABLES;
		return POLICY_NEED;
	}
	buf_printf(&key, "%lld %s", (long long)wait_ms, u->addr);
	enum map_status status = map_remote_ask(VERIFY_SPEC, buf_sv(&key), &answer);
	enum policy_verdict v = POLICY_NEED;
	const char *text = buf_cstr(&answer);

	if (map_memo_is_missing()) {
		r->need.time_ms = wait_ms + ANSWER_MS;
	} else if (status == MAP_FOUND && text[0] >= '0' && text[0] <= '3' && text[1] == ' ') {
		v = act(r, u, (enum verify_status)(text[0] - '0'), text + 2);
	} else {
		log_warn("verify service failure");
		v = tempfail(r, u, 450, "address verification problem", "");
	}
	buf_fini(&key);
	buf_fini(&answer);
	return v;
}

enum policy_verdict rs_unverified_sender(struct policy_run *r, const struct policy_item *it UNUSED)
{
	const struct params *p = r->pc->p;
	const struct unverified u = { .addr = r->view->sender,
				      .reply_class = policy_class_sender,
				      .dsn = "4.1.7",
				      .reason = p->unverified_sender_reject_reason,
				      .defer_code = p->unverified_sender_defer_code,
				      .reject_code = p->unverified_sender_reject_code,
				      .tempfail_action = p->unverified_sender_tempfail_action };

	return u.addr == NULL || u.addr[0] == '\0' ? POLICY_DUNNO : check(r, &u);
}

enum policy_verdict rs_unverified_recipient(struct policy_run *r,
					    const struct policy_item *it UNUSED)
{
	const struct params *p = r->pc->p;
	const struct unverified u = { .addr = r->view->recipient,
				      .reply_class = policy_class_rcpt,
				      .dsn = "4.1.1",
				      .reason = p->unverified_recipient_reject_reason,
				      .defer_code = p->unverified_recipient_defer_code,
				      .reject_code = p->unverified_recipient_reject_code,
				      .tempfail_action = p->unverified_recipient_tempfail_action };

	return u.addr == NULL || u.addr[0] == '\0' ? POLICY_DUNNO : check(r, &u);
}
