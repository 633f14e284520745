/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The parameter table is sound, and values are read as main.cf documents them. */
#include "conf/conf_priv.h"

#include "lib/err.h"
#include "t/unit/tap.h"

static int64_t parsed(const char *name, const char *text)
{
	int idx = param_find(sv_from(name));
	struct param_num num;
	char expected[300];

	if (idx < 0)
		return -99;
	return param_parse(param_desc((unsigned)idx), text, &num, expected, sizeof(expected)) == 0
		       ? num.v
		       : -1;
}

static void test_rows(void)
{
	unsigned bad_text = 0, bad_unit = 0, bad_enum = 0, twice = 0, bad_bound = 0;

	for (unsigned i = 0; i < param_count(); i++) {
		const struct param_desc *pd = param_desc(i);
		size_t len = pd->def != NULL ? strlen(pd->def) : 0;
		struct param_num num;
		char expected[300];

		bad_text += pd->text == NULL || pd->text[0] == 0 ||
			    pd->text[strlen(pd->text) - 1] != '.';
		bad_unit += pd->type == P_TIME && (len == 0 || !ascii_is_alpha(pd->def[len - 1]));
		bad_enum += (pd->type == P_ENUM) != (pd->words != NULL);
		twice += param_find(sv_from(param_name(pd))) != (int)i ||
			 inert_find(sv_from(param_name(pd))) != NULL;
		/* Bounds are read with ASSERT, so that a bad one ends the test here. */
		if (pd->def != NULL && strchr(pd->def, '$') == NULL)
			bad_bound +=
				param_parse(pd, pd->def, &num, expected, sizeof(expected)) != 0;
	}
	is_int(bad_text, 0, "every row says in a sentence what it does");
	is_int(bad_unit, 0, "every time's default names its unit");
	is_int(bad_enum, 0, "words exactly where the type is ENUM");
	is_int(twice, 0, "every name is there once, and not without effect as well");
	is_int(bad_bound, 0, "every default without $ is within its own bounds");
	ok(param_count() > 600, "the table is not empty");
	ok(param_find(SV("2bounce_notice_recipient")) >= 0, "a name that is no C identifier");
	is_int(param_find(SV("bounce2_notice_recipient")), -1, "and not by its C name");
	ok(inert_find(SV("max_use")) != NULL, "a parameter without effect is known");
}

static void test_values(void)
{
	static const struct {
		const char *name, *text;
		int64_t want;
	} rows[] = {
		{ "smtpd_timeout", "300s", 300000 },
		{ "smtpd_timeout", "300", 300000 },
		{ "smtpd_timeout", "5m", 300000 },
		{ "smtpd_timeout", " 5 m ", 300000 },
		{ "smtpd_timeout", "2H", 7200000 },
		{ "smtpd_timeout", "1500ms", 1500 },
		{ "smtpd_timeout", "1x", -1 },
		{ "smtpd_timeout", "s", -1 },
		{ "smtpd_timeout", "", -1 },
		{ "smtpd_timeout", "-1s", -1 },
		{ "smtpd_timeout", "0s", -1 }, /* at least 1s */
		{ "smtpd_timeout", "99999999999999999999s", -1 },
		{ "smtpd_timeout", "9223372036854775807w", -1 },
		{ "maximal_queue_lifetime", "5", 5 * 86400000LL },
		{ "maximal_queue_lifetime", "1w", 7 * 86400000LL },
		{ "maximal_queue_lifetime", "101d", -1 },
		{ "delay_warning_time", "4", 4 * 3600000LL },
		{ "soft_bounce", "yes", 1 },
		{ "soft_bounce", "No", 0 },
		{ "soft_bounce", "true", -1 },
		{ "soft_bounce", "", -1 },
		{ "smtpd_recipient_limit", "1000", 1000 },
		{ "smtpd_recipient_limit", "0", -1 },
		{ "smtpd_recipient_limit", "10k", -1 },
		{ "smtpd_recipient_limit", "2147483647", 2147483647 },
		{ "smtpd_recipient_limit", "2147483648", -1 },
		{ "message_size_limit", "2147483648", 2147483648 },
		{ "message_size_limit", "9223372036854775807", -1 },
		{ "smtpd_timeout", "5300w", -1 },
		{ "reject_code", "599", 599 },
		{ "reject_code", "5540", -1 },
		{ "smtpd_recipient_limit", "0x10", -1 },
		{ "message_size_limit", "10240000", 10240000 },
		{ "message_size_limit", "10M", 10 << 20 },
		{ "message_size_limit", "1 g", 1 << 30 },
		{ "message_size_limit", "1T", -1 },
		{ "smtpd_forbid_bare_newline", "normalize", BARE_NEWLINE_NORMALIZE },
		{ "smtpd_forbid_bare_newline", "NOTE", BARE_NEWLINE_NOTE },
		{ "smtpd_forbid_bare_newline", "norm", -1 },
		{ "smtpd_forbid_bare_newline", "", -1 },
		{ "smtp_address_preference", "ipv6", ADDRESS_PREFERENCE_IPV6 },
		{ "in_doubt_action", "hold", IN_DOUBT_HOLD },
		{ "myhostname", "", -1 }, /* must not be empty */
		{ "relayhost", "", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		is_int(parsed(rows[i].name, rows[i].text), rows[i].want, "%s = \"%s\"",
		       rows[i].name, rows[i].text);
}

static void test_expected(void)
{
	struct param_num num;
	char expected[300];
	const struct param_desc *pd = param_desc((unsigned)param_find(SV("spool_syncs_in_flight")));

	is_int(param_parse(pd, "3", &num, expected, sizeof(expected)), E_LIMIT, "over the bound");
	is_str(expected, "a whole number from 1 to 2", "says the bounds");
	is_int(param_parse(pd, "x", &num, expected, sizeof(expected)), E_SYNTAX, "no number");
	pd = param_desc((unsigned)param_find(SV("in_doubt_action")));
	param_parse(pd, "x", &num, expected, sizeof(expected));
	is_str(expected, "one of: retry hold", "says the words");
}

int main(void)
{
	test_rows();
	test_values();
	test_expected();
	return tap_done();
}
