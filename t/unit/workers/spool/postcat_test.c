/* SPDX-License-Identifier: GPL-3.0-or-later */
/* postcat: the program itself, on a spool made here. */
#include "t/unit/workers/spool/support.h"

static struct fixture f;
static char out[1 << 20];
static char conf_dir[128];

static int run(const char *args)
{
	char cmd[512];
	size_t n = 0, got;

	snprintf(cmd, sizeof(cmd), "TZ=UTC ./workers/spool/postcat -c %s %s 2>&1", conf_dir, args);
	FILE *p = popen(cmd, "r");

	if (p == NULL)
		die("popen");
	while ((got = fread(out + n, 1, sizeof(out) - 1 - n, p)) > 0)
		n += got;
	out[n] = '\0';
	int status = pclose(p);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char content[] = "Received: from x\r\n\tby y\r\nSubject: hi\r\n\r\nbody\r\n..dot\r\n"
			      "bare \r cr\r\nlast\r\n";

static struct qid append(bool stream)
{
	struct env_rcpt rcpts[2] = { { .addr = SV("a@dest.example"),
				       .orig_addr = SV("alias@dest.example"),
				       .orcpt = SV("rfc822;a@orig.example"),
				       .notify = NOTIFY_FAILURE },
				     { .addr = SV("b@dest.example") } };
	struct envelope e = { .sender = SV("from@send.example"),
			      .client_name = SV("c.example"),
			      .client_addr = SV("192.0.2.1"),
			      .helo = SV("helo.example"),
			      .proto = SV("ESMTP"),
			      .arrival_us = 1700000000000000,
			      .body = BODY_8BIT,
			      .envid = SV("eid"),
			      .rcpts = rcpts,
			      .rcpt_count = 2 };
	struct buf env = BUF_INIT;
	struct spool_record h = fx_header(stream ? 11 : 10);
	struct spool_iov iov = { content, sizeof(content) - 1 };
	struct spool_stream *s;

	h.rcpt_count = 2;
	h.size = 77;
	env_encode(&e, &env);
	if (!stream) {
		spool_writer_append(f.w, &h, buf_sv(&env), &iov, 1, NULL);
	} else if (spool_stream_open(f.w, 10000, &s) == 0) {
		spool_stream_add(s, content, sizeof(content) - 1);
		spool_stream_commit(&s, &h, buf_sv(&env), NULL);
	}
	buf_fini(&env);
	return (struct qid){ h.qid_us, h.qid_life };
}

static const char envelope_text[] = "message_arrival_time: Tue Nov 14 22:13:20 2023\n"
				    "create_time: Tue Nov 14 22:13:20 2023\n"
				    "named_attribute: log_ident=%s\n"
				    "named_attribute: rewrite_context=remote\n"
				    "named_attribute: encoding=8bit\n"
				    "named_attribute: envelope_id=eid\n"
				    "sender: from@send.example\n"
				    "named_attribute: log_client_name=c.example\n"
				    "named_attribute: log_client_address=192.0.2.1\n"
				    "named_attribute: log_helo_name=helo.example\n"
				    "named_attribute: log_protocol_name=ESMTP\n"
				    "named_attribute: client_name=c.example\n"
				    "named_attribute: client_address=192.0.2.1\n"
				    "named_attribute: helo_name=helo.example\n"
				    "named_attribute: protocol_name=ESMTP\n"
				    "named_attribute: dsn_orig_rcpt=rfc822;a@orig.example\n"
				    "named_attribute: notify_flags=4\n"
				    "original_recipient: alias@dest.example\n"
				    "recipient: a@dest.example\n"
				    "original_recipient: b@dest.example\n"
				    "recipient: b@dest.example\n"
				    "*** MESSAGE CONTENTS %s ***\n";

static const char header_text[] = "Received: from x\n\tby y\nSubject: hi\n";
static const char body_text[] = "\nbody\n.dot\nbare \r cr\nlast\n";

static void check_one(struct qid id)
{
	char text[QID_TEXT_SIZE], args[64], want[4096];

	qid_format(id, text);
	snprintf(args, sizeof(args), "-q %s", text);
	is_int(run(args), 0, "postcat -q %s", text);
	char *second = strchr(out, '\n');

	snprintf(want, sizeof(want), "*** ENVELOPE RECORDS %s ***\nmessage_size:              77 ",
		 text);
	ok(strncmp(out, want, strlen(want)) == 0, "first lines");
	second = second == NULL ? NULL : strchr(second + 1, '\n');
	int n = snprintf(want, sizeof(want), envelope_text, text, text);

	snprintf(want + n, sizeof(want) - (size_t)n,
		 "%s%s*** HEADER EXTRACTED %s ***\n*** MESSAGE FILE END %s ***\n", header_text,
		 body_text, text, text);
	is_str(second == NULL ? "" : second + 1, want, "the rest, unstuffed, with LF");
	snprintf(args, sizeof(args), "-qh %s", text);
	is_int(run(args), 0, "-h");
	is_str(out, header_text, "the header only");
	snprintf(args, sizeof(args), "-qb %s", text);
	is_int(run(args), 0, "-b");
	is_str(out, body_text, "the body only");
	snprintf(args, sizeof(args), "-qe %s", text);
	is_int(run(args), 0, "-e");
	snprintf(want, sizeof(want), envelope_text, text, text);
	ok(strstr(out, want) != NULL && strstr(out, "Subject") == NULL, "the envelope only");
}

static void test_damaged(struct qid id)
{
	char text[QID_TEXT_SIZE], args[256];
	struct proto_place place = f.done[0].place;

	qid_format(id, text);
	is_int(spool_quarantine(&f.dirs, id, place), 0, "quarantined");
	snprintf(args, sizeof(args), "%s/corrupt/%s", f.path, text);
	is_int(run(args), 0, "the kept file reads like any");
	ok(strstr(out, body_text) != NULL, "with its body");
	snprintf(args, sizeof(args), "-b < %s/corrupt/%s", f.path, text);
	is_int(run(args), 0, "on standard input too");
	is_str(out, body_text, "the same body");
	char name[SPOOL_NAME_SIZE];
	int fd = openat(f.dirs.seg, spool_name(1, "seg", name), O_RDWR);

	if (pwrite(fd, "X", 1, (off_t)place.off8 * 8 + place.len - 12) != 1)
		die("pwrite");
	close(fd);
	snprintf(args, sizeof(args), "-q %s", text);
	is_int(run(args), 1, "a damaged record is shown with an error");
	ok(strstr(out, "Subject: hi") != NULL && strstr(out, "damaged") != NULL, "both");
}

static void test_errors(void)
{
	is_int(run("-q ../4zzz"), 1, "bad queue id");
	is_str(out, "postcat: fatal: bad mail queue ID: ../4zzz\n", "says so");
	is_int(run("-q 4zzzNOSUCH"), 1, "one that is none of ours");
	is_str(out, "postcat: fatal: open queue file 4zzzNOSUCH: No such file or directory\n",
	       "is not there");
	char text[QID_TEXT_SIZE], args[128];

	snprintf(args, sizeof(args), "-q %s", qid_format(fx_qid(999), text));
	is_int(run(args), 1, "an id that is not there");
	snprintf(args, sizeof(args), "postcat: fatal: open queue file %s: No such file", text);
	ok(strstr(out, args) != NULL, "says so");
	is_int(run("/dev/null"), 1, "not a record");
	is_int(run("-Z"), 1, "usage");
	ok(strstr(out, "usage: ") != NULL, "shown");
	is_int(run("-q"), 1, "nothing to show");
	is_int(run("< /dev/null"), 1, "empty standard input");
}

int main(void)
{
	char name[160], conf[300];

	clock_init();
	if (access("./workers/spool/postcat", X_OK) < 0) {
		printf("1..0 # SKIP postcat is not built here\n");
		return 0;
	}
	clock_fake_set(1700000000000);
	fx_init(&f, 1, 0);
	snprintf(conf_dir, sizeof(conf_dir), "%s/conf", f.path);
	mkdir(conf_dir, 0700);
	snprintf(name, sizeof(name), "%s/main.cf", conf_dir);
	char *cwd = realpath(f.path, NULL);
	int fd = open(name, O_CREAT | O_WRONLY, 0600);
	int len = snprintf(conf, sizeof(conf), "queue_directory = %s\n", cwd);

	if (fd < 0 || io_write_all(fd, conf, (size_t)len) != 0)
		die("main.cf");
	close(fd);
	free(cwd);
	fx_ready(&f);
	struct qid a = append(false), b = append(true);

	ok(fx_wait(&f, 2), "two messages");
	check_one(a);
	check_one(b);
	test_errors();
	test_damaged(a);
	fx_fini(&f);
	return tap_done();
}
