/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content that strict_7bit_headers, strict_8bitmime, strict_8bitmime_body,
 * strict_mime_encoding_domain and mime_nesting_limit forbid; see workers/rewrite/checks.h. */
#include "workers/rewrite/checks.h"

#include <string.h>

#define FAULT_TEXT_BYTES 100 /* as in Postfix */

static const char *const fault_texts[FAULT_KINDS] = {
	[FAULT_NESTING] = "MIME nesting exceeds safety limit",
	[FAULT_HEADER_8BIT] = "improper use of 8-bit data in message header",
	[FAULT_BODY_8BIT] = "improper use of 8-bit data in message body",
	[FAULT_DOMAIN] = "invalid message/* or multipart/* encoding domain",
	[FAULT_UNENDED] = "primary header was terminated with non-empty line",
};

void checks_fault(struct check_run *run, enum mime_fault fault, struct sv text)
{
	const struct envelope *e = run->env;
	struct sv to = e->rcpt_count > 0 ? e->rcpts[e->rcpt_count - 1].addr : SV("unknown");

	if ((run->mime_faults & 1u << fault) != 0 || run->off)
		return;
	run->mime_faults |= 1u << fault;
	checks_log(run, LOG_LEVEL_INFO,
		   "%s: reject: mime-error %s: %.*s from %.*s%s%.*s%s; from=<%.*s> to=<%.*s>",
		   run->qid, fault_texts[fault], (int)size_min(text.len, FAULT_TEXT_BYTES), text.p,
		   e->client_addr.len > 0 ? (int)e->client_name.len : 5,
		   e->client_addr.len > 0 ? e->client_name.p : "local",
		   e->client_addr.len > 0 ? "[" : "", (int)e->client_addr.len, e->client_addr.p,
		   e->client_addr.len > 0 ? "]" : "", (int)e->sender.len, e->sender.p, (int)to.len,
		   to.p);
}

void checks_judge_faults(struct check_run *run)
{
	unsigned fault = 0;

	if (run->mime_faults == 0 || run->refusal.code != 0 || run->off)
		return;
	while ((run->mime_faults & 1u << fault) == 0)
		fault++;
	run->refusal = (struct check_refusal){ 550, { 5, 6, 0 }, fault_texts[fault] };
}

void checks_unended(struct check_run *run, struct sv line)
{
	static const char note[] =
		"MIME-Error: message header was not terminated by empty line\r\n";
	const char *nl = line.len > 0 ? memchr(line.p, '\n', line.len) : NULL;

	if (run->checks->unended == UNENDED_ADD)
		buf_add_str(run->out, note);
	if (run->checks->unended != UNENDED_REJECT)
		return;
	if (line.len > 0 && line.p[0] == '.')
		line = (struct sv){ line.p + 1, line.len - 1 };
	if (nl != NULL)
		line.len = (size_t)(nl - line.p);
	while (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	checks_fault(run, FAULT_UNENDED, line);
}
