/* SPDX-License-Identifier: GPL-3.0-or-later */
/* File rights of workers; see workers/common/landlock.h. The kernel's interface is called by
 * numbers, because older headers lack parts that newer kernels have. */
#include "workers/common/landlock.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/sandbox.h"

#define CREATE_RULESET 444
#define ADD_RULE       445
#define RESTRICT_SELF  446

#define CREATE_VERSION 1u
#define RULE_BENEATH   1

enum {
	WRITE_FILE = 1 << 1,
	READ_FILE = 1 << 2,
	READ_DIR = 1 << 3,
	REMOVE_FILE = 1 << 5,
	MAKE_CHAR = 1 << 6,
	MAKE_DIR = 1 << 7,
	MAKE_REG = 1 << 8,
	MAKE_SOCK = 1 << 9,
	MAKE_FIFO = 1 << 10,
	MAKE_BLOCK = 1 << 11,
	MAKE_SYM = 1 << 12,
	REFER = 1 << 13,    /* rename between directories; version 2 */
	TRUNCATE = 1 << 14, /* version 3 */
	FIRST_RIGHTS = (1 << 13) - 1,
	IOCTL_DEV = 1 << 15, /* version 5 */
	NET_BIND = 1,        /* TCP; version 4 */
	NET_CONNECT = 2,
	SCOPE_ABSTRACT = 1, /* Unix sockets without a path; version 6 */
	SCOPE_SIGNAL = 2,
};

#define OWN_FILES (READ_FILE | WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE)
/* made and written, but neither read nor removed: other lives' journals have their warrants */
#define BLIND_FILES (WRITE_FILE | MAKE_REG | TRUNCATE)
/* what others wrote is read, moved and removed */
#define MOVED_FILES (READ_FILE | READ_DIR | MAKE_REG | REMOVE_FILE | REFER)
/* mail that is there is none of the business of who delivers: it may not be read */
#define MAILBOX_FILES (READ_DIR | WRITE_FILE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REFER | TRUNCATE)
#define MAX_PLACES    5
#define MAX_ALSO      64 /* directories of tables */
#define VERSION_MIN   2  /* the first that lets a segment be renamed from spare/ to seg/ */

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

struct place { /* below the queue directory, or absolute */
	const char *name;
	uint64_t rights;
};

static const struct class_rules {
	uint64_t fs;  /* what is refused but for the places; 0 = all that the kernel knows */
	uint64_t net; /* what is refused on every port */
	struct place places[MAX_PLACES];
} rules[CLASS_COUNT] = {
	/* its directories and socket are made under the rules: threads that are started later
	 * inherit them, those that are there would not get them */
	[CLASS_SUPERVISOR] = { .net = NET_BIND | NET_CONNECT,
			       .places = { { "", OWN_FILES | READ_DIR | REFER | MAKE_DIR |
							 MAKE_SOCK } } },
	[CLASS_LOG] = { .net = NET_BIND | NET_CONNECT },
	[CLASS_STATS] = { .net = NET_BIND | NET_CONNECT },
	[CLASS_SMTP_IN] = { .net = NET_BIND | NET_CONNECT },
	[CLASS_RESOLVER] = { .net = NET_BIND },
	[CLASS_PICKUP] = { .net = NET_BIND | NET_CONNECT,
			   .places = { { "maildrop", MOVED_FILES },
				       { "pickup", MOVED_FILES },
				       { "corrupt", MOVED_FILES } } },
	/* smtp_bind_address binds */
	[CLASS_DELIVER] = { .places = { { "seg", READ_FILE },
					{ "journal", BLIND_FILES },
					{ "corrupt", OWN_FILES } } },
	[CLASS_REWRITE] = { .net = NET_BIND | NET_CONNECT,
			    .places = { { "", READ_DIR },
					{ "seg", OWN_FILES | REFER },
					{ "spare", OWN_FILES | REFER },
					{ "journal", OWN_FILES },
					{ "corrupt", OWN_FILES } } },
	[CLASS_SHOWQ] = { .net = NET_BIND | NET_CONNECT,
			  .places = { { "seg", READ_FILE }, { "journal", READ_FILE } } },
	[CLASS_SPAWN] = { .net = NET_BIND | NET_CONNECT },
	/* landlock_also_keep() adds the directories of its caches */
	[CLASS_VERIFY] = { .net = NET_BIND | NET_CONNECT },
	/* names of hosts, certificates; landlock_also_read() adds the directories of databases */
	[CLASS_LOOKUP] = { .net = NET_BIND,
			   .places = { { "/etc", READ_FILE },
				       { "/usr/share", READ_FILE },
				       { "/run/systemd/resolve", READ_FILE } } },
	/* names of hosts; the configuration of the SASL library and where it keeps users, to which
	 * landlock_also_read() adds; a socket's path needs no right */
	[CLASS_AUTH] = { .net = NET_BIND,
			 .places = { { "/etc", READ_FILE },
				     { "/usr/lib", READ_FILE },
				     { "/usr/share", READ_FILE },
				     { "/run/systemd/resolve", READ_FILE } } },
	/* names of hosts and realms, plug-ins' configuration; landlock_also_keep() adds the
	 * directories of its caches */
	[CLASS_SASL_CLIENT] = { .net = NET_BIND,
				.places = { { "/etc", READ_FILE },
					    { "/usr/lib", READ_FILE },
					    { "/usr/share", READ_FILE },
					    { "/run/systemd/resolve", READ_FILE } } },
	/* Its children deliver anywhere, as anybody, under rules of their own besides. None of
	 * them makes anything but files and directories. */
	[CLASS_LOCAL] = { .fs = MAKE_CHAR | MAKE_BLOCK | MAKE_SYM | MAKE_FIFO | MAKE_SOCK | REFER,
			  .net = NET_BIND,
			  .places = { { "/", REFER } } },
};

