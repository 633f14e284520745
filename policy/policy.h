/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Policy: the restriction lists of the SMTP server (smtpd_*_restrictions, access(5)). Functions
 * over a read-only view of a session that give a verdict. Called by workers/smtp_in.
 *
 * At configuration load the lists are compiled to arrays of {table row, argument} (policy/table.c
 * is the table). An evaluation walks them and may stop with POLICY_NEED: the caller does what
 * run->need says (a DNS question, a pause, answers of remote tables) and calls policy_resume().
 * Nothing here blocks, and nothing here knows about sockets or processes.
 *
 * Remote tables (conf/map_remote.h): the caller enters a memo around policy_start() and
 * policy_resume(), the same for the whole evaluation. An entry that lacks an answer has no effect,
 * and is begun again by policy_resume().
 *
 * Addresses are in internal form: no angle brackets, quotes removed, "local@domain" with the last @
 * as the separator.
 */
#ifndef PH_POLICY_POLICY_H
#define PH_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/str.h"

#define POLICY_REPLY_SIZE 512

enum policy_verdict {
	POLICY_DUNNO, /* no opinion; at the end of a list the same as permit */
	POLICY_PERMIT,
	POLICY_REJECT, /* run->reply holds a 5xx */
	POLICY_DEFER,  /* run->reply holds a 4xx */
	POLICY_NEED,   /* run->need holds a question; answer it and resume */
};

enum policy_event {
	POLICY_ON_CONNECT,
	POLICY_ON_HELO,
	POLICY_ON_MAIL,
	POLICY_ON_RCPT, /* also VRFY */
	POLICY_ON_DATA,
	POLICY_ON_EOD,
	POLICY_ON_ETRN,
	POLICY_EVENT_COUNT
};

/* How well a client host name is known. */
enum policy_name_status { POLICY_NAME_OK, POLICY_NAME_TEMP, POLICY_NAME_PERM, POLICY_NAME_FORGED };

/* Of an encrypted session. Texts may be "". */
struct policy_tls {
	const char *protocol, *cipher, *sni;
	unsigned bits;
	bool has_cert, is_trusted; /* of the client */
	const char *subject, *issuer, *fingerprint, *key_fingerprint;
};

/* What the restrictions may look at. Strings live at least as long as the run. */
struct policy_view {
	const char *client_name;  /* verified name, or "unknown" */
	const char *client_addr;  /* text, IPv4-mapped as IPv4 */
	const char *reverse_name; /* unverified name, or "unknown" */
	const char *namaddr;      /* "name[addr]" for replies and logs */
	enum policy_name_status name_status, reverse_status;
	const char *helo;                    /* NULL = none yet */
	const char *sender;                  /* NULL = no MAIL yet; "" = null sender */
	const char *recipient;               /* NULL = none */
	const char *etrn;                    /* NULL = not in ETRN */
	const char *sasl_method, *sasl_user; /* NULL = not authenticated */
	const char *sasl_sender;             /* AUTH= of MAIL, NULL = none */
	unsigned rcpt_count;                 /* recipients accepted so far */
	/* for policy services */
	const char *where;    /* protocol state: "CONNECT", "RCPT", "END-OF-MESSAGE" ... */
	const char *protocol; /* "ESMTP", "SMTP" */
	const char *client_port, *server_addr, *server_port;
	const char *queue_id, *instance; /* "" = none yet */
	const char *stress;              /* "yes" or "" */
	bool rcpt_is_probe; /* the recipient is the sender of our probes: never refused */
	uint64_t size;      /* announced, then received */
	bool smtputf8;
	bool ill_pipelining;          /* the client broke the pipelining rules earlier */
	const struct policy_tls *tls; /* NULL = plain text */
};

/* What access tables asked for besides a verdict; belongs to the transaction. */
struct policy_text {
	struct policy_text *next;
	const char *text;
};

struct policy_effects {
	bool hold, discard;
	const char *filter;   /* transport:nexthop */
	const char *redirect; /* address */
	struct policy_text *bcc;
	struct policy_text *prepend; /* "Name: value", in order */
};

struct policy_deferral { /* a deferral that waits for the final verdict */
	bool active;
	int code;
	char *dsn;  /* heap */
	char *text; /* heap */
};

/* Kept by the session between evaluations. Zero-initialised is fresh. */
struct policy_state {
	struct policy_deferral if_permit, if_reject;
	bool if_permit_client, if_permit_helo, if_permit_sender;
	bool sender_listed_done, rcpt_listed_done;
	struct policy_effects effects; /* memory from the transaction's arena */
};
void policy_state_fini(struct policy_state *st);
/* End of transaction: forget effects (their arena goes away). */
void policy_state_reset_tx(struct policy_state *st);

#define POLICY_TXT_SIZE 501

enum policy_dns_status {
	POLICY_DNS_OK,
	POLICY_DNS_NONE, /* no such name or no such record */
	POLICY_DNS_TEMP,
	POLICY_DNS_NULLMX, /* MX 0 . (RFC 7505) */
	POLICY_DNS_INVALID,
};

