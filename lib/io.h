/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocking file helpers and descriptor passing. All return 0 or an error code of lib/err.h. */
#ifndef PH_LIB_IO_H
#define PH_LIB_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/buf.h"

int io_write_all(int fd, const void *data, size_t len);
int io_pwrite_all(int fd, const void *data, size_t len, off_t off);
/* Exactly len bytes; E_EOF when the file ends before. */
int io_pread_all(int fd, void *data, size_t len, off_t off);
/* The rest of the file, at most `limit` bytes (E_LIMIT beyond). */
int io_read_to_buf(int fd, size_t limit, struct buf *out);
int io_read_file(const char *path, size_t limit, struct buf *out);
/* Descriptors 0 to 2 exist afterwards, /dev/null where there was none: so that no file we open
 * becomes one of them, and what is told on standard error goes into it. False: they do not. First
 * thing in a program that others start. */
bool io_have_std(void);
int io_set_nonblock(int fd);
/* Sets an eventfd back to 0. Does not wait, even when another process that has it took O_NONBLOCK
 * away. */
void io_eventfd_drain(int fd);
void io_close(int *fd); /* closes when >= 0 and sets -1 */
/* Create `path` and missing parents; their names are durable then. */
int io_mkdir_p(const char *path, mode_t mode);

/* One datagram-like message with descriptors over a SOCK_SEQPACKET socket. send: E_AGAIN when the
 * socket is full. recv: E_EOF on close, E_AGAIN when empty; received descriptors are close-on-exec;
 * *nfds holds the room in fds on entry and the count on return (excess ones are closed). */
int io_send_fds(int sock, const void *data, size_t len, const int *fds, size_t nfds);
int io_recv_fds(int sock, void *data, size_t cap, size_t *len_r, int *fds, size_t *nfds);

#endif
