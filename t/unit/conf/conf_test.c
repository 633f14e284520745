/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whole configurations: files, problems with file and line, services, transports, snapshots. */
#include "conf/conf_priv.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "t/unit/tap.h"

static char dir[] = "/tmp/posthaste-conf-XXXXXX";
static struct conf_diag diag;

static void put_file(const char *name, const char *text, size_t len)
{
	char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || io_write_all(fd, text, len) != 0)
		exit(99);
	io_close(&fd);
	free(path);
}

static void drop_file(const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);

	unlink(path);
	free(path);
}

/* master NULL = no such file */
static struct conf *load(const char *main_cf, const char *master_cf, int *err_r)
{
	struct conf *c = NULL;

	put_file("main.cf", main_cf, strlen(main_cf));
	drop_file("master.cf");
	if (master_cf != NULL)
		put_file("master.cf", master_cf, strlen(master_cf));
	conf_diag_fini(&diag);
	conf_diag_init(&diag);
	*err_r = conf_load_dir(dir, &c, &diag);
	return c;
}

/* The problems as one text, with DIR for the directory. */
static const char *problems(void)
{
	static struct buf out;
	const char *p = buf_cstr(&diag.text), *at;

	buf_reset(&out);
	while ((at = strstr(p, dir)) != NULL) {
		buf_add(&out, p, (size_t)(at - p));
		buf_add_str(&out, "DIR");
		p = at + strlen(dir);
	}
	buf_add_str(&out, p);
	return buf_cstr(&out);
}

static void test_defaults(void)
{
	int err;
	struct conf *c = load("", NULL, &err);
	const struct params *p = conf_params(c);

	is_int(err, 0, "an empty main.cf and no master.cf will do");
	is_str(problems(), "", "without problems");
	is_str(conf_dir(c), dir, "the directory");
	ok(strchr(p->myhostname, '.') != NULL, "myhostname has a domain");
	is_str(p->myorigin, p->myhostname, "defaults are expanded");
	ok(strstr(p->mydestination, p->myhostname) == p->mydestination, "in lists, too");
	ok(strstr(p->mynetworks, "127.0.0.1/32") != NULL, "mynetworks has the loopback address");
	ok(strstr(p->mynetworks, "/8") == NULL, "and no network");
	is_int(p->smtpd_timeout, 300000, "times in milliseconds");
	is_int(p->append_dot_mydomain, 0, "defaults by compatibility_level");
	is_str(p->local_transport, conf_get(c, "local_transport"), "by field and by name");
	is_int(p->smtpd_forbid_bare_newline, BARE_NEWLINE_NORMALIZE, "words as numbers");
	is_str(p->smtpd_relay_restrictions,
	       "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
	       "no open relay");
	is_str(p->config_directory, dir, "config_directory is where it was read");
	is_int(conf_listener_count(c), 1, "one listener");
	is_str(conf_listener(c, 0)->port, "smtp", "on the SMTP port");
	is_str(conf_listener(c, 0)->host, "", "of inet_interfaces");
	ok(conf_get(c, "nosuch") == NULL, "an unknown name has no value");
	conf_free(&c);
	ok(c == NULL, "freed");
}

static void test_lines(void)
{
	int err;
	struct conf *c = load("# comment\n"
			      "\n"
			      "relayhost=[a]\n"
			      "  # a comment between a line and its continuation\n"
			      "\n"
			      "\t:25  \n"
			      "mydestination =\n"
			      "    one,\n"
			      "# comment\n"
			      "    two   three\n"
			      "myhostname = h.example.com\r\n"
			      "mydomain = first\n"
			      "mydomain = second\n"
			      "empty_address_recipient =x",
			      NULL, &err);

	is_int(err, 0, "loads");
	is_str(conf_params(c)->relayhost, "[a] :25", "continuation over comments");
	is_str(conf_params(c)->mydestination, "one, two   three", "blanks inside stay");
	is_str(conf_params(c)->myhostname, "h.example.com", "CR LF");
	is_str(conf_params(c)->mydomain, "second", "the last duplicate wins");
	is_str(conf_params(c)->empty_address_recipient, "x", "no newline at the end");
	is_str(problems(),
	       "warning: DIR/main.cf, line 13: overriding earlier entry: mydomain=first\n",
	       "duplicates are told");
	conf_free(&c);
}

