/* SPDX-License-Identifier: GPL-3.0-or-later */
/* States and legal moves of a queue entry; t/unit/shm/layout_test.c compares them with qtab_moves[]. */
#define FREE 0
#define FRESH 1
#define LOAD 2
#define LOADING 3
#define READY 4
#define BUSY 5
#define DEFERRED 6
#define HOLD 7
#define NOTIFY 8
#define NOTIFYING 9

#define LEGAL(from, to) ( \
	(from == FREE && to == FRESH) || \
	(from == FRESH && to == LOAD) || \
	(from == FRESH && to == READY) || \
	(from == FRESH && to == HOLD) || \
	(from == FRESH && to == DEFERRED) || \
	(from == FRESH && to == NOTIFY) || \
	(from == FRESH && to == FREE) || \
	(from == LOAD && to == LOADING) || \
	(from == LOAD && to == HOLD) || \
	(from == LOAD && to == FREE) || \
	(from == LOADING && to == READY) || \
	(from == LOADING && to == HOLD) || \
	(from == LOADING && to == DEFERRED) || \
	(from == LOADING && to == NOTIFY) || \
	(from == LOADING && to == FREE) || \
	(from == LOADING && to == LOAD) || \
	(from == READY && to == BUSY) || \
	(from == READY && to == HOLD) || \
	(from == READY && to == LOAD) || \
	(from == READY && to == DEFERRED) || \
	(from == READY && to == NOTIFY) || \
	(from == READY && to == FREE) || \
	(from == BUSY && to == FREE) || \
	(from == BUSY && to == DEFERRED) || \
	(from == BUSY && to == NOTIFY) || \
	(from == BUSY && to == READY) || \
	(from == BUSY && to == HOLD) || \
	(from == DEFERRED && to == LOAD) || \
	(from == DEFERRED && to == HOLD) || \
	(from == DEFERRED && to == NOTIFY) || \
	(from == DEFERRED && to == FREE) || \
	(from == DEFERRED && to == READY) || \
	(from == HOLD && to == LOAD) || \
	(from == HOLD && to == FREE) || \
	(from == HOLD && to == READY) || \
	(from == HOLD && to == NOTIFY) || \
	(from == NOTIFY && to == NOTIFYING) || \
	(from == NOTIFY && to == FREE) || \
	(from == NOTIFY && to == HOLD) || \
	(from == NOTIFYING && to == FREE) || \
	(from == NOTIFYING && to == DEFERRED) || \
	(from == NOTIFYING && to == NOTIFY) || \
	(from == NOTIFYING && to == HOLD) || \
	(from == NOTIFYING && to == LOAD))

/* What becomes of an entry whose owner died. */
#define ON_DEATH(from) (from == LOADING -> LOAD : (from == BUSY -> READY : NOTIFY))
#define OWNED(s) (s == LOADING || s == BUSY || s == NOTIFYING)
