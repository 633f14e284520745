/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * best_mx_transport: mail whose best MX host is this one goes on by another transport instead of
 * coming back. The supervisor has it resolved again, with that in mind (JOB_HEALTH_PASS). Called by
 * connect.c.
 */
#include <string.h>

#include "lib/log.h"
#include "workers/deliver/deliver.h"

static const struct tconf *find_transport(const struct deliver *d, struct sv name)
{
	for (unsigned i = 0; i < d->tconf_count; i++) {
		if (sv_eq(name, sv_from(d->tconfs[i].name)))
			return &d->tconfs[i];
	}
	return NULL;
}

/* Mail must not go round: not to where it is, nor from one transport with a best_mx_transport to
 * another that has a different one. */
static bool goes_round(const struct job *j, struct sv name, struct sv nexthop)
{
	const struct tconf *to = find_transport(j->d, name);

	if (to == NULL || to->kind != TRANSPORT_SMTP)
		return false;
	if (to->best_mx[0] != '\0' && strcmp(to->best_mx, j->t->best_mx) != 0)
		return true;
	/* names of hosts are in small letters by then */
	return to == j->t && (nexthop.len == 0 || sv_eq_nocase(nexthop, j->nexthop));
}

bool job_pass(struct job *j, const struct client_fault *f)
{
	struct client_fault later = *f;
	struct sv nexthop = sv_from(j->t->best_mx), name = sv_trim(sv_next_part(&nexthop, ':'));
	char id[QID_TEXT_SIZE];

	if (name.len == 0 || goes_round(j, name, sv_trim(nexthop)))
		return false;
	later.permanent = false;
	later.dsn[0] = 4;
	job_failed(j, SV("none"), &later); /* the reason, should we be interrupted */
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].state == JOB_DEFERRED) /* one result for all: not this time */
			return true;
	}
	qid_format(j->qid, id);
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		struct sv to = j->client_rcpts[i].addr;

		if (j->rcpts[i].state != JOB_TODO)
			continue;
		j->rcpts[i].state = JOB_DEFERRED;
		log_as(j->t->program, LOG_LEVEL_INFO, "%s: passing <%.*s> to transport=%.*s", id,
		       (int)to.len, to.p, (int)name.len, name.p);
	}
	j->passed = true;
	return true;
}
