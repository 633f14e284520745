/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What travels on the rings (shm/ring.h): one fixed struct per kind, host byte order, the first
 * field is always the kind. Variable parts (names, entry lists) follow the struct directly. Readers
 * check lengths first: proto_len_ok(). All spool places are {seg, off8}: segment number and byte
 * offset / 8.
 *
 * Fencing: whatever concerns a queue entry carries (entry, word), the word being the entry's state
 * word (shm/qtab.h) at the time the supervisor handed it out. The supervisor applies an answer only
 * by a compare-and-swap from exactly that word, so late, repeated or forged answers change nothing.
 */
#ifndef PH_SHM_PROTO_H
#define PH_SHM_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTO_ENTRY_SPAN 64u  /* recipients an entry can cover: bits of its mask */
#define PROTO_NAME_MAX   255u /* transport names and next hops */
#define PROTO_TEXT_MAX   400u /* reply texts */

enum proto_kind {
	/* smtp-in -> rewrite */
	PROTO_SUBMIT = 1,
	/* rewrite -> smtp-in */
	PROTO_SUBMIT_FREE, /* blocks may be reused */
	PROTO_SUBMIT_DONE, /* the verdict on a message */
	/* rewrite -> supervisor */
	PROTO_DEST,        /* names a destination once */
	PROTO_NEW,         /* a committed message and its entries */
	PROTO_NEW_MORE,    /* further entries of the same message */
	PROTO_LOADED,      /* answer to PROTO_LOAD */
	PROTO_BOUNCED,     /* answer to PROTO_BOUNCE */
	PROTO_COPIED,      /* answer to PROTO_COPY */
	PROTO_FILE_NEED,   /* any spool writer: wants a number for the next segment or journal */
	PROTO_FILE_CLOSED, /* any spool writer: writes no more into that file */
	/* supervisor -> rewrite */
	PROTO_LOAD,       /* read the recipients of an entry and resolve them (again) */
	PROTO_BOUNCE,     /* make a delivery status notification */
	PROTO_COPY,       /* copy a record forward */
	PROTO_FILE_GRANT, /* supervisor -> any spool writer */
	/* supervisor -> deliver and local */
	PROTO_JOB,
	/* deliver and local -> supervisor */
	PROTO_RESULT,
	/* any worker <-> resolver */
	PROTO_DNS_QUERY,
	PROTO_DNS_ANSWER,
	/* supervisor -> deliver: forget idle connections of a destination (flush, suspend) */
	PROTO_DEST_IDLE,
	/* smtp-in, rewrite, local, deliver <-> lookup; smtp-in <-> verify */
	PROTO_TABLE_QUERY,
	PROTO_TABLE_ANSWER,
	/* showq <-> supervisor */
	PROTO_QUEUE_ASK,
	PROTO_QUEUE_ITEMS,
	/* smtp-in -> rewrite, and back */
	PROTO_MILTER_EVENT,
	PROTO_MILTER_REPLY,
	/* smtp-in <-> auth */
	PROTO_AUTH_ASK,
	PROTO_AUTH_ANSWER,
	/* rewrite -> verify */
	PROTO_VERIFY_RESULT,
	/* deliver -> supervisor -> rewrite */
	PROTO_NOTICE,
	/* deliver <-> saslclient */
	PROTO_SASL_ASK,
	PROTO_SASL_ANSWER,
	/* smtp-in <-> verify: what postscreen knows of a client */
	PROTO_SCREEN_ASK,
	PROTO_SCREEN_ANSWER,
	PROTO_KIND_COUNT
};

struct proto_qid {
	uint64_t time_us;
	uint32_t life;
	uint32_t pad;
};

struct proto_place { /* where a record is */
	uint32_t seg;
	uint32_t off8;
	uint32_t len; /* bytes of the whole record */
	uint32_t pad;
};

/* ---- smtp-in <-> rewrite ---- */

