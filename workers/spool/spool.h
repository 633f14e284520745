/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The spool on disk: formats and operations. Layout below queue_directory:
 *   seg/NNNNNNNN.seg     records, one writer each, spool_segment_size bytes preallocated
 *   seg/NNNNNNNN.idx     one fixed row per record, written beside; rebuilt from the segment if
 * absent spare/NNNNNNNN.seg   dead segments kept to be overwritten (their number is never used
 * again) journal/NNNNNNNN.jnl outcomes, one writer each, appended corrupt/             quarantined
 * records, one file each, named by queue id state                next free numbers (files, lives);
 * replaced by rename, directory synced Numbers are 8 hex digits, given out by the supervisor
 * (PROTO_FILE_GRANT), never used twice.
 *
 * A record: struct spool_record, envelope (workers/mail/envelope.h), content, zero padding to 8.
 * Content is in wire form: CRLF line ends, dot-stuffed, without the final ".". The CRC32C covers
 * envelope and content in file order and then the header (its crc field zero), and the header
 * carries the segment's number: an old record in an overwritten segment can never pass for a new
 * one. doc/spool-format.md has all of it by byte.
 *
 * Commit rule: a message may be acknowledged when its record is covered by an fdatasync that
 * succeeded after the write, and the directory entry of its segment has been fsynced. A failed
 * fdatasync is never repeated on the same file: the batch is refused (451) and the segment is
 * closed.
 */
#ifndef PH_WORKERS_SPOOL_SPOOL_H
#define PH_WORKERS_SPOOL_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/qid.h"
#include "lib/str.h"
#include "shm/proto.h"

#define SPOOL_RECORD_MAGIC 0x43455250u /* "PREC" */
#define SPOOL_ALIGN        8u

struct spool_record { /* 64 bytes, little endian on disk */
	uint32_t magic;
	uint32_t crc;
	uint32_t seg;   /* number of the segment it was written to */
	uint32_t flags; /* MSGF_* of shm/proto.h, and SPOOL_ENV_LAST */
	uint64_t qid_us;
	uint32_t qid_life;
	uint32_t env_len;
	uint64_t content_len;
	uint32_t rcpt_count;
	uint32_t size;     /* message size as logged (saturates) */
	int64_t commit_us; /* wall time of the append */
	uint64_t nonce;    /* of the segment, random: content cannot pose as a record */
};

/* In flags: the envelope stands behind the content (streams), not before it. Set here only. */
#define SPOOL_ENV_LAST 0x80000000u

/* ---- paths ---- */
struct spool_dirs { /* directory descriptors, opened before the sandbox closes */
	int root, seg, spare, journal, corrupt;
};
/* create: make missing directories (mode 0700). */
int spool_dirs_open(const char *queue_directory, bool create, struct spool_dirs *d);
void spool_dirs_close(struct spool_dirs *d);
/* Every writer holds the spool shared while it lives (the writers below do it themselves); the
 * supervisor takes it alone for a moment before it reads the spool, so that nothing of an earlier
 * run can still commit behind its back. Does not wait: E_AGAIN while others hold it. */
int spool_hold(const struct spool_dirs *d, bool alone);
/* A file that holds room for a start when the disk is full. Made when there is enough (false: not
 * yet), and given up when a start needs it (false: there was none). */
#define SPOOL_ROOM_BYTES (1u << 20)
bool spool_room_keep(const struct spool_dirs *d);
bool spool_room_give(const struct spool_dirs *d);

/* ---- writer: one per rewrite worker ---- */
struct spool_writer;

typedef void (*spool_commit_fn)(void *ctx, void *cookie, int err, const struct proto_place *place);

struct spool_writer_ops {
	/* Called from spool_writer_poll() in append order, once per append: 0 = on stable storage.
	 */
	spool_commit_fn committed;
	/* The writer wants the next number (PROTO_FILE_NEED) / is done with one
	 * (PROTO_FILE_CLOSED). */
	void (*need_file)(void *ctx);
	void (*closed_file)(void *ctx, uint32_t number, uint64_t bytes);
	void *ctx;
};

struct counters_shm;
struct loop;

struct spool_writer_conf {
	uint64_t segment_bytes; /* spool_segment_size */
	bool sync;              /* false only in measurements: skip fdatasync, say so loudly */
	unsigned max_syncs;     /* commits in flight, 1 or 2 (two segments) */
	/* Commit in the loop's own thread when at most this many records wait and nothing is in
	 * flight (two thread switches less at low load); only while the disk is fast. 0 = never. */
	unsigned inline_max;
	struct counters_shm *counters; /* may be NULL */
};

/* Starts the commit threads. `dirs` stays the caller's. */
int spool_writer_new(const struct spool_writer_conf *conf, const struct spool_writer_ops *ops,
		     const struct spool_dirs *dirs, struct loop *loop, struct spool_writer **w_r);
