/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Envelopes as a hostile smtp-in or a damaged record may hold them. */
#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct envelope e, again;
	struct arena arena;
	struct buf one = BUF_INIT, two = BUF_INIT;

	arena_init(&arena, 1024, 65536);
	int err = env_decode((struct sv){ (const char *)data, size }, 100, &arena, &e);

	ASSERT(err == 0 || err == E_SYNTAX || err == E_LIMIT);
	if (err == 0) {
		/* what was accepted survives another round unchanged */
		ASSERT(e.rcpt_count <= 100);
		ASSERT(env_encode(&e, &one) == 0);
		arena.limit_bytes = 0;
		ASSERT(env_decode(buf_sv(&one), 100, &arena, &again) == 0);
		ASSERT(env_encode(&again, &two) == 0);
		ASSERT(sv_eq(buf_sv(&one), buf_sv(&two)));
	}
	buf_fini(&one);
	buf_fini(&two);
	arena_fini(&arena);
	return 0;
}
