/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One evaluation of restrictions after the other, with a scripted DNS; for the tests of policy/. */
#ifndef PH_T_POLICY_BENCH_H
#define PH_T_POLICY_BENCH_H

#include "policy/policy_int.h"
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

/* Data: addresses, or hosts ("10:mx.test" for MX) with blanks between them; or "TEMP", "NULL". */
struct bench_rrset {
	const char *name;
	uint16_t type;
	const char *data;
};

struct bench { /* one evaluation */
	struct fake f;
	struct policy_view v;
	struct policy_state st;
	struct policy_run run;
	struct arena arena;
	char log[2000];
	const struct bench_rrset
		*zone;    /* answers by name and type; NULL: f.dns to every question */
	char asked[2000]; /* "name/type " for each question */
};

static inline void note(void *ctx, const char *action, const char *text)
{
	struct bench *b = ctx;
	size_t n = strlen(b->log);

	snprintf(b->log + n, sizeof(b->log) - n, "%s: %s\n", action, text);
}

static inline void bench_open(struct bench *b, const char *main_cf)
{
	memset(b, 0, sizeof(*b));
	fake_conf(&b->f, main_cf, NULL);
	arena_init(&b->arena, 1024, 0);
	b->v = (struct policy_view){
		.client_name = "mail.client.test",
		.client_addr = "192.0.2.1",
		.reverse_name = "mail.client.test",
		.namaddr = "mail.client.test[192.0.2.1]",
		.helo = "helo.client.test",
		.sender = "s@x.test",
		.recipient = "u@local.test",
	};
	b->run.pc = b->f.listener.policy;
	b->run.view = &b->v;
	b->run.state = &b->st;
	b->run.arena = &b->arena;
	b->run.log = note;
	b->run.log_ctx = b;
}

static inline void bench_close(struct bench *b)
{
	policy_state_fini(&b->st);
	arena_fini(&b->arena);
	fake_fini(&b->f);
}

/* Answers from the zone; what it does not have does not exist. */
static inline void bench_answer(struct bench *b)
{
	struct policy_dns a = { .status = POLICY_DNS_NONE };
	struct policy_rr rrs[200];
	unsigned char bytes[200][16];
	char copy[8000], *save = NULL;
	const struct bench_rrset *z = b->zone;
	size_t n = strlen(b->asked);

	snprintf(b->asked + n, sizeof(b->asked) - n, "%s/%u ", b->run.need.name,
		 b->run.need.rrtype);
	for (; z->name != NULL; z++) {
		if (strcmp(z->name, b->run.need.name) == 0)
			a.nodata = true;
		if (a.nodata && z->type == b->run.need.rrtype &&
		    strcmp(z->name, b->run.need.name) == 0)
			break;
	}
	if (z->name != NULL) {
		a.nodata = false;
		a.status = strcmp(z->data, "TEMP") == 0   ? POLICY_DNS_TEMP
			   : strcmp(z->data, "NULL") == 0 ? POLICY_DNS_NULLMX
							  : POLICY_DNS_OK;
	}
	snprintf(copy, sizeof(copy), "%s", a.status == POLICY_DNS_OK ? z->data : "");
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		struct policy_rr *rr = &rrs[a.rr_count];

		*rr = (struct policy_rr){ 0 };
		if (z->type == 1 || z->type == 28) {
			rr->is_v6 = z->type == 28;
			rr->addr = bytes[a.rr_count];
			inet_pton(rr->is_v6 ? AF_INET6 : AF_INET, w, bytes[a.rr_count]);
		} else {
			rr->pref = (uint16_t)strtoul(w, &w, 10);
			rr->name = w + (*w == ':');
		}
		a.rr_count++;
	}
	a.rrs = rrs;
	policy_answered(&b->run, &a);
}

/* "OK", or the reply. */
static inline const char *ask(struct bench *b, enum policy_event event)
{
	b->log[0] = b->asked[0] = '\0';
	enum policy_verdict v = policy_start(&b->run, event);

	while (v == POLICY_NEED) {
		if (b->run.need.kind == POLICY_NEED_DNS && b->zone != NULL)
			bench_answer(b);
		else if (b->run.need.kind == POLICY_NEED_DNS)
			policy_answered(&b->run, &b->f.dns);
		v = policy_resume(&b->run);
	}
	return v == POLICY_PERMIT ? "OK" : b->run.reply;
}

#endif
