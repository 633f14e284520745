/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One queue entry (shm/qtab.h) from arrival to its end: the supervisor hands it to rewrite and
 * deliver workers over their rings, applies their answers by compare-and-swap from the word it
 * handed out, and recovers it when the worker that holds it dies - at any step, DEATHS times.
 * Legal moves: moves.pml, which is compared with qtab_moves[].
 *
 * Checked:
 *   the entry always comes to its end (any other end state is an entry that is stuck)
 *   every move is in the table, and words carry a life exactly in owned states
 *   an answer is applied only to the hand-out it answers
 *   it is delivered again only when a worker died between delivering and answering
 * With -DHOSTILE the second deliver worker also answers twice, late, and with words it guessed
 * right; what it may damage is only what it holds itself.
 *
 * Mutants, each of which must fail:
 *   M_NO_FENCE (HOSTILE)      answers are applied by entry number, whatever their word
 *   M_NO_SEQ (HOSTILE)        seq does not grow: an old answer fits a later hand-out
 *   M_NO_LIFE_CHECK (HOSTILE) the word of an answer may name another life than its sender's
 *   M_NO_DRAIN                answers of the dead are thrown away
 *   M_RECOVER_FIRST           the entry is recovered before the answers of the dead are read
 *   M_NO_RECOVER              nobody recovers
 *   M_RECOVER_ALL             the entry is taken from living workers, too
 *   M_OLD_RING                the next life of a worker finds the ring of the last one
 */
#include "moves.pml"

/* budgets, so that the model is finite; small enough for seconds */
#ifdef HOSTILE
#define DEATHS 1
#define BOUNCES 0
#else
#define DEATHS 2
#define BOUNCES 1
#endif
#define DEFERS 1
#define FORGERIES 1 /* 2 hold as well: half a minute and 2 GB */

/* worker slots */
#define REWRITE 0
#define DELIVER 1
#define HOSTILE_ONE 2
#define SLOTS 3

/* answers */
#define RESOLVED 1 /* LOADING -> READY */
#define SENT 2     /* BUSY -> FREE */
#define DEFER 3    /* BUSY -> DEFERRED */
#define BOUNCE 4   /* BUSY -> NOTIFY */
#define NOTIFIED 5 /* NOTIFYING -> FREE */

/* the entry's word */
byte st = FRESH, life = 0, seq = 0;

byte life_of[SLOTS];  /* life that runs in the slot now */
byte next_life = 1;
bit dead[SLOTS];
chan job[SLOTS] = [1] of { byte, byte, byte, byte };          /* state, life, seq; hand-out */
chan result[SLOTS] = [2] of { byte, byte, byte, byte, byte }; /* answer; state, life, seq; hand-out */

/* for the assertions only */
byte handout;          /* number of the present hand-out */
byte delivered;        /* times the mail went out */
byte unanswered;       /* of those: the worker died before it answered */
byte deaths, defers, bounces, forgeries;

inline move(f_st, f_life, f_seq, to, to_life, done)
{
	atomic {
		if
#ifdef M_NO_FENCE
		:: true ->
#else
		:: st == f_st && life == f_life && seq == f_seq ->
#endif
#ifndef M_NO_FENCE
			assert(LEGAL(st, to));
#endif
			assert((to_life != 0) == (OWNED(to)));
			st = to;
			life = to_life;
#ifndef M_NO_SEQ
			seq++;
#endif
			done = 1
		:: else -> done = 0
		fi
	}
}

inline hand_out(slot, to)
{
	atomic {
		move(st, life, seq, to, life_of[slot], done);
		assert(done);
		handout++;
		job[slot]!st, life, seq, handout
	}
}

inline target_of(answer)
{
	to = (answer == RESOLVED -> READY : (answer == DEFER -> DEFERRED :
	     (answer == BOUNCE -> NOTIFY : FREE)))
}

/* Left-over values would only multiply the states. */
inline forget()
{
	answer = 0; w_st = 0; w_life = 0; w_seq = 0; number = 0; to = 0; done = 0
}

/* One answer from the ring of `slot`. */
inline apply(slot)
{
	atomic {
		result[slot]?answer, w_st, w_life, w_seq, number;
		target_of(answer);
		if
#ifndef M_NO_LIFE_CHECK
		:: w_life != life_of[slot] -> skip /* not its own: it is accused */
#endif
		:: !(LEGAL(w_st, to)) -> skip /* E_STATE */
		:: else ->
			move(w_st, w_life, w_seq, to, 0, done);
			if
			:: done -> assert(number == handout)
			:: else -> skip /* E_STALE */
			fi
		fi;
		forget()
	}
}

inline drain(slot)
{
	do
	:: nempty(result[slot]) ->
#ifdef M_NO_DRAIN
		result[slot]?answer, w_st, w_life, w_seq, number
#else
		apply(slot)
#endif
	:: empty(result[slot]) -> break
	od
}