enum {
	SUBMIT_BEGIN = 1, /* the chain begins with the envelope (workers/mail/envelope.h) */
	SUBMIT_END = 2,   /* content is complete: answer with PROTO_SUBMIT_DONE */
	SUBMIT_ABORT = 4, /* client went away: forget it; no answer */
	SUBMIT_MILTER =
		8, /* with BEGIN: the milters of the session see it before it is committed */
};

struct proto_submit {
	uint32_t kind;
	uint32_t flags;
	uint32_t session; /* smtp-in's number for the session, echoed */
	uint32_t tx; /* smtp-in's number for the transaction within its life, echoed; never 0 */
	uint32_t first_block; /* BLOCK_NONE when there are no bytes */
	uint32_t env_len;     /* bytes of envelope at the start of the chain; 0 unless BEGIN */
	uint32_t data_len;    /* bytes of content behind it in the same chain */
	uint32_t pad;
	struct proto_qid qid;
};

struct proto_submit_free {
	uint32_t kind;
	uint32_t first_block; /* as it was submitted; the owner frees the chain it remembers */
	uint32_t session;
	uint32_t tx;
};

enum submit_verdict { SUBMIT_OK, SUBMIT_TEMPFAIL, SUBMIT_PERMFAIL, SUBMIT_DISCARDED };

struct proto_submit_done {
	uint32_t kind;
	uint32_t session;
	uint32_t tx;
	uint16_t verdict; /* enum submit_verdict */
	uint16_t code;    /* SMTP reply code when not OK, e.g. 451 */
	uint8_t dsn[3];   /* enhanced status code, e.g. 4 3 0 */
	uint8_t pad;
	uint32_t text_len; /* bytes of reply text that follow (no code, no CRLF) */
};

/* ---- rewrite <-> supervisor ---- */

/* Destinations are named by each rewrite life with its own numbers, so that entries carry 4 bytes.
 * A number may be defined again: the newest definition holds. */
struct proto_dest {
	uint32_t kind;
	uint32_t local_id;      /* below 2^20 */
	uint16_t transport_len; /* transport name: a master.cf unix service, e.g. "smtp" */
	uint16_t nexthop_len;   /* next hop as transport_maps or relayhost gives it, e.g.
				   "[10.0.0.1]:25" */
	uint32_t pad;
	/* transport, nexthop, without terminators */
};

struct proto_entry {
	uint32_t rcpt_first; /* recipient number in the record of bit 0 of the mask */
	uint32_t dest;       /* local id; UINT32_MAX: see `fail` of the message that carries it */
	uint64_t mask;       /* recipients rcpt_first + bit; never 0 */
};

enum {
	MSGF_NULL_SENDER = 1, /* sender is <>: failures are not bounced */
	MSGF_HOLD = 2,        /* goes to the hold queue */
	MSGF_DOUBLE_BOUNCE = 4,
	MSGF_WANT_SUCCESS = 8, /* some recipient asked NOTIFY=SUCCESS */
	MSGF_DELAY_WARNED =
		16,         /* supervisor only; it tells workers when confirm_delay_cleared is on */
	MSGF_INTERNAL = 32, /* made by us: bounce, notification */
	/* bits 6 to 8 belong to the supervisor */
	MSGF_VERIFY = 0x800, /* a probe of the verify worker: what would be deferred is reported */
	MSGF_IN_DOUBT =
		0x200, /* supervisor only: a delivery of it is on the list of those in doubt */
	MSGF_EXPIRED = 0x400, /* supervisor only: an operator said that its time is over */
	MSGF_FLOW_SHIFT =
		12, /* four bits of a hash of the sender: within a destination, flows take */
	MSGF_FLOW_MASK =
		0xf000, /* turns, so that one sender's mailing does not hold up the others */
};

struct proto_new {
	uint32_t kind;
	uint32_t flags; /* MSGF_* */
	struct proto_qid qid;
	struct proto_place place;
	uint32_t rcpt_count;
	uint32_t size;        /* message size as logged, bytes (saturates) */
	uint32_t entry_total; /* over this and all PROTO_NEW_MORE */
	uint32_t entry_count; /* struct proto_entry that follow here */
};

