/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Restrictions with remote tables: a dialogue goes exactly as with the same table in the process,
 * in its replies, its log lines and what it does to the message, though the evaluation stops for
 * each answer and goes over the entry again.
 */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

#define REMOTE "redis:/tables.test"

struct situation {
	const char *conf;        /* TABLE stands for the table */
	const char *key, *value; /* its one entry */
	const char *rcpt;
};

static const struct situation situations[] = {
	{ "smtpd_recipient_restrictions = check_recipient_access TABLE\n", "u@local.test",
	  "REJECT go away", "u@local.test" },
	{ "smtpd_recipient_restrictions = check_recipient_access TABLE\n", "local.test", "HOLD",
	  "u@local.test" },
	{ "smtpd_recipient_restrictions = warn_if_reject check_recipient_access TABLE, reject\n",
	  "local.test", "550 5.7.1 no", "u@local.test" },
	{ "smtpd_recipient_restrictions = check_recipient_access TABLE, permit\n", "nobody@x.test",
	  "OK", "u@local.test" },
	{ "smtpd_sender_restrictions = check_sender_access TABLE\n", "x.test", "DEFER_IF_PERMIT a",
	  "u@local.test" },
	{ "smtpd_sender_restrictions = check_sender_access TABLE\n", "a@x.test",
	  "PREPEND X-Seen: yes", "u@local.test" },
	{ "smtpd_sender_restrictions = check_sender_access TABLE\n", "a@x.test", "INFO seen",
	  "u@local.test" },
	{ "smtpd_client_restrictions = check_client_access TABLE\nsmtpd_delay_reject = no\n",
	  "192.0.2.66", "REJECT", "u@local.test" },
	{ "smtpd_client_restrictions = check_client_access TABLE\n", "192.0.2", "REJECT",
	  "u@local.test" },
	{ "smtpd_helo_restrictions = check_helo_access TABLE\n", "c.test",
	  "reject_unknown_sender_domain", "u@local.test" },
	{ "smtpd_restriction_classes = klass\nklass = check_recipient_access TABLE\n"
	  "smtpd_recipient_restrictions = klass, reject\n",
	  "u@local.test", "OK", "u@local.test" },
	{ "relay_domains = TABLE\n", "relay.test", "x", "u@relay.test" },
	{ "relay_domains = TABLE\n", "relay.test", "x", "u@foreign.test" },
	{ "virtual_mailbox_domains = TABLE\nvirtual_mailbox_maps = inline:{u@v.test=x}\n", "v.test",
	  "x", "none@v.test" },
	{ "local_recipient_maps = TABLE\n", "u", "x", "u@local.test" },
	{ "local_recipient_maps = TABLE\n", "u", "x", "none@local.test" },
	{ "smtpd_reject_unlisted_sender = yes\nlocal_recipient_maps = TABLE\n"
	  "mydestination = x.test, local.test\n",
	  "u", "x", "u@local.test" },
	{ "virtual_alias_maps = TABLE\nlocal_recipient_maps = inline:{other=x}\n", "u@local.test",
	  "other", "u@local.test" },
	{ "transport_maps = TABLE\n", "local.test", "error:5.2.1 closed", "u@local.test" },
	{ "relocated_maps = TABLE\n", "u@local.test", "far away", "u@local.test" },
	{ "smtpd_data_restrictions = check_recipient_access TABLE\n", "u@local.test", "REJECT",
	  "u@local.test" },
	{ "smtpd_end_of_data_restrictions = check_sender_access TABLE\n", "a@x.test", "REJECT late",
	  "u@local.test" },
	{ "mynetworks = TABLE\nsmtpd_client_restrictions = permit_mynetworks, reject\n",
	  "192.0.2.66", "x", "u@local.test" },
	{ "mynetworks = TABLE\nsmtpd_client_restrictions = permit_mynetworks, reject\n",
	  "192.0.2.67", "x", "u@local.test" },
	{ "mynetworks = TABLE\n", "192.0.2.66", "x", "u@foreign.test" },
	{ "mydestination = TABLE\nlocal_recipient_maps =\n", "here.test", "x", "u@here.test" },
	{ "virtual_mailbox_domains = TABLE\nvirtual_mailbox_maps = inline:{u@v.test=x}\n", "v.test",
	  "x", "u@v.test" },
	{ "virtual_alias_domains = TABLE\nvirtual_alias_maps = inline:{u@v.test=u@local.test}\n",
	  "v.test", "x", "u@v.test" },
	{ "local_header_rewrite_clients = check_address_map TABLE\n", "192.0.2.66", "x",
	  "u@local.test" },
	{ "local_header_rewrite_clients = permit_mynetworks\nmynetworks = TABLE\n", "192.0.2.66",
	  "x", "u@local.test" },
	{ "smtpd_sender_restrictions = check_sender_access pipemap:{TABLE,inline:{one=REJECT}}\n",
	  "a@x.test", "one", "u@local.test" },
};

