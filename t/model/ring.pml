/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * shm/ring.c: one producer, one consumer, PLACES places, RECORDS records, both sides sleeping on an
 * eventfd. Labels R1..R8 are those of the C code and of doc/shm-layout.md.
 *
 * Checked: every record is read once, whole and in order; nobody waits for ever (an invalid end
 * state is a lost wake-up); with -DDEATH the producer may die at any step, and the consumer then
 * finds exactly what was published.
 *
 * Spin interleaves, it does not reorder. Where the order of a store and a later load of the same
 * process matters (R5..R8), the weak mutants put the store into a store buffer that is written out
 * some time later: that is what release instead of sequential consistency would allow.
 *
 * Mutants, each of which must fail:
 *   M_PUBLISH_FIRST    R1: head stored before the payload
 *   M_RELEASE_FIRST    R3: tail stored before the payload was read
 *   M_NO_SECOND_LOOK   R5: the consumer does not look at head again after it said it sleeps
 *   M_SLEEP_LATE       R5: it looks first and says so afterwards
 *   M_R5_WEAK M_R6_WEAK M_R7_WEAK M_R8_WEAK   the store may become visible after the load
 *   M_NO_PROD_LOOK     R7: the producer does not look at tail again after it said it waits
 *   M_CLEAR_AFTER_WAKE R6: the flag is taken back after the eventfd was written, not before
 *   M_NO_WAKE          R6: nobody writes the eventfd
 *   M_WAIT_UNPUBLISHED R7: the producer waits for room with records that it did not publish
 *   M_SLEEP_UNRELEASED R5: the consumer sleeps on room that it did not give back
 *   M_NO_DEATH_NOTICE  (with DEATH) nobody tells the consumer that its producer died
 */
#define PLACES 2
#define RECORDS 4

byte data[PLACES];   /* number of the record there, 0 = half written */
byte head, tail;     /* shared positions */
bit cons_sleep, prod_wait;
bit cons_ev, prod_ev; /* eventfds: 1 = readable */
bit prod_gone;        /* ended or dead, as the supervisor tells it */

/* Store buffers of the weak mutants: one pending store for each side. Later stores and system calls
 * of the same side come after it (P_STORED, C_STORED), only loads overtake it. */
bit p_pending, c_pending;
byte p_value, c_value, p_kind, c_kind;
#define TO_HEAD 1
#define TO_WAIT 2
#define TO_TAIL 3
#define TO_SLEEP 4

#if defined(M_R5_WEAK) || defined(M_R6_WEAK) || defined(M_R7_WEAK) || defined(M_R8_WEAK)
active proctype store_buffers()
{
end_flush:
	do
	:: atomic { p_pending ->
		if
		:: p_kind == TO_HEAD -> head = p_value
		:: else -> prod_wait = p_value
		fi;
		p_pending = 0 }
	:: atomic { c_pending ->
		if
		:: c_kind == TO_TAIL -> tail = c_value
		:: else -> cons_sleep = c_value
		fi;
		c_pending = 0 }
	od
}
#endif

inline p_store_weak(kind, value)
{
	atomic { !p_pending -> p_pending = 1; p_kind = kind; p_value = value }
}

inline c_store_weak(kind, value)
{
	atomic { !c_pending -> c_pending = 1; c_kind = kind; c_value = value }
}

#define P_STORED !p_pending
#define C_STORED !c_pending

#ifdef DEATH
#define MAY_DIE if :: goto dead :: skip fi
#else
#define MAY_DIE skip
#endif

