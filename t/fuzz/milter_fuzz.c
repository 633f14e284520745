/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a milter sends: frames, replies, and changes of a message. Whatever it says, the message
 * that comes out is in wire form. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/log.h"
#include "workers/milter/codec.h"
#include "workers/milter/content.h"
#include "workers/rewrite/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD "Received: ours\r\nReceived: theirs\r\n\tby b\r\nSubject:  x\r\n..Dot: y\r\n\r\n"
#define BODY "a\r\n..b\r\n\r\nc\r\n"

static void change(struct milter_content *c, const struct milter_frame *f)
{
	struct sv rest = f->data, name = SV(""), value = SV("");
	struct buf text = BUF_INIT;
	uint32_t index = 0;

	if (f->answer == MILTER_REPLACE_BODY) {
		milter_content_replace(c, rest);
		return;
	}
	if (f->answer != MILTER_ADD_HEADER && !milter_get_u32(&rest, &index))
		return;
	if (!milter_get_string(&rest, &name) || !milter_get_string(&rest, &value))
		return;
	buf_add_sv(&text, name);
	buf_add_c(&text, ':');
	buf_add_sv(&text, value);
	if (f->answer == MILTER_ADD_HEADER)
		milter_content_add(c, buf_sv(&text));
	else if (f->answer == MILTER_INSERT_HEADER)
		milter_content_insert(c, index, buf_sv(&text));
	else if (f->answer == MILTER_CHANGE_HEADER && value.len > 0)
		milter_content_change(c, index > 0 ? index : 1, name, buf_sv(&text));
	else if (f->answer == MILTER_CHANGE_HEADER)
		milter_content_delete(c, index > 0 ? index : 1, name);
	buf_fini(&text);
}

/* The header section ends where it says, and all of it is whole lines with stuffed dots. */
static void check_result(const struct milter_content *c)
{
	struct wire w = { .mid_line = false };
	struct buf out = BUF_INIT;
	size_t head = milter_content_put(c, &out), len = 0;
	const char *end = memmem(out.p, out.len, "\r\n\r\n", 4);

	ASSERT(end == NULL || head <= 2 || (size_t)(end - out.p) + 4 == head);
	ASSERT(wire_check(&w, out.p, out.len, &len) == 0 && len == out.len && wire_end(&w) == 0);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sv in = { (const char *)data, size };
	struct milter_content c;
	struct milter_frame f;
	struct arena arena;
	struct buf text = BUF_INIT;
	size_t used;

	arena_init(&arena, 1024, 1 << 20);
	milter_content_begin(&c, &arena, SV(HEAD), SV(BODY), true, 100000);
	milter_content_mark(&c);
	while (milter_frame_get(in, &f, &used) == 0) {
		in = (struct sv){ in.p + used, in.len - used };
		if (f.answer == MILTER_REPLY_CODE) {
			if (milter_reply_text(f.data, &text))
				ASSERT(text.len >= 4 && (text.p[0] == '4' || text.p[0] == '5'));
		} else if (f.answer == MILTER_CONTINUE) {
			milter_content_replaced(&c);
			milter_content_mark(&c);
		} else if (f.answer == MILTER_REJECT) {
			milter_content_undo(&c);
		} else {
			change(&c, &f);
		}
	}
	check_result(&c);
	milter_content_fini(&c);
	buf_fini(&text);
	arena_fini(&arena);
	return 0;
}
