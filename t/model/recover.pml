/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recovery, and recovery that itself dies. ENTRIES entries: some are held by worker A, which has
 * died somewhere in its work and has been reaped; the others by worker B, which lives and goes on.
 * The supervisor drains A's ring and walks the table. It may die at every step; then its table is
 * gone with it, priv kills and reaps what is left, and a new supervisor rebuilds the table from the
 * disk - and may die in that, too. DEATHS such deaths.
 *
 * A worker journals the outcome (disk) before it reports it (ring), and delivers before it journals.
 *
 * Checked:
 *   no entry is lost: at the end it is either delivered with its outcome on disk, or in the table
 *   in a state that goes on, held by nobody who is dead
 *   an outcome that was reported, or was on disk when the table was rebuilt, is never delivered again
 *   entries of the living are not touched
 *   while a table is rebuilt nobody is left who could still deliver from the old one
 *   each entry of the dead is moved once, however often recovery runs
 *
 * Mutants, each of which must fail:
 *   M_NO_DRAIN        A's ring is thrown away
 *   M_ALL_LIVES       the walk does not look at the life in the word
 *   M_FREE_ON_DEATH   what the dead held is freed
 *   M_NO_WALK         only the ring is drained
 *   M_NOT_FENCED      the walk stores without looking what is there, and runs twice
 *   M_NO_JOURNAL      the table is rebuilt from segments alone
 *   M_ANY_RECORD      a record that an attempt was started counts as an outcome
 *   M_REPORT_FIRST    workers report before they journal
 *   M_NO_REAP         priv starts the next supervisor while old workers still run
 */
#include "moves.pml"

#define ENTRIES 3
#define DEATHS 2
#define A 1
#define B 2

/* disk */
bit started[ENTRIES];   /* OUTCOME_STARTED */
bit outcome[ENTRIES];   /* OUTCOME_RESULT: sent */

/* the supervisor's memory */
byte st[ENTRIES], life[ENTRIES];
byte moved[ENTRIES];    /* times recovery moved it, in this table */
bit boot;               /* the table was rebuilt */

/* the rings towards the supervisor */
chan ring_a = [ENTRIES] of { byte };
chan ring_b = [ENTRIES] of { byte };

/* for the assertions */
byte delivered[ENTRIES];
bit settled[ENTRIES];   /* its outcome was applied, or found on disk by a rebuild */
bit reported[ENTRIES];  /* its answer was put into a ring */
bit b_runs = 1, b_stop;
byte deaths;

inline deliver(e)
{
	assert(!settled[e]);
	assert(!boot); /* from an old table: nobody may run that long */
	delivered[e]++
}

/* Entries 0 and 1 are A's, 2 is B's. How far A came with each is anybody's guess. */
inline life_of_a(e)
{
	st[e] = BUSY;
	life[e] = A;
	if
	:: skip
	:: started[e] = 1
	:: started[e] = 1; deliver(e)
	:: started[e] = 1; deliver(e); outcome[e] = 1
#ifdef M_REPORT_FIRST
	:: started[e] = 1; deliver(e); reported[e] = 1; ring_a!e
#else
	:: started[e] = 1; deliver(e); outcome[e] = 1; reported[e] = 1; ring_a!e
#endif
	fi
}

proctype worker_b()
{
	/* every step may be the last one: the stop comes from outside */
	if :: b_stop -> goto killed :: !b_stop -> skip fi;
	started[2] = 1;
	if :: b_stop -> goto killed :: !b_stop -> skip fi;
	atomic { if :: b_stop -> goto killed :: else -> deliver(2) fi };
	if :: b_stop -> goto killed :: !b_stop -> skip fi;
#ifdef M_REPORT_FIRST
	atomic { ring_b!2; reported[2] = 1 };
	if :: b_stop -> goto killed :: !b_stop -> skip fi;
	outcome[2] = 1;
#else
	outcome[2] = 1;
	if :: b_stop -> goto killed :: !b_stop -> skip fi;
	atomic { ring_b!2; reported[2] = 1 };
#endif
killed:
	b_runs = 0
}

