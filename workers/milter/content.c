/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content of a message for milters; see workers/milter/content.h. */
#include "workers/milter/content.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"

/* ---- header lists ---- */

static void heads_insert(struct milter_heads *h, size_t at, const struct milter_head *head)
{
	if (h->count == h->cap) {
		h->cap = h->cap == 0 ? 32 : 2 * h->cap;
		h->list = xrealloc(h->list, h->cap * sizeof(*h->list));
	}
	memmove(&h->list[at + 1], &h->list[at], (h->count - at) * sizeof(*h->list));
	h->list[at] = *head;
	h->count++;
}

static void heads_remove(struct milter_heads *h, size_t at)
{
	memmove(&h->list[at], &h->list[at + 1], (h->count - at - 1) * sizeof(*h->list));
	h->count--;
}

static void heads_copy(struct milter_heads *to, const struct milter_heads *from)
{
	to->count = from->count;
	if (to->cap < from->count) {
		to->cap = from->count;
		to->list = xrealloc(to->list, to->cap * sizeof(*to->list));
	}
	if (from->count > 0)
		memcpy(to->list, from->list, from->count * sizeof(*to->list));
}

/* A name that begins with a dot has two on the wire. */
static struct sv name_of(const struct milter_head *h)
{
	size_t dot = h->text.len > 0 && h->text.p[0] == '.';

	return (struct sv){ h->text.p + dot, h->name_len - dot };
}

/* ---- beginning ---- */

/* The end of the logical header that begins the text. */
static size_t logical_end(struct sv text)
{
	size_t pos = 0;

	for (;;) {
		const char *nl = memchr(text.p + pos, '\n', text.len - pos);

		if (nl == NULL)
			return text.len;
		pos = (size_t)(nl + 1 - text.p);
		if (pos == text.len || (text.p[pos] != ' ' && text.p[pos] != '\t'))
			return pos;
	}
}

void milter_content_begin(struct milter_content *c, struct arena *arena, struct sv head,
			  struct sv body, bool own, uint64_t limit)
{
	*c = (struct milter_content){ .arena = arena, .limit = limit, .body = body };
	while (head.len > 0) {
		struct milter_head h = { .text = { head.p, logical_end(head) } };
		const char *colon;

		if (h.text.len == 2 && memcmp(h.text.p, "\r\n", 2) == 0) {
			c->blank = true;
			break;
		}
		colon = memchr(h.text.p, ':', h.text.len);
		h.name_len = colon != NULL ? (size_t)(colon - h.text.p) : 0;
		h.hidden = own && sv_eq_nocase(name_of(&h), SV("Received"));
		own = own && !h.hidden;
		heads_insert(&c->heads, c->heads.count, &h);
		head = (struct sv){ head.p + h.text.len, head.len - h.text.len };
	}
}

void milter_content_fini(struct milter_content *c)
{
	free(c->heads.list);
	free(c->saved.list);
	buf_fini(&c->replaced);
	buf_fini(&c->next);
	*c = (struct milter_content){ .arena = NULL };
}

/* ---- what a milter sees ---- */

bool milter_content_header(const struct milter_content *c, size_t *at, struct buf *name,
			   struct buf *value)
{
	while (*at < c->heads.count &&
	       (c->heads.list[*at].hidden || c->heads.list[*at].name_len == 0))
		++*at;
	if (*at >= c->heads.count)
		return false;
	const struct milter_head *h = &c->heads.list[(*at)++];
	struct sv rest = { h->text.p + h->name_len + 1, h->text.len - h->name_len - 1 };

	buf_reset(name);
	buf_add_sv(name, name_of(h));
	buf_reset(value);
	for (size_t i = 0; i < rest.len; i++) {
		if (rest.p[i] != '\r')
			buf_add_c(value, rest.p[i]);
	}
	while (value->len > 0 && value->p[value->len - 1] == '\n')
		value->p[--value->len] = '\0';
	return true;
}

bool milter_content_body(const struct milter_content *c, size_t *at, size_t max, struct buf *out)
{
	size_t mark = out->len;

	while (*at < c->body.len && out->len - mark < max) {
		const char *p = c->body.p + *at;
		size_t left = c->body.len - *at, room = max - (out->len - mark);

		if (*p == '.' && (*at == 0 || p[-1] == '\n')) {
			++*at;
			++p;
			if (--left == 0)
				break;
		}
		const char *nl = memchr(p, '\n', left);
		size_t n = size_min(nl != NULL ? (size_t)(nl + 1 - p) : left, room);

		buf_add(out, p, n);
		*at += n;
	}
	return out->len > mark;
}

/* ---- headers ---- */

