/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands that get mail: services of master.cf and their macros, what their end means, the message
 * they read, and the process that runs them. */
#include "workers/local/command.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/io.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/local/mailcopy.h"
#include "workers/local/piped.h"
#include "workers/local/runner.h"

/* ---- the end of a command ---- */

static struct command_verdict v;

static void judge(enum command_how how, int code, const char *output)
{
	struct command_end e = { .how = how, .code = code, .output = sv_from(output) };

	command_judge(&e, SV("/bin/x"), &v);
}

static void is_verdict(unsigned a, unsigned b, unsigned c, const char *text)
{
	ok(v.dsn[0] == a && v.dsn[1] == b && v.dsn[2] == c, "status %u.%u.%u for \"%s\"", v.dsn[0],
	   v.dsn[1], v.dsn[2], text);
	is_str(buf_cstr(&v.text), text, "text");
}

static void test_status(void)
{
	judge(COMMAND_EXITED, 0, "");
	is_verdict(2, 0, 0, "");
	judge(COMMAND_EXITED, 0, "one\ntwo\n\n");
	is_verdict(2, 0, 0, "one two");
	judge(COMMAND_EXITED, 75, "");
	is_verdict(4, 3, 0, "temporary failure");
	is_str(buf_cstr(&v.diag), "temporary failure", "for the notification");
	judge(COMMAND_EXITED, 67, "who?\n");
	is_verdict(5, 1, 1, "user unknown. Command output: who?");
	is_str(buf_cstr(&v.diag), "who?", "for the notification");
	judge(COMMAND_EXITED, 1, "");
	is_verdict(5, 3, 0, "Command died with status 1: \"/bin/x\"");
	judge(COMMAND_EXITED, 79, "a\x1b[1mb");
	is_verdict(5, 3, 0, "Command died with status 79: \"/bin/x\". Command output: a?[1mb");
	judge(COMMAND_EXITED, 1, "4.2.7 my text\n");
	is_verdict(4, 2, 7, "my text");
	judge(COMMAND_EXITED, 75, "5.7.999 no\nmore");
	is_verdict(5, 7, 255, "no more");
	judge(COMMAND_EXITED, 1, "2.0.0 sent");
	is_verdict(5, 0, 0, "sent");
	judge(COMMAND_EXITED, 1, "5.1.1");
	is_verdict(5, 1, 1, "");
	judge(COMMAND_EXITED, 1, "5.1.1x");
	is_verdict(5, 3, 0, "Command died with status 1: \"/bin/x\". Command output: 5.1.1x");
	judge(COMMAND_EXITED, 1, "5.1000.1 x");
	ok(v.dsn[1] == 3, "no status code");
	judge(COMMAND_EXITED, 0, "5.1.1 x");
	ok(v.dsn[0] == 2, "success is success");
	judge(COMMAND_SIGNALED, 9, "");
	is_verdict(4, 3, 0, "Command died with signal 9: \"/bin/x\"");
	judge(COMMAND_TIMED_OUT, 0, "hello\n");
	is_verdict(5, 3, 0, "Command time limit exceeded: \"/bin/x\". Command output: hello");
	judge(COMMAND_NOT_RUN, 0, "no such thing");
	is_verdict(4, 3, 0, "temporary failure. Command output: no such thing");
}

/* ---- the message ---- */

