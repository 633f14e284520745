/* SPDX-License-Identifier: GPL-3.0-or-later */
/* flags= of smtp and lmtp in master.cf: which are known, what they put in front, and loops. */
#include "conf/conf.h"
#include "lib/err.h"
#include "t/unit/tap.h"
#include "workers/deliver/headflags.h"

static void put_is(unsigned flags, const char *sender, const char *orig, const char *want)
{
	struct buf out = BUF_INIT;

	headflags_put(flags, sv_from(sender), sv_from(orig), SV("Joe Doe@here.test"), &out);
	is_str(buf_cstr(&out), want, "%s", want[0] == '\0' ? "nothing" : want);
	buf_fini(&out);
}

static void test_put(void)
{
	put_is(0, "a@b.test", "", "");
	put_is(HEAD_FINAL, "a@b.test", "", "");
	put_is(HEAD_RETURN_PATH, "", "", "Return-Path: <>\r\n");
	put_is(HEAD_ORIGINAL_TO, "a@b.test", "", "X-Original-To: \"Joe Doe\"@here.test\r\n");
	put_is(HEAD_LINES, "a@b.test", "info@here.test",
	       "Return-Path: <a@b.test>\r\nX-Original-To: info@here.test\r\n"
	       "Delivered-To: \"Joe Doe\"@here.test\r\n");
}

static void loop_is(const char *content, bool want)
{
	is_int(headflags_is_loop(sv_from(content), SV("joe@here.test")), want, "%s", content);
}

static void test_loops(void)
{
	loop_is("", false);
	loop_is("Delivered-To: joe@here.test", true);
	loop_is("Subject: x\r\ndelivered-to:JOE@here.test \r\n\r\n", true);
	loop_is("Delivered-To: joe@here.test.example\r\n", false);
	loop_is("Delivered-To:\r\n", false);
	loop_is("Subject: x\r\n\r\nDelivered-To: joe@here.test\r\n", false);
}

static struct conf_service service = { .name = "lmtp", .line = 7 };
static struct params params = { .enable_original_recipient = true };
static struct conf_transport transport = { .name = "lmtp",
					   .kind = TRANSPORT_LMTP,
					   .service = &service,
					   .params = &params,
					   .destination_recipient_limit = 1 };

static void read_is(const char *const *args, unsigned count, int want_err, unsigned want)
{
	struct conf_diag d;
	unsigned flags = 99;

	service.args = args;
	service.arg_count = count;
	conf_diag_init(&d);
	is_int(headflags_read(NULL, &transport, &flags, &d), want_err, "%s",
	       count > 0 ? args[0] : "no attributes");
	if (want_err == 0)
		is_int(flags, want, "its flags");
	conf_diag_fini(&d);
}

static void test_read(void)
{
	read_is(NULL, 0, 0, 0);
	read_is((const char *[]){ "flags=" }, 1, 0, 0);
	read_is((const char *[]){ "flags=DORX" }, 1, 0, HEAD_LINES | HEAD_FINAL);
	read_is((const char *[]){ "flags=R, X" }, 1, 0, HEAD_RETURN_PATH | HEAD_FINAL);
	params.enable_original_recipient = false;
	read_is((const char *[]){ "flags=DO" }, 1, 0, HEAD_DELIVERED_TO);
	params.enable_original_recipient = true;
	transport.kind = TRANSPORT_PIPE;
	read_is((const char *[]){ "flags=q" }, 1, 0, 0);
	transport.kind = TRANSPORT_LMTP;
}

int main(void)
{
	test_put();
	test_loops();
	test_read();
	return tap_done();
}
