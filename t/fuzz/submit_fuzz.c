/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A hostile smtp-in worker: blocks and records of its choosing, against the submission code with a
 * real spool. Input: a sequence of { op, length, bytes }:
 *   op bit 0-2  flags of the record; bit 3: use the bytes as the record itself; bit 4: put a valid
 *               envelope in front; bit 5: corrupt the chain; bit 6: same transaction as before
 */
#include <stdint.h>

#include "t/unit/workers/rewrite_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buf envelope;
static uint32_t life = 100;

static void drop_log(void *ctx, enum log_level level, const char *program, const char *text,
		     size_t len)
{
	(void)ctx;
	(void)program;
	if (level == LOG_LEVEL_PANIC)
		fprintf(stderr, "# %.*s\n", (int)len, text);
}

static void open_once(void)
{
	static bool opened;
	struct env_rcpt r[2] = { { .addr = SV("r@far.test") }, { .addr = SV("a@alias.test") } };
	struct envelope e = { .sender = SV("s@x.test"), .rcpts = r, .rcpt_count = 2 };

	if (opened)
		return;
	opened = true;
	log_set_sink(drop_log, NULL);
	if (rig_open(
		    "relayhost = [192.0.2.9]\nvirtual_alias_domains = alias.test\n"
		    "virtual_alias_maps = inline:{ {a@alias.test = b@far.test} }\n"
		    "line_length_limit = 512\nheader_checks = regexp:{ {/^A: (.*)/ REPLACE B: $$1} "
		    "{/^C/ IGNORE} {/^P/ PREPEND D: e} }\nbody_checks = regexp:{ {/^a(.*)/ REPLACE "
		    "$$1} {/^i/ IGNORE} {/^p/ PREPEND .x} }\n") != 0)
		die("no rig");
	atexit(rig_close);
	env_encode(&e, &envelope);
	rig_turn(0);
}

static void one_op(uint8_t op, const uint8_t *p, size_t len, uint64_t *us, uint32_t *tx)
{
	struct buf chain = BUF_INIT;
	struct proto_submit s = { .kind = PROTO_SUBMIT,
				  .flags = op & 7,
				  .data_len = (uint32_t)len };

	if (op & 8) {
		submit_record(&rig.r, &rig.peer, p, len);
		return;
	}
	if (op & 16) {
		buf_add_sv(&chain, buf_sv(&envelope));
		s.env_len = (uint32_t)envelope.len;
	}
	buf_add(&chain, p, len);
	s.first_block = rig_chain(chain.p, chain.len);
	s.tx = op & 64 ? *tx : ++*tx;
	s.qid = (struct proto_qid){ .time_us = ++*us, .life = rig.peer.life };
	if (op & 32 && s.first_block != BLOCK_NONE)
		atomic_store(&rig.blocks.next[s.first_block], len > 0 ? p[0] * 3u : s.first_block);
	rig_submit(&s);
	buf_fini(&chain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t us = 1700000000000000;
	uint32_t tx = 0;

	open_once();
	rig.keep_blocks = true; /* what is given back may be anything now */
	if (rig_attach(life++ & 0xffffff) != 0)
		die("no blocks");
	while (size >= 2) {
		size_t len = size_min(data[1] * 4u, size - 2);

		one_op(data[0], data + 2, len, &us, &tx);
		data += 2 + len;
		size -= 2 + len;
	}
	rig_settle();
	rig_detach();
	ASSERT(rig.r.pending_count == 0);
	return 0;
}