struct proto_new_more {
	uint32_t kind;
	uint32_t entry_count;
	struct proto_qid qid;
	/* struct proto_entry[entry_count] */
};

/* The supervisor's leave to write an outcome about an entry: workers/spool/warrant.h. */
struct proto_warrant {
	uint64_t order; /* grows with every one that is handed out; 0: none */
	uint64_t code;
};

/* An entry handed to a worker. */
struct proto_ref {
	uint64_t word;
	uint32_t entry;
	uint32_t rcpt_first;
	uint64_t mask;
	struct proto_qid qid;
	struct proto_place place;
};

enum {
	LOAD_FLUSH = 1,   /* somebody wants it tried now: defer_transports does not hold it back */
	LOAD_BEST_MX = 2, /* this host is its best MX host: best_mx_transport of its transport */
};

struct proto_load {
	uint32_t kind;
	uint32_t flags; /* LOAD_FLUSH, LOAD_BEST_MX */
	struct proto_ref ref;
};

enum { LOAD_OK, LOAD_DAMAGED, LOAD_RETRY };

struct proto_loaded {
	uint32_t kind;
	uint32_t status; /* LOAD_*; DAMAGED: the record failed its checksum and is quarantined */
	uint64_t word;
	uint32_t entry;
	uint32_t entry_count; /* struct proto_entry that follow; together they cover the mask
				 exactly */
};

/* Where an outcome stands: journal number and byte offset / 16. {0,0} = none. */
struct proto_jref {
	uint32_t journal;
	uint32_t off16;
};

enum bounce_kind {
	BOUNCE_FAILURE,
	BOUNCE_EXPIRED,
	BOUNCE_DELAY,
	BOUNCE_SUCCESS,
	BOUNCE_FORCED, /* expired because an operator said so */
	BOUNCE_KINDS
};

struct proto_bounce {
	uint32_t kind;
	uint16_t bounce; /* enum bounce_kind */
	uint16_t msg_flags;
	struct proto_ref ref;   /* mask: the recipients to report */
	struct proto_jref jref; /* reasons */
	struct proto_warrant warrant;
};

struct proto_bounced {
	uint32_t kind;
	uint32_t status; /* 0 done (committed, or nobody to tell), else try again later */
	uint64_t word;
	uint32_t entry;
	uint32_t pad;
};

struct proto_copy { /* also the head of the answer, with the new place */
	uint32_t kind;
	uint32_t msg;     /* message slot */
	uint64_t msg_seq; /* fence, echoed */
	struct proto_qid qid;
	struct proto_place place;
};

struct proto_copied {
	uint32_t kind;
	uint32_t status; /* 0 = committed at `place` */
	uint32_t msg;
	uint32_t rcpt_count; /* of the record */
	uint64_t msg_seq;
	struct proto_qid qid;
	struct proto_place place;
};

enum spool_file_kind { SPOOL_SEGMENT = 1, SPOOL_JOURNAL = 2 };

struct proto_file { /* PROTO_FILE_NEED, _GRANT, _CLOSED */
	uint32_t kind;
	uint32_t file_kind; /* enum spool_file_kind */
	uint32_t number;    /* GRANT, CLOSED */
	uint32_t recycle;   /* GRANT: number of a dead segment in spare/ to overwrite, 0 = none */
	uint64_t bytes;     /* CLOSED: bytes used */
	uint64_t code;      /* GRANT of a journal: for its head */
};

/* ---- supervisor <-> deliver, local ---- */

struct proto_job {
	uint32_t kind;
	uint32_t dest; /* destination table row: key for connection affinity */
	struct proto_ref ref;
	struct proto_warrant warrant;
	uint64_t active_us; /* wall time the entry became ready: the b part of delays= begins */
	uint32_t msg_flags; /* MSGF_* */
	uint16_t transport; /* index of the transport in the configuration (conf/services.h) */
	uint16_t window;    /* connections the destination may have now */
	uint16_t nexthop_len;
	uint16_t pad[3];
	/* nexthop */
};

