/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the sender is told of a submission that was refused for good. Called by job.c. */
#include <string.h>

#include "lib/clock.h"
#include "workers/pickup/pickup.h"
#include "workers/rewrite/dsn.h"

#define ORIGINAL_MAX 50000u
#define RCPT_MAX     1000u /* recipients that are listed */

/* The beginning of the content in wire form. */
static void read_original(const struct job *j, struct buf *out)
{
	char text[16384], wire[16384 + 16];
	struct smtp_data scan;
	uint64_t off = 0;

	smtp_data_init_chunked(&scan);
	while (out->len < ORIGINAL_MAX) {
		ssize_t n = maildrop_read_content(&j->file, off, text, sizeof(text) / 2);
		size_t written, used;

		if (n <= 0)
			break;
		used = smtp_data_scan(&scan, text, (size_t)n, wire, sizeof(wire), &written);
		buf_add(out, wire, written);
		off += used;
	}
}

void report_build(const struct job *j, struct qid id, const uint8_t dsn[3], struct sv why,
		  struct buf *out)
{
	const struct params *p = j->p->w->params;
	size_t count = size_min(j->env.rcpt_count, RCPT_MAX);
	struct dsn_rcpt *rcpts = xcalloc(count, sizeof(*rcpts));
	struct buf original = BUF_INIT, from = BUF_INIT, to = BUF_INIT;
	char text[QID_TEXT_SIZE];
	int64_t now_s = clock_now_wall().us / 1000000;

	for (size_t i = 0; i < count; i++) {
		rcpts[i] = (struct dsn_rcpt){
			.rcpt = &j->env.rcpts[i], .text = why, .mta = SV(""), .diag = SV("")
		};
		memcpy(rcpts[i].dsn, dsn, sizeof(rcpts[i].dsn));
	}
	read_original(j, &original);
	buf_printf(&from, "MAILER-DAEMON@%s", p->myhostname);
	buf_add_sv(&to, j->env.sender);
	if (memchr(to.p, '@', to.len) == NULL)
		buf_printf(&to, "@%s", p->myorigin);
	dsn_build(
		&(struct dsn_facts){ .kind = BOUNCE_FAILURE,
				     .audience = DSN_TO_SENDER,
				     .myhostname = sv_from(p->myhostname),
				     .myorigin = sv_from(p->myorigin),
				     .mail_name = sv_from(p->mail_name),
				     .from = buf_sv(&from),
				     .to = buf_sv(&to),
				     .text = dsn_text(&j->p->texts, BOUNCE_FAILURE, 0),
				     .qid = sv_from(qid_format(id, text)),
				     .orig_qid = sv_from(j->id),
				     .env = &j->env,
				     .now_s = now_s,
				     .arrival_s = j->file.mtime_s,
				     .rcpts = rcpts,
				     .rcpt_count = count,
				     .original = dsn_headers_of(buf_sv(&original), ORIGINAL_MAX) },
		out);
	free(rcpts);
	buf_fini(&original);
	buf_fini(&from);
	buf_fini(&to);
}
