/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Templates of notifications, as bounce(5) has them: built in, or out of bounce_template_file. Used
 * by the rewrite worker, which writes notifications, and by postconf -b and -t.
 */
#ifndef PH_CONF_BOUNCE_TEXT_H
#define PH_CONF_BOUNCE_TEXT_H

#include "conf/conf.h"

enum bounce_text_id {
	BOUNCE_TEXT_FAILURE,
	BOUNCE_TEXT_DELAY,
	BOUNCE_TEXT_SUCCESS,
	BOUNCE_TEXT_VERIFY,
	/* not in template files: failure_template there stands for it */
	BOUNCE_TEXT_EXPIRED,
	BOUNCE_TEXT_COUNT
};

struct bounce_text {
	const char *charset;
	const char *from; /* "ADDRESS (NAME)" as written */
	const char *from_addr, *from_name;
	const char *subject, *postmaster_subject;
	const char *body;     /* lines end with \n; as in the template */
	const char *expanded; /* with the values of $names */
};

struct bounce_texts {
	struct bounce_text text[BOUNCE_TEXT_COUNT];
	void *memory; /* of what is not built in */
};

/* file NULL = bounce_template_file. What is wrong goes to d as warnings, and what is built in
 * stands in its place: a notification always has words. */
void bounce_texts_open(const struct conf *c, const char *file, struct bounce_texts *b,
		       struct conf_diag *d);
void bounce_texts_close(struct bounce_texts *b);
/* The templates of a file, as postconf -t prints them, or with values (-b). */
void bounce_texts_format(const struct bounce_texts *b, bool expanded, struct buf *out);

#endif