#define MAY_DIE \
	if \
	:: deaths < DEATHS -> deaths++; goto dead \
	:: skip \
	fi

/* An answer from a ring: compare-and-swap from the word that was handed out. */
inline apply(e, from)
{
	atomic {
		if
		:: st[e] == BUSY && life[e] == from ->
			st[e] = FREE; life[e] = 0; settled[e] = 1
		:: else -> skip
		fi
	}
}

inline walk()
{
	i = 0;
	do
	:: i == ENTRIES -> break
	:: i < ENTRIES ->
		atomic {
			if
#ifdef M_NOT_FENCED
			:: i != 2 -> st[i] = READY; life[i] = 0; moved[i]++
#else
#ifdef M_ALL_LIVES
			:: OWNED(st[i]) ->
#else
			:: OWNED(st[i]) && life[i] == A ->
#endif
				assert(LEGAL(st[i], ON_DEATH(st[i])));
#ifdef M_FREE_ON_DEATH
				st[i] = FREE;
#else
				st[i] = ON_DEATH(st[i]);
#endif
				life[i] = 0;
				moved[i]++;
				assert(i != 2)
#endif
			:: else -> skip
			fi
		};
		i++;
		MAY_DIE
	od
}

proctype supervisor()
{
	byte i, e;

	/* ---- recovery of A, in the table as it is ---- */
	do
#ifdef M_NO_DRAIN
	:: nempty(ring_a) -> ring_a?e
#else
	:: nempty(ring_a) -> ring_a?e; apply(e, A)
#endif
	:: empty(ring_a) -> break
	od;
	MAY_DIE;
#ifndef M_NO_WALK
	walk();
	walk(); /* again: nothing is left to do */
#endif
	goto finish;

dead:	/* the table and the rings are lost; settled[] says what was applied before */
	boot = 0;
#ifndef M_NO_REAP
	b_stop = 1;
	!b_runs;
#endif
	atomic {
		do
		:: nempty(ring_a) -> ring_a?e
		:: nempty(ring_b) -> ring_b?e
		:: empty(ring_a) && empty(ring_b) -> break
		od;
		i = 0;
		do
		:: i < ENTRIES -> st[i] = FREE; life[i] = 0; moved[i] = 0; i++
		:: i == ENTRIES -> break
		od;
		boot = 1
	};

	/* ---- rebuild: journals first, then every record of the segments ---- */
	i = 0;
	do
	:: i == ENTRIES -> break
	:: i < ENTRIES ->
		atomic {
			if
#ifdef M_NO_JOURNAL
			:: false
#endif
#ifdef M_ANY_RECORD
			:: started[i] -> settled[i] = 1
#endif
#ifndef M_NO_JOURNAL
			:: outcome[i] -> settled[i] = 1
#endif
			:: else ->
				assert(LEGAL(FREE, FRESH) && LEGAL(FRESH, LOAD));
				assert(!settled[i]); /* it would go out again */
				st[i] = LOAD
			fi
		};
		i++;
		MAY_DIE
	od;

finish:
	/* B ends its work, or died with the supervisor and was reaped */
	!b_runs;
	do
	:: nempty(ring_b) -> ring_b?e; apply(e, B)
	:: empty(ring_b) -> break
	od;
	i = 0;
	do
	:: i < ENTRIES ->
		assert(life[i] != A);
		assert(moved[i] <= 1);
		/* gone only with its outcome on disk; otherwise it goes on */
		assert(st[i] != FREE || outcome[i]);
		assert(st[i] == FREE || st[i] == READY || st[i] == LOAD);
		assert(!settled[i] || st[i] == FREE);
		assert(!reported[i] || st[i] == FREE);
		assert(delivered[i] <= 1);
		i++
	:: i == ENTRIES -> break
	od
}

init
{
	atomic {
		life_of_a(0);
		life_of_a(1);
		st[2] = BUSY;
		life[2] = B;
		run worker_b();
		run supervisor()
	}
}