enum job_health {
	JOB_HEALTH_OK,   /* the site answered: window may grow */
	JOB_HEALTH_SITE, /* connect or handshake failed: counts against the destination */
	JOB_HEALTH_NONE, /* says nothing about the site (worker had no memory, cancelled) */
	JOB_HEALTH_PASS, /* so, too: those deferred are at their best MX host, and go on at once by
			    its transport's best_mx_transport (LOAD_BEST_MX) */
};

struct proto_result {
	uint32_t kind;
	uint32_t health; /* enum job_health */
	uint64_t word;
	uint32_t entry;
	uint32_t unsure; /* 1: those deferred may have it all the same */
	uint64_t sent;   /* the three masks are disjoint and together the job's mask */
	uint64_t deferred;
	uint64_t bounced;
	uint64_t report;        /* subset of sent whose NOTIFY=SUCCESS is ours to report (relayed to
				   non-DSN host, or final) */
	struct proto_jref jref; /* the outcome record; required when deferred or bounced is not 0 */
};

struct proto_dest_idle {
	uint32_t kind;
	uint32_t dest;
};

/* ---- deliver -> supervisor -> rewrite ---- */

#define PROTO_NOTICE_MAX 8192u /* bytes of a transcript */

struct proto_notice { /* the postmaster is told of a session with a server; may be lost */
	uint32_t kind;
	uint16_t lmtp;
	uint16_t peer_len; /* "host[ip]:port" */
	uint32_t text_len; /* transcript: lines, each with a line feed */
	uint32_t pad;
	/* peer, transcript */
};

/* ---- any <-> resolver ---- */

struct proto_dns_query {
	uint32_t kind;
	uint32_t id;     /* asker's number, echoed */
	uint16_t rrtype; /* 1 A, 28 AAAA, 15 MX, 12 PTR, 16 TXT, 33 SRV, 52 TLSA */
	uint16_t name_len;
	uint32_t pad;
	/* name, presentation form, absolute, without the final dot */
};

enum dns_status {
	DNS_OK, /* rr_count >= 1 */
	DNS_NXDOMAIN,
	DNS_NODATA,
	DNS_TEMP,    /* SERVFAIL, time-out, bogus: try later */
	DNS_BADNAME, /* not a domain name */
};

struct proto_dns_answer {
	uint32_t kind;
	uint32_t id;
	uint16_t status; /* enum dns_status */
	uint16_t rrtype;
	uint16_t rr_count; /* at most 100 */
	uint8_t secure;    /* DNSSEC validated */
	uint8_t pad;
	uint32_t ttl_s;
	uint32_t pad2;
	/* rr_count times: uint16_t length, rdata in wire form with names uncompressed */
};

/* ---- smtp-in, rewrite, local, deliver <-> lookup ---- */

#define PROTO_TABLE_SPEC_MAX  4096u
#define PROTO_TABLE_KEY_MAX   16384u
#define PROTO_TABLE_VALUE_MAX 49152u
#define PROTO_TABLE_ASKED_MAX 1024u /* questions of one asker that may be without answer */

struct proto_table_query {
	uint32_t kind;
	uint32_t id; /* asker's number, echoed */
	uint16_t spec_len, key_len;
	uint32_t pad;
	/* spec ("type:name", as in the configuration), key */
};

enum table_status { TABLE_FOUND, TABLE_NOT_FOUND, TABLE_ERROR };

struct proto_table_answer {
	uint32_t kind;
	uint32_t id;
	uint16_t status; /* enum table_status */
	uint16_t pad;
	uint32_t value_len; /* 0 unless found; at most PROTO_TABLE_VALUE_MAX */
			    /* value, without NUL */
};

/* ---- showq <-> supervisor ---- */

#define PROTO_QUEUE_ITEMS_MAX 64u /* in one answer */

enum queue_ask {
	QUEUE_LIST, /* answered by PROTO_QUEUE_ITEMS; one question at a time */
	QUEUE_FLUSH,
	QUEUE_FLUSH_MESSAGE,
	QUEUE_FLUSH_SITE,
	QUEUE_ASK_COUNT
};

