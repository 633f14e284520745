/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of conversion: convert.c (what is where in the message) and convert_act.c (the tables'
 * answers, what is put out). */
#ifndef PH_WORKERS_DELIVER_CONVERT_INT_H
#define PH_WORKERS_DELIVER_CONVERT_INT_H

#include "workers/deliver/convert.h"

enum convert_answer { CONVERT_KEEP, CONVERT_DROP, CONVERT_REPLACED /* by cv->text */ };

/* Nothing while tables are only asked: it will be done again. */
#define SAY(cv, ...)                                                                               \
	do {                                                                                       \
		if (!(cv)->asking)                                                                 \
			log_as((cv)->conf->program, __VA_ARGS__);                                  \
	} while (0)

/* Text of one line or of a piece of it; `hard`: the line ends here. */
void convert_put(struct convert *cv, struct sv text, bool hard);
/* Text of an action as whole lines. A header's further lines are made continuation lines. */
void convert_put_text(struct convert *cv, struct sv text, bool header);
/* What the table of that class says of a header or a line. */
enum convert_answer convert_check(struct convert *cv, enum convert_class class, struct sv seen);

#endif