static void test_copy(void)
{
	static const char content[] = "Subject: x\n\nFrom me\nFro\nFrom\n.dot\n>From\nFrom \n";
	static const char wanted[] =
		"Subject: x\r\n\r\n>From me\r\nFro\r\nFrom\r\n..dot\r\n>From\r\n>From \r\n\r\n";
	struct buf out = BUF_INIT;

	for (size_t step = 1; step <= sizeof(content); step++) {
		struct copy_body c = { .flags = COPY_QUOTE | COPY_DOTS | COPY_BLANK,
				       .eol = SV("\r\n") };

		buf_reset(&out);
		for (size_t at = 0; at < sizeof(content) - 1; at += step)
			copy_add_body(&c,
				      (struct sv){ content + at,
						   size_min(step, sizeof(content) - 1 - at) },
				      &out);
		copy_end_body(&c, &out);
		if (strcmp(buf_cstr(&out), wanted) != 0)
			break;
	}
	is_str(buf_cstr(&out), wanted, "quoting, in pieces of every size");

	struct copy_body plain = { .eol = SV("\n") };

	buf_reset(&out);
	copy_add_body(&plain, SV("From x\n.y\nend"), &out);
	copy_end_body(&plain, &out);
	is_str(buf_cstr(&out), "From x\n.y\nend\n", "nothing but a line end that was missing");
	struct copy_body cut = { .eol = SV("\n"), .flags = COPY_QUOTE };

	buf_reset(&out);
	copy_add_body(&cut, SV("x\nFro"), &out);
	copy_end_body(&cut, &out);
	is_str(buf_cstr(&out), "x\nFro\n", "an end within what might have been quoted");
	ok(!copy_changes_body(COPY_FROM, SV("\n")) && copy_changes_body(0, SV("\r\n")) &&
		   copy_changes_body(COPY_DOTS, SV("\n")),
	   "whether there is anything to do");

	struct copy_head h = { .flags = COPY_MAILBOX,
			       .eol = SV("\n"),
			       .null_sender = SV(""),
			       .null_from = SV("MAILER-DAEMON"),
			       .original_to = SV("a b@x.test"),
			       .delivered = SV("u@x.test"),
			       .now_s = 1000000000 };

	setenv("TZ", "UTC", 1);
	tzset();
	buf_reset(&out);
	copy_add_head(&h, &out);
	is_str(buf_cstr(&out),
	       "From MAILER-DAEMON  Sun Sep  9 01:46:40 2001\nReturn-Path: <>\n"
	       "X-Original-To: \"a b\"@x.test\nDelivered-To: u@x.test\n",
	       "what goes in front");
	h.sender = SV("s@y.test");
	h.flags = COPY_FROM | COPY_RETURN_PATH;
	buf_reset(&out);
	copy_add_head(&h, &out);
	is_str(buf_cstr(&out), "From s@y.test  Sun Sep  9 01:46:40 2001\nReturn-Path: <s@y.test>\n",
	       "with a sender");
	buf_fini(&out);
}

/* ---- services ---- */

static const char master_cf[] =
	"all unix - n n - - pipe flags=BFRX.>hqu user=nobody:mail directory=/tmp eol=\\r\\n\\041 "
	"null_sender= size=1000 argv=/bin/x -f ${sender} to=$(recipient)! {a b $user} ${extension} "
	"$mailbox ${domain} ${nexthop} ${size} ${queue_id} ${original_recipient} "
	"${client_address}-${client_helo} $$HOME\n"
	"plain unix - n n - - pipe user=nobody argv=/bin/x ${sender} ${recipient} ${user} "
	"${original_recipient} ${domain} ${nexthop}\n"
	"ghost unix - n n - - pipe user=no-such-user argv=/bin/x\n"
	"group unix - n n - - pipe user=nobody:no-such-group argv=/bin/x\n"
	"limit unix - n n - - pipe flags=D user=nobody argv=/bin/x\n"
	"one unix - n n - - pipe flags=DO user=nobody argv=/bin/x\n"
	"bad1 unix - n n - - pipe argv=/bin/x\n"
	"bad2 unix - n n - - pipe user=nobody\n"
	"bad3 unix - n n - - pipe user=nobody flags=Z argv=/bin/x\n"
	"bad4 unix - n n - - pipe user=nobody argv=/bin/x ${nonsense}\n"
	"bad5 unix - n n - - pipe user=nobody argv=/bin/x ${user\n"
	"bad6 unix - n n - - pipe user=root argv=/bin/x\n"
	"bad7 unix - n n - - pipe user=nobody chroot=/tmp argv=/bin/x\n"
	"bad8 unix - n n - - pipe user=nobody size=many argv=/bin/x\n"
	"bad9 unix - n n - - pipe user=nobody shell=/bin/sh argv=/bin/x\n"
	"bad10 unix - n n - - pipe user=nobody argv=${user}\n"
	"bad11 unix - n n - - pipe user=nobody argv=\n"
	"bad12 unix - n n - - pipe user=nobody:root argv=/bin/x\n";