static char *config_of(const struct situation *s, bool remote)
{
	struct buf b = BUF_INIT;
	const char *p = s->conf, *at;

	while ((at = strstr(p, "TABLE")) != NULL) {
		buf_add(&b, p, (size_t)(at - p));
		if (remote)
			buf_add_str(&b, REMOTE);
		else
			buf_printf(&b, "inline:{{%s=%s}}", s->key, s->value);
		p = at + 5;
	}
	buf_add_str(&b, p);
	char *text = xstrdup(buf_cstr(&b));

	buf_fini(&b);
	return text;
}

/* What the message carries of the tables' answers. */
static void add_effects(const struct fake *f, struct buf *out)
{
	struct envelope env;
	struct arena a;

	arena_init(&a, 1024, 1 << 20);
	if (f->env.len > 0 && env_decode(buf_sv(&f->env), 100, &a, &env) == 0) {
		buf_printf(out, "flags %x, %zu recipients\n", (unsigned)env.flags, env.rcpt_count);
		for (size_t i = 0; i < env.prepend_count; i++)
			buf_printf(out, "%.*s\n", (int)env.prepend[i].len, env.prepend[i].p);
	}
	arena_fini(&a);
}

static void settle(struct fake *f)
{
	while (f->s.wait == WAIT_TABLES) {
		fake_tables_answer(f);
		session_tables_answered(&f->s);
		fake_settle(f);
	}
}

/* All that a client hears in a dialogue, and the log. `waits`: answers come later. */
static void dialogue(const struct situation *s, bool remote, bool waits, struct buf *out)
{
	char *conf = config_of(s, remote), rcpt[100];
	struct fake f;
	const char *say[] = { "EHLO c.test\r\n", "MAIL FROM:<a@x.test>\r\n", rcpt,      rcpt,
			      "DATA\r\n",        "x: y\r\n\r\nz\r\n.\r\n",   "QUIT\r\n" };

	snprintf(rcpt, sizeof(rcpt), "RCPT TO:<%s>\r\n", s->rcpt);
	fake_conf(&f, conf, NULL);
	f.table_key = s->key;
	f.table_value = s->value;
	f.tables_wait = waits;
	fake_connect(&f, "192.0.2.66");
	settle(&f);
	for (size_t i = 0; i < ARRAY_LEN(say); i++) {
		buf_add_str(out, fake_say(&f, say[i]));
		settle(&f);
		buf_add_str(out, fake_take(&f));
		if (session_is_over(&f.s))
			break;
	}
	buf_add_sv(out, buf_sv(&f.log));
	add_effects(&f, out);
	fake_fini(&f);
	free(conf);
}

static void test_same(void)
{
	for (size_t i = 0; i < ARRAY_LEN(situations); i++) {
		struct buf local = BUF_INIT, at_once = BUF_INIT, later = BUF_INIT;

		dialogue(&situations[i], false, false, &local);
		dialogue(&situations[i], true, false, &at_once);
		dialogue(&situations[i], true, true, &later);
		is_str(buf_cstr(&at_once), buf_cstr(&local), "situation %zu: as in the process",
		       i + 1);
		is_str(buf_cstr(&later), buf_cstr(&local), "situation %zu: when answers take time",
		       i + 1);
		buf_fini(&local);
		buf_fini(&at_once);
		buf_fini(&later);
	}
}

