/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Address lists of header lines; see workers/mail/address.h. Called by rewrite for To, Cc, From and
 * their kin, and by sendmail -t. One token at a time, one pass, no recursion: comments are counted.
 */
#include <string.h>

#include "workers/mail/address.h"

enum tok { TOK_END, TOK_WORD, TOK_SPECIAL /* one of <>,;:@. */, TOK_NOISE /* space or comment */ };

struct token {
	enum tok kind;
	char c; /* of TOK_SPECIAL */
	size_t begin, end;
};

static size_t skip_comment(struct sv s, size_t i)
{
	size_t depth = 0;

	for (; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '(')
			depth++;
		else if (s.p[i] == ')' && --depth == 0)
			return i + 1;
	}
	return s.len;
}

/* Behind the closing `close` of what begins at i. */
static size_t skip_quoted(struct sv s, size_t i, char close)
{
	for (i++; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == close)
			return i + 1;
	}
	return s.len;
}

static bool is_special(char c)
{
	return c != '\0' && strchr("<>,;:@.", c) != NULL;
}

static struct token next_token(struct sv s, size_t pos)
{
	struct token t = { .kind = TOK_END, .begin = pos, .end = pos };

	if (pos >= s.len)
		return t;
	char c = s.p[pos];

	if (ascii_is_space(c)) {
		t.kind = TOK_NOISE;
		while (t.end < s.len && ascii_is_space(s.p[t.end]))
			t.end++;
	} else if (c == '(') {
		t.kind = TOK_NOISE;
		t.end = skip_comment(s, pos);
	} else if (c == '"' || c == '[') {
		t.kind = TOK_WORD;
		t.end = skip_quoted(s, pos, c == '"' ? '"' : ']');
	} else if (is_special(c)) {
		t.kind = TOK_SPECIAL;
		t.c = c;
		t.end++;
	} else {
		t.kind = TOK_WORD;
		while (t.end < s.len && !is_special(s.p[t.end]) && !ascii_is_space(s.p[t.end]) &&
		       s.p[t.end] != '(' && s.p[t.end] != '"' && s.p[t.end] != '[')
			t.end++;
	}
	return t;
}

/* The address being put together. */
struct spec {
	size_t begin, end;
	bool any;       /* has a token */
	bool last_word; /* the newest token is a word, so another word makes it a phrase */
	bool phrase;
	bool bad;       /* too long, a control character, or nothing before the '@' */
	bool at;        /* has an '@' */
	bool quoted_at; /* has one inside a word, which is no separator */
	bool route;     /* had a source route in front */
};

static void spec_clear(struct spec *sp, struct buf *addr)
{
	*sp = (struct spec){ 0 };
	buf_reset(addr);
}

static void add_byte(struct spec *sp, struct buf *addr, char c)
{
	if (addr->len >= MAIL_ADDR_MAX_BYTES || (unsigned char)c < ' ' || c == 0x7f ||
	    !buf_add_c(addr, c))
		sp->bad = true;
}

static void add_word(struct spec *sp, struct sv word, struct buf *addr)
{
	bool quoted = word.p[0] == '"';
	size_t end =
		quoted && word.len > 1 && word.p[word.len - 1] == '"' ? word.len - 1 : word.len;

	for (size_t i = quoted ? 1 : 0; i < end && !sp->bad; i++) {
		if (word.p[i] == '\\' && i + 1 < end)
			i++;
		else if (quoted && (word.p[i] == '\r' || word.p[i] == '\n'))
			continue; /* a fold inside a quoted string */
		sp->quoted_at = sp->quoted_at || word.p[i] == '@';
		add_byte(sp, addr, word.p[i]);
	}
}

static void spec_add(struct spec *sp, struct sv text, const struct token *t, struct buf *addr)
{
	bool word = t->kind == TOK_WORD;

	if (!sp->any)
		sp->begin = t->begin;
	if (word && sp->last_word)
		sp->phrase = true;
	sp->any = true;
	sp->last_word = word;
	sp->end = t->end;
	if (sp->phrase || sp->bad)
		return;
	if (word)
		add_word(sp, (struct sv){ text.p + t->begin, t->end - t->begin }, addr);
	else
		add_byte(sp, addr, t->c);
	sp->at = sp->at || (!word && t->c == '@');
}

