/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whose sender address is it: smtpd_sender_login_maps and the restrictions that ask it. */
#include <stdlib.h>
#include <string.h>

#include "policy/policy_int.h"

/* The logins that own the sender, in pc->value. */
static enum map_status find_owners(struct policy_run *r)
{
	struct policy_conf *pc = r->pc;
	struct sv ext;

	policy_resolve(pc, r->view->sender, &pc->rcpt);
	if (pc->rcpt.tempfail)
		return MAP_ERROR;
	buf_reset(&pc->value);
	return map_list_get_addr(pc->sender_login_maps, buf_sv(&pc->rcpt.addr),
				 pc->p->recipient_delimiter, pc->rcpt.class_id == ADDR_LOCAL,
				 &pc->value, &ext);
}

static bool owns(const char *owners, const char *user)
{
	for (size_t n; owners += strspn(owners, ", \t\r\n"), *owners != '\0'; owners += n) {
		n = strcspn(owners, ", \t\r\n");
		if (sv_eq_nocase((struct sv){ owners, n }, sv_from(user)))
			return true;
	}
	return false;
}

static bool applies(const struct policy_run *r, bool logged_in)
{
	const char *sender = r->view->sender;

	return r->pc->p->smtpd_sasl_auth_enable && sender != NULL && sender[0] != '\0' &&
	       !map_list_is_empty(r->pc->sender_login_maps) &&
	       (r->view->sasl_user != NULL) == logged_in;
}

static enum policy_verdict check_owner(struct policy_run *r, bool unknown_is_fine)
{
	if (!applies(r, true))
		return POLICY_DUNNO;
	switch (find_owners(r)) {
	case MAP_ERROR:
		return policy_retry(r, r->view->sender);
	case MAP_NOT_FOUND:
		if (unknown_is_fine)
			return POLICY_DUNNO;
		break;
	case MAP_FOUND:
		if (owns(buf_cstr(&r->pc->value), r->view->sasl_user))
			return POLICY_DUNNO;
		break;
	}
	return policy_reject(r, 553, "5.7.1", "<%s>: Sender address rejected: not owned by user %s",
			     r->view->sender, r->view->sasl_user);
}

static enum policy_verdict check_stranger(struct policy_run *r)
{
	if (!applies(r, false))
		return POLICY_DUNNO;
	switch (find_owners(r)) {
	case MAP_ERROR:
		return policy_retry(r, r->view->sender);
	case MAP_NOT_FOUND:
		return POLICY_DUNNO;
	case MAP_FOUND:
		break;
	}
	return policy_reject(r, 553, "5.7.1", "<%s>: Sender address rejected: not logged in",
			     r->view->sender);
}

enum policy_verdict rs_auth_login_mismatch(struct policy_run *r,
					   const struct policy_item *it UNUSED)
{
	return check_owner(r, false);
}

enum policy_verdict rs_unauth_login_mismatch(struct policy_run *r,
					     const struct policy_item *it UNUSED)
{
	return check_stranger(r);
}

enum policy_verdict rs_login_mismatch(struct policy_run *r, const struct policy_item *it UNUSED)
{
	return r->view->sasl_user != NULL ? check_owner(r, false) : check_stranger(r);
}

enum policy_verdict rs_known_login_mismatch(struct policy_run *r,
					    const struct policy_item *it UNUSED)
{
	return r->view->sasl_user != NULL ? check_owner(r, true) : check_stranger(r);
}