static void test_all_problems(void)
{
	int err;
	struct conf *c = load("soft_bounce = perhaps\n"
			      "no equals sign\n"
			      "= x\n"
			      "smtpd_timeout = 10x\n"
			      "relayhost = ${\n"
			      "smtpd_recipient_limit = 0\n"
			      "a = $b\n"
			      "b = $a\n"
			      "myorigin = $a\n"
			      "n = many\n"
			      "message_size_limit = $n\n",
			      "smtp inet n - q - - smtpd\n"
			      "short line\n"
			      "x unix - - n - - smtp -o soft_bounce=possibly\n"
			      "y wire - - n - - smtp\n"
			      "z inet - - n - - smtpd\n"
			      "w unix - - n x - smtp\n"
			      "v unix - - n - - smtp { a\n"
			      "u unix - - n - - /bin/smtp\n"
			      "t unix - - n - - smtp -o nothing\n"
			      "s unix - - n - - smtp -o\n",
			      &err);
	static const char *const want[] = {
		"DIR/main.cf, line 2: missing '=' after attribute name: \"no equals sign\"; "
		"expected "
		"name = value\n",
		"DIR/main.cf, line 3: missing attribute name: \"= x\"; expected name = value\n",
		"DIR/main.cf, line 1: soft_bounce = perhaps: expected yes or no\n",
		"DIR/main.cf, line 4: smtpd_timeout = 10x: expected a number with a time unit (s, "
		"m, h, d, w), at least 1s\n",
		"DIR/main.cf, line 5: relayhost = ${: missing } for the { at \"{\"\n",
		"DIR/main.cf, line 6: smtpd_recipient_limit = 0: expected a whole number, at least "
		"1\n",
		": the value refers to itself, directly or through others\n",
		"DIR/main.cf, line 11: message_size_limit = $n: is \"many\", expected a number of "
		"bytes (or with k, M, G), at least 0\n",
		"DIR/master.cf, line 1: chroot \"q\": expected y, n or -\n",
		"DIR/master.cf, line 2: 2 fields: expected 8 or more: service type private "
		"unprivileged"
		" chroot wakeup maxproc command\n",
		"DIR/master.cf, line 3: soft_bounce = possibly: expected yes or no\n",
		"DIR/master.cf, line 4: type \"wire\": expected inet, unix, unix-dgram, fifo or "
		"pass\n",
		"DIR/master.cf, line 5: private \"-\": expected n for an inet service\n",
		"DIR/master.cf, line 6: wakeup \"x\": expected a number or -\n",
		"DIR/master.cf, line 7: argument \"{ a\": expected a } for the {\n",
		"DIR/master.cf, line 8: command \"/bin/smtp\": expected a program name without /\n",
		"DIR/master.cf, line 9: -o \"nothing\": expected name=value\n",
		"DIR/master.cf, line 10: -o \"\": expected name=value\n",
	};

	is_int(err, E_CONFIG, "does not load");
	ok(c == NULL, "and gives nothing");
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		ok(strstr(problems(), want[i]) != NULL, "%s", want[i]);
	is_int(diag.errors, 18, "each once");
	if (diag.errors != 18)
		printf("# %s\n", problems());
}

static void count_lines(void *ctx, enum log_level level, const char *program, const char *text,
			size_t text_len)
{
	unsigned *counts = ctx;

	(void)program;
	counts[level]++;
	if (text_len < 10 ||
	    memcmp(text, level == LOG_LEVEL_WARN ? "warning: /" : "error: /tm", 10) != 0)
		counts[LOG_LEVEL_PANIC]++;
}

