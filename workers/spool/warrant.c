/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The supervisor's word for outcomes; see warrant.h. */
#include "workers/spool/warrant.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/rand.h"

#define SECRET_MAX  512
#define LIVES_TRIED 4096u

static int secret_write(const struct spool_dirs *d, const struct warrant_key *k)
{
	char text[SECRET_MAX];
	int len = snprintf(text, sizeof(text),
			   "posthaste-spool-secret 1\nkey %016llx %016llx\nfirst_file %u\n",
			   (unsigned long long)k->key[0], (unsigned long long)k->key[1],
			   k->first_file);
	uint32_t crc = crc32c(0, text, (size_t)len);

	len += snprintf(text + len, sizeof(text) - (size_t)len, "crc32c %08x\n", crc);
	int fd = openat(d->root, "secret.new",
			O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno();
	int err = io_write_all(fd, text, (size_t)len);

	if (err == 0 && fsync(fd) < 0)
		err = err_errno();
	close(fd);
	if (err == 0 && renameat(d->root, "secret.new", d->root, "secret") < 0)
		err = err_errno();
	/* The name is durable before the first file of this start is made, whose number is reserved
	 * with a sync of d->root (state.c). No outcome is warranted before. */
	return err;
}

static int secret_parse(const char *text, struct warrant_key *k)
{
	unsigned long long a, b;
	unsigned file, crc;
	int body = 0;

	if (sscanf(text, "posthaste-spool-secret 1\nkey %16llx %16llx\nfirst_file %u\n%ncrc32c %8x",
		   &a, &b, &file, &body, &crc) != 4 ||
	    crc32c(0, text, (size_t)body) != crc || file == 0)
		return E_CORRUPT;
	*k = (struct warrant_key){ { a, b }, file };
	return 0;
}

static int secret_read(const struct spool_dirs *d, struct warrant_key *k)
{
	struct buf text = BUF_INIT;
	int fd = openat(d->root, "secret", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_errno();
	int err = io_read_to_buf(fd, SECRET_MAX, &text);

	if (err == 0)
		err = secret_parse(buf_cstr(&text), k);
	else if (err == E_LIMIT)
		err = E_CORRUPT;
	close(fd);
	buf_fini(&text);
	return err;
}

int warrant_key_open(const struct spool_dirs *d, bool create, uint32_t next_file,
		     struct warrant_key *k_r)
{
	int err = secret_read(d, k_r);

	if (!create || (err != E_NOENT && err != E_CORRUPT))
		return err;
	if (err == E_CORRUPT)
		log_error("the secret of the spool is damaged and made anew: outcomes in all "
			  "journals that are there are believed");
	k_r->first_file = next_file;
	rand_bytes(k_r->key, sizeof(k_r->key));
	return secret_write(d, k_r);
}

uint64_t warrant_code(const struct warrant_key *k, const struct warrant_of *of)
{
	uint64_t words[6] = {
		1u | (uint64_t)of->kind << 8 | (uint64_t)of->life << 32, of->order, of->qid.time_us,
		of->qid.life | (uint64_t)of->rcpt_first << 32,           of->mask,  of->done
	};

	return hash_keyed(k->key, words, sizeof(words));
}

uint64_t warrant_file_code(const struct warrant_key *k, uint32_t number, uint32_t life)
{
	uint64_t words[2] = { 2u | (uint64_t)life << 32, number };

	return hash_keyed(k->key, words, sizeof(words));
}

/* What is written about a job is warranted by the job, whatever came of it. */
static uint8_t kind_of_warrant(uint8_t kind)
{
	return kind == OUTCOME_STARTED || kind == OUTCOME_WITHDRAWN ? OUTCOME_RESULT : kind;
}

bool warrant_holds(const struct warrant_key *k, uint32_t life, const struct outcome *o)
{
	struct warrant_of of = { .life = life,
				 .kind = life == 0 ? o->kind : kind_of_warrant(o->kind),
				 .rcpt_first = o->rcpt_first,
				 .mask = o->mask,
				 .done = life == 0 ? o->sent : 0,
				 .order = o->warrant.order,
				 .qid = o->qid };

	/* operators' words are the supervisor's to write down */
	if (life != 0 && of.kind != OUTCOME_RESULT && of.kind != OUTCOME_NOTIFIED &&
	    of.kind != OUTCOME_WARNED)
		return false;
	return warrant_code(k, &of) == o->warrant.code;
}

/* Lives are numbered in turn, and that of the supervisor, which came before, is in the order. */
bool warrant_find_life(const struct warrant_key *k, const struct outcome *o, uint32_t *life_r)
{
	uint32_t first = (uint32_t)(o->warrant.order >> WARRANT_LIFE_SHIFT);

	*life_r = 0;
	if (warrant_holds(k, 0, o))
		return true;
	for (uint32_t i = 0; i < LIVES_TRIED; i++) {
		*life_r = first + i;
		if (warrant_holds(k, *life_r, o))
			return true;
	}
	return false;
}
