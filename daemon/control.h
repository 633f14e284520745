/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Control socket: how the commands (posthaste, postqueue, postsuper) talk to the supervisor.
 * A SOCK_SEQPACKET socket at $queue_directory/control/socket; the directory belongs to mail_owner
 * and has mode 0700. When root has started the system, only root is served.
 * Request: one packet "verb\0arg\0arg\0" (at most CONTROL_PACKET_MAX bytes, 64 arguments).
 * Answer: any number of data packets ('D' + bytes), then one end packet ('E' + status digit +
 * text). One request per connection at a time; a client may send the next one after the end packet.
 * The socket public/showq, which postqueue may reach for anybody, speaks the same (daemon/showq.c).
 */
#ifndef PH_DAEMON_CONTROL_H
#define PH_DAEMON_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/loop.h"
#include "lib/util.h"

#define CONTROL_PACKET_MAX 32768u
#define CONTROL_ARGS_MAX   64u

/* ---- server: inside the supervisor ---- */
struct control;
struct control_client;

/* Handle a request. Either answer at once (control_data*, control_end) or keep `c` and answer
 * later, in pieces from sched_turn or a timer. If the client goes away meanwhile, the closed
 * callback set by control_on_close() is called and `c` must not be used again. */
typedef void (*control_fn)(void *ctx, struct control_client *c, unsigned argc,
			   const char *const *argv);

/* Listen; a stale socket file is replaced (the pid file lock has told that no other lives). */
int control_new(const char *queue_directory, struct loop *loop, struct control **ctl_r);
/* From now on only clients of this user are served. For a system that root has started: workers run
 * as mail_owner too, and one that is taken over must not give orders. */
void control_only_user(struct control *ctl, unsigned uid);
/* The same on a listening socket that is there, for callers who are not trusted. */
struct control_limits {
	unsigned per_user; /* connections of one user, root excepted; 0 = no limit */
	int64_t idle_ms;   /* a connection on which nothing moves for so long is closed */
	uint64_t *refused; /* counts connections that found no room; may be NULL */
};
struct control *control_serve(int fd, struct loop *loop, const struct control_limits *limits);
/* Who is connected is served on. */
void control_accept_no_more(struct control *ctl);
unsigned control_clients(const struct control *ctl);
void control_free(struct control **ctl);
void control_register(struct control *ctl, const char *verb, control_fn fn, void *ctx);
/* E_AGAIN: the client does not read fast enough; try again after its room callback. */
int control_data(struct control_client *c, const void *data, size_t len);
void control_on_room(struct control_client *c, loop_timer_fn fn, void *ctx);
void control_on_close(struct control_client *c, loop_timer_fn fn, void *ctx);
/* status 0 = done, 1..9 = failed, text says why. Ends the request. */
void control_end(struct control_client *c, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* ---- client: inside the commands; blocking ---- */
struct control_conn;
/* E_NOENT or -ECONNREFUSED: the daemon is not running. */
int control_connect(const char *queue_directory, struct control_conn **c_r);
/* The socket that takes what anybody may ask (daemon/showq.h). */
int control_connect_public(const char *queue_directory, struct control_conn **c_r);
void control_disconnect(struct control_conn **c);
typedef void (*control_data_fn)(void *ctx, const void *data, size_t len);
/* Send and wait for the end. Returns the status (0..9) or a negative error; the end text is copied
 * to text (may be NULL). fn may be NULL. */
int control_call(struct control_conn *c, unsigned argc, const char *const *argv, control_data_fn fn,
		 void *ctx, char *text, size_t text_size);

#endif