static void test_diag_log(void)
{
	unsigned counts[5] = { 0 };
	int err;

	load("foo = 1\nsoft_bounce = perhaps\nbar = 2\n", NULL, &err);
	log_set_sink(count_lines, counts);
	conf_diag_log(&diag);
	log_set_sink(NULL, NULL);
	is_int(counts[LOG_LEVEL_WARN], 2, "warnings are logged as such");
	is_int(counts[LOG_LEVEL_ERROR], 1, "and errors");
	is_int(counts[LOG_LEVEL_PANIC], 0, "each text once, without a second severity");
}

static void test_names(void)
{
	int err;
	struct conf *c = load("foo = 1\n"
			      "used = x\n"
			      "relayhost = [$used] $undefd ${undefd?x}\n"
			      "smtpd_restriction_classes = greylist, other\n"
			      "greylist = permit\n"
			      "virtual_alias_maps = mysql:vmap, ldap:/etc/x\n"
			      "vmap_user = u\n"
			      "max_use = 5\n"
			      "slow_destination_concurrency_limit = 2\n"
			      "none_destination_concurrency_limit = 2\n"
			      "mua = permit\n"
			      "default_rbl_reply = $rbl_code what\n"
			      "syslog_name = postfix/$service_name\n"
			      "myorigin = x # y\n",
			      "slow unix - - n - - smtp -o bar=1 -o own=2 -o smtp_helo_name=$own\n"
			      "s unix - - n - - smtp -o smtp_helo_name=$mua\n",
			      &err);

	is_int(err, 0, "names are no errors");
	is_str(problems(),
	       "warning: DIR/main.cf: undefined parameter: undefd\n"
	       "warning: DIR/main.cf, line 14: #comment after other text is not allowed: # y...\n"
	       "warning: DIR/main.cf, line 1: unused parameter: foo=1\n"
	       "warning: DIR/main.cf, line 10: unused parameter: "
	       "none_destination_concurrency_limit=2\n"
	       "warning: DIR/master.cf, line 1: unused parameter: bar=1\n",
	       "what is unused or undefined, and nothing else");
	is_str(conf_get(c, "foo"), "1", "the value is there all the same");
	is_str(conf_params(c)->relayhost, "[x]  ", "undefined names are empty");
	conf_free(&c);
}

static const char services[] =
	"smtp      inet  n       -       n       -       -       smtpd\n"
	"127.0.0.1:2525 inet n - n - - smtpd -v\n"
	"  -o smtpd_timeout=7s -o { smtpd_banner = $myhostname hello there }\n"
	"  -osoft_bounce=yes\n"
	"[::1]:smtp inet n - y - 10 smtpd\n"
	"pickup    unix  n       -       n       60?      1       pickup\n"
	"fast      unix  -       -       n       -       40      smtp -o "
	"smtp_helo_name=$service_name\n"
	"store     unix  -       n       n       -       -       pipe\n"
	"  flags=R user=vmail { argv=/bin/store a b } -o ${recipient}\n";

/* master_service_disable and the ports that are left of "smtp", "submission" and "[::1]:25". */
static void test_disabled(void)
{
	static const struct {
		const char *list, *left;
	} cases[] = {
		{ "", "smtp submission 25 " },
		{ "inet", "" },
		{ "smtp/inet", "submission 25 " },
		{ "submission.inet, [::1]:25/inet", "smtp " },
		{ "!smtp/inet inet", "smtp " },
		{ "inet, !smtp/inet", "" },
		{ "unix, smtp/unix, fifo", "smtp submission 25 " },
		{ "mtp/inet smtp/ine /inet", "smtp submission 25 " },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *text = xasprintf("master_service_disable = %s\n", cases[i].list);
		struct buf left = BUF_INIT;
		int err;
		struct conf *c = load(text,
				      "smtp inet n - n - - smtpd\n"
				      "submission inet n - n - - smtpd\n"
				      "[::1]:25 inet n - n - 1 postscreen\n",
				      &err);

		for (unsigned k = 0; k < conf_listener_count(c); k++)
			buf_printf(&left, "%s ", conf_listener(c, k)->port);
		is_str(buf_cstr(&left), cases[i].left, "master_service_disable = %s",
		       cases[i].list);
		buf_fini(&left);
		conf_free(&c);
		free(text);
	}
}