active proctype producer()
{
	byte h = 0, published = 0, t = 0; /* private: struct ring_prod */
	byte n = 0;

put:
	do
	:: n == RECORDS -> break
	:: n < RECORDS ->
		if
		:: h - t < PLACES -> skip
		:: else -> t = tail /* R4, partner R3 */
		fi;
		if
		:: h - t < PLACES -> skip
		:: else -> goto wait
		fi;
		P_STORED;
#ifdef M_PUBLISH_FIRST
		head = h + 1;
#endif
		data[h % PLACES] = 0;
		MAY_DIE;
		data[h % PLACES] = n + 1;
		MAY_DIE;
		h++;
		n++;
		if
		:: n < RECORDS -> skip /* batch */
		:: goto publish
		fi
	od;
	goto publish;

publish:
	if
	:: published == h -> goto published_all
	:: else -> skip
	fi;
	published = h;
#ifdef M_R6_WEAK
	p_store_weak(TO_HEAD, h);
#else
	head = h; /* R1, partner R2; R6, partner R5 */
#endif
	MAY_DIE;
	if
	:: cons_sleep == 0 -> skip /* R6 */
	:: cons_sleep == 1 ->
		P_STORED;
#ifdef M_CLEAR_AFTER_WAKE
		cons_ev = 1;
		cons_sleep = 0
#else
		cons_sleep = 0;
		MAY_DIE;
#ifndef M_NO_WAKE
		cons_ev = 1
#endif
#endif
	fi;
published_all:
	if
	:: n == RECORDS -> goto finished
	:: n < RECORDS && h - t >= PLACES -> goto look
	:: n < RECORDS && h - t < PLACES -> goto put
	fi;

wait:	/* ring_prod_wait() */
#ifndef M_WAIT_UNPUBLISHED
	if
	:: published != h -> goto publish
	:: else -> skip
	fi;
#endif
look:
#ifdef M_R7_WEAK
	p_store_weak(TO_WAIT, 1);
#else
	prod_wait = 1; /* R7, partner R8 */
#endif
	MAY_DIE;
#ifndef M_NO_PROD_LOOK
	t = tail; /* R7 */
#endif
	if
	:: h - t < PLACES -> P_STORED; prod_wait = 0; goto put
	:: else -> skip
	fi;
	P_STORED;
	prod_ev == 1 -> prod_ev = 0; /* asleep until somebody writes the eventfd */
	goto put;

dead:
finished:
	P_STORED;
#ifndef M_NO_DEATH_NOTICE
	atomic { prod_gone = 1; cons_ev = 1 } /* the supervisor detaches the link */
#endif
}

inline release()
{
	if
	:: released == my_tail -> skip
	:: else ->
		released = my_tail;
		C_STORED;
#ifdef M_R8_WEAK
		c_store_weak(TO_TAIL, my_tail);
#else
		tail = my_tail; /* R3, partner R4; R8, partner R7 */
#endif
		if
		:: prod_wait == 0 -> skip /* R8 */
		:: prod_wait == 1 -> C_STORED; prod_wait = 0; prod_ev = 1
		fi
	fi
}

active proctype consumer()
{
	byte my_tail = 0, head_seen = 0, released = 0; /* private: struct ring_cons */
	bit gone;

get:
	if
	:: my_tail != head_seen -> skip
	:: else ->
		gone = prod_gone;
		head_seen = head /* R2, partner R1 */
	fi;
	if
	:: my_tail != head_seen ->
#ifdef M_RELEASE_FIRST
		tail = my_tail + 1;
#endif
		assert(data[my_tail % PLACES] == my_tail + 1); /* whole, in order, once */
		my_tail++;
		if
		:: release()
		:: skip /* later */
		fi;
		goto get
	:: my_tail == head_seen && gone -> goto drained
	:: my_tail == head_seen && !gone -> skip
	fi;
	/* ring_cons_sleep() */
#ifndef M_SLEEP_UNRELEASED
	release();
#endif
#ifdef M_SLEEP_LATE
	if
	:: head != my_tail -> goto get
	:: else -> skip
	fi;
	cons_sleep = 1;
#else
#ifdef M_R5_WEAK
	c_store_weak(TO_SLEEP, 1);
#else
	cons_sleep = 1; /* R5, partner R6 */
#endif
#ifndef M_NO_SECOND_LOOK
	if
	:: head != my_tail -> C_STORED; cons_sleep = 0; goto get /* R5 */
	:: else -> skip
	fi;
#endif
#endif
	C_STORED;
	cons_ev == 1 -> cons_ev = 0;
	cons_sleep = 0; /* ring_cons_awake() */
	goto get;

drained:
	assert(my_tail == head);
#ifndef DEATH
	assert(my_tail == RECORDS)
#endif
}