void spool_writer_free(struct spool_writer **w);
void spool_writer_grant(struct spool_writer *w, uint32_t number, uint32_t recycle);
/* Append one record; content in pieces. E_AGAIN: no segment at hand yet (keep it and try when
 * granted); E_NOSPC and others: answer 4xx. The bytes are copied or written before it returns.
 * `hdr` gives flags, ids, rcpt_count, size; lengths, crc, seg, commit_us are filled in here. */
struct spool_iov {
	const void *p;
	size_t len;
};
int spool_writer_append(struct spool_writer *w, const struct spool_record *hdr, struct sv envelope,
			const struct spool_iov *content, size_t content_count, void *cookie);
/* Large messages: open a record and add to it while it arrives; only the header is written last, so
 * an unfinished one is never found by recovery. One or more may be open; each holds its own space:
 * max_bytes bounds content and envelope together (E_LIMIT beyond). commit and abort set *s to NULL;
 * after a failed commit the message is not in the spool. */
struct spool_stream;
int spool_stream_open(struct spool_writer *w, uint64_t max_bytes, struct spool_stream **s_r);
int spool_stream_add(struct spool_stream *s, const void *data, size_t len);
int spool_stream_commit(struct spool_stream **s, const struct spool_record *hdr, struct sv envelope,
			void *cookie);
void spool_stream_abort(struct spool_stream **s);
/* End of turn: hand what was appended to the commit threads; deliver finished ones. True when there
 * is more to do at once. Call it from a loop hook that runs after all that appends: what is
 * appended behind it waits for the next turn. */
bool spool_writer_poll(void *writer);

/* ---- reader ---- */
struct spool_reader; /* caches open segment descriptors */
struct spool_reader *spool_reader_new(const struct spool_dirs *dirs, unsigned max_open);
void spool_reader_free(struct spool_reader **r);
/* Descriptor of a segment for sendfile/pread; valid until the next call. E_NOENT when gone. */
int spool_reader_fd(struct spool_reader *r, uint32_t seg, int *fd_r);
/* At most so many bytes are read ahead. */
#define SPOOL_AHEAD_MAX 65536u
/* Reads a part of a segment: spool_read_head() takes what lies there as a whole from memory. For
 * records that are about to be read and lie side by side. What cannot be read is read later. */
void spool_reader_ahead(struct spool_reader *r, uint32_t seg, uint64_t off, size_t len);
/* Header and envelope into `out` (envelope bytes only), not the content. `verify` reads all and
 * checks the CRC. E_CORRUPT when it is not the record of `id`. */
int spool_read_head(struct spool_reader *r, struct qid id, struct proto_place place, bool verify,
		    struct spool_record *hdr_r, struct buf *envelope);
/* The content of the record that spool_read_head() has just verified, when all of it was read at
 * once (up to 64 KiB). A view until the next call on this reader. */
bool spool_reader_has_content(const struct spool_reader *r, const struct spool_record *hdr,
			      struct proto_place place, struct sv *content_r);
/* Whether the header of the record of `id` stands at that place; one read, for the supervisor,
 * which does not take a writer's word. The file may be anything. 0; E_CORRUPT: it does not; another
 * error: cannot be told now. `look` (or NULL) keeps the file open, because the next record is often
 * in the same one; it begins as SPOOL_LOOK_INIT. */
struct spool_look {
	uint32_t seg;
	int fd;
};
#define SPOOL_LOOK_INIT ((struct spool_look){ 0, -1 })
int spool_record_is_there(const struct spool_dirs *d, struct spool_look *look, struct qid id,
			  struct proto_place place);
void spool_look_end(struct spool_look *look);
/* Content bytes [off, off+len) of the record, wire form. */
int spool_read_content(struct spool_reader *r, const struct spool_record *hdr,
		       struct proto_place place, uint64_t off, size_t len, struct buf *out);
/* Checking the CRC of a large record while its content is sent, so that it is read once. */
struct spool_check {
	uint32_t crc;
	uint64_t pos; /* bytes of envelope and content that are summed */
};
/* Content bytes [off, off + len) as they were read; what was summed before may come again, what was
 * left out is read here. With the last byte: E_CORRUPT when the record is not what was written.
 * Begin with a zeroed struct. */
int spool_check_content(struct spool_reader *r, const struct spool_record *hdr,
			struct proto_place place, uint64_t off, const char *data, size_t len,
			struct spool_check *check);
/* Byte position of the content in the segment file. */
uint64_t spool_content_pos(const struct spool_record *hdr, struct proto_place place);