static bool spec_is_address(const struct spec *sp, const struct buf *addr)
{
	return sp->any && !sp->phrase && !sp->bad && (sp->at || !sp->quoted_at) && addr->len > 0 &&
	       addr->p[0] != '@' && addr->p[addr->len - 1] != '@';
}

/* Inside '<': up to '>' (or the end); a route ends with ':'. Returns the place behind it. */
static size_t angle_addr(struct sv text, size_t pos, struct spec *sp, struct buf *addr)
{
	spec_clear(sp, addr);
	for (;;) {
		struct token t = next_token(text, pos);

		pos = t.end;
		if (t.kind == TOK_END || (t.kind == TOK_SPECIAL && t.c == '>'))
			return pos;
		if (t.kind == TOK_SPECIAL && t.c == ':') {
			size_t begin = sp->begin;
			bool route = sp->any && text.p[begin] == '@';

			if (!route)
				sp->bad = true;
			else
				spec_clear(sp, addr); /* the range keeps the route: it goes, too */
			if (route) {
				sp->begin = begin;
				sp->any = true;
				sp->route = true;
			}
		} else if (t.kind == TOK_SPECIAL && (t.c == '<' || t.c == ';')) {
			sp->bad = true;
		} else if (t.kind != TOK_NOISE) {
			bool comma = t.kind == TOK_SPECIAL && t.c == ',';

			if (comma && (!sp->any || text.p[sp->begin] != '@'))
				sp->bad = true;
			spec_add(sp, text, &t, addr);
		}
	}
}

void mail_addrlist_init(struct mail_addrlist *l, struct sv value)
{
	*l = (struct mail_addrlist){ .text = value };
}

static size_t skip_to_separator(struct sv text, size_t pos)
{
	for (;;) {
		struct token t = next_token(text, pos);

		if (t.kind == TOK_END || (t.kind == TOK_SPECIAL && (t.c == ',' || t.c == ';')))
			return pos;
		pos = t.end;
	}
}

/* One element up to its separator; true when it is an address. */
static bool element(struct mail_addrlist *l, struct mail_addrlist_item *item, struct buf *addr)
{
	struct spec sp;
	size_t first = l->pos;

	spec_clear(&sp, addr);
	for (;;) {
		struct token t = next_token(l->text, l->pos);

		l->pos = t.end;
		if (t.kind == TOK_NOISE)
			continue;
		if (t.kind == TOK_SPECIAL && t.c == '<') {
			item->display = sv_trim((struct sv){ l->text.p + first, t.begin - first });
			item->angle = true;
			l->pos = angle_addr(l->text, l->pos, &sp, addr);
			l->pos = skip_to_separator(l->text, l->pos);
			break;
		}
		if (t.kind == TOK_SPECIAL && t.c == ':' && !l->in_group) {
			l->in_group = true;
			spec_clear(&sp, addr);
			first = l->pos;
			continue;
		}
		if (t.kind == TOK_SPECIAL && t.c == ';')
			l->in_group = false;
		if (t.kind == TOK_END || (t.kind == TOK_SPECIAL && (t.c == ',' || t.c == ';')))
			break;
		if (t.kind == TOK_SPECIAL && (t.c == '>' || t.c == ':'))
			sp.bad = true;
		spec_add(&sp, l->text, &t, addr);
	}
	item->begin = sp.begin;
	item->end = sp.end;
	item->route = sp.route;
	return spec_is_address(&sp, addr);
}

bool mail_addrlist_next(struct mail_addrlist *l, struct mail_addrlist_item *item_r,
			struct buf *addr)
{
	while (l->pos < l->text.len) {
		*item_r = (struct mail_addrlist_item){ .display = SV("") };
		if (element(l, item_r, addr))
			return true;
	}
	buf_reset(addr);
	return false;
}