/* "Name: value" as a header in wire form, in the arena. */
static int make_head(struct milter_content *c, struct sv text, struct milter_head *h_r)
{
	const char *colon = text.len > 0 ? memchr(text.p, ':', text.len) : NULL;
	size_t name_len = colon != NULL ? (size_t)(colon - text.p) : 0;
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < name_len; i++) {
		if (text.p[i] <= ' ' || text.p[i] == 127)
			name_len = 0;
	}
	if (name_len == 0)
		return E_SYNTAX;
	if (text.p[0] == '.')
		buf_add_c(&out, '.');
	name_len += out.len;
	while (text.len > 0 && text.p[text.len - 1] == '\n')
		text.len--;
	for (size_t i = 0; i < text.len; i++) {
		char ch = text.p[i];

		if (ch == '\r' && i + 1 < text.len && text.p[i + 1] == '\n')
			continue;
		if (ch != '\n') {
			buf_add_c(&out, ch == '\r' || ch == '\0' ? ' ' : ch);
			continue;
		}
		buf_add_str(&out, "\r\n");
		if (i + 1 == text.len || (text.p[i + 1] != ' ' && text.p[i + 1] != '\t'))
			buf_add_c(&out, '\t');
	}
	buf_add_str(&out, "\r\n");
	c->added_bytes += out.len;
	const char *kept = c->limit > 0 && c->added_bytes > c->limit
				   ? NULL
				   : arena_strndup(c->arena, out.p, out.len);

	*h_r = (struct milter_head){ .text = { kept, out.len }, .name_len = name_len };
	buf_fini(&out);
	return kept != NULL ? 0 : E_LIMIT;
}

static void heads_will_change(struct milter_content *c)
{
	if (!c->heads_changed)
		heads_copy(&c->saved, &c->heads);
	c->heads_changed = c->changed = true;
}

int milter_content_insert(struct milter_content *c, size_t index, struct sv text)
{
	struct milter_head h;
	int err = make_head(c, text, &h);

	if (err != 0)
		return err;
	heads_will_change(c);
	heads_insert(&c->heads, size_min(index, c->heads.count), &h);
	return 0;
}

int milter_content_add(struct milter_content *c, struct sv text)
{
	return milter_content_insert(c, SIZE_MAX, text);
}

/* Its place, or the number of headers. */
static size_t find_head(const struct milter_content *c, size_t index, struct sv name)
{
	size_t i = 0;

	for (; i < c->heads.count; i++) {
		const struct milter_head *h = &c->heads.list[i];

		if (!h->hidden && sv_eq_nocase(name_of(h), name) && --index == 0)
			break;
	}
	return i;
}

int milter_content_change(struct milter_content *c, size_t index, struct sv name, struct sv text)
{
	size_t at = find_head(c, index, name);
	struct milter_head h;

	if (at == c->heads.count)
		return milter_content_add(c, text);
	int err = make_head(c, text, &h);

	if (err != 0)
		return err;
	heads_will_change(c);
	c->heads.list[at] = h;
	return 0;
}

void milter_content_delete(struct milter_content *c, size_t index, struct sv name)
{
	size_t at = find_head(c, index, name);

	if (at == c->heads.count)
		return;
	heads_will_change(c);
	heads_remove(&c->heads, at);
}

/* ---- the body ---- */

static void put_line_byte(struct milter_content *c, char ch)
{
	if (!c->mid_line && ch == '.')
		buf_add_c(&c->next, '.');
	c->mid_line = true;
	buf_add_c(&c->next, ch);
}

static void end_line(struct milter_content *c)
{
	buf_add_str(&c->next, "\r\n");
	c->mid_line = false;
}

int milter_content_replace(struct milter_content *c, struct sv data)
{
	if (!c->replacing) {
		buf_reset(&c->next);
		c->replacing = true;
		c->mid_line = c->cr = false;
	}
	if (c->limit > 0 && c->next.len + data.len > c->limit)
		return E_LIMIT;
	for (size_t i = 0; i < data.len; i++) {
		char ch = data.p[i];

		if (c->cr && ch != '\n')
			put_line_byte(c, ' '); /* as everywhere: no lone CR in the spool */
		c->cr = ch == '\r';
		if (ch == '\n')
			end_line(c);
		else if (ch != '\r')
			put_line_byte(c, ch);
	}
	return 0;
}

void milter_content_replaced(struct milter_content *c)
{
	struct buf former = c->replaced;

	if (!c->replacing)
		return;
	if (c->cr)
		put_line_byte(c, ' ');
	if (c->mid_line)
		end_line(c);
	c->replaced = c->next;
	c->next = former;
	c->body = buf_sv(&c->replaced);
	if (c->body.p == NULL)
		c->body = SV("");
	c->replacing = false;
	c->was_replaced = c->changed = true;
	c->blank = true;
}

/* ---- all or nothing ---- */

void milter_content_mark(struct milter_content *c)
{
	c->heads_changed = false;
	c->replacing = false;
}

void milter_content_undo(struct milter_content *c)
{
	if (c->heads_changed)
		heads_copy(&c->heads, &c->saved);
	c->heads_changed = false;
	c->replacing = false;
}

size_t milter_content_put(const struct milter_content *c, struct buf *out)
{
	size_t mark = out->len, head;

	for (size_t i = 0; i < c->heads.count; i++)
		buf_add_sv(out, c->heads.list[i].text);
	if (c->blank)
		buf_add_str(out, "\r\n");
	head = out->len - mark;
	buf_add_sv(out, c->body);
	return head;
}