/* ---- outcome journal ---- */
enum outcome_kind {
	OUTCOME_STARTED = 1, /* attempt may begin; names what is in doubt after a crash */
	OUTCOME_RESULT,      /* masks and reasons of one attempt */
	OUTCOME_NOTIFIED,    /* failures of `bounced` are reported (or there is nobody to tell) */
	OUTCOME_DELETED,     /* postsuper -d: whole message */
	OUTCOME_HELD,        /* postsuper -h: whole message */
	OUTCOME_RELEASED,    /* postsuper -H */
	OUTCOME_REQUEUED,    /* postsuper -r */
	OUTCOME_WARNED,      /* delay warning sent */
	OUTCOME_WITHDRAWN,   /* the attempt that was STARTED was not made after all */
	OUTCOME_EXPIRED,     /* postsuper -e: whole message */
};

#define OUTCOME_MTA_COMMAND "unix"       /* a command: diag is what it said */
#define OUTCOME_MTA_RELAY   "unix-relay" /* a command that passes mail on */

struct outcome_reason { /* why some recipients of the attempt were not delivered */
	uint64_t mask;
	uint8_t dsn[3];
	char dsn_text[13]; /* spare */
	struct sv mta;     /* "host[ip]", "none" or OUTCOME_MTA_...; for Remote-MTA and relay= */
	struct sv text;    /* as logged in parentheses: "host x said: 450 ..." */
	struct sv diag;    /* the remote reply itself, for Diagnostic-Code; empty = none */
};

struct outcome {
	uint8_t kind; /* enum outcome_kind */
	struct qid qid;
	uint32_t rcpt_first;
	uint64_t mask; /* recipients of the attempt */
	uint64_t sent, deferred, bounced;
	uint64_t report;              /* of those sent: NOTIFY=SUCCESS is owed */
	bool unsure;                  /* RESULT: those deferred may have it all the same */
	int64_t when_us;              /* wall */
	struct proto_warrant warrant; /* order 0: none */
	struct sv transport, nexthop; /* for queue listing and recovery; may be empty */
	struct outcome_reason *reasons;
	size_t reason_count; /* at most 64 */
};

struct journal_writer;
struct journal_conf {
	int64_t sync_window_ms; /* outcomes older than this are synced (journal_sync_window) */
	/* Syncs that somebody waits for (journal_has) begin at least so far apart: the longer, the
	 * more outcomes share one. 0: back to back. */
	int64_t pace_us;
	/* So many starts of deliveries begin a sync whether somebody waits or not; 0: no number. */
	uint32_t batch;
	unsigned lanes;      /* syncs under way at a time, 1 (also 0) to 3 */
	uint64_t file_bytes; /* change to a new file past this size */
	struct counters_shm *counters;
	void (*need_file)(void *ctx);
	void (*closed_file)(void *ctx, uint32_t number, uint64_t bytes);
	void *ctx;
};
int journal_writer_new(const struct journal_conf *conf, const struct spool_dirs *dirs,
		       struct loop *loop, struct journal_writer **w_r);
void journal_writer_free(struct journal_writer **w); /* syncs what is there */
struct journal_owner {                               /* stands in the head; zero: unknown */
	uint32_t life;
	uint64_t code; /* of the grant */
};
void journal_writer_grant(struct journal_writer *w, uint32_t number, struct journal_owner owner);
/* E_AGAIN: no file yet. E_NOSPC ...: the outcome is lost to disk; the caller still reports it. */
int journal_append(struct journal_writer *w, const struct outcome *o, struct proto_jref *ref_r);
/* Outcomes are numbered in the order of journal_append(): the last one's number. */
uint64_t journal_position(const struct journal_writer *w);
/* Is the outcome of that number on disk (`durable`), or at least with the kernel? 1 yes; 0 not yet,
 * and the sync will be soon when it is asked for; E_IO never: its file failed, append it again. */
int journal_has(struct journal_writer *w, uint64_t position, bool durable);
int journal_sync(struct journal_writer *w); /* now; used before a command is acknowledged */
/* Writes the buffer out once per turn and starts the sync when the window is over. Loop hook. */
bool journal_writer_poll(void *writer);
/* For who has no loop: 1 when there is a file to append to, 0 not yet, or why it cannot be made. */
int journal_writer_ready(struct journal_writer *w);

struct journal_reader;
struct journal_reader *journal_reader_new(const struct spool_dirs *dirs, unsigned max_open);
void journal_reader_free(struct journal_reader **r);
/* One record; views point into `mem` (reset by the caller). E_CORRUPT, E_NOENT. */
int journal_read(struct journal_reader *r, struct proto_jref ref, struct buf *mem,
		 struct outcome *o, struct outcome_reason reasons[64]);

/* ---- recovery and upkeep: the supervisor ---- */
struct spool_found { /* one valid record */
	struct qid qid;
	struct proto_place place;
	uint32_t rcpt_count;
	uint32_t flags;
	uint32_t size;
	int64_t commit_us;
	struct sv bounce_of; /* of notifications; empty otherwise */
};
typedef int (*spool_found_fn)(void *ctx, const struct spool_found *f);
typedef int (*outcome_found_fn)(void *ctx, const struct outcome *o, struct proto_jref ref);