struct policy_rr {        /* a record of an answer */
	uint16_t pref;    /* MX */
	bool is_v6;       /* AAAA */
	const void *addr; /* A: 4 bytes, AAAA: 16; network order */
	const char *name; /* MX, NS: the host; "" = the root */
};

struct policy_dns {
	enum policy_dns_status status;
	bool nodata;                 /* with NONE: the name exists */
	const struct policy_rr *rrs; /* A, AAAA, MX and NS; for policy_answered() alone */
	uint32_t rr_count;
	uint32_t a_count;
	uint32_t a[16];            /* A answers, host order */
	char txt[POLICY_TXT_SIZE]; /* TXT answers, joined; as they came from the network */
};

struct policy_need {
	enum { POLICY_NEED_DNS, POLICY_NEED_SLEEP, POLICY_NEED_TABLES } kind;
	uint16_t rrtype;
	char name[256];
	int64_t sleep_ms;
	int64_t time_ms; /* POLICY_NEED_TABLES: the answers may take so long; 0 = as usual */
};

/* `action`: reject, reject_warning, hold, discard, filter, redirect, bcc, warn, info, permit. The
 * callee writes the whole Postfix line ("NOQUEUE: reject: RCPT from ..."). */
typedef void (*policy_log_fn)(void *ctx, const char *action, const char *text);

struct policy_conf;
struct policy_item;

#define POLICY_MAX_DEPTH 24

struct policy_frame {
	const struct policy_item *items;
	unsigned count, idx;
	const char *reply_name;
	const char *reply_class; /* "Client host", "Recipient address" ... */
	int def_acl;             /* list whose kind of lookup a bare type:table means, -1 = none */
	bool doubtful;           /* a permit from here is only a dunno */
	const char *no_permit; /* a permit from here is a mistake: about whom; NULL = it is none */
	bool fallback;         /* default action of a policy service that does not answer */
};

struct policy_run {
	struct policy_conf *pc;
	const struct policy_view *view;
	struct policy_state *state;
	struct arena *arena; /* of the transaction, or of the connection before MAIL */
	policy_log_fn log;
	void *log_ctx;

	struct policy_need need;       /* valid with POLICY_NEED */
	struct policy_dns dns;         /* private; policy_answered() sets it */
	bool hangup;                   /* access table said HANGUP: close without a reply */
	char reply[POLICY_REPLY_SIZE]; /* "554 5.7.1 text", valid with REJECT and DEFER */

	/* private */
	enum policy_event event;
	const uint8_t *plan;
	unsigned plan_at;
	bool step_begun;
	unsigned depth;
	unsigned warn_depth;      /* depth at which warn_if_reject was said, 0 = not */
	unsigned phase;           /* of the entry going on: how often it was resumed */
	unsigned asked;           /* policy services that have answered */
	struct policy_look *look; /* of the entry going on: what it knows of a domain's hosts */
	struct policy_frame frames[POLICY_MAX_DEPTH];
};

/* Compile the lists that hold for a service (NULL = global parameters). All problems are collected
 * in d. E_CONFIG when there were errors. */
int policy_conf_new(const struct conf *c, const struct conf_service *s, struct policy_conf **pc_r,
		    struct conf_diag *d);
void policy_conf_free(struct policy_conf **pc);

/* Begin an evaluation; all public fields of run up to log_ctx are the caller's to set first. */
enum policy_verdict policy_start(struct policy_run *run, enum policy_event event);
enum policy_verdict policy_resume(struct policy_run *run);
/* The answer of the DNS that run->need wants; before policy_resume(). */
void policy_answered(struct policy_run *run, const struct policy_dns *a);
/* An evaluation that is not to go on. Nothing to do after a verdict. */
void policy_abandon(struct policy_run *run);

/* ---- addresses (policy/resolve.c) ---- */

enum addr_class { ADDR_LOCAL, ADDR_VIRTUAL_ALIAS, ADDR_VIRTUAL_MAILBOX, ADDR_RELAY, ADDR_DEFAULT };

struct addr_resolved {
	enum addr_class class_id;
	bool routed;     /* routing operators are left in the local part */
	bool invalid;    /* not a usable mail address: 501 */
	bool tempfail;   /* a table could not be asked */
	struct buf addr; /* user@domain after cracking %, ! and local domains; the owner frees it */
	size_t domain_off;
};
/* Which class an address belongs to, by the rules of Postfix's resolver: local domains are stripped
 * and what is left is looked at again, so that user%remote@local is remote. `out` is reused. */
void policy_resolve(struct policy_conf *pc, const char *addr, struct addr_resolved *out);

/* 1 / 0 / negative (table error). */
int policy_is_mynetwork(struct policy_conf *pc, const char *addr);
bool policy_is_own_addr(struct policy_conf *pc, const char *addr);
/* local_header_rewrite_clients matches the client: complete headers. 1 / 0 / negative. */
int policy_is_local_rewrite(struct policy_conf *pc, const struct policy_view *v);
/* Does it match whoever logs in? */
bool policy_login_is_local_rewrite(const struct policy_conf *pc);

#endif
