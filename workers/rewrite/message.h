/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message on its way into the spool, without processes, rings or files: envelope and content go
 * in as bytes from somebody who may be hostile; record parts and a plan of deliveries come out, or
 * a verdict for the SMTP client. Unit tests, the fuzz target and the benchmark drive this directly.
 *
 *   message_begin()   envelope bytes
 *   message_feed()    content, as it comes, any number of times
 *   message_finish()  resolves, encodes; then hdr, env and plan are set
 *
 * Tables that may be remote (conf/map_remote.h) are asked for headers and in the last step. The
 * caller enters a memo for each of these steps and does message_again() or message_build() again
 * when answers were missing.
 */
#ifndef PH_WORKERS_REWRITE_MESSAGE_H
#define PH_WORKERS_REWRITE_MESSAGE_H

#include "lib/qid.h"
#include "shm/proto.h"
#include "workers/deliver/convert.h"
#include "workers/mail/envelope.h"
#include "workers/rewrite/header.h"
#include "workers/rewrite/plan.h"
#include "workers/rewrite/rules.h"
#include "workers/rewrite/wire.h"
#include "workers/spool/spool.h"

struct message_verdict {
	uint16_t verdict; /* enum submit_verdict */
	uint16_t code;
	uint8_t dsn[3];
	const char *text; /* constant, or of the message's arena */
};

struct message {
	const struct rules *rules;
	const struct chain *chain; /* of the cleanup service that has it */
	struct arena arena;        /* reset with each message */
	struct buf env_in;         /* our copy of the envelope as submitted */
	struct buf out;     /* header section, or all content so far: what precedes the body */
	struct buf env_out; /* envelope of the record */
	struct envelope env;
	struct header_state header;
	struct header_facts facts;
	struct check_run checks;
	bool is_shown; /* our own, and checks see it all the same */
	bool checked;  /* header or body checks see this message: its body goes to `out`, too */
	/* tables that are asked for its header may be remote: nothing of it counts before all
	 * answers are there */
	bool open;
	bool held;      /* the header is complete, or all of it, and answers are missing */
	bool ended;     /* message_close() was called */
	struct buf raw; /* while it is open: the content as it came */
	struct envelope env_begun; /* as it was before the header */
	enum badchars_at chars_at; /* message_strip_characters */
	struct buf stripped;
	struct convert *convert; /* force_mime_input_conversion; NULL: it never was needed */
	bool converts;           /* this message goes through it, its body to `out`, too */
	bool converted_all;
	struct buf converted;
	struct wire wire;
	struct qid qid;
	char qid_text[QID_TEXT_SIZE];
	uint64_t in_bytes;          /* content fed */
	uint64_t put_longest;       /* longest body line that checks put out */
	struct envelope env_closed; /* as it was before message_build() */
	struct message_verdict
		failed; /* verdict is not SUBMIT_OK: decided already, content is skipped */
	/* results of message_finish() */
	struct spool_record hdr;
	struct plan plan;
};

extern const struct message_verdict verdict_ok;
extern const struct message_verdict verdict_write_error; /* 451 4.3.0 */
extern const struct message_verdict verdict_no_space;    /* 452 4.3.1 */
extern const struct message_verdict verdict_discard;     /* accepted, and dropped */
extern const struct message_verdict verdict_table;       /* 451 4.3.0 lookup failure */
/* The verdict for an error of the spool. */
const struct message_verdict *verdict_of_error(int err);

void message_init(struct message *m, const struct rules *rules);
void message_fini(struct message *m);
/* Copies the envelope and decodes it. E_PEER when it is damaged. What only we may say about a
 * message (ENVF_INTERNAL, bounce_of) is removed. */
int message_begin(struct message *m, struct qid qid, struct sv env);
/* A message of our own: content goes straight into m->out. What `env` points to must live until
 * message_finish(). */
void message_begin_own(struct message *m, struct qid qid, const struct envelope *env);
/* A message of our own that checks see: an encoded envelope, then message_feed() as ever. */
int message_begin_shown(struct message *m, struct qid qid, struct sv env);
/*
 * The next bytes of content, changed in place where a lone CR must go. Header bytes go to m->out;
 * *body_r is what is to follow m->out, a part of `data`. After a failure (m->failed) both stay
 * empty. The body of a message that is `checked` goes to m->out. E_PEER when the bytes are no wire
 * form. A CR held back at the end must be put in front of
 * the next piece when m->wire.cr is set.
 * Within a memo while m->open is set. When m->held is set afterwards the content gathers in m->raw,
 * until the answers are there and message_again() is called.
 */
int message_feed(struct message *m, char *data, size_t len, struct sv *body_r);
/* Under a memo: the header once more, from its beginning. When m->held is still set, answers are
 * missing again; else *body_r is what is to follow m->out, a part of m->raw, which the caller gives
 * back. Then message_close() is called again if it was called before. */
void message_again(struct message *m, struct sv *body_r);
/* End of content. Returns what is to be done: SUBMIT_OK = write the record (hdr, env_out, out,
 * body), else the answer. E_PEER through *err_r when the content does not end as it must. */
const struct message_verdict *message_finish(struct message *m, int *err_r);
/*
 * The same in two steps, both within a memo. The first returns NULL when it must wait for
 * message_again() and be called once more; the second begins anew each time it is called.
 */
const struct message_verdict *message_close(struct message *m, int *err_r);
const struct message_verdict *message_build(struct message *m);
/* Between the two: the content is another one now. `out` has all of it in wire form; its memory
 * changes hands. What the envelope (m->env) says by now holds. */
void message_content_changed(struct message *m, struct buf *out);
void message_envelope_changed(struct message *m);
/* Logs the message-id line as cleanup does; once the record is appended. */
void message_log_id(const struct message *m);

#endif
