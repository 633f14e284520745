/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is said with a server; see workers/deliver/conntalk.h. */
#include "workers/deliver/conntalk.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

#define LOGGED_BYTES 900u
#define PAUSE_OVER   (-1) /* of this message */

bool conn_talk_is_secret(const struct conn *c)
{
	return c->client.login != NULL && c->client.state == CLIENT_HELLO;
}

/* ---- the transcript ---- */

struct conn_talk {
	struct buf text;
	bool of_ours; /* the mail is a notification itself: nobody is told */
};

/* What is oldest goes when there is too much, in whole lines. */
static void note(const struct conn *c, const char *direction, struct sv line, const char *more)
{
	struct buf *t = &c->talk->text;

	buf_printf(t, "%s%.*s%s\n", direction, (int)size_min(line.len, LOGGED_BYTES), line.p, more);
	while (t->len > PROTO_NOTICE_MAX) {
		const char *nl = memchr(t->p + t->len / 2, '\n', t->len - t->len / 2);

		buf_consume(t, nl != NULL ? (size_t)(nl + 1 - t->p) : t->len);
	}
}

void conn_talk_of(struct conn *c, const struct job *j)
{
	const struct tconf *t = c->dest->t;
	struct sv sender = j->env.sender, local, domain;
	const char *own = t->double_bounce;

	if (c->talk == NULL)
		return;
	c->talk->of_ours =
		sender.len == 0 || sv_eq_nocase(sender, sv_from(own)) ||
		(mail_addr_split(sender, &local, &domain) && sv_eq_nocase(local, sv_from(own)) &&
		 sv_eq_nocase(domain, sv_from(t->myorigin)));
}

static void send_notice(struct conn *c)
{
	struct sv peer = sv_from(c->relay), text = buf_sv(&c->talk->text);
	struct proto_notice n = { .kind = PROTO_NOTICE,
				  .lmtp = c->dest->t->client.lmtp,
				  .peer_len = (uint16_t)peer.len,
				  .text_len = (uint32_t)text.len };
	struct buf rec = BUF_INIT;

	buf_add(&rec, &n, sizeof(n));
	buf_add_sv(&rec, peer);
	buf_add_sv(&rec, text);
	worker_send(c->d->w, &c->d->w->super, rec.p, rec.len);
	counter_add(c->d->counters, CTR_deliver_notices, 1);
	buf_fini(&rec);
}

void conn_talk_end(struct conn *c)
{
	if (c->talk == NULL)
		return;
	if ((c->client.trouble & c->dest->t->notify) != 0 && !c->talk->of_ours)
		send_notice(c);
	buf_fini(&c->talk->text);
	free(c->talk);
	c->talk = NULL;
}

/* ---- lines ---- */

static bool begins(struct sv line, const char *verb)
{
	size_t n = strlen(verb);

	return line.len >= n && sv_eq_nocase((struct sv){ line.p, n }, sv_from(verb));
}

static void keep_line(const struct conn *c, char mark, struct sv line, const char *more)
{
	if (c->verbose)
		log_as(c->dest->t->program, LOG_LEVEL_INFO, "%c %s: %.*s%s", mark, c->relay,
		       (int)size_min(line.len, LOGGED_BYTES), line.p, more);
	if (c->talk != NULL)
		note(c, mark == '>' ? "Out: " : "In:  ", line, more);
}

static void keep_command(const struct conn *c, struct sv line)
{
	const char *more = "";

	if (conn_talk_is_secret(c))
		line = client_login_shown(line, &more);
	keep_line(c, '>', line, more);
}

static void keep_commands(const struct conn *c, struct sv text)
{
	while (text.len > 0) {
		struct sv line = sv_trim(sv_next_part(&text, '\n'));

		if (line.len > 0) /* it ends the content */
			keep_command(c, line);
	}
}

void conn_talk_said(const struct conn *c, struct sv line)
{
	if (c->verbose || c->talk != NULL)
		keep_line(c, '>', line, "");
}

void conn_talk_wrote(const struct conn *c, size_t n)
{
	const struct client *k = &c->client;
	size_t part = size_min(n, k->head.len);
	uint64_t content;

	if (!c->verbose && c->talk == NULL)
		return;
	keep_commands(c, (struct sv){ k->head.p, part });
	n -= part;
	content = k->content != NULL ? k->content->content_len - k->content_off : 0;
	if (n > content)
		keep_commands(c, (struct sv){ k->tail.p, n - (size_t)content });
}

/* ---- replies ---- */

/* smtp_reply_filter sees each line of a reply. */
static int filter_reply(struct conn *c, struct buf *line)
{
	struct buf *value = &c->d->scratch;
	enum map_status st = map_list_get(c->dest->t->reply_filter, buf_sv(line), value);

	if (st == MAP_ERROR) {
		log_warn("smtp_reply_filter lookup error for %s",
			 conn_talk_is_secret(c) ? c->relay : buf_cstr(line));
		return E_AGAIN;
	}
	if (st == MAP_FOUND) {
		if (!conn_talk_is_secret(c))
			log_as(c->dest->t->program, LOG_LEVEL_INFO,
			       "%s: replacing server reply \"%s\" with \"%s\"", c->relay,
			       buf_cstr(line), buf_cstr(value));
		if (c->talk != NULL) {
			note(c, "Replaced-by: ", SV(""), "");
			note(c, "     ", buf_sv(value), "");
		}
		buf_reset(line);
		buf_add_sv(line,
			   (struct sv){ value->p, size_min(value->len, SMTP_REPLY_LINE_MAX) });
	}
	return 0;
}

