/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names and options of policy services, and that all of a configuration are found. */
#include "conf/policy_spec.h"

#include "lib/err.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static void test_names(const struct conf *c)
{
	static const struct {
		const char *text, *remote, *endpoint; /* NULL: refused */
	} cases[] = {
		{ "inet:127.0.0.1:10023", "inet:127.0.0.1:10023", "127.0.0.1:10023" },
		{ "inet:[::1]:10023", "inet:[::1]:10023", "[::1]:10023" },
		{ "inet:10023", "inet:localhost:10023", "10023" },
		{ "inet::10023", "inet:localhost:10023", ":10023" },
		{ "unix:/run/x", "unix:/run/x", "/run/x" },
		{ "unix:private/policy", "unix:/spool/private/policy", "private/policy" },
		{ "local:private/policy", "unix:/spool/private/policy", "private/policy" },
		{ "{inet:h:1}", "inet:h:1", "h:1" },
		{ "{ inet:h:1, timeout=5s }", "inet:h:1", "h:1" },
		{ "inet:", NULL, NULL },
		{ "h", NULL, NULL },
		{ "tcp:h:1", NULL, NULL },
		{ "{}", NULL, NULL },
		{ "{ }", NULL, NULL },
		{ "{ h }", NULL, NULL },
		{ "{ inet:h:1, timeout }", NULL, NULL },
		{ "{ inet:h:1, timeout=0 }", NULL, NULL },
		{ "{ inet:h:1, timeout=-1 }", NULL, NULL },
		{ "{ inet:h:1, timeout=99999999999999999999 }", NULL, NULL },
		{ "{ inet:h:1, try_limit=0 }", NULL, NULL },
		{ "{ inet:h:1, try_limit=x }", NULL, NULL },
		{ "{ inet:h:1, colour=red }", NULL, NULL },
		{ "{ inet:h:1, {default_action = } }", "inet:h:1", "h:1" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char why[POLICY_SPEC_WHY_SIZE] = "";
		struct policy_spec *s;
		int err = policy_spec_parse(conf_params(c), sv_from(cases[i].text), &s, why);

		if (cases[i].remote == NULL) {
			ok(err == E_SYNTAX && s == NULL && why[0] != '\0', "%s: %s", cases[i].text,
			   why);
			continue;
		}
		struct policy_target t;

		ok(err == 0 && policy_target_parse(s->remote + 7, &t) == 0, "%s", cases[i].text);
		is_str(t.where, cases[i].remote, "where");
		is_str(s->endpoint, cases[i].endpoint, "in the log");
		is_str(s->name, cases[i].text, "its name");
		policy_spec_free(&s);
	}
}

static void test_options(const struct conf *c)
{
	char why[POLICY_SPEC_WHY_SIZE];
	struct policy_spec *s;
	struct policy_target t;

	ok(policy_spec_parse(conf_params(c), SV("unix:/x"), &s, why) == 0, "no options");
	is_str(s->default_action, "451 4.3.5 Server configuration problem", "default action");
	is_str(s->context, "", "no context");
	is_str(s->remote, "policy:100000 300000 1000000 1000 0 2 unix:/x", "defaults");
	ok(s->longest_ms >= 201000, "both tries fit");
	policy_spec_free(&s);
	ok(policy_spec_parse(conf_params(c),
			     SV("{ unix:/x, timeout=2m max_idle = 3 , max_ttl=4s\n"
				"\trequest_limit=5,retry_delay=6s {try_limit = 7}\n"
				"{default_action = 450 4.7.1 later} {policy_context=a, b} }"),
			     &s, why) != 0,
	   "blanks around a = need braces");
	ok(policy_spec_parse(conf_params(c),
			     SV("{ unix:/x, timeout=2m max_idle=3 , max_ttl=4s\n"
				"\trequest_limit=5,retry_delay=6s {try_limit = 7}\n"
				"{default_action = 450 4.7.1 later} {policy_context=a, b} }"),
			     &s, why) == 0,
	   "all options");
	is_str(s->default_action, "450 4.7.1 later", "with blanks");
	is_str(s->context, "a, b", "with a comma");
	ok(policy_target_parse(s->remote + 7, &t) == 0, "the other side reads it");
	ok(t.timeout_ms == 120000 && t.idle_ms == 3000 && t.ttl_ms == 4000 &&
		   t.retry_delay_ms == 6000 && t.request_limit == 5 && t.try_limit == 7,
	   "every number where it belongs");
	policy_spec_free(&s);
	ok(policy_target_parse("1 2 3 4 5 6", &t) == E_SYNTAX &&
		   policy_target_parse("1 2 3 4 5 6 ", &t) == E_SYNTAX &&
		   policy_target_parse("1 2 3 4 5 x inet:h:1", &t) == E_SYNTAX &&
		   policy_target_parse("1 2 3 4 5 0 inet:h:1", &t) == E_SYNTAX &&
		   policy_target_parse("", &t) == E_SYNTAX,
	   "what it cannot read");
}

static char found[2000];

static void note(void *ctx UNUSED, const char *spec)
{
	snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s\n",
		 strrchr(spec, ' ') + 1);
}

static void test_all(const struct conf *c)
{
	policy_spec_each(c, note, NULL);
	for (const char *want = "abcdefgh"; *want != '\0'; want++) {
		char line[16];

		snprintf(line, sizeof(line), "unix:/%c\n", *want);
		ok(strstr(found, line) != NULL, "service %c is found", *want);
	}
	ok(strstr(found, "/no") == NULL, "and no other");
}

int main(void)
{
	struct conf *c = test_conf_both(
		"queue_directory = /spool\n"
		"smtpd_client_restrictions = check_policy_service unix:/a\n"
		"smtpd_recipient_restrictions = permit_mynetworks, CHECK_POLICY_SERVICE {unix:/b, "
		"timeout=1}, reject\n"
		"smtpd_end_of_data_restrictions = check_policy_service unix:/c "
		"check_policy_service "
		"{ unix:/d, {default_action = check_policy_service unix:/no} }\n"
		"smtpd_restriction_classes = one two\n"
		"one = check_policy_service $mine\ntwo = reject\nmine = unix:/e\n"
		"other = check_policy_service unix:/no\n",
		"smtp inet n - n - - smtpd\n"
		" -o { smtpd_data_restrictions = check_policy_service unix:/f }\n"
		" -o smtpd_restriction_classes=one,three\n"
		" -o { three = check_policy_service unix:/g }\n"
		" -o { smtpd_helo_restrictions = check_policy_service unix:/h }\n"
		"x unix n - n - - smtp\n"
		" -o { smtpd_data_restrictions = check_policy_service unix:/no }\n");

	test_names(c);
	test_options(c);
	test_all(c);
	conf_free(&c);
	return tap_done();
}
