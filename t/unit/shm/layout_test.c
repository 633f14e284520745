/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * doc/shm-layout.md against the compiler, memory-order labels against code and model, and the
 * model's moves against qtab_moves[].
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/io.h"
#include "lib/util.h"
#include "shm/blocks.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/dtab.h"
#include "shm/link.h"
#include "shm/qtab.h"
#include "t/unit/tap.h"

struct field {
	const char *owner;
	const char *name;
	size_t offset;
	size_t size; /* 0 = depends on the counter rows */
	bool documented;
};

#define FIELD(s, f)                                                                                \
	{                                                                                          \
		.owner = #s, .name = #f, .offset = offsetof(struct s, f),                          \
		.size = sizeof(((struct s *)NULL)->f)                                              \
	}
#define OFFSET(s, f)                                                                               \
	{                                                                                          \
		.owner = #s, .name = #f, .offset = offsetof(struct s, f)                           \
	}

static struct field fields[] = {
	FIELD(shm_header, magic),
	FIELD(shm_header, layout_version),
	FIELD(shm_header, kind),
	FIELD(shm_header, size_bytes),
	FIELD(shm_header, life),
	FIELD(shm_header, peer_life),
	FIELD(shm_header, build_id),
	FIELD(shm_header, spare),
	FIELD(ring_shm, head),
	FIELD(ring_shm, prod_wait),
	FIELD(ring_shm, spare0),
	FIELD(ring_shm, tail),
	FIELD(ring_shm, cons_sleep),
	FIELD(ring_shm, spare1),
	FIELD(ring_shm, data_size),
	FIELD(ring_shm, magic),
	FIELD(ring_shm, spare2),
	FIELD(link_shm, ring_off),
	FIELD(link_shm, ring_len),
	FIELD(link_shm, spare),
	FIELD(blocks_shm, count),
	FIELD(blocks_shm, block_size),
	FIELD(blocks_shm, next_off),
	FIELD(blocks_shm, data_off),
	FIELD(blocks_shm, spare),
	FIELD(counters_shm, class_id),
	FIELD(counters_shm, slot),
	FIELD(counters_shm, folded),
	FIELD(counters_shm, beat_s),
	OFFSET(counters_shm, counter),
	FIELD(qtab_shm, msg_cap),
	FIELD(qtab_shm, entry_cap),
	FIELD(qtab_shm, msg_off),
	FIELD(qtab_shm, entry_off),
	FIELD(qtab_shm, msg_used),
	FIELD(qtab_shm, entry_used),
	FIELD(qtab_shm, msg_live),
	FIELD(qtab_shm, entry_live),
	FIELD(qtab_shm, msg_free),
	FIELD(qtab_shm, entry_free),
	FIELD(qtab_shm, spare),
	FIELD(qmsg, qid_us_lo),
	FIELD(qmsg, qid_us_hi),
	FIELD(qmsg, qid_life),
	FIELD(qmsg, seg),
	FIELD(qmsg, off8),
	FIELD(qmsg, len),
	FIELD(qmsg, first_entry),
	FIELD(qmsg, hash_next),
	FIELD(qmsg, flags),
	FIELD(qentry, word),
	FIELD(qentry, mask),
	FIELD(qentry, msg),
	FIELD(qentry, dest),
	FIELD(qentry, rcpt_first),
	FIELD(qentry, sibling),
	FIELD(qentry, list_next),
	FIELD(qentry, list_prev),
	FIELD(qentry, due_s),
	FIELD(qentry, jref),
	FIELD(dtab_shm, cap),
	FIELD(dtab_shm, used),
	FIELD(dtab_shm, live),
	FIELD(dtab_shm, free_head),
	FIELD(dtab_shm, row_off),
	FIELD(dtab_shm, spare),
	FIELD(drow, seq),
	FIELD(drow, in_use),
	FIELD(drow, transport),
	FIELD(drow, nexthop),
	FIELD(drow, window),
	FIELD(drow, busy),
	FIELD(drow, ready),
	FIELD(drow, deferred),
	FIELD(drow, fail_cohorts_milli),
	FIELD(drow, next_free),
	FIELD(drow, sent),
	FIELD(drow, deferred_total),
	FIELD(drow, bounced),
	FIELD(drow, suspend_until_s),
	FIELD(drow, oldest_ready_s),
	FIELD(drow, last_used_s),
	FIELD(drow, suspend_reason),
	FIELD(drow, pad),
	FIELD(board_shm, spool_free_bytes),
	FIELD(board_shm, spool_total_bytes),
	FIELD(board_shm, spool_low),
	FIELD(board_shm, queue_full),
	FIELD(board_shm, stopping),
	FIELD(board_shm, ready),
	FIELD(board_shm, start_wall_s),
	FIELD(board_shm, generation),
	FIELD(board_shm, beat_mono_s),
	FIELD(board_shm, fold_seq),
	FIELD(board_shm, messages),
	FIELD(board_shm, entries_ready),
	FIELD(board_shm, entries_busy),
	FIELD(board_shm, entries_deferred),
	FIELD(board_shm, entries_held),
	FIELD(board_shm, entries_loading),
	FIELD(board_shm, oldest_ready_wall_s),
	FIELD(board_shm, oldest_deferred_wall_s),
	FIELD(board_shm, segments),
	FIELD(board_shm, segment_bytes),
	FIELD(board_shm, journals),
	FIELD(board_shm, journal_bytes),
	FIELD(board_shm, in_doubt),
	FIELD(board_shm, workers_alive),
	FIELD(board_shm, worker_restarts),
	FIELD(board_shm, damaged),
};

