/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The dialogue of postscreen with a client that is not let through yet: an SMTP server that accepts
 * no recipient, and looks at how the client speaks meanwhile (commands sent without waiting for
 * replies, commands that are none of SMTP, lines that end without CR). Every such dialogue ends
 * with a disconnect: a client that was found good is let through when it comes again.
 *
 * A machine without sockets, like the session machine (session.h): what the socket gave goes into
 * screentalk_input(), what is to be written is in screentalk_out(), with TLS inside of it. It logs
 * its lines itself, as Postfix does. Its caller is the gate in front of the SMTP server, which has
 * made the tests before the greeting, knows what the cache says of the client, and is told by
 * screentalk_state() when the dialogue is over; the gate then logs PASS, HANGUP, DISCONNECT and
 * writes to the cache.
 *
 * Nothing a client sends makes it wait or grow: it holds one unfinished line (line_length_limit)
 * and the replies to what came with one read; more is not to be read while those are unsent.
 */
#ifndef PH_WORKERS_SMTP_IN_SCREENTALK_H
#define PH_WORKERS_SMTP_IN_SCREENTALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/map.h"
#include "lib/buf.h"

struct listener_tls;

/* In the order of the cache's records. */
enum screen_test {
	SCREEN_PREGREET,
	SCREEN_DNSBL,
	SCREEN_PIPELINING,
	SCREEN_NON_SMTP,
	SCREEN_BARE_NEWLINE,
	SCREEN_TEST_COUNT
};
#define SCREEN_BIT(test) (1u << (test))
/* The tests that are made here. */
#define SCREEN_DIALOGUE_BITS                                                                       \
	(SCREEN_BIT(SCREEN_PIPELINING) | SCREEN_BIT(SCREEN_NON_SMTP) |                             \
	 SCREEN_BIT(SCREEN_BARE_NEWLINE))

/* Times that are none, in the cache's records and in screen_tests.expires_s. */
enum {
	SCREEN_NEVER_PASSED = 0,
	SCREEN_NOT_TESTED = 1, /* the test was disabled, or the client has failed it */
};

/* What a session has to pass and has passed: SCREEN_BIT()s. */
struct screen_tests {
	unsigned todo, passed, failed;
	/* [SCREEN_TEST_COUNT], of the client: until when (wall seconds) each result counts. All
	 * sessions of one client that are open at a time share it. */
	int64_t *expires_s;
};

enum screen_action { SCREEN_IGNORE, SCREEN_ENFORCE, SCREEN_DROP };

struct screentalk_conf {
	/* From parameters, before screentalk_conf_open(); texts outlive it. */
	const char *hostname;       /* myhostname */
	const char *banner;         /* smtpd_banner */
	const char *command_filter; /* postscreen_... */
	const char *forbidden_commands;
	const char *discard_ehlo_keywords, *discard_ehlo_keyword_address_maps;
	const char *expansion_filter;
	const char *reject_footer, *reject_footer_maps;
	bool disable_vrfy, helo_required;
	bool smtputf8, soft_bounce; /* smtputf8_enable, soft_bounce */
	int64_t message_size_limit;
	unsigned command_count_limit;
	size_t line_length_limit;
	int64_t command_time_ms, stress_time_ms; /* postscreen_command_time_limit, both ways */
	int64_t starttls_time_ms;
	struct {
		enum screen_action action;
		int64_t ttl_s;
	} tests[SCREEN_TEST_COUNT]; /* of the three that are made here */
	int64_t min_ttl_s;          /* the shortest of all tests' */
	struct listener_tls *tls;   /* postscreen_tls_...; NULL = none; freed with this */
	const char *log_name;       /* for log_speak_as() */
	const char *service_name;   /* of the listener, in lines about TLS */

	/* Of screentalk_conf_open(). */
	uint32_t discard_mask;
	struct map_list *filter_map, *discard_maps, *footer_maps;
	struct matchlist *forbidden;
};

/* E_CONFIG with diagnostics. Look-ups cannot wait here: remote tables are refused. */
int screentalk_conf_open(struct screentalk_conf *k, const struct conf *c, struct conf_diag *d);
void screentalk_conf_fini(struct screentalk_conf *k);

/* Who speaks, and why; all of it outlives the dialogue. */
struct screentalk_client {
	const char *addr, *port;
	struct screen_tests *tests; /* changed by what the client does */
	const bool *stress;         /* less time for commands; NULL = never */
	/* What RCPT and VRFY hear, without CRLF; NULL = "450 4.3.2 Service currently unavailable".
	 * A failed test whose action is enforce replaces it. */
	const char *rcpt_reply;
	/* No test is made: the first command but QUIT hears this and is the last. NULL = usual. */
	const char *last_reply;
};

enum screentalk_state {
	SCREENTALK_ON,
	SCREENTALK_BYE,    /* over: write what is in screentalk_out(), and close */
	SCREENTALK_HANGUP, /* the client has gone: nothing to write */
};

struct screentalk;

/* A reply as clients under test hear it, also outside of a dialogue: soft_bounce, footer, CRLF.
 * `text`: without CRLF. Added to `out`. */
void screentalk_refusal(const struct screentalk_conf *k, const char *addr, const char *port,
			const char *text, struct buf *out);

/* A client that has failed a test before is put to all of them, and one that spoke before the
 * greeting (tests->failed) gets none. */
struct screentalk *screentalk_new(const struct screentalk_conf *k,
				  const struct screentalk_client *client);
void screentalk_free(struct screentalk **t); /* logs nothing of the dialogue */

/* Everything that one read gave: what is behind a command in it is pipelining. */
void screentalk_input(struct screentalk *t, const char *data, size_t len);
void screentalk_eof(struct screentalk *t);  /* or the connection is broken */
void screentalk_tick(struct screentalk *t); /* clock_now() passed screentalk_next_ms() */
int64_t screentalk_next_ms(const struct screentalk *t);
bool screentalk_wants_input(const struct screentalk *t);
/* Take what was written with buf_consume(). */
struct buf *screentalk_out(struct screentalk *t);
enum screentalk_state screentalk_state(const struct screentalk *t);

#endif
