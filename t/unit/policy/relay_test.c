/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Nobody relays through a default installation: every way to write a foreign recipient that has
 * fooled some mailer, against the default restrictions, from an outside client.
 */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

/* `far.test` is not ours. Each must be refused, by relay control or by syntax. */
static const char *const foreign[] = {
	"<victim@far.test>",
	"victim@far.test",
	"<victim@FAR.TEST>",
	"<victim@far.test.>",
	"<victim@far.test..>",
	"<\"victim\"@far.test>",
	"<\"victim@far.test\">",
	"<\"victim@far.test\"@local.test>",
	"<\"victim%far.test\"@local.test>",
	"<\"far.test!victim\"@local.test>",
	"<victim%far.test@local.test>",
	"<victim%far.test@LOCAL.TEST>",
	"<victim%far.test@local.test.>",
	"<victim%far.test@mx.test>",
	"<victim%far.test@[127.0.0.1]>",
	"<victim%far.test>",
	"<victim%far.test%local.test@mx.test>",
	"<victim%far.test%local.test>",
	"<far.test!victim>",
	"<far.test!victim@local.test>",
	"<far.test!victim@mx.test>",
	"<far.test!victim@[127.0.0.1]>",
	"<local.test!far.test!victim>",
	"<mx.test!far.test!victim@local.test>",
	"<far.test!victim%local.test>",
	"<far.test!victim%local.test@mx.test>",
	"<@local.test:victim@far.test>",
	"<@mx.test,@local.test:victim@far.test>",
	"<@local.test:victim%far.test@local.test>",
	"<@[127.0.0.1]:victim@far.test>",
	"@local.test:victim@far.test",
	"<@:victim@far.test>",
	"<victim@[192.0.2.99]>",
	"<victim@[IPv6:2001:db8::99]>",
	"<victim@[IPv6:::ffff:192.0.2.99]>",
	"<victim@[::ffff:127.0.0.1]>",
	"<victim@[IPv6:::ffff:127.0.0.1]>",
	"<victim@[127.0.0.1.]>",
	"<victim@[127.1]>",
	"<victim@[0x7f000001]>",
	"<victim@[2130706433]>",
	"<victim@127.0.0.1>",
	"<victim@192.0.2.99>",
	"<victim@far.test@local.test>",
	"<victim@local.test@far.test>",
	"<victim\\@far.test@local.test>",
	"<\"victim\\@far.test\"@local.test>",
	"<victim@far.test%local.test>",
	"<victim@far.test!local.test>",
	"<\"victim@local.test\"@far.test>",
	"<\"a\"%far.test@local.test>",
	"<a%b%far.test@local.test>",
	"<%far.test@local.test>",
	"<%far.test>",
	"<!victim@far.test>",
	"<far.test!@local.test>",
	"<@far.test>",
	"<victim@local.test.far.test>",
	"<victim@xlocal.test>",
	"<victim@sub.local.test>",
	"<victim@relay.test@far.test>",
	"<victim%far.test@relay.test>",
	"<far.test!victim@relay.test>",
	"<\"victim@far.test\"@relay.test>",
	"<victim%far.test@alias.test>",
	"<victim%far.test@box.test>",
	"<far.test!victim@box.test>",
	"<victim@far.test> ORCPT=rfc822;u@local.test",
	"<victim(comment)@far.test>",
	"<victim@far.test(local.test)>",
	"<(local.test)victim@far.test>",
	"<victim@ far.test>",
	"< victim@far.test >",
	"<victim@far.test>,<u@local.test>",
	"<u@local.test>,<victim@far.test>",
	"<u@local.test,victim@far.test>",
	"<postmaster@far.test>",
	"<\"postmaster\"@far.test>",
	"<postmaster%far.test>",
	"<victim@\xc3\xa9.test>",
	"<victim@far\\.test>",
	"<victim@far.test\\@local.test>",
};

static const char *const ours[] = {
	"<u@local.test>",
	"<u@LOCAL.test>",
	"<u@local.test.>",
	"<u@mx.test>",
	"<postmaster>",
	"<u@[127.0.0.1]>",
	"<u@relay.test>",
	"<u@sub.relay.test>",
	"<a@alias.test>",
	"<b@box.test>",
	"<u>",
	"<u%local.test@mx.test>",
	"<mx.test!u>",
	"<@far.test:u@local.test>",
};

static const char conf[] = "relay_domains = relay.test\nvirtual_alias_domains = alias.test\n"
			   "virtual_alias_maps = inline:{a@alias.test=u}\n"
			   "virtual_mailbox_domains = box.test\n"
			   "smtpd_soft_error_limit = 1000\nsmtpd_hard_error_limit = 1000\n";

static const char *rcpt(struct fake *f, const char *form)
{
	char line[300];

	snprintf(line, sizeof(line), "RCPT TO:%s\r\n", form);
	return fake_say(f, line);
}

static void attack(struct fake *f, const char *addr, bool refused)
{
	fake_connect(f, addr);
	fake_say(f, "EHLO c\r\n");
	fake_say(f, "MAIL FROM:<a@far.test>\r\n");
	for (size_t i = 0; i < ARRAY_LEN(foreign) && refused; i++) {
		const char *reply = rcpt(f, foreign[i]);

		ok(reply[0] == '4' || reply[0] == '5', "%s refused with %.3s", foreign[i], reply);
		if (reply[0] == '4')
			ok(strstr(reply, "Relay access denied") != NULL, "by relay control");
	}
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		const char *reply = rcpt(f, ours[i]);

		ok(reply[0] == '2', "%s is ours: %.3s", ours[i], reply);
	}
	if (!refused)
		ok(rcpt(f, "<victim@far.test>")[0] == '2', "our own clients may relay");
}

int main(void)
{
	static const char *const outsiders[] = { "192.0.2.1", "11.0.0.1", "9.255.255.255",
						 "0.0.0.0" };
	struct fake f;

	clock_fake_set(1000000);
	fake_conf(&f, conf, NULL);
	for (size_t i = 0; i < ARRAY_LEN(outsiders); i++)
		attack(&f, outsiders[i], true);
	attack(&f, "10.0.0.1", false);
	fake_fini(&f);

	/* a table that says OK to a routed recipient does not open the relay */
	char more[600];

	snprintf(more, sizeof(more),
		 "%ssmtpd_relay_restrictions = check_recipient_access inline:{relay.test=OK}, "
		 "reject_unauth_destination\n",
		 conf);
	fake_conf(&f, more, NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<a@far.test>\r\n");
	ok(rcpt(&f, "<victim%far.test@relay.test>")[0] == '5', "routed through a permitted domain");
	ok(rcpt(&f, "<victim@relay.test>")[0] == '2', "plain");
	fake_fini(&f);
	return tap_done();
}