inline recover(slot)
{
#ifndef M_NO_RECOVER
	if
#ifdef M_RECOVER_ALL
	:: (OWNED(st)) ->
#else
	:: (OWNED(st)) && life == life_of[slot] ->
#endif
		move(st, life, seq, ON_DEATH(st), 0, done)
	:: else -> skip
	fi
#else
	skip
#endif
}

/* waitpid() has said so: nothing of that life runs any more. */
inline reap(slot)
{
#ifdef M_RECOVER_FIRST
	recover(slot);
	drain(slot);
#else
	drain(slot);
	recover(slot);
#endif
	atomic {
#ifndef M_OLD_RING
		do
		:: nempty(job[slot]) -> job[slot]?w_st, w_life, w_seq, number
		:: empty(job[slot]) -> break
		od;
		forget();
#endif
		life_of[slot] = next_life;
		next_life++;
		dead[slot] = 0
	}
}

active proctype supervisor()
{
	byte answer, w_st, w_life, w_seq, number, to;
	bit done;

	atomic {
		life_of[REWRITE] = 1; life_of[DELIVER] = 2; life_of[HOSTILE_ONE] = 3;
		next_life = 4;
		run worker(REWRITE); run worker(DELIVER); run worker(HOSTILE_ONE)
	}
	move(st, life, seq, LOAD, 0, done);
	do
	:: st == FREE -> break
	:: st == LOAD && nfull(job[REWRITE]) -> hand_out(REWRITE, LOADING)
	:: st == NOTIFY && nfull(job[REWRITE]) -> hand_out(REWRITE, NOTIFYING)
	:: st == READY && nfull(job[DELIVER]) -> hand_out(DELIVER, BUSY)
	:: st == READY && nfull(job[HOSTILE_ONE]) -> hand_out(HOSTILE_ONE, BUSY)
	:: st == DEFERRED -> move(st, life, seq, LOAD, 0, done)
	:: nempty(result[REWRITE]) -> apply(REWRITE)
	:: nempty(result[DELIVER]) -> apply(DELIVER)
	:: nempty(result[HOSTILE_ONE]) -> apply(HOSTILE_ONE)
	:: dead[REWRITE] -> reap(REWRITE)
	:: dead[DELIVER] -> reap(DELIVER)
	:: dead[HOSTILE_ONE] -> reap(HOSTILE_ONE)
	od;
	assert(life == 0);
#ifndef HOSTILE
	assert(delivered <= 1 + unanswered);
#endif
	/* late answers find the entry gone */
end_rest:
	do
	:: nempty(result[DELIVER]) -> apply(DELIVER)
	:: nempty(result[HOSTILE_ONE]) -> apply(HOSTILE_ONE)
	:: nempty(result[REWRITE]) -> apply(REWRITE)
	od
}

#ifdef HOSTILE
#define DELIVERED skip
#define UNANSWERED(lost)
#else
#define DELIVERED delivered++
#define UNANSWERED(lost) unanswered = unanswered + lost;
#endif

#define MAY_DIE(lost) \
	if \
	:: deaths < DEATHS -> deaths++; UNANSWERED(lost) goto died \
	:: skip \
	fi

proctype worker(byte me)
{
	byte w_st, w_life, w_seq, number;

end_idle:
	do
	:: job[me]?w_st, w_life, w_seq, number ->
		MAY_DIE(0);
		if
		:: w_st == LOADING -> result[me]!RESOLVED, w_st, w_life, w_seq, number
		:: w_st == NOTIFYING -> result[me]!NOTIFIED, w_st, w_life, w_seq, number
		:: w_st == BUSY ->
			if
			:: DELIVERED;
			   MAY_DIE(1);
			   result[me]!SENT, w_st, w_life, w_seq, number
			:: atomic { defers < DEFERS -> defers++ };
			   result[me]!DEFER, w_st, w_life, w_seq, number
			:: atomic { bounces < BOUNCES -> bounces++ };
			   result[me]!BOUNCE, w_st, w_life, w_seq, number
			fi
		fi;
		if
		:: me != HOSTILE_ONE -> atomic { w_st = 0; w_life = 0; w_seq = 0; number = 0 }
		:: else -> skip
		fi;
		MAY_DIE(0)
#ifdef HOSTILE
	:: me == HOSTILE_ONE && forgeries < FORGERIES && nfull(result[me]) ->
		/* again what it was handed last, or the present word, with any answer it likes */
		atomic {
			forgeries++;
			if
			:: number != 0 -> result[me]!DEFER, w_st, w_life, w_seq, number
			:: result[me]!SENT, st, life, seq, (life == life_of[me] -> handout : 0)
			:: result[me]!DEFER, st, life, seq, (life == life_of[me] -> handout : 0)
			fi
		}
#endif
	od;
died:
	dead[me] = 1;
end_dead:
	dead[me] == 0;
	w_st = 0; w_life = 0; w_seq = 0; number = 0;
	goto end_idle
}
