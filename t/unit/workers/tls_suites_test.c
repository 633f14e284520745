/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Words of an operator for versions and suites. */
#include <string.h>

#include "lib/err.h"
#include "t/unit/tap.h"
#include "workers/tls/tls.h"

static const char high[] =
	"aNULL:-aNULL:HIGH:!SEED:!IDEA:!3DES:!RC2:!RC4:!RC5:!kDH:!kECDH:!aDSS:!MD5:@STRENGTH";

static void test_versions(void)
{
	static const struct {
		const char *text;
		int err;
		unsigned versions;
	} cases[] = {
		{ ">=TLSv1", 0, TLS_ALL_VERSIONS },
		{ ">=TLSv1.3", 0, TLS_1_3 },
		{ "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", 0, TLS_ALL_VERSIONS },
		{ "!SSLv2:!TLSv1.3", 0, TLS_1_2 },
		{ "TLSv1.2", 0, TLS_1_2 },
		{ "tlsv1.2 TLSv1.3", 0, TLS_ALL_VERSIONS },
		{ ">=TLSv1, <=TLSv1.2", 0, TLS_1_2 },
		{ "<=0303", 0, TLS_1_2 },
		{ ">=0x0304", 0, TLS_1_3 },
		{ "", 0, TLS_ALL_VERSIONS },
		{ "TLSv1", E_CONFIG, 0 },
		{ "!TLSv1.2 !TLSv1.3", E_CONFIG, 0 },
		{ ">TLSv1", E_SYNTAX, 0 },
		{ "TLSv2", E_SYNTAX, 0 },
		{ "!", E_SYNTAX, 0 },
		{ ">=", E_SYNTAX, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned versions = 99;
		struct sv bad;
		int err = tls_versions_parse(cases[i].text, &versions, &bad);

		is_int(err, cases[i].err, "%s", cases[i].text);
		if (err == 0)
			is_int(versions, cases[i].versions, "its versions");
	}
}

static void check_suites(const char *list, const char *exclude, const char *want)
{
	struct buf got = BUF_INIT;

	tls_suites_eval(list, exclude, &got);
	is_str(buf_cstr(&got), want, "%s", list);
	buf_fini(&got);
}

static bool has(const char *list, const char *exclude, const char *name)
{
	struct buf got = BUF_INIT;

	tls_suites_eval(list, exclude, &got);
	bool found = strstr(buf_cstr(&got), name) != NULL;

	buf_fini(&got);
	return found;
}

static void test_suites(void)
{
	check_suites("ECDHE+AESGCM", "",
		     "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
		     "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256");
	check_suites("ECDHE+AESGCM", "aRSA, AES256", "ECDHE-ECDSA-AES128-GCM-SHA256");
	check_suites("ECDHE+AESGCM", "aRSA+AES256, ECDHE-ECDSA-AES256-GCM-SHA384",
		     "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256");
	check_suites("AES128-SHA:ECDHE-RSA-AES128-SHA", NULL, "AES128-SHA:ECDHE-RSA-AES128-SHA");
	check_suites("AES128-SHA:AES256-SHA:@STRENGTH", NULL, "AES256-SHA:AES128-SHA");
	check_suites("AES128-SHA:AES256-SHA:+AES128", NULL, "AES256-SHA:AES128-SHA");
	check_suites("AES128-SHA:-AES128:AES128-SHA", NULL, "AES128-SHA");
	check_suites("AES128-SHA:!AES128:AES128-SHA", NULL, "");
	check_suites("aNULL:RC4:3DES:MD5:SEED:NoSuchThing", NULL, "");
	check_suites("eNULL:!aNULL", NULL, "ECDHE-ECDSA-NULL-SHA:NULL-SHA256:NULL-SHA");
	check_suites("TLS_AES_128_GCM_SHA256", NULL, "");
}

static void test_grades(void)
{
	ok(strcmp(tls_grade_list("high", "H", "M"), "H") == 0,
	   "strcmp(tls_grade_list(\"high\", \"H\", \"M\"), \"H\") == 0");
	ok(strcmp(tls_grade_list("Medium", "H", "M"), "M") == 0,
	   "strcmp(tls_grade_list(\"Medium\", \"H\", \"M\"), \"M\") == 0");
	ok(strcmp(tls_grade_list("export", "H", "M"), "M") == 0,
	   "strcmp(tls_grade_list(\"export\", \"H\", \"M\"), \"M\") == 0");
	ok(tls_grade_list("null", "H", "M") != NULL,
	   "tls_grade_list(\"null\", \"H\", \"M\") != NULL");
	ok(tls_grade_list("best", "H", "M") == NULL,
	   "tls_grade_list(\"best\", \"H\", \"M\") == NULL");
	ok(has(high, "", "ECDHE-RSA-AES128-GCM-SHA256"),
	   "has(high, \"\", \"ECDHE-RSA-AES128-GCM-SHA256\")");
	ok(has(high, "", "AES256-SHA"), "has(high, \"\", \"AES256-SHA\")");
	ok(!has(high, "", "NULL"), "!has(high, \"\", \"NULL\")");
	ok(!has(high, "kRSA", ":AES256-SHA"), "!has(high, \"kRSA\", \":AES256-SHA\")");
	ok(!has("ALL", "", "NULL"), "!has(\"ALL\", \"\", \"NULL\")");
	ok(!has("HIGH:MEDIUM", "", "RC4"), "!has(\"HIGH:MEDIUM\", \"\", \"RC4\")");
}

static void test_log(void)
{
	static const unsigned all = TLS_LOG_SUMMARY | TLS_LOG_VERBOSE;

	is_int(tls_log_parse("p", "0"), 0, "0");
	is_int(tls_log_parse("p", ""), 0, "empty");
	is_int(tls_log_parse("p", "1"), TLS_LOG_SUMMARY, "1");
	is_int(tls_log_parse("p", "2"), all, "2");
	is_int(tls_log_parse("p", "4"), all, "4");
	is_int(tls_log_parse("p", "Routine, untrusted peercert"),
	       TLS_LOG_SUMMARY | TLS_LOG_UNTRUSTED | TLS_LOG_PEERCERT, "words");
	is_int(tls_log_parse("p", "certmatch verbose cache"), TLS_LOG_CERTMATCH | TLS_LOG_VERBOSE,
	       "words without a counterpart");
	is_int(tls_log_parse("p", "summary, nonsense"), 0, "a word that is none");
}

int main(void)
{
	test_log();
	test_versions();
	test_suites();
	test_grades();
	return tap_done();
}
