/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue ids; see lib/qid.h. */
#include "lib/qid.h"

#include <assert.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"

static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

static_assert(sizeof(digits) == 53, "52 digits");

#define SEPARATOR 'z'
#define US_PER_S  1000000u

struct qid qid_make(struct qid_source *src)
{
	int64_t wall_us = clock_wall().us;
	/* a clock that no id can hold: ids are still unique */
	uint64_t now = wall_us > 0 && (uint64_t)wall_us < QID_MAX_TIME_US ? (uint64_t)wall_us : 0;

	if (now <= src->last_us)
		now = src->last_us + 1;
	src->last_us = now;
	return (struct qid){ now, src->life };
}

/* Most significant digit first, at least `width` digits. Returns the end. */
static char *put_number(char *out, uint64_t v, unsigned base, size_t width)
{
	char tmp[20];
	size_t n = 0;

	do {
		tmp[n++] = digits[v % base];
		v /= base;
	} while (v > 0 || n < width);
	while (n > 0)
		*out++ = tmp[--n];
	return out;
}

const char *qid_format(struct qid id, char out[QID_TEXT_SIZE])
{
	char *p = put_number(out, id.time_us / US_PER_S, 52, 6);

	p = put_number(p, id.time_us % US_PER_S, 52, 4);
	*p++ = SEPARATOR;
	p = put_number(p, id.life, 51, 1);
	*p = '\0';
	return out;
}

static int get_number(struct sv s, unsigned base, uint64_t max, uint64_t *value_r)
{
	uint64_t v = 0;

	if (s.len == 0)
		return E_SYNTAX;
	for (size_t i = 0; i < s.len; i++) {
		const char *d = s.p[i] == '\0' ? NULL : strchr(digits, s.p[i]);

		if (d == NULL || (unsigned)(d - digits) >= base)
			return E_SYNTAX;
		v = v * base + (unsigned)(d - digits);
		if (v > max)
			return E_SYNTAX;
	}
	*value_r = v;
	return 0;
}

int qid_parse(struct sv text, struct qid *id_r)
{
	uint64_t s, us, life;
	char again[QID_TEXT_SIZE];
	const char *sep;

	if (text.len < 12 || text.len >= QID_TEXT_SIZE)
		return E_SYNTAX;
	/* base 51 has no 'z', so the last one is the separator */
	sep = memrchr(text.p, SEPARATOR, text.len);
	if (sep == NULL || sep - text.p < 10)
		return E_SYNTAX;
	size_t head = (size_t)(sep - text.p);

	if (get_number((struct sv){ text.p, head - 4 }, 52, QID_MAX_TIME_US / US_PER_S, &s) != 0 ||
	    get_number((struct sv){ sep - 4, 4 }, 52, US_PER_S - 1, &us) != 0 ||
	    get_number((struct sv){ sep + 1, text.len - head - 1 }, 51, 0xffffff, &life) != 0)
		return E_SYNTAX;
	struct qid id = { s * US_PER_S + us, (uint32_t)life };

	if (!sv_eq_str(text, qid_format(id, again)))
		return E_SYNTAX;
	*id_r = id;
	return 0;
}

bool qid_eq(struct qid a, struct qid b)
{
	return a.time_us == b.time_us && a.life == b.life;
}

bool qid_is_set(struct qid id)
{
	return id.life != 0;
}

uint64_t qid_hash(struct qid id)
{
	uint64_t z = id.time_us * 0x9e3779b97f4a7c15u ^ ((uint64_t)id.life << 32);

	z = (z ^ (z >> 31)) * 0xbf58476d1ce4e5b9u;
	return z ^ (z >> 29);
}
