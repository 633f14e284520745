/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Base64: the vectors of RFC 4648, every length back and forth, and refusal of anything else. */
#include "lib/base64.h"
#include "lib/err.h"
#include "t/unit/tap.h"

static const struct {
	const char *plain, *coded;
} vectors[] = {
	{ "", "" },
	{ "f", "Zg==" },
	{ "fo", "Zm8=" },
	{ "foo", "Zm9v" },
	{ "foob", "Zm9vYg==" },
	{ "fooba", "Zm9vYmE=" },
	{ "foobar", "Zm9vYmFy" },
	{ "\xff\xfe\xfb", "//77" },
};

static const char *const bad[] = {
	"Z",    "Zg",    "Zg=",  "Zg==Zg==", "=g==", "Zg=a", "Z===",
	"====", "Zm9\n", "Zm 9", "Zh==",     "Zm9=", "-_-_", "Zm9v!mFy",
};

int main(void)
{
	struct buf out = BUF_INIT, back = BUF_INIT;
	char bytes[300];
	bool same = true;

	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		buf_reset(&out);
		base64_encode(sv_from(vectors[i].plain), &out);
		is_str(buf_cstr(&out), vectors[i].coded, "encoded: %s", vectors[i].coded);
		buf_reset(&out);
		is_int(base64_decode(sv_from(vectors[i].coded), &out), 0, "... decoded");
		is_str(buf_cstr(&out), vectors[i].plain, "... to the same");
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		buf_reset(&out);
		is_int(base64_decode(sv_from(bad[i]), &out), E_SYNTAX, "refused: %s", bad[i]);
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 37 + i / 7);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		struct sv in = { bytes, len };

		buf_reset(&out);
		buf_reset(&back);
		same = base64_encode(in, &out) && base64_decode(buf_sv(&out), &back) == 0 &&
		       sv_eq(buf_sv(&back), in) && same;
	}
	ok(same, "every length up to %zu comes back", sizeof(bytes));
	buf_fini(&out);
	buf_init(&out, 5);
	ok(!base64_encode(sv_from("foobar"), &out), "no more than the buffer may hold");
	is_int(base64_decode(sv_from("Zm9vYmFyZm9v"), &out), E_LIMIT, "... nor decoded");
	buf_fini(&out);
	buf_fini(&back);
	return tap_done();
}
