/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What flags= of its transport means for a job; see workers/deliver/headflags.h. */
#include "lib/io.h"
#include "lib/util.h"
#include "workers/deliver/deliver.h"
#include "workers/deliver/headflags.h"

void job_put_head(const struct job *j, struct buf *out)
{
	const struct client_rcpt *r = &j->client_rcpts[j->tx_rcpt[0]];

	if ((j->t->head_flags & HEAD_LINES) != 0)
		headflags_put(j->t->head_flags, j->env.sender, r->orig, r->addr, out);
}

/* flags=D: has it come here before? What cannot be read is found when it is sent. */
bool job_is_loop(struct job *j)
{
	struct sv head = { j->d->io, (size_t)u64_min(j->hdr.content_len, sizeof(j->d->io)) };
	uint64_t pos;
	int fd;

	if ((j->t->head_flags & HEAD_DELIVERED_TO) == 0)
		return false;
	if (j->content.len > 0)
		head = buf_sv(&j->content);
	else if (job_content_fd(j, &fd, &pos) != 0 ||
		 io_pread_all(fd, j->d->io, head.len, (off_t)pos) != 0)
		return false;
	return headflags_is_loop(head, j->client_rcpts[0].addr);
}