/* 0 = none, or fewer than limit allows. */
static int kernel_version(int limit)
{
	long v = syscall(CREATE_RULESET, NULL, 0, CREATE_VERSION);

	return v < 0 ? 0 : v > limit ? limit : (int)v;
}

static uint64_t known_rights(int version)
{
	return (uint64_t)(FIRST_RIGHTS | REFER | (version >= 3 ? TRUNCATE : 0) |
			  (version >= 5 ? IOCTL_DEV : 0));
}

static void tell(int version)
{
	if (version < VERSION_MIN)
		log_warn("this kernel has no file rules for processes (Landlock 2 or later): "
			 "workers are kept from files by their user only");
	else if (version < 6)
		log_warn("this kernel's file rules (Landlock %d) lack%s%s%s scopes of signals",
			 version, version < 3 ? " truncation," : "",
			 version < 4 ? " networks," : "", version < 5 ? " devices," : "");
}

static long make_ruleset(int version, uint64_t fs, uint64_t net)
{
	struct ruleset_attr attr = { .fs = fs,
				     .net = version >= 4 ? net : 0,
				     .scoped = version >= 6 ? SCOPE_ABSTRACT | SCOPE_SIGNAL : 0 };
	/* older kernels know a shorter structure */
	size_t size = version >= 6 ? sizeof(attr) : version >= 4 ? 16 : 8;

	return syscall(CREATE_RULESET, &attr, size, 0);
}

static int add_place(int fd, const char *path, uint64_t rights)
{
	struct beneath_attr attr = { rights, open(path, O_PATH | O_CLOEXEC) };

	if (attr.parent_fd < 0)
		return err_errno();
	int err = syscall(ADD_RULE, fd, RULE_BENEATH, &attr, 0) != 0 ? err_errno() : 0;

	close(attr.parent_fd);
	return err;
}

static bool also_connect;

void landlock_also_connect(void)
{
	also_connect = true;
}

static char *also_read[MAX_ALSO];
static size_t also_count;
static char **also_keep; /* directories */
static size_t keep_count;

/* There is no limit: each transport may have a cache of its own. */
void landlock_also_keep(const char *directory)
{
	for (size_t i = 0; i < keep_count; i++) {
		if (strcmp(also_keep[i], directory) == 0)
			return;
	}
	also_keep = xrealloc(also_keep, (keep_count + 1) * sizeof(*also_keep));
	also_keep[keep_count++] = xstrdup(directory);
}

void landlock_also_read(const char *path)
{
	if (also_count == MAX_ALSO)
		die("file rules: more than %d directories of tables", MAX_ALSO);
	also_read[also_count++] = xstrdup(path);
}

static void add_also(int fd, uint64_t fs)
{
	for (size_t i = 0; i < also_count; i++) {
		int err = add_place(fd, also_read[i], (READ_FILE | READ_DIR) & fs);

		if (err == E_INVAL) /* it is a file */
			err = add_place(fd, also_read[i], READ_FILE & fs);
		if (err != 0)
			log_warn("file rules: %s: %s", also_read[i], err_str(err));
	}
	for (size_t i = 0; i < keep_count; i++) {
		int err = add_place(fd, also_keep[i], OWN_FILES & fs);

		if (err != 0)
			log_warn("file rules: %s: %s", also_keep[i], err_str(err));
	}
}

