/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content scanner: end of data, line ends, stuffing; the same result however the input is cut. */
#include "workers/smtp/line.h"

#include <stdlib.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/rand.h"
#include "t/unit/tap.h"

enum { STRICT, LAX, CHUNKED };

struct result {
	struct buf out;
	size_t used;
	bool done, bare_lf, bare_cr, nul;
};

/* in_step and out_step: sizes of the pieces given in and of the room given. */
static struct result run(int mode, struct sv in, size_t in_step, size_t out_step)
{
	struct result r = { .used = 0 };
	struct smtp_data d;
	char room[4096];
	size_t n;

	if (mode == CHUNKED)
		smtp_data_init_chunked(&d);
	else
		smtp_data_init(&d, mode == STRICT);
	while ((r.used < in.len || smtp_data_pending(&d) > 0) && !d.done) {
		size_t piece = size_min(in_step, in.len - r.used);

		r.used += smtp_data_scan(&d, in.p + r.used, piece, room, out_step, &n);
		buf_add(&r.out, room, n);
	}
	if (mode == CHUNKED) {
		smtp_data_end_chunks(&d);
		while (smtp_data_pending(&d) > 0) {
			smtp_data_scan(&d, NULL, 0, room, out_step, &n);
			buf_add(&r.out, room, n);
		}
	}
	r.done = d.done;
	r.bare_lf = d.bare_lf;
	r.bare_cr = d.bare_cr;
	r.nul = d.nul;
	return r;
}

static bool same(const struct result *a, const struct result *b)
{
	return sv_eq(buf_sv(&a->out), buf_sv(&b->out)) && a->used == b->used &&
	       a->done == b->done && a->bare_lf == b->bare_lf && a->bare_cr == b->bare_cr &&
	       a->nul == b->nul;
}

/* Every cut into pieces of 1..3 bytes and small rooms gives what the whole gives. */
static bool cut_is_equal(int mode, struct sv in)
{
	struct result whole = run(mode, in, SIZE_MAX, 4096);
	bool equal = true;

	for (size_t in_step = 1; in_step <= 3; in_step++) {
		for (size_t out_step = 1; out_step <= 9; out_step += 2) {
			struct result cut = run(mode, in, in_step, out_step);

			equal = equal && same(&whole, &cut);
			buf_fini(&cut.out);
		}
	}
	buf_fini(&whole.out);
	return equal;
}