static void test_services(void)
{
	int err;
	struct conf *c = load("myhostname = h.example.com\n"
			      "fast_destination_concurrency_limit = 3\n"
			      "fast_destination_rate_delay = 2\n"
			      "default_destination_concurrency_limit = 11\n"
			      "fast_destination_concurrency_positive_feedback = 1/concurrency\n",
			      services, &err);
	const struct conf_service *s;
	const struct conf_transport *t;

	is_str(problems(), "", "no problems");
	s = conf_service_find(c, "127.0.0.1:2525", SERVICE_INET);
	ok(s != NULL, "an inet service");
	is_int(s->line, 2, "its line");
	is_int(s->maxproc, -1, "maxproc -");
	is_int(s->override_count, 3, "three overrides");
	is_int(s->params->smtpd_timeout, 7000, "typed");
	is_str(s->params->smtpd_banner, "h.example.com hello there", "in braces, expanded");
	ok(s->params->soft_bounce, "written together with -o");
	is_str(conf_service_get(c, s, "smtpd_banner"), "h.example.com hello there", "by name");
	is_int(s->arg_count, 1, "other flags are arguments");
	ok(!conf_params(c)->soft_bounce, "the global value is another");
	s = conf_service_find(c, "smtp", SERVICE_INET);
	ok(s->params == conf_params(c), "a service without overrides shares the global values");
	s = conf_service_find(c, "pickup", SERVICE_UNIX);
	is_int(s->wakeup_s, 60, "wakeup with ?");
	ok(!s->is_private, "private n");
	is_int(s->maxproc, 1, "maxproc");
	ok(conf_service_find(c, "pickup", SERVICE_INET) == NULL, "name and type");
	s = conf_service_find(c, "store", SERVICE_UNIX);
	is_int(s->override_count, 0, "behind the first argument -o is none of ours");
	is_int(s->arg_count, 5, "five arguments");
	is_str(s->args[2], "argv=/bin/store a b", "one of them in braces");
	is_str(s->args[4], "${recipient}", "as written");
	ok(!s->unprivileged, "unprivileged n");

	is_int(conf_listener_count(c), 3, "three listeners");
	is_str(conf_listener(c, 1)->host, "127.0.0.1", "host");
	is_str(conf_listener(c, 1)->port, "2525", "port");
	is_str(conf_listener(c, 2)->host, "::1", "without brackets");
	is_str(conf_listener(c, 2)->port, "smtp", "port by name");
	ok(conf_listener(c, 3) == NULL, "no fourth one");

	t = conf_transport_find(c, "fast");
	is_int(t->kind, TRANSPORT_SMTP, "kind by program");
	is_int(t->destination_concurrency_limit, 3, "its own limit");
	is_int(t->destination_rate_delay_ms, 2000, "time");
	is_str(t->destination_concurrency_positive_feedback, "1/concurrency", "text");
	is_int(t->destination_recipient_limit, 50, "default");
	is_int(t->maxproc, 40, "maxproc of master.cf");
	is_str(t->params->smtp_helo_name, "fast", "$service_name");
	t = conf_transport_find(c, "store");
	is_int(t->kind, TRANSPORT_PIPE, "pipe");
	is_int(t->destination_concurrency_limit, 11, "default_ of main.cf");
	is_int(t->maxproc, 100, "- is the default for commands");
	is_int(t->command_time_limit_ms, 1000000, "time limit of commands");
	t = conf_transport_find(c, "local");
	is_int(t->destination_concurrency_limit, 2, "local has defaults of its own");
	is_int(t->destination_recipient_limit, 1, "both");
	ok(conf_transport_find(c, "relay") != NULL && conf_transport_find(c, "smtp") != NULL &&
		   conf_transport_find(c, "lmtp") != NULL &&
		   conf_transport_find(c, "virtual") != NULL &&
		   conf_transport_find(c, "error") != NULL &&
		   conf_transport_find(c, "retry") != NULL &&
		   conf_transport_find(c, "discard") != NULL,
	   "the standard transports are there without lines");
	is_int(conf_transport_find(c, "retry")->kind, TRANSPORT_ERROR, "retry is error");
	ok(conf_transport_find(c, "pickup") == NULL, "pickup is no transport");
	conf_free(&c);

	c = load("default_process_limit = 9\n",
		 "relay unix - - n - - lmtp\nrelay unix - - n - - smtp\n", &err);
	is_int(conf_transport_find(c, "store") == NULL, 1, "gone");
	is_int(conf_transport_find(c, "relay")->maxproc, 9, "default_process_limit that was set");
	is_int(conf_transport_find(c, "relay")->kind, TRANSPORT_SMTP, "the last line wins");
	is_str(problems(),
	       "warning: DIR/master.cf, line 2: service relay/unix replaces the one in "
	       "line 1\n",
	       "and that is told");
	is_int(conf_listener_count(c), 0, "a master.cf without smtpd has no listener");
	conf_free(&c);
	c = load("",
		 "[127.0.0.1]:25 inet n - n - 1 postscreen\n"
		 "smtpd pass - - n - - smtpd -o soft_bounce=yes\n",
		 &err);
	is_int(conf_listener_count(c), 1, "postscreen's line is a listener");
	is_str(conf_listener(c, 0)->host, "127.0.0.1", "at its address");
	ok(conf_listener(c, 0)->service->params->soft_bounce, "with the options of smtpd/pass");
	is_str(conf_listener(c, 0)->screen->name, "[127.0.0.1]:25",
	       "behind that line's postscreen");
	is_str(problems(), "", "without a warning");
	conf_free(&c);
	c = load("smtpd_service_name = inner\npostscreen_dnsbl_ttl = 5m\n",
		 "[127.0.0.1]:25 inet n - n - 1 postscreen\n"
		 "smtpd pass - - n - - smtpd -o soft_bounce=yes\n",
		 &err);
	ok(!conf_listener(c, 0)->service->params->soft_bounce, "smtpd_service_name is another");
	ok(strstr(problems(), "there is no service inner of type pass behind postscreen") != NULL,
	   "that is not there, as a warning says");
	is_int(conf_params(c)->postscreen_dnsbl_max_ttl, 300000,
	       "a unit before the default's unit");
	conf_free(&c);
	test_disabled();
	c = load("local_destination_recipient_limit = x\nsmtp_destination_rate_delay = -1\n", NULL,
		 &err);
	is_int(diag.errors, 2, "bad per-transport values");
	is_str(problems(),
	       "DIR/main.cf, line 1: local_destination_recipient_limit = x: expected a whole "
	       "number, at least 0\n"
	       "DIR/main.cf, line 2: smtp_destination_rate_delay = -1: expected a number with a "
	       "time unit (s, m, h, d, w)\n",
	       "with file and line");
}