static int hear(void *ctx, struct buf *line)
{
	struct conn *c = ctx;
	struct buf *shown = &c->d->scratch;

	if (!conn_talk_is_secret(c)) {
		keep_line(c, '<', buf_sv(line), "");
	} else if (begins(buf_sv(line), "334")) {
		keep_line(c, '<', SV("334"), " ***");
	} else {
		buf_reset(shown);
		buf_add_sv(shown, buf_sv(line));
		client_login_mask(&c->client, shown);
		keep_line(c, '<', buf_sv(shown), "");
	}
	return map_list_is_empty(c->dest->t->reply_filter) ? 0 : filter_reply(c, line);
}

/* No reply is of use: what is to be heard of it cannot be known. */
static int refuse_reply(void *ctx UNUSED, struct buf *line UNUSED)
{
	return E_AGAIN;
}

/* smtp_discard_ehlo_keyword_address_maps: what this server says and does not mean. */
static void look_up_discard(struct conn *c)
{
	struct buf *words = &c->d->scratch;

	switch (map_list_get(c->dest->t->discard_maps, sv_from(c->ip), words)) {
	case MAP_FOUND:
		c->client.discard = client_keywords_parse(buf_sv(words));
		break;
	case MAP_NOT_FOUND:
		break;
	case MAP_ERROR:
		log_warn("smtp_discard_ehlo_keyword_address_maps map lookup error for %s", c->ip);
		c->client.parser.filter = refuse_reply;
		break;
	}
}

void conn_talk_begin(struct conn *c)
{
	const struct tconf *t = c->dest->t;

	c->pause_until_ms = 0;
	c->verbose = t->debug_peers != NULL &&
		     (matchlist_has_client(t->debug_peers, sv_from(c->host), c->ip) > 0 ||
		      matchlist_has_client(t->debug_peers, dest_nexthop(c->dest), "noaddr") > 0);
	if (t->notify != 0 && c->talk == NULL)
		c->talk = xcalloc(1, sizeof(*c->talk));
	if (c->job != NULL)
		conn_talk_of(c, c->job);
	if (c->verbose || c->talk != NULL || !map_list_is_empty(t->reply_filter)) {
		c->client.parser.filter = hear;
		c->client.parser.filter_ctx = c;
	}
	if (!map_list_is_empty(t->discard_maps))
		look_up_discard(c);
}

/* ---- PIX ---- */

static const struct {
	const char *word;
	unsigned bit;
} pix_words[] = {
	{ "disable_esmtp", CLIENT_PIX_NO_ESMTP },
	{ "delay_dotcrlf", CLIENT_PIX_DELAY_DOT },
};

static unsigned parse_pix(struct sv list)
{
	unsigned mask = 0;

	while (list.len > 0) {
		size_t n = 0;

		while (n < list.len && list.p[n] != ',' && !ascii_is_space(list.p[n]))
			n++;
		for (size_t i = 0; i < ARRAY_LEN(pix_words); i++) {
			if (sv_eq_nocase((struct sv){ list.p, n }, sv_from(pix_words[i].word)))
				mask |= pix_words[i].bit;
		}
		n += n < list.len;
		list = (struct sv){ list.p + n, list.len - n };
	}
	return mask;
}

unsigned conn_talk_pix(void *ctx)
{
	struct conn *c = ctx;
	const struct tconf *t = c->dest->t;
	struct buf *words = &c->d->scratch;
	char id[QID_TEXT_SIZE], names[64] = "";
	unsigned mask;

	if (map_list_is_empty(t->pix_maps) ||
	    map_list_get(t->pix_maps, sv_from(c->ip), words) != MAP_FOUND) {
		buf_reset(words);
		buf_add_str(words, t->pix_words);
	}
	if (sv_trim(buf_sv(words)).len == 0 || c->job == NULL)
		return 0;
	mask = parse_pix(buf_sv(words));
	if (clock_now_wall().us - c->job->env.arrival_us < t->pix_threshold_ms * 1000)
		mask &= ~(unsigned)CLIENT_PIX_DELAY_DOT;
	for (size_t i = 0; i < ARRAY_LEN(pix_words); i++) {
		if ((mask & pix_words[i].bit) != 0)
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
				 names[0] != '\0' ? " " : "", pix_words[i].word);
	}
	log_as(t->program, LOG_LEVEL_INFO, "%s: enabling PIX workarounds: %s for %s",
	       qid_format(c->job->qid, id), names, c->relay);
	counter_add(c->d->counters, CTR_deliver_pix, 1);
	return mask;
}

bool conn_talk_splits(const struct conn *c)
{
	return (c->client.pix & CLIENT_PIX_DELAY_DOT) != 0;
}

bool conn_talk_pauses(struct conn *c)
{
	const struct client *k = &c->client;
	int64_t now = clock_now().ms;

	if (!conn_talk_splits(c) || k->content == NULL || k->head.len > 0 ||
	    k->content_off < k->content->content_len || c->pause_until_ms == PAUSE_OVER)
		return false;
	if (c->pause_until_ms == 0)
		c->pause_until_ms = now + c->dest->t->pix_delay_ms;
	if (now < c->pause_until_ms)
		return true;
	c->pause_until_ms = PAUSE_OVER;
	c->timed_progress = 0;
	return false;
}