struct proto_queue_ask {
	uint32_t kind;
	uint32_t what;       /* enum queue_ask */
	uint32_t msg, entry; /* LIST: go on there; 0, UINT32_MAX: from the beginning */
	struct proto_qid qid;
	uint32_t site_len;
	uint32_t pad;
	/* site */
};

struct proto_queue_items {
	uint32_t kind;
	uint32_t more;       /* 1: there may be others behind these */
	uint32_t msg, entry; /* where they begin */
	/* struct qctl_item with their reasons (daemon/qctl.h); those of a message side by side */
};

/* ---- address verification ---- */

/* smtp-in asks the verify worker by PROTO_TABLE_QUERY and is answered as by a table; what the key
 * and the value are is said in conf/verify_use.h. */
struct proto_verify_result {
	uint32_t kind;
	uint32_t status; /* enum verify_status, not TODO */
	uint32_t addr_len;
	uint32_t text_len;
	/* address, text */
};

/* ---- smtp-in <-> verify: the clients that have passed tests of postscreen ---- */

#define PROTO_SCREEN_TESTS 5u

struct proto_screen_ask {
	uint32_t kind;
	uint32_t session; /* smtp-in's number, echoed */
	uint32_t serial;  /* of the test of this client, echoed; never 0 */
	uint32_t store;   /* 1: remember, no answer; 0: answer with PROTO_SCREEN_ANSWER */
	uint8_t addr[16]; /* IPv6, or IPv4-mapped */
	int64_t expires_s[PROTO_SCREEN_TESTS]; /* with store: wall seconds; 0 and 1 are none */
};

struct proto_screen_answer {
	uint32_t kind;
	uint32_t session;
	uint32_t serial;
	uint32_t found; /* 1, or 0: expires_s has nothing */
	int64_t expires_s[PROTO_SCREEN_TESTS];
};

/* ---- smtp-in <-> rewrite: milters of a session ---- */

#define PROTO_MILTER_TEXT_MAX  32768u /* strings of an event */
#define PROTO_MILTER_REPLY_MAX 4096u  /* bytes of a reply, with CRLF between its lines */

enum {
	MILTER_EVENT_REJECTED = 1, /* a recipient that is refused already */
};

/* One event at a time per session; all but ABORT and QUIT are answered. */
struct proto_milter_event {
	uint32_t kind;
	uint32_t session;  /* smtp-in's number for the session */
	uint32_t milter;   /* smtp-in's number for its milters within its life, echoed; never 0 */
	uint16_t listener; /* conf_listener() index */
	uint8_t command;   /* as in workers/milter/codec.h */
	uint8_t flags;     /* MILTER_EVENT_* */
	uint32_t text_len;
	uint32_t pad;
	/* strings, each with its NUL:
	 * CONNECT: address, port, name, reverse name, OK|FORGED|TEMP|FAIL, connections, own
	 *          address, own port
	 * HELO:    name; of an encrypted session also version, cipher, its bits, and subject and
	 *          issuer of a trusted client certificate, or ""
	 * MAIL:    queue id or "", address, login's method, user and sender or "", arguments as
	 *          they came
	 * RCPT:    queue id or "", address, why it is refused or "", arguments as they came
	 * DATA:    queue id    UNKNOWN: the line */
};

enum {
	MILTER_REPLY_NONE = 1,     /* there are no milters for this session */
	MILTER_REPLY_REJECTED = 2, /* refused recipients are wanted, too */
};

struct proto_milter_reply {
	uint32_t kind;
	uint32_t session;
	uint32_t milter;
	uint32_t flags;    /* MILTER_REPLY_* */
	uint32_t text_len; /* the reply as workers/milter/client.h has it; 0 = go on */
	uint32_t pad;
};

/* ---- deliver <-> saslclient: logins to other servers ---- */

#define PROTO_SASL_TEXT_MAX  49152u /* strings of a record */
#define PROTO_SASL_ASKED_MAX 4096u  /* dialogues of one deliver worker */