static void test_stress(void)
{
	int err;
	struct conf *c = load("x = ${stress?{busy}:{calm}}\nsmtpd_junk_command_limit = 7\n",
			      "25 inet n - n - - smtpd\n"
			      "26 inet n - n - - smtpd -o smtpd_timeout=${stress?{3}:{9}}s\n"
			      "me unix - - n - - smtp\n",
			      &err);
	const struct conf_service *s, *t;

	is_int(diag.errors, 0, "no problems");
	ok(conf_uses_stress(c), "a value depends on stress");
	s = conf_service_find(c, "25", SERVICE_INET);
	t = conf_service_stress(s);
	ok(t != NULL, "smtpd has a second set of values");
	is_int(s->params->smtpd_timeout, 300000, "calm: smtpd_timeout");
	is_int(t->params->smtpd_timeout, 10000, "stress: smtpd_timeout");
	is_int(s->params->smtpd_hard_error_limit, 20, "calm: smtpd_hard_error_limit");
	is_int(t->params->smtpd_hard_error_limit, 1, "stress: smtpd_hard_error_limit");
	ok(!s->params->smtpd_per_request_deadline, "calm: smtpd_per_request_deadline");
	ok(t->params->smtpd_per_request_deadline, "stress: smtpd_per_request_deadline");
	is_int(t->params->smtpd_junk_command_limit, 7, "what the user chose holds under stress");
	is_str(conf_service_get(c, s, "x"), "calm", "calm: a name of the user's");
	is_str(conf_service_get(c, t, "x"), "busy", "stress: a name of the user's");
	s = conf_service_find(c, "26", SERVICE_INET);
	is_int(s->params->smtpd_timeout, 9000, "calm: -o");
	is_int(conf_service_stress(s)->params->smtpd_timeout, 3000, "stress: -o");
	ok(conf_service_stress(conf_service_find(c, "me", SERVICE_UNIX)) == NULL,
	   "others have no stress");
	conf_free(&c);
	c = load("x = $$stress\n", "25 inet n - n - - smtpd\n", &err);
	ok(c != NULL && !conf_uses_stress(c), "a dollar sign is no reference");
	conf_free(&c);
	c = load("smtpd_recipient_limit = ${stress?{none}:{5}}\n", "25 inet n - n - - smtpd\n",
		 &err);
	ok(c == NULL, "a value that is wrong only under stress is found at the start");
	ok(strstr(problems(), "main.cf, line 1: smtpd_recipient_limit") != NULL, "%s", problems());
	conf_free(&c);
	c = load("smtpd_recipient_limit = none\n", "25 inet n - n - - smtpd\n", &err);
	is_int(diag.errors, 1, "what is wrong always is said once: %s", problems());
	conf_free(&c);
}