#define STRUCT(s)                                                                                  \
	{                                                                                          \
#s, sizeof(struct s)                                                               \
	}

static const struct {
	const char *name;
	size_t size;
} structs[] = {
	STRUCT(shm_header), STRUCT(ring_shm),  STRUCT(link_shm), STRUCT(blocks_shm),
	STRUCT(qtab_shm),   STRUCT(qmsg),      STRUCT(qentry),   STRUCT(dtab_shm),
	STRUCT(drow),       STRUCT(board_shm),
};

static char *read_text(const char *path)
{
	struct buf b = BUF_INIT;
	char full[4096];

	snprintf(full, sizeof(full), "%s/%s", TOP_SRCDIR, path);
	is_int(io_read_file(full, 1 << 20, &b), 0, "read %s", path);
	char *text = xstrndup(b.p, b.len);

	buf_fini(&b);
	return text;
}

static struct field *find(const char *owner, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strcmp(fields[i].owner, owner) == 0 && strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

/* "| 8 | 4 | `name` |" below "### `struct owner`, 64 bytes". */
static void check_row(const char *owner, const char *line)
{
	size_t offset, size = 0;
	char name[60];

	if (sscanf(line, "| %zu | %zu | `%59[a-z_0-9]` |", &offset, &size, name) != 3 &&
	    sscanf(line, "| %zu | | `%59[a-z_0-9]` |", &offset, name) != 2)
		return;
	struct field *f = find(owner, name);

	if (f == NULL) {
		ok(false, "struct %s has no field %s", owner, name);
		return;
	}
	ok(f->offset == offset && f->size == size && !f->documented,
	   "struct %s: %s is at %zu, %zu bytes", owner, name, f->offset, f->size);
	f->documented = true;
}

static void check_heading(const char *owner, const char *line)
{
	size_t size;

	for (size_t i = 0; i < ARRAY_LEN(structs); i++) {
		if (strcmp(structs[i].name, owner) != 0)
			continue;
		const char *comma = strchr(line, ',');

		ok(comma != NULL && sscanf(comma, ", %zu bytes", &size) == 1 &&
			   size == structs[i].size,
		   "struct %s has %zu bytes", owner, structs[i].size);
	}
}

static void layout(char *doc)
{
	char owner[60] = "";
	unsigned missing = 0;

	for (char *line = strtok(doc, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		if (sscanf(line, "### `struct %59[a-z_]`", owner) == 1)
			check_heading(owner, line);
		else if (line[0] == '#')
			owner[0] = '\0';
		else if (owner[0] != '\0')
			check_row(owner, line);
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (!fields[i].documented)
			printf("# not documented: struct %s: %s\n", fields[i].owner,
			       fields[i].name);
		missing += !fields[i].documented;
	}
	is_int(missing, 0, "every field is documented");
	/* and every byte: a field that was added to a struct but not to the table above leaves a
	 * gap */
	for (size_t i = 0; i + 1 < ARRAY_LEN(fields); i++) {
		const struct field *f = &fields[i], *next = f + 1;
		bool last = strcmp(f->owner, next->owner) != 0;

		if (!last && f->offset + f->size != next->offset)
			ok(false, "struct %s: nothing is said about the bytes behind %s", f->owner,
			   f->name);
		for (size_t s = 0; last && s < ARRAY_LEN(structs); s++)
			if (strcmp(structs[s].name, f->owner) == 0)
				is_int(f->offset + f->size, structs[s].size,
				       "struct %s is covered to its end", f->owner);
	}
}

static void labels(const char *doc)
{
	static const struct {
		const char *kind;
		int count;
		const char *files[2];
	} sets[] = {
		{ "R", 8, { "shm/ring.c", "t/model/ring.pml" } },
		{ "Q", 4, { "shm/qtab.c", "shm/qtab_check.c" } },
		{ "D", 4, { "shm/dtab.c", "shm/dtab.c" } },
	};

	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		char *a = read_text(sets[i].files[0]), *b = read_text(sets[i].files[1]);
		/* Q1 and Q3 are the writer's, the others the readers' */
		bool both = sets[i].kind[0] != 'Q';

		for (int n = 1; n <= sets[i].count; n++) {
			char label[16], row[24];

			snprintf(label, sizeof(label), "%s%d", sets[i].kind, n);
			snprintf(row, sizeof(row), "| %s |", label);
			bool in_a = strstr(a, label) != NULL, in_b = strstr(b, label) != NULL;

			ok(strstr(doc, row) != NULL && (both ? in_a && in_b : in_a || in_b),
			   "%s: code, model and document", label);
		}
		free(a);
		free(b);
	}
}

static enum qstate state_of(const char *upper)
{
	char name[20];

	snprintf(name, sizeof(name), "%s", upper);
	str_lower(name, strlen(name));
	for (unsigned s = 0; s < QS_COUNT; s++)
		if (strcmp(qstate_names[s], name) == 0)
			return (enum qstate)s;
	return QS_COUNT;
}

/* "(from == FREE && to == FRESH)" for each row of qtab_moves[]. */
static void moves(const char *model)
{
	unsigned found = 0, illegal = 0, wrong = 0;
	char from[20], to[20];

	for (const char *at = model; (at = strstr(at, "(from == ")) != NULL; at++) {
		if (sscanf(at, "(from == %19[A-Z] && to == %19[A-Z])", from, to) != 2)
			continue;
		found++;
		illegal += !qtab_move_is_legal(state_of(from), state_of(to));
	}
	is_int(found, qtab_move_count, "the model has as many moves as the code");
	is_int(illegal, 0, "and the same ones");
	for (unsigned s = 0; s < QS_COUNT; s++) {
		char upper[20], line[40];

		snprintf(upper, sizeof(upper), "%s", qstate_names[s]);
		for (char *c = upper; *c != '\0'; c++)
			*c = (char)(*c - 'a' + 'A');
		snprintf(line, sizeof(line), "#define %s %u\n", upper, s);
		wrong += strstr(model, line) == NULL;
	}
	is_int(wrong, 0, "states have the same numbers");
}

/* "| busy | deliver or local worker | free, deferred | ready |" */
static void moves_in_doc(const char *doc)
{
	unsigned bad = 0, rows = 0;

	for (unsigned s = 0; s < QS_COUNT; s++) {
		char head[30], list[200] = "", death[30] = "";

		snprintf(head, sizeof(head), "\n| %s | ", qstate_names[s]);
		const char *row = strstr(doc, head);

		if (row == NULL ||
		    sscanf(row, "\n| %*[a-z] | %*[^|]| %199[a-z, ] | %29[a-z]", list, death) < 1)
			continue;
		rows++;
		for (unsigned to = 0; to < QS_COUNT; to++) {
			bool listed = false;
			char copy[200], *state = NULL;

			memcpy(copy, list, sizeof(copy));
			for (char *name = strtok_r(copy, ", ", &state); name != NULL;
			     name = strtok_r(NULL, ", ", &state))
				listed = listed || strcmp(name, qstate_names[to]) == 0;
			bad += listed != qtab_move_is_legal((enum qstate)s, (enum qstate)to);
		}
		bad += qtab_on_death[s] == QS_COUNT
			       ? death[0] != '\0'
			       : strcmp(death, qstate_names[qtab_on_death[s]]) != 0;
	}
	is_int(rows, QS_COUNT, "the document has a row for each state");
	is_int(bad, 0, "with the code's moves");
}

int main(void)
{
	char *doc = read_text("doc/shm-layout.md");
	char *model = read_text("t/model/moves.pml");

	labels(doc);
	moves(model);
	moves_in_doc(doc);
	layout(doc); /* takes the text apart */
	free(doc);
	free(model);
	return tap_done();
}