static int parse(const struct conf *c, const char *name, struct arena *a, const struct piped **p_r,
		 struct conf_diag *d)
{
	buf_reset(&d->text);
	return piped_parse(c, conf_transport_find(c, name), a, p_r, d);
}

static void test_parse(const struct conf *c, struct arena *a, struct conf_diag *d)
{
	const struct piped *p;
	char name[16];

	is_int(parse(c, "all", a, &p, d), 0, "a service with everything");
	is_int(p->copy_flags, COPY_BLANK | COPY_FROM | COPY_RETURN_PATH | COPY_DOTS | COPY_QUOTE,
	       "content");
	is_int(p->flags, PIPED_FINAL | PIPED_FOLD_DOMAIN | PIPED_FOLD_USER | PIPED_QUOTE, "flags");
	is_str(p->directory, "/tmp", "directory");
	ok(sv_eq_str(p->eol, "\r\n!"), "line ends");
	is_int(p->size_limit, 1000, "size");
	ok(p->problem == NULL && p->uid != 0, "user");
	is_int(parse(c, "ghost", a, &p, d), 0, "an unknown user is no error");
	is_str(p->problem, "unknown user name: no-such-user", "but no mail can go there");
	ok(strstr(buf_cstr(&d->text), "master.cf, line 3: service ghost: unknown user name") !=
		   NULL,
	   "told with the line");
	parse(c, "group", a, &p, d);
	is_str(p->problem, "unknown group name: no-such-group", "group");
	parse(c, "limit", a, &p, d);
	is_str(p->problem, "flag D requires limit_destination_recipient_limit = 1", "flag D");
	is_int(parse(c, "one", a, &p, d), 0, "with the limit");
	ok(p->problem == NULL && p->copy_flags == (COPY_DELIVERED_TO | COPY_ORIGINAL_TO), "it can");
	for (int i = 1; i <= 12; i++) {
		snprintf(name, sizeof(name), "bad%d", i);
		is_int(parse(c, name, a, &p, d), E_CONFIG, "%s: %s", name, buf_cstr(&d->text));
		ok(strstr(buf_cstr(&d->text), "master.cf, line ") != NULL, "names the line");
	}
}

static void expand(const struct piped *p, const struct piped_mail *m, struct arena *a,
		   const char *want)
{
	struct buf got = BUF_INIT;
	const char **argv;
	size_t argc;

	is_int(piped_expand(p, m, a, &argv, &argc), 0, "expanded");
	for (size_t i = 0; i < argc; i++)
		buf_printf(&got, "[%s]", argv[i]);
	ok(argv[argc] == NULL, "ended");
	is_str(buf_cstr(&got), want, "words");
	buf_fini(&got);
}

static void test_expand(const struct conf *c, struct arena *a, struct conf_diag *d)
{
	struct envelope e = { .sender = SV("a b@X.test"),
			      .client_addr = SV("192.0.2.1"),
			      .helo = SV("helo") };
	struct env_rcpt joe = { .addr = SV("Joe+Ext@Here.test"), .orig_addr = SV("Old@X.test") };
	struct env_rcpt ann = { .addr = SV("an n@Here.test") };
	const struct env_rcpt *rcpts[] = { &joe, &ann };
	struct piped_mail m = { .env = &e,
				.rcpts = rcpts,
				.rcpt_count = 2,
				.nexthop = SV("Hop"),
				.queue_id = SV("QID"),
				.size = 77,
				.delimiters = "+" };
	const struct piped *p;
	struct arena small;
	const char **argv;
	size_t argc;

	parse(c, "all", a, &p, d);
	expand(p, &m, a,
	       "[/bin/x][-f][\"a b\"@X.test][to=joe+ext@here.test!][to=\"an n\"@here.test!][a b "
	       "joe]"
	       "[a b an n][ext][][joe+ext][an n][here.test][here.test][hop][77][QID]"
	       "[old@x.test][\"an n\"@here.test][192.0.2.1-helo][$HOME]");
	e.sender = SV("");
	m.rcpt_count = 1;
	expand(p, &m, a,
	       "[/bin/x][-f][][to=joe+ext@here.test!][a b joe][ext][joe+ext][here.test][hop]"
	       "[77][QID][old@x.test][192.0.2.1-helo][$HOME]");
	parse(c, "plain", a, &p, d);
	expand(p, &m, a,
	       "[/bin/x][MAILER-DAEMON][Joe+Ext@Here.test][Joe][Old@X.test][Here.test][Hop]");
	joe.addr = SV("nodomain");
	expand(p, &m, a, "[/bin/x][MAILER-DAEMON][nodomain][nodomain][Old@X.test][][Hop]");
	arena_init(&small, 64, 64);
	is_int(piped_expand(p, &m, &small, &argv, &argc), E_LIMIT, "no room");
	arena_fini(&small);
}

