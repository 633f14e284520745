/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is said with a server; see workers/deliver/conntalk.h. */
#include "workers/deliver/conntalk.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"

#define LOGGED_BYTES 900u
#define PAUSE_OVER   (-1) /* of this message */

bool conn_talk_is_secret(const struct conn *c)
{
	return c->client.login != NULL && c->client.state == CLIENT_HELLO;
}

/* ---- debug_peer_list ---- */

static bool begins(struct sv line, const char *verb)
{
	size_t n = strlen(verb);

	return line.len >= n && sv_eq_nocase((struct sv){ line.p, n }, sv_from(verb));
}

static void log_line(const struct conn *c, char mark, struct sv line, const char *more)
{
	log_as(c->dest->t->program, LOG_LEVEL_INFO, "%c %s: %.*s%s", mark, c->relay,
	       (int)size_min(line.len, LOGGED_BYTES), line.p, more);
}

/* While a login goes on: only what begins like a command of the greeting is no password. */
static void log_command(const struct conn *c, struct sv line)
{
	static const char *const open[] = { "EHLO ", "LHLO ", "HELO ", "STARTTLS", "QUIT" };
	const char *blank;

	if (!conn_talk_is_secret(c)) {
		log_line(c, '>', line, "");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(open); i++) {
		if (begins(line, open[i])) {
			log_line(c, '>', line, "");
			return;
		}
	}
	if (!begins(line, "AUTH ")) {
		log_line(c, '>', SV(""), "***");
		return;
	}
	blank = line.len > 5 ? memchr(line.p + 5, ' ', line.len - 5) : NULL;
	log_line(c, '>', (struct sv){ line.p, blank != NULL ? (size_t)(blank - line.p) : line.len },
		 blank != NULL ? " ***" : "");
}

static void log_commands(const struct conn *c, struct sv text)
{
	while (text.len > 0) {
		struct sv line = sv_trim(sv_next_part(&text, '\n'));

		if (line.len > 0) /* it ends the content */
			log_command(c, line);
	}
}

void conn_talk_said(const struct conn *c, struct sv line)
{
	if (c->verbose)
		log_line(c, '>', line, "");
}

void conn_talk_wrote(const struct conn *c, size_t n)
{
	const struct client *k = &c->client;
	size_t part = size_min(n, k->head.len);
	uint64_t content;

	if (!c->verbose)
		return;
	log_commands(c, (struct sv){ k->head.p, part });
	n -= part;
	content = k->content != NULL ? k->content->content_len - k->content_off : 0;
	if (n > content)
		log_commands(c, (struct sv){ k->tail.p, n - (size_t)content });
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
		buf_reset(line);
		buf_add_sv(line,
			   (struct sv){ value->p, size_min(value->len, SMTP_REPLY_LINE_MAX) });
	}
	return 0;
}

static int hear(void *ctx, struct buf *line)
{
	struct conn *c = ctx;

	if (c->verbose && conn_talk_is_secret(c) && begins(buf_sv(line), "334"))
		log_line(c, '<', SV("334"), " ***");
	else if (c->verbose)
		log_line(c, '<', buf_sv(line), "");
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
	if (c->verbose || !map_list_is_empty(t->reply_filter)) {
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
