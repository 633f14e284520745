/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SASL mechanisms of the client: examples of the RFCs, which one is taken, hostile challenges. */
#include "workers/deliver/saslmech.h"

#include <string.h>

#include "conf/sasl.h"
#include "lib/base64.h"
#include "lib/err.h"
#include "lib/util.h"
#include "t/unit/tap.h"

#define BIT(m) (1u << MECH_##m)
#define ALL    (BIT(CRAM_MD5) | BIT(PLAIN) | BIT(LOGIN) | BIT(XOAUTH2))

static struct buf out;

static const char *first(enum sasl_mech m, const char *user, const char *password, bool authzid)
{
	struct sasl_secret s = { sv_from(user), sv_from(password), authzid };

	buf_reset(&out);
	return sasl_mech_first(m, &s, &out) ? buf_cstr(&out) : "(none)";
}

static int next(enum sasl_mech m, unsigned step, struct sv challenge)
{
	struct sasl_secret s = { SV("tim"), SV("tanstaaftanstaaf"), false };

	buf_reset(&out);
	return sasl_mech_next(m, step, &s, challenge, &out);
}

static void test_examples(void)
{
	struct sv long_one;
	struct buf x = BUF_INIT;

	is_str(first(MECH_PLAIN, "tim", "tanstaaftanstaaf", false), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm",
	       "PLAIN (RFC 4616)");
	is_str(first(MECH_PLAIN, "tim", "x", true), "dGltAHRpbQB4",
	       "PLAIN with an authorization id");
	is_str(first(MECH_PLAIN, "u", "", false), "AHUA", "PLAIN with an empty password");
	is_str(first(MECH_XOAUTH2, "someuser@example.com",
		     "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", false),
	       "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSb"
	       "GNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==",
	       "XOAUTH2");
	is_str(first(MECH_LOGIN, "u", "p", false), "(none)", "LOGIN: the server begins");
	is_str(first(MECH_CRAM_MD5, "u", "p", false), "(none)", "CRAM-MD5: the server begins");

	is_int(next(MECH_CRAM_MD5, 0,
		    SV("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")),
	       0, "CRAM-MD5");
	is_str(buf_cstr(&out), "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw",
	       "... (RFC 2195)");
	is_int(next(MECH_LOGIN, 0, SV("VXNlcm5hbWU6")), 0, "LOGIN: user");
	is_str(buf_cstr(&out), "dGlt", "... in base64");
	is_int(next(MECH_LOGIN, 1, SV("")), 0, "LOGIN: password, whatever is asked");
	is_str(buf_cstr(&out), "dGFuc3RhYWZ0YW5zdGFhZg==", "... in base64");
	is_int(next(MECH_XOAUTH2, 0, SV("eyJzdGF0dXMiOiI0MDEifQ==")), 0, "XOAUTH2: an error");
	is_str(buf_cstr(&out), "", "... is answered with nothing");

	is_int(next(MECH_CRAM_MD5, 1, SV("eA==")), E_PEER, "a second challenge of CRAM-MD5");
	is_int(next(MECH_CRAM_MD5, 0, SV("")), E_PEER, "an empty one");
	is_int(next(MECH_LOGIN, 2, SV("eA==")), E_PEER, "a third one of LOGIN");
	is_int(next(MECH_PLAIN, 0, SV("")), E_PEER, "one of PLAIN");
	is_int(next(MECH_XOAUTH2, 1, SV("")), E_PEER, "a second one of XOAUTH2");
	is_int(next(MECH_CRAM_MD5, 0, SV("<not base64>")), E_SYNTAX, "no base64");
	is_str(buf_cstr(&out), "", "... gets no answer");
	while (x.len < SASL_CHALLENGE_MAX)
		buf_add_str(&x, "AAAA");
	long_one = (struct sv){ x.p, SASL_CHALLENGE_MAX };
	is_int(next(MECH_CRAM_MD5, 0, long_one), 0, "the longest challenge");
	buf_add_str(&x, "AAAA");
	is_int(next(MECH_CRAM_MD5, 0, buf_sv(&x)), E_SYNTAX, "a longer one");
	buf_fini(&x);
}

static void test_choice(void)
{
	static const struct {
		unsigned offered, options;
		bool encrypted;
		int want;
	} rows[] = {
		{ ALL, 0, false, MECH_CRAM_MD5 },
		{ ALL, SASL_NO_PLAINTEXT | SASL_NO_ANONYMOUS, false, MECH_CRAM_MD5 },
		{ BIT(PLAIN) | BIT(LOGIN), SASL_NO_PLAINTEXT, false, -1 },
		{ BIT(PLAIN) | BIT(LOGIN), SASL_NO_PLAINTEXT, true, -1 },
		{ BIT(PLAIN) | BIT(LOGIN), SASL_NO_ANONYMOUS, false, MECH_PLAIN },
		{ BIT(LOGIN) | BIT(XOAUTH2), SASL_NO_ANONYMOUS, true, MECH_LOGIN },
		{ BIT(XOAUTH2), SASL_NO_PLAINTEXT, false, -1 },
		{ BIT(XOAUTH2), SASL_NO_PLAINTEXT, true, MECH_XOAUTH2 },
		{ BIT(XOAUTH2), 0, false, MECH_XOAUTH2 },
		{ ALL, SASL_NO_ACTIVE, true, -1 },
		{ ALL, SASL_NO_DICTIONARY, true, -1 },
		{ ALL, SASL_FORWARD_SECRECY, true, -1 },
		{ ALL, SASL_MUTUAL_AUTH, true, -1 },
		{ 0, 0, true, -1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		is_int(sasl_mech_choose(rows[i].offered, rows[i].options, rows[i].encrypted),
		       rows[i].want, "offered %x, options %x, encrypted %d", rows[i].offered,
		       rows[i].options, rows[i].encrypted);
	is_int(sasl_mech_find(SV("cram-md5")), MECH_CRAM_MD5, "a name without case");
	is_int(sasl_mech_find(SV("SCRAM-SHA-256")), -1, "one that is not there");
	is_str(sasl_mech_name(MECH_XOAUTH2), "XOAUTH2", "and back");
}

int main(void)
{
	test_examples();
	test_choice();
	buf_fini(&out);
	return tap_done();
}