/* ---- the process ---- */

static struct command_end ended;
static char ended_output[RUNNER_OUTPUT_MAX + 1];
static unsigned end_count, said_count;

static void on_end(void *ctx, const struct command_end *e)
{
	(void)ctx;
	ended = *e;
	memcpy(ended_output, e->output.p, e->output.len);
	ended_output[e->output.len] = '\0';
	said_count += strcmp(ended_output, "said\n") == 0;
	end_count++;
}

static const char *const env[] = { "PATH=/usr/bin:/bin", "WORD=from env", NULL };

static void submit(struct commands *c, struct command *cmd, const char *script, int64_t limit_ms,
		   int input)
{
	static const char *argv[64][4];
	static unsigned n;
	const char **words = argv[n++ % 64];

	words[0] = "/bin/sh";
	words[1] = "-c";
	words[2] = script;
	words[3] = NULL;
	*cmd = (struct command){ .uid = geteuid(),
				 .gid = getegid(),
				 .directory = "/tmp",
				 .argv = words,
				 .env = env,
				 .input_fd = input,
				 .time_limit_ms = limit_ms,
				 .done = on_end };
	command_submit(c, cmd);
}

static void run(struct loop *loop, struct commands *c, const char *script, int64_t limit_ms)
{
	int input = memfd_create("input", MFD_CLOEXEC);
	unsigned before = end_count;
	struct command cmd;

	io_write_all(input, "line one\nline two\n", 18);
	submit(c, &cmd, script, limit_ms, input);
	close(input);
	for (int i = 0; i < 600 && end_count == before; i++)
		loop_turn(loop, 100);
	is_int(end_count, before + 1, "ended: %s", script);
}

