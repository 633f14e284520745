/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Changed content on its way; see workers/deliver/changed.h. */
#include "workers/deliver/changed.h"

#include <stdlib.h>

#include "lib/err.h"
#include "lib/util.h"

#define LITTLE CHANGED_PIECE /* to be written: read more first, so that writes are large */

struct changed {
	struct convert cv;
	char qid[QID_TEXT_SIZE];
	struct buf out;
	uint64_t at;
	bool whole;
};

struct changed *changed_new(const struct convert_conf *cc, struct qid qid, bool downgrade,
			    struct sv head)
{
	struct changed *ch = xcalloc(1, sizeof(*ch));

	qid_format(qid, ch->qid);
	buf_add_sv(&ch->out, head);
	convert_begin(&ch->cv, cc, ch->qid, downgrade, &ch->out);
	return ch;
}

void changed_free(struct changed **chp)
{
	struct changed *ch = *chp;

	if (ch == NULL)
		return;
	convert_fini(&ch->cv);
	buf_fini(&ch->out);
	free(ch);
	*chp = NULL;
}

bool changed_wants(const struct changed *ch)
{
	return !ch->whole && ch->out.len < LITTLE;
}

uint64_t changed_at(const struct changed *ch)
{
	return ch->at;
}

int changed_feed(struct changed *ch, struct sv piece, bool last)
{
	convert_feed(&ch->cv, piece);
	ch->at += piece.len;
	if (last) {
		convert_end(&ch->cv);
		ch->whole = true;
	}
	return ch->cv.err == 0 || ch->cv.err == E_LIMIT ? ch->cv.err : E_AGAIN;
}

bool changed_is_whole(const struct changed *ch)
{
	return ch->whole;
}

struct sv changed_out(const struct changed *ch)
{
	return buf_sv(&ch->out);
}

void changed_wrote(struct changed *ch, size_t n)
{
	buf_consume(&ch->out, n);
}