/* What cannot be asked defers, whatever the list; it never lets through and never refuses for good.
 */
static void test_broken(void)
{
	for (size_t i = 0; i < ARRAY_LEN(situations); i++) {
		char *conf = config_of(&situations[i], true), rcpt[100];
		struct fake f;
		const char *reply = "";
		const char *say[] = { "EHLO c.test\r\n", "MAIL FROM:<a@x.test>\r\n", rcpt,
				      "DATA\r\n", "x: y\r\n\r\nz\r\n.\r\n" };

		snprintf(rcpt, sizeof(rcpt), "RCPT TO:<%s>\r\n", situations[i].rcpt);
		fake_conf(&f, conf, NULL);
		f.table_broken = true;
		fake_connect(&f, "192.0.2.66");
		reply = fake_take(&f);
		for (size_t k = 0; k < ARRAY_LEN(say) && (reply[0] == '2' || reply[0] == '3'); k++)
			reply = fake_say(&f, say[k]);
		ok(strncmp(reply, "451 4.3.", 8) == 0, "situation %zu, broken table: %.30s", i + 1,
		   reply);
		fake_fini(&f);
		free(conf);
	}
}

/* check_policy_service: the request, and what becomes of the answers. */
static void test_policy(void)
{
	static const struct {
		const char *answer, *conf, *reply; /* what the lookup worker says */
	} cases[] = {
		{ "aREJECT no\n", "",
		  "554 5.7.1 <u@local.test>: Recipient address rejected: no\r\n" },
		{ "aOK\n", "", "250 2.1.5 Ok\r\n" },
		{ "\n", "",
		  "451 4.3.5 <u@local.test>: Recipient address rejected: Server "
		  "configuration problem\r\n" },
		{ "wa warning\n\n", "smtpd_policy_service_default_action = DUNNO\n",
		  "250 2.1.5 Ok\r\n" },
		{ "aREJECT \xff\n", "smtpd_policy_service_default_action = 450 4.7.1 odd\n",
		  "450 4.7.1 <u@local.test>: Recipient address rejected: odd\r\n" },
		/* a default action that asks the same server */
		{ "\n",
		  "smtpd_restriction_classes = again\nagain = check_policy_service inet:p.test:1\n"
		  "smtpd_policy_service_default_action = again\n",
		  "451 4.3.5 <u@local.test>: Recipient address rejected: Server configuration "
		  "problem\r\n" },
		{ "acheck_policy_service inet:p.test:1\n", "",
		  "451 4.3.5 Server configuration error\r\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char conf[600];
		struct fake f;

		snprintf(conf, sizeof(conf),
			 "smtpd_recipient_restrictions = check_policy_service { inet:p.test:1, "
			 "timeout=200s }, permit\n%s",
			 cases[i].conf);
		fake_conf(&f, conf, NULL);
		f.policy_answer = cases[i].answer;
		fake_connect(&f, "192.0.2.66");
		fake_say(&f, "EHLO c.test\r\n");
		fake_say(&f, "MAIL FROM:<a@x.test> SIZE=77\r\n");
		is_str(fake_say(&f, "RCPT TO:<u@local.test>\r\n"), cases[i].reply, "answer %zu",
		       i + 1);
		ok(strstr(f.policy_request, "\nsize=77\n") != NULL &&
			   strstr(f.policy_request, "\nprotocol_state=RCPT\n") != NULL &&
			   strstr(f.policy_request, "\nclient_address=192.0.2.66\n") != NULL &&
			   strstr(f.policy_request, "\nhelo_name=c.test\n") != NULL &&
			   strcmp(f.policy_request + strlen(f.policy_request) - 2, "\n\n") == 0,
		   "the request");
		ok(f.policy_time_ms >= 300000, "the service has its own time");
		fake_fini(&f);
	}
}

/* Two requests that are the same are two. */
static void test_policy_twice(void)
{
	struct fake f;

	fake_conf(&f,
		  "smtpd_sender_restrictions = check_policy_service inet:p.test:1\n"
		  "smtpd_recipient_restrictions = check_policy_service inet:p.test:1, permit\n",
		  NULL);
	f.policy_answer = "aDUNNO\n";
	fake_connect(&f, "192.0.2.66");
	fake_say(&f, "EHLO c.test\r\n");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	is_int(f.table_questions, 2, "a service that is named twice is asked twice");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	is_int(f.table_questions, 4, "and for each recipient");
	fake_fini(&f);
}

static void test_gone(void)
{
	struct fake f;

	fake_conf(&f, "relay_domains = " REMOTE "\n", NULL);
	f.tables_wait = true;
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	is_str(fake_say(&f, "RCPT TO:<u@relay.test>\r\n"), "", "a command that waits has no reply");
	ok(!session_wants_input(&f.s), "and nothing more is read");
	session_broken(&f.s);
	session_fini(&f.s);
	ok(f.tables_cancelled, "a client that goes away meanwhile");
	f.open = false;
	fake_fini(&f);
}

static void test_questions(void)
{
	struct fake f;

	fake_conf(&f, "relay_domains = " REMOTE "\n", NULL);
	f.table_key = "relay.test";
	f.table_value = "x";
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	fake_say(&f, "RCPT TO:<u@relay.test>\r\n");
	is_int(f.table_questions, 1, "one key is asked for once in an evaluation");
	fake_say(&f, "RCPT TO:<v@relay.test>\r\n");
	is_int(f.table_questions, 2, "and again in the next one");
	fake_fini(&f);
}

/* What a client may is asked for before its greeting. */
static void test_client(void)
{
	static const struct {
		const char *conf, *say, *want, *broken;
	} cases[] = {
		{ "smtpd_authorized_verp_clients = " REMOTE "\n", "MAIL FROM:<a@x.test> XVERP\r\n",
		  "250", "451 4.3.0" },
		{ "smtpd_discard_ehlo_keyword_address_maps = " REMOTE "\n", "EHLO x\r\n", "250",
		  "250" },
		{ "smtpd_forbid_bare_newline = reject\nsmtpd_forbid_bare_newline_exclusions "
		  "= " REMOTE "\n",
		  "NOOP\n", "250", "550 5.5.2" },
		{ "smtpd_client_event_limit_exceptions = " REMOTE
		  "\nsmtpd_client_message_rate_limit = 1\n",
		  "MAIL FROM:<a@x.test>\r\n", "250", "450 4.7.1" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (unsigned broken = 0; broken < 2; broken++) {
			const char *want = broken ? cases[i].broken : cases[i].want, *got;
			struct fake f;

			fake_conf(&f, cases[i].conf, NULL);
			f.table_key = "192.0.2.66";
			f.table_value = "dsn";
			f.table_broken = broken;
			f.tables_wait = true;
			f.rate_now = 5;
			fake_connect(&f, "192.0.2.66");
			is_str(fake_take(&f), "", "no greeting yet");
			ok(f.s.wait == WAIT_TABLES && !session_wants_input(&f.s), "it waits");
			settle(&f);
			ok(strncmp(fake_take(&f), "220 ", 4) == 0, "then it is greeted");
			f.tables_wait = false;
			if (i != 1)
				fake_say(&f, "EHLO c.test\r\n");
			got = fake_say(&f, cases[i].say);
			ok(strncmp(got, want, strlen(want)) == 0, "client %zu, %s: %.60s", i + 1,
			   broken ? "broken" : "listed", got);
			fake_fini(&f);
		}
	}
}

static void test_refused(void)
{
	static const char *const confs[] = {
		"smtpd_command_filter = " REMOTE "\n",
		"smtpd_noop_commands = " REMOTE "\n",
		"smtpd_reject_footer_maps = " REMOTE "\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(confs); i++) {
		struct conf_diag d;
		struct fake f;

		conf_diag_init(&d);
		ok(fake_conf(&f, confs[i], &d) != 0 &&
			   strstr(buf_cstr(&d.text), "cannot use remote table") != NULL,
		   "where nothing can wait: %s", confs[i]);
		conf_diag_fini(&d);
		fake_fini(&f);
	}
}

int main(void)
{
	test_same();
	test_broken();
	test_policy();
	test_policy_twice();
	test_gone();
	test_questions();
	test_client();
	test_refused();
	return tap_done();
}
