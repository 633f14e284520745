/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names in the log; see workers/log/tags.h. */
#include "workers/log/tags.h"

#include "lib/util.h"

#define TAG_MAX 100

static const struct {
	const char *name;
	unsigned classes; /* bits */
} owners[] = {
	{ "master", 1u << CLASS_SUPERVISOR },
	{ "qmgr", 1u << CLASS_SUPERVISOR | 1u << CLASS_REWRITE },
	{ "postsuper", 1u << CLASS_SUPERVISOR },
	{ "postlog", 1u << CLASS_LOG },
	{ "resolver", 1u << CLASS_RESOLVER },
	{ "cleanup", 1u << CLASS_REWRITE },
	{ "bounce", 1u << CLASS_REWRITE },
	{ "error", 1u << CLASS_REWRITE | 1u << CLASS_DELIVER },
	{ "smtpd", 1u << CLASS_SMTP_IN },
	{ "qmqpd", 1u << CLASS_SMTP_IN },
	{ "postscreen", 1u << CLASS_SMTP_IN | 1u << CLASS_VERIFY },
	{ "dnsblog", 1u << CLASS_SMTP_IN },
	{ "tlsproxy", 1u << CLASS_SMTP_IN },
	{ "stats", 1u << CLASS_STATS },
	{ "pickup", 1u << CLASS_PICKUP },
	{ "proxymap", 1u << CLASS_LOOKUP },
	{ "showq", 1u << CLASS_SHOWQ },
	{ "spawn", 1u << CLASS_SPAWN },
	{ "auth", 1u << CLASS_AUTH },
	{ "verify", 1u << CLASS_VERIFY },
	{ "saslclient", 1u << CLASS_SASL_CLIENT },
};

static const char *const fallback[CLASS_COUNT] = {
	[CLASS_SUPERVISOR] = "master",
	[CLASS_LOG] = "postlog",
	[CLASS_RESOLVER] = "resolver",
	[CLASS_REWRITE] = "cleanup",
	[CLASS_SMTP_IN] = "smtpd",
	[CLASS_DELIVER] = "smtp",
	[CLASS_LOCAL] = "virtual",
	[CLASS_STATS] = "stats",
	[CLASS_PICKUP] = "pickup",
	[CLASS_LOOKUP] = "proxymap",
	[CLASS_SHOWQ] = "showq",
	[CLASS_SPAWN] = "spawn",
	[CLASS_AUTH] = "auth",
	[CLASS_VERIFY] = "verify",
	[CLASS_SASL_CLIENT] = "saslclient",
};

static bool is_plain(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= ' ' || c >= 0x7f || c == '[' || c == ']' || c == ':')
			return false;
	}
	return s.len > 0 && s.len <= TAG_MAX;
}

bool log_tag_ok(enum worker_class class_id, struct sv program)
{
	size_t from = program.len;

	if (!is_plain(program))
		return false;
	while (from > 0 && program.p[from - 1] != '/')
		from--;
	struct sv last = { program.p + from, program.len - from };

	for (size_t i = 0; i < ARRAY_LEN(owners); i++) {
		if (sv_eq(last, sv_from(owners[i].name)))
			return (owners[i].classes >> class_id & 1) != 0;
	}
	return last.len > 0 && (class_id == CLASS_DELIVER || class_id == CLASS_LOCAL);
}

const char *log_tag_of(enum worker_class class_id)
{
	return (unsigned)class_id < CLASS_COUNT ? fallback[class_id] : "unknown";
}