static void test_rows(void)
{
	static const struct {
		int mode;
		struct sv in;
		struct sv out;
		size_t left; /* bytes of in behind the end of data */
		bool done, bare_lf, bare_cr;
	} rows[] = {
		{ STRICT, SV("a\r\n.\r\nNOOP"), SV("a\r\n"), 4, true, false, false },
		{ STRICT, SV(".\r\n"), SV(""), 0, true, false, false },
		{ STRICT, SV("..\r\n.\r\n"), SV("..\r\n"), 0, true, false, false },
		{ STRICT, SV("..a\r\n.b\r\n.\r\n"), SV("..a\r\nb\r\n"), 0, true, false, false },
		{ STRICT, SV("\r\n\r\n.\r\n"), SV("\r\n\r\n"), 0, true, false, false },
		{ STRICT, SV("a\n.\nb\r\n.\r\n"), SV("a\r\n..\r\nb\r\n"), 0, true, true, false },
		{ STRICT, SV("a\n.\r\nb\r\n.\r\n"), SV("a\r\n..\r\nb\r\n"), 0, true, true, false },
		{ STRICT, SV("a\r\n.\nb\r\n.\r\n"), SV("a\r\n..\r\nb\r\n"), 0, true, true, false },
		{ STRICT, SV("a\r\n.\n.\r\n"), SV("a\r\n..\r\n..\r\n"), 0, false, true, false },
		{ STRICT, SV("a\r.\rb\r\n.\r\n"), SV("a . b\r\n"), 0, true, false, true },
		{ STRICT, SV("a\r.\r\nb\r\n.\r\n"), SV("a .\r\nb\r\n"), 0, true, false, true },
		{ STRICT, SV("a\n.\rb\r\n.\r\n"), SV("a\r\n b\r\n"), 0, true, true, true },
		{ STRICT, SV("a\r\n.\r\r\nb\r\n.\r\n"), SV("a\r\n \r\nb\r\n"), 0, true, false,
		  true },
		{ STRICT, SV("a\r\n.\rb\r\n.\r\n"), SV("a\r\n b\r\n"), 0, true, false, true },
		{ STRICT, SV("a\r\r\n.\r\n"), SV("a \r\n"), 0, true, false, true },
		{ STRICT, SV("a\r\n\0.\r\nb\r\n.\r\n"), SV("a\r\n\0.\r\nb\r\n"), 0, true, false,
		  false },
		{ STRICT, SV("a\r\n.\0\r\n.\r\n"), SV("a\r\n\0\r\n"), 0, true, false, false },
		{ STRICT, SV("a\r\n.\r"), SV("a\r\n"), 0, false, false, false },
		{ STRICT, SV("a.\r\n..x.\r\n.\r\nx"), SV("a.\r\n..x.\r\n"), 1, true, false, false },
		{ LAX, SV("a\n.\nb"), SV("a\r\n"), 1, true, true, false },
		{ LAX, SV("a\r\n.\nb"), SV("a\r\n"), 1, true, true, false },
		{ LAX, SV("a\n.\r\nb"), SV("a\r\n"), 1, true, true, false },
		{ LAX, SV(".\n"), SV(""), 0, true, true, false },
		{ LAX, SV("a\r.\rb\r\n.\r\n"), SV("a . b\r\n"), 0, true, false, true },
		{ CHUNKED, SV(".\r\n..\r\na"), SV("..\r\n...\r\na\r\n"), 0, true, false, false },
		{ CHUNKED, SV("a\n.\nb\r"), SV("a\r\n..\r\nb \r\n"), 0, true, true, true },
		{ CHUNKED, SV(""), SV(""), 0, true, false, false },
		{ CHUNKED, SV("."), SV("..\r\n"), 0, true, false, false },
		{ CHUNKED, SV("a\r\n"), SV("a\r\n"), 0, true, false, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct result r = run(rows[i].mode, rows[i].in, SIZE_MAX, 4096);

		ok(sv_eq(buf_sv(&r.out), rows[i].out), "row %zu: output", i);
		is_int(rows[i].in.len - r.used, rows[i].left, "row %zu: left", i);
		ok(r.done == rows[i].done && r.bare_lf == rows[i].bare_lf &&
			   r.bare_cr == rows[i].bare_cr,
		   "row %zu: flags", i);
		ok(cut_is_equal(rows[i].mode, rows[i].in), "row %zu: any cut", i);
		buf_fini(&r.out);
	}
}

/* Wire form: CR and LF only as CRLF, and a line that begins with a dot begins with two. */
static bool is_wire(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		bool start = i == 0 || s.p[i - 1] == '\n';

		if (s.p[i] == '\r' && (i + 1 == s.len || s.p[i + 1] != '\n'))
			return false;
		if (s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r'))
			return false;
		if (start && s.p[i] == '.' && i + 1 < s.len && s.p[i + 1] != '.')
			return false;
	}
	return true;
}

static void test_random(void)
{
	static const char letters[] = "\r\n.\r\n.a\0";
	bool equal = true, wire = true;

	for (int round = 0; round < 3000; round++) {
		char in[40];
		size_t len = rand_below(sizeof(in));
		int mode = (int)rand_below(3);

		for (size_t i = 0; i < len; i++)
			in[i] = letters[rand_below(sizeof(letters) - 1)];
		struct result r = run(mode, (struct sv){ in, len }, SIZE_MAX, 4096);

		wire = wire && is_wire(buf_sv(&r.out));
		equal = equal && cut_is_equal(mode, (struct sv){ in, len });
		buf_fini(&r.out);
	}
	ok(equal, "random input: any cut gives the same");
	ok(wire, "random input: output is always wire form");
}

static void test_unwire(void)
{
	struct sv in = SV("..a\r\n.\r\nb.\r\n\r\nc\rd\r\n..");
	char whole[64], cut[64];
	struct smtp_unwire u = { 0 };
	size_t n = smtp_unwire(&u, in.p, in.len, whole), m = 0;

	ok(sv_eq((struct sv){ whole, n }, SV(".a\n\nb.\n\nc\rd\n.")), "unwire");
	u = (struct smtp_unwire){ 0 };
	for (size_t i = 0; i < in.len; i++)
		m += smtp_unwire(&u, in.p + i, 1, cut + m);
	ok(sv_eq((struct sv){ whole, n }, (struct sv){ cut, m }), "unwire byte by byte");
}

/* Inputs made to be slow: a megabyte must not take a second even on a loaded machine. */
static void test_linear(void)
{
	static const char *const pieces[] = { "\r", "\n", "x\r", ".\r", ".\n", "x", "\r\n.", "" };
	size_t len = 1 << 20;
	char *in = malloc(len), *out = malloc(4 * len);

	for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
		struct smtp_data d;
		size_t n, piece = strlen(pieces[p]) + (pieces[p][0] == '\0');

		for (size_t i = 0; i < len; i++)
			in[i] = pieces[p][i % piece];
		int64_t start = clock_mono_us_raw();

		smtp_data_init(&d, true);
		smtp_data_scan(&d, in, len, out, 4 * len, &n);
		ok(clock_mono_us_raw() - start < 1000000, "a megabyte of row %zu in time", p);
	}
	free(in);
	free(out);
}

int main(void)
{
	test_rows();
	test_random();
	test_unwire();
	test_linear();
	return tap_done();
}