static void test_runner(const char *program)
{
	struct loop *loop = loop_new();
	struct commands *c;
	struct command many[40];
	unsigned before;

	is_int(commands_new(program, false, 1, 1, 1, &c), 0, "started");
	commands_watch(c, loop);
	run(loop, c, "cat; echo $WORD; pwd; echo err >&2", 60000);
	ok(ended.how == COMMAND_EXITED && ended.code == 0, "exit status 0");
	is_str(ended_output, "line one\nline two\nfrom env\n/tmp\nerr\n",
	       "input, environment, place");
	run(loop, c, "exit 67", 60000);
	is_int(ended.code, 67, "exit status");
	run(loop, c, "kill -9 $$", 60000);
	ok(ended.how == COMMAND_SIGNALED && ended.code == 9, "signal");
	run(loop, c, "echo begun; sleep 100", 300);
	is_int(ended.how, COMMAND_TIMED_OUT, "time limit");
	is_str(ended_output, "begun\n", "what it had said");
	run(loop, c, "head -c 100000 /dev/zero | tr '\\0' x; exit 3", 60000);
	ok(ended.code == 3 && ended.output.len == RUNNER_OUTPUT_MAX,
	   "much output: all of it taken, some kept");
	run(loop, c, "sleep 100 & echo done", 60000);
	ok(ended.how == COMMAND_EXITED && strcmp(ended_output, "done\n") == 0,
	   "what it leaves behind is not waited for");
	run(loop, c, "ls /proc/self/fd | wc -l", 60000);
	ok(atoi(ended_output) <= 4, "no descriptors but three");
	run(loop, c, "ulimit -n; umask", 60000);
	ok(atoi(ended_output) <= 1024 && strstr(ended_output, "0077") != NULL, "limits: %s",
	   ended_output);

	struct command odd = { .uid = geteuid() + 1,
			       .gid = getegid(),
			       .directory = "/",
			       .argv = (const char *const[]){ "/bin/true", NULL },
			       .env = env,
			       .time_limit_ms = 1000,
			       .done = on_end };

	before = end_count;
	command_submit(c, &odd);
	for (int i = 0; i < 600 && end_count == before; i++)
		loop_turn(loop, 100);
	is_int(ended.how, COMMAND_NOT_RUN, "another user, without the right");
	odd.uid = geteuid();
	odd.argv = (const char *const[]){ "/nonexistent/x", NULL };
	before = end_count;
	command_submit(c, &odd);
	for (int i = 0; i < 600 && end_count == before; i++)
		loop_turn(loop, 100);
	ok(ended.how == COMMAND_EXITED && ended.code == 75, "no such program");
	ok(strstr(ended_output, "/nonexistent/x: No such file or directory") != NULL, "and why");

	before = end_count;
	/* all at the same time: whatever numbers their descriptors have */
	for (unsigned i = 0; i < ARRAY_LEN(many); i++)
		submit(c, &many[i], "echo said; exec sleep 0.3", 60000, 0);
	for (int i = 0; i < 600 && end_count < before + ARRAY_LEN(many); i++)
		loop_turn(loop, 100);
	is_int(end_count, before + ARRAY_LEN(many), "several at a time");
	is_int(said_count, ARRAY_LEN(many), "with the output of each");
	commands_free(&c);
	loop_free(&loop);
}

/* As root: users it runs things as, and those it does not. */
static void test_users(const char *program)
{
	struct loop *loop;
	struct commands *c;
	const struct {
		uid_t uid;
		gid_t gid;
		bool may;
	} users[] = { { 0, 100, false },        { 100, 0, false }, { 7, 100, false },
		      { 100, 8, false },        { 100, 9, false }, { 100, 100, true },
		      { (uid_t)-1, 100, false } };

	if (geteuid() != 0) {
		ok(true, "needs root # SKIP");
		return;
	}
	loop = loop_new();
	is_int(commands_new(program, true, 7, 8, 9, &c), 0, "started as root");
	commands_watch(c, loop);
	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		struct command cmd = { .uid = users[i].uid,
				       .gid = users[i].gid,
				       .directory = "/",
				       .argv = (const char *const[]){ "/bin/sh", "-c",
								      "id -u; id -G", NULL },
				       .env = env,
				       .time_limit_ms = 60000,
				       .done = on_end };
		unsigned before = end_count;

		command_submit(c, &cmd);
		for (int k = 0; k < 600 && end_count == before; k++)
			loop_turn(loop, 100);
		is_int(ended.how, users[i].may ? COMMAND_EXITED : COMMAND_NOT_RUN, "user %u:%u",
		       (unsigned)users[i].uid, (unsigned)users[i].gid);
		if (users[i].may)
			is_str(ended_output, "100\n100\n", "is that user, with no other group");
	}
	commands_free(&c);
	loop_free(&loop);
}

int main(void)
{
	struct conf *c = test_conf_both("one_destination_recipient_limit = 1\n", master_cf);
	char program[600];
	ssize_t n = readlink("/proc/self/exe", program, 500);
	struct conf_diag d;
	struct arena a;

	clock_init();
	signal(SIGPIPE, SIG_IGN);
	ok(c != NULL && n > 0, "configuration");
	program[n] = '\0';
	snprintf(strrchr(program, '/'), 60, "/../../../workers/local/local");
	arena_init(&a, 4096, 0);
	conf_diag_init(&d);
	test_status();
	test_copy();
	test_parse(c, &a, &d);
	test_expand(c, &a, &d);
	test_runner(program);
	test_users(program);
	conf_diag_fini(&d);
	arena_fini(&a);
	buf_fini(&v.text);
	buf_fini(&v.diag);
	conf_free(&c);
	return tap_done();
}