int landlock_rules(enum worker_class class_id, const char *queue_directory, int limit)
{
	const struct class_rules *r = &rules[class_id];
	int version = kernel_version(limit);

	if (class_id == CLASS_LOG)
		tell(version);
	if (version < VERSION_MIN)
		return -1;
	uint64_t fs = known_rights(version) & (r->fs != 0 ? r->fs : ~UINT64_C(0));
	long fd =
		make_ruleset(version, fs, also_connect ? r->net & ~(uint64_t)NET_CONNECT : r->net);

	if (fd < 0)
		die("file rules: %s", strerror(errno));
	for (size_t i = 0; i < MAX_PLACES && r->places[i].name != NULL; i++) {
		const char *name = r->places[i].name;
		char *path =
			name[0] == '/' ? xstrdup(name) : xasprintf("%s/%s", queue_directory, name);
		int err = add_place((int)fd, path, r->places[i].rights & fs);

		/* not every system has all that the name service may look at */
		if (err != 0 && (err != E_NOENT || name[0] != '/'))
			die("file rules: %s: %s", path, err_str(err));
		free(path);
	}
	add_also((int)fd, fs);
	return (int)fd;
}

int landlock_mailbox_rules(const char *base, enum landlock_use use, int limit, int *fd_r)
{
	/* the end of a mailbox file is read: the next message begins a line */
	static const uint64_t rights[] = {
		[LANDLOCK_MAILDIR] = MAILBOX_FILES,
		[LANDLOCK_MBOX] = MAILBOX_FILES | READ_FILE,
		[LANDLOCK_READ] = READ_DIR | READ_FILE,
	};

	int version = kernel_version(limit);
	uint64_t fs = known_rights(version);

	*fd_r = -1;
	if (version < VERSION_MIN)
		return 0;
	long fd = make_ruleset(version, fs, NET_BIND | NET_CONNECT);

	if (fd < 0)
		return err_errno();
	int err = add_place((int)fd, base, rights[use] & fs);

	if (err != 0)
		close((int)fd);
	else
		*fd_r = (int)fd;
	return err;
}

void landlock_enter(int rules_fd)
{
	if (rules_fd < 0)
		return;
	if (syscall(RESTRICT_SELF, rules_fd, 0) != 0)
		die("file rules: %s", strerror(errno));
	close(rules_fd);
}

static void describe_rights(const char *name, uint64_t rights, uint64_t known, struct buf *out)
{
	static const struct {
		uint64_t right;
		const char *word;
	} words[] = {
		{ READ_DIR, "list" },
		{ OWN_FILES, "keep" }, /* make, read, write, truncate, remove */
		{ WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE, "make, write, remove" },
		{ BLIND_FILES, "make, write" },
		{ MAKE_REG | REMOVE_FILE, "make, remove" },
		{ READ_FILE, "read" },
		{ MAKE_DIR, "directories" },
		{ MAKE_SOCK, "sockets" },
		{ REFER, "rename" },
	};

	const char *before = "";

	buf_printf(out, "%s: ", name);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		uint64_t right = words[i].right & known;

		if (right == 0 || (rights & right) != right)
			continue;
		buf_printf(out, "%s%s", before, words[i].word);
		before = ", ";
		rights &= ~right;
	}
	buf_printf(out, "; ");
}

void landlock_describe(unsigned class_id, struct buf *out)
{
	static const struct class_rules mailbox = { .net = NET_BIND | NET_CONNECT,
						    .places = { { "mailboxes", MAILBOX_FILES } } };
	bool filter = class_id == SANDBOX_FILTER;
	const struct class_rules *r = filter                   ? &rules[CLASS_REWRITE]
				      : class_id < CLASS_COUNT ? &rules[class_id]
							       : &mailbox;
	int version = kernel_version(landlock_limit());
	uint64_t known = known_rights(version);

	if (version < VERSION_MIN) {
		buf_printf(out, "none on this kernel");
		return;
	}
	if (r->fs != 0)
		buf_printf(out, "all files, but no devices, sockets, pipes, links made; ");
	else if (r->places[0].name == NULL)
		buf_printf(out, "no files; ");
	for (size_t i = 0; i < MAX_PLACES && r->places[i].name != NULL && r->fs == 0; i++)
		describe_rights(r->places[i].name[0] == '\0' ? "queue directory"
							     : r->places[i].name,
				r->places[i].rights & known, known, out);
	bool binds = version < 4 || (r->net & NET_BIND) == 0;
	bool connects = version < 4 || filter || (r->net & NET_CONNECT) == 0;

	buf_printf(out, "TCP:%s%s%s", binds ? " bind" : "", connects ? " connect" : "",
		   binds || connects ? "" : " nothing");
}

int landlock_limit(void)
{
#ifdef PH_FAULT_POINTS
	const char *text = getenv("POSTHASTE_LANDLOCK");

	if (getenv("POSTHASTE_UNCAGED") != NULL)
		return 0;
	if (text != NULL)
		return atoi(text);
#endif
	return INT_MAX;
}