enum sasl_ask {
	SASL_ASK_START,    /* service, server, mechanisms it offers, user, password */
	SASL_ASK_STEP,     /* the server's challenge, base64 */
	SASL_ASK_END,      /* not answered: the dialogue is over */
	SASL_ASK_FIND,     /* smtp_sasl_auth_cache_name, server, user, mark of the password */
	SASL_ASK_REMEMBER, /* ... and "dsn reply"; not answered */
	SASL_ASK_COUNT
};

struct proto_sasl_ask {
	uint32_t kind;
	uint32_t dialogue; /* asker's number, never 0; echoed */
	uint16_t what;     /* enum sasl_ask */
	uint16_t authzid;  /* START: send_cyrus_sasl_authzid */
	uint32_t options;  /* START: SASL_NO_... of conf/sasl.h */
	uint32_t text_len; /* strings, each with its NUL */
	uint32_t pad;
	int64_t age_s; /* FIND: smtp_sasl_auth_cache_time */
};

enum sasl_said {
	SASL_SAID_MECHS,  /* unasked, first: the mechanisms there are, with blanks; dialogue 0 */
	SASL_SAID_MORE,   /* mechanism, what to say (base64; "" = nothing) */
	SASL_SAID_DONE,   /* the same, and the mechanism has what it wants of the server: it is over
			   */
	SASL_SAID_FAILED, /* "", why; the dialogue is over */
	SASL_SAID_KNOWN,  /* to FIND: "dsn", the server's reply */
	SASL_SAID_UNKNOWN, /* to FIND */
	SASL_SAID_COUNT
};

struct proto_sasl_answer {
	uint32_t kind;
	uint32_t dialogue;
	uint16_t what; /* enum sasl_said */
	uint16_t pad;
	uint32_t text_len; /* three strings, each with its NUL; the third: lines for the log */
};

/* ---- smtp-in <-> auth: SASL dialogues ---- */

#define PROTO_AUTH_TEXT_MAX  49152u /* strings of a record */
#define PROTO_AUTH_ASKED_MAX 1024u  /* dialogues of one asker with one worker */

enum auth_ask {
	AUTH_START,  /* service name, mechanism, initial response, client's address and port, own
			address and port */
	AUTH_STEP,   /* the client's line, as it came */
	AUTH_CANCEL, /* not answered */
	AUTH_ASK_COUNT
};

enum {
	AUTH_TLS = 1,     /* the connection is encrypted */
	AUTH_INITIAL = 2, /* START: there is an initial response */
};

struct proto_auth_ask {
	uint32_t kind;
	uint32_t session;  /* asker's, echoed */
	uint32_t dialogue; /* asker's number, never 0, one dialogue only within its life; echoed */
	uint16_t what;     /* enum auth_ask */
	uint16_t flags;    /* AUTH_TLS... */
	uint32_t text_len; /* strings, each with its NUL */
	uint32_t pad;
};

enum auth_status {
	AUTH_MORE,   /* say `text` (base64) and come back with an AUTH_STEP */
	AUTH_DONE,   /* logged in; the dialogue is over, as after the next two */
	AUTH_FAILED, /* wrong password or mechanism; `text` says why */
	AUTH_TEMP,   /* the back end is not well; `text` says why */
	AUTH_OFFER,  /* unasked: mechanisms of a service; dialogue 0 */
	AUTH_STATUS_COUNT
};

struct proto_auth_answer {
	uint32_t kind;
	uint32_t session, dialogue;
	uint16_t status; /* enum auth_status */
	uint16_t flags;  /* OFFER: AUTH_TLS when it holds for encrypted connections */
	uint32_t text_len;
	uint32_t pad;
	/* three strings, each with its NUL: text, user ("" = not known), lines for the log.
	 * OFFER: mechanisms with blanks between them, service name, nothing */
};

static inline bool proto_len_ok(size_t len, size_t fixed, size_t count, size_t each)
{
	return len >= fixed && (each == 0 || count <= (len - fixed) / each) &&
	       len - fixed >= count * each;
}

#endif