struct spool_scan_stats {
	uint64_t segments, records, index_rows, damaged, torn_bytes, journals, outcomes;
	uint64_t unreadable; /* parts that could be neither read nor kept: mail may be in them */
};
/* Segments and journals that exist, ascending. The arrays are malloc'd for the caller. */
int spool_list(const struct spool_dirs *d, enum spool_file_kind kind, uint32_t **numbers_r,
	       size_t *count_r);
/* Every valid record of one segment from byte `from` on, by the index as far as it goes and by
 * reading the segment where the index does not account for it. Damaged records are counted and,
 * when others follow, their bytes kept in corrupt/; a torn tail is neither found nor damage. With
 * d->corrupt < 0 nothing is kept or logged: for looking at a spool that is in use. */
int spool_scan_segment(const struct spool_dirs *d, uint32_t seg, uint64_t from, spool_found_fn fn,
		       void *ctx, struct spool_scan_stats *stats);
/* What its head says. E_CORRUPT. */
int spool_journal_owner(const struct spool_dirs *d, uint32_t journal, struct journal_owner *o_r);
int spool_scan_journal(const struct spool_dirs *d, uint32_t journal, outcome_found_fn fn, void *ctx,
		       struct spool_scan_stats *stats);
/* What spool_scan_segment() did not look for because of the index: valid records between and behind
 * the rows of a segment, or where a row says something else. There are none unless the index lies.
 * Reads all of the segment, keeps and logs nothing. */
int spool_scan_hidden(const struct spool_dirs *d, uint32_t seg, spool_found_fn fn, void *ctx);
/* Writes the index of a closed segment anew, with these records, which it had hidden, in place of
 * the rows that said something else there. On failure the old one stays. */
int spool_index_mend(const struct spool_dirs *d, uint32_t seg, const struct spool_found *hidden,
		     size_t count);
/* Also what is left of outcomes that are not whole: `id` and `kind` as they read now. The torn end
 * is among them. `damaged` may be NULL. */
typedef void (*outcome_damaged_fn)(void *ctx, struct qid id, uint8_t kind, struct proto_jref ref);
int spool_scan_journal_all(const struct spool_dirs *d, uint32_t journal, outcome_found_fn fn,
			   outcome_damaged_fn damaged, void *ctx, struct spool_scan_stats *stats);
/* Numbers of the segments in spare/, at start. Of one that is in seg/ as well, because its move was
 * half done when the power failed, the name in spare/ goes. *numbers_r is the caller's. 0 or E_*.
 */
int spool_list_spares(const struct spool_dirs *d, uint32_t **numbers_r, size_t *count_r);

/* Move a dead segment to spare/ (keep at most spare_max there) or unlink it, with its index. */
int spool_segment_retire(const struct spool_dirs *d, uint32_t seg, unsigned spare_max,
			 bool *kept_r);
int spool_spare_remove(const struct spool_dirs *d, uint32_t seg);
int spool_journal_remove(const struct spool_dirs *d, uint32_t journal);
/* Copy a damaged record's bytes to corrupt/QID and return 0; used before it is dropped. */
int spool_quarantine(const struct spool_dirs *d, struct qid id, struct proto_place place);
/* The same for what may also be the torn end of the last commit: corrupt/QID.torn. */
#define SPOOL_TORN_SUFFIX ".torn"
int spool_quarantine_torn(const struct spool_dirs *d, struct qid id, struct proto_place place);
/* Bytes that no header identifies any more: corrupt/SEGMENT-OFFSET. */
#define SPOOL_BYTES_NAME_SIZE 32
int spool_quarantine_bytes(const struct spool_dirs *d, struct proto_place place);
const char *spool_bytes_name(struct proto_place place, char out[SPOOL_BYTES_NAME_SIZE]);
/* Files in corrupt/ that are damage for sure. */
int spool_count_quarantined(const struct spool_dirs *d, uint64_t *count_r);
/* Has somebody found the record of `id` damaged? */
bool spool_is_quarantined(const struct spool_dirs *d, struct qid id);

/* Persistent numbers. Reserves a batch ahead, so it is written rarely. Life numbers and file
 * numbers are never handed out twice, whatever crashes. */
struct spool_state;
int spool_state_open(const struct spool_dirs *d, struct spool_state **s_r);
void spool_state_close(struct spool_state **s);
int spool_state_next_file(struct spool_state *s, uint32_t *number_r);
int spool_state_next_life(struct spool_state *s, uint32_t *life_r);
/* No file has this number or a higher one yet. */
uint32_t spool_state_unused_file(const struct spool_state *s);

#endif