static void test_mynetworks(void)
{
	int err;
	struct conf *c = load("inet_interfaces = loopback-only\n", NULL, &err);

	is_str(conf_params(c)->mynetworks, "127.0.0.1/32 [::1]/128", "loopback-only");
	conf_free(&c);
	c = load("inet_interfaces = 127.0.0.1\nmynetworks_style = subnet\n", NULL, &err);
	is_str(conf_params(c)->mynetworks, "127.0.0.0/8", "subnet");
	conf_free(&c);
	c = load("inet_interfaces = 10.1.2.3, [2001:db8::1]\nmynetworks_style = class\n"
		 "inet_protocols = ipv4\n",
		 NULL, &err);
	is_str(conf_params(c)->mynetworks, "10.0.0.0/8", "class, one protocol");
	is_str(conf_params(c)->smtpd_client_event_limit_exceptions, "10.0.0.0/8",
	       "whose clients are free of the client limits");
	conf_free(&c);
	c = load("compatibility_level = 0\ninet_interfaces = 127.0.0.1\n", NULL, &err);
	is_str(conf_params(c)->mynetworks_style == 1 ? "subnet" : "?", "subnet",
	       "old defaults at an old level");
	ok(conf_params(c)->append_dot_mydomain, "all of them");
	conf_free(&c);
	c = load("myhostname = a.b.c\n", NULL, &err);
	is_str(conf_params(c)->mydomain, "b.c", "mydomain from myhostname");
	conf_free(&c);
	c = load("myhostname = a.$mydomain\n", NULL, &err);
	is_int(err, E_CONFIG, "both from each other: refused");
	conf_free(&c);
	c = load("myhostname = a.$mydomain\nmydomain = d.e\n", NULL, &err);
	is_str(conf_params(c)->myhostname, "a.d.e", "from a mydomain that is set");
	conf_free(&c);
}

static void test_expand(void)
{
	int err;
	struct conf *c =
		load("myhostname = a.b.c\nx = [$myhostname]\nrelayhost = $x\n", NULL, &err);
	struct buf out = BUF_INIT;

	is_int(conf_expand(c, "<$x ${nosuch:none}>", &out), 0, "expand");
	is_str(buf_cstr(&out), "<[a.b.c] none>", "text");
	is_int(conf_expand(c, "${", &out), E_SYNTAX, "bad text");
	buf_fini(&out);
	conf_free(&c);
}

static void test_files(void)
{
	struct conf *c;
	int err;

	conf_free(&(struct conf *){ NULL });
	conf_diag_fini(&diag);
	conf_diag_init(&diag);
	is_int(conf_load_dir("/nonexistent", &c, &diag), E_NOENT, "no directory");
	ok(strstr(buf_cstr(&diag.text), "open /nonexistent/main.cf: ") != NULL, "says so");
	c = load("", "", &err);
	conf_free(&c);
	put_file("main.cf", "a = b\n\0c = d\n", 12);
	is_int(conf_load_dir(dir, &c, &diag), E_CONFIG, "a NUL byte is refused");
	ok(strstr(problems(), "DIR/main.cf, line 2: a NUL byte: expected text\n") != NULL,
	   "with its line");
	put_file("main.cf", " a = b\n", 7);
	is_int(conf_load_dir(dir, &c, &diag), E_CONFIG, "white space in front of the first line");
	c = load("", "# nothing\n", &err);
	is_int(err, 0, "an empty master.cf");
	is_int(conf_listener_count(c), 0, "is not the built-in one");
	conf_free(&c);
}

static struct conf *load_fd(const void *data, size_t len, int *err_r)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct conf *c = NULL;

	if (fd < 0 || io_write_all(fd, data, len) != 0)
		exit(99);
	conf_diag_fini(&diag);
	conf_diag_init(&diag);
	*err_r = conf_load_snapshot(fd, &c, &diag);
	close(fd);
	return c;
}

static void test_snapshot(void)
{
	int err, fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct conf *c = load("myhostname = h.example.com\nfoo = 1\n", services, &err), *c2 = NULL;
	struct buf data = BUF_INIT;
	unsigned bad = 0;

	is_int(conf_write_snapshot(c, fd), 0, "written");
	conf_diag_fini(&diag);
	conf_diag_init(&diag);
	is_int(conf_load_snapshot(fd, &c2, &diag), 0, "read, wherever the position is");
	is_str(problems(), "warning: DIR/main.cf, line 2: unused parameter: foo=1\n",
	       "with the names of the files");
	is_str(conf_params(c2)->mynetworks, conf_params(c)->mynetworks, "computed defaults");
	is_int(conf_service_count(c2), conf_service_count(c), "the same services");
	is_str(conf_dir(c2), dir, "the same directory");
	conf_free(&c2);
	lseek(fd, 0, SEEK_SET);
	if (io_read_to_buf(fd, 0, &data) != 0)
		io_read_to_buf(fd, 1 << 20, &data);
	close(fd);
	/* Every shorter file is refused, and so is one with another first line. */
	for (size_t len = 0; len + 1 < data.len; len += len < 200 ? 1 : 37) {
		c2 = load_fd(data.p, len, &err);
		bad += err == 0 || c2 != NULL;
		conf_free(&c2);
	}
	is_int(bad, 0, "truncated ones are refused");
	data.p[0] ^= 1;
	c2 = load_fd(data.p, data.len, &err);
	is_int(err, E_VERSION, "another format is refused");
	conf_free(&c);
	c = load("myhostname = h.example.com\n", NULL, &err);
	fd = memfd_create("snapshot", MFD_CLOEXEC);
	conf_write_snapshot(c, fd);
	conf_free(&c);
	put_file("master.cf", services, strlen(services));
	is_int(conf_load_snapshot(fd, &c2, &diag), 0, "without master.cf");
	is_int(conf_listener_count(c2), 1, "stays without, whatever is on disk now");
	conf_free(&c2);
	close(fd);
	buf_fini(&data);
}

int main(void)
{
	if (mkdtemp(dir) == NULL)
		return 99;
	conf_diag_init(&diag);
	test_defaults();
	test_lines();
	test_all_problems();
	test_diag_log();
	test_names();
	test_services();
	test_stress();
	test_mynetworks();
	test_expand();
	test_files();
	test_snapshot();
	drop_file("main.cf");
	drop_file("master.cf");
	rmdir(dir);
	conf_diag_fini(&diag);
	return tap_done();
}
