/* SPDX-License-Identifier: GPL-3.0-or-later */
/* File rights of workers; see workers/common/landlock.h. The kernel's interface is called by
 * numbers, because older headers lack parts that newer kernels have. */
#include "workers/common/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"

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
	MAKE_REG = 1 << 8,
	REFER = 1 << 13,    /* rename between directories; version 2 */
	TRUNCATE = 1 << 14, /* version 3 */
	FIRST_RIGHTS = (1 << 13) - 1,
	IOCTL_DEV = 1 << 15, /* version 5 */
	NET_BIND = 1,        /* TCP; version 4 */
	NET_CONNECT = 2,
	SCOPE_ABSTRACT = 1, /* Unix sockets without a path; version 6 */
	SCOPE_SIGNAL = 2,
};

#define OWN_FILES   (READ_FILE | WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE)
#define MAX_PLACES  5
#define VERSION_MIN 2 /* the first that lets a segment be renamed from spare/ to seg/ */

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

struct place { /* below the queue directory */
	const char *name;
	uint64_t rights;
};

static const struct class_rules {
	bool used;
	uint64_t net; /* what is refused on every port */
	struct place places[MAX_PLACES];
} rules[CLASS_COUNT] = {
	[CLASS_LOG] = { .used = true, .net = NET_BIND | NET_CONNECT },
	[CLASS_STATS] = { .used = true, .net = NET_BIND | NET_CONNECT },
	[CLASS_SMTP_IN] = { .used = true, .net = NET_BIND | NET_CONNECT },
	[CLASS_RESOLVER] = { .used = true, .net = NET_BIND },
	/* smtp_bind_address binds */
	[CLASS_DELIVER] = { .used = true,
			    .places = { { "seg", READ_FILE },
					{ "journal", OWN_FILES },
					{ "corrupt", OWN_FILES } } },
	[CLASS_REWRITE] = { .used = true,
			    .net = NET_BIND | NET_CONNECT,
			    .places = { { "", READ_DIR },
					{ "seg", OWN_FILES | REFER },
					{ "spare", OWN_FILES | REFER },
					{ "journal", OWN_FILES },
					{ "corrupt", OWN_FILES } } },
};

static int kernel_version(void)
{
	long v = syscall(CREATE_RULESET, NULL, 0, CREATE_VERSION);

	return v < 0 ? 0 : (int)v;
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

static void add_place(int fd, const char *queue_directory, const struct place *p, uint64_t known)
{
	char *path = xasprintf("%s/%s", queue_directory, p->name);
	struct beneath_attr attr = { p->rights & known, open(path, O_PATH | O_CLOEXEC) };

	if (attr.parent_fd < 0 || syscall(ADD_RULE, fd, RULE_BENEATH, &attr, 0) != 0)
		die("file rules: %s: %s", path, strerror(errno));
	close(attr.parent_fd);
	free(path);
}

int landlock_rules(enum worker_class class_id, const char *queue_directory)
{
	const struct class_rules *r = &rules[class_id];
	int version = kernel_version();

	if (class_id == CLASS_LOG)
		tell(version);
	if (!r->used || version < VERSION_MIN)
		return -1;
	struct ruleset_attr attr = { .fs = known_rights(version),
				     .net = version >= 4 ? r->net : 0,
				     .scoped = version >= 6 ? SCOPE_ABSTRACT | SCOPE_SIGNAL : 0 };
	/* older kernels know a shorter structure */
	size_t size = version >= 6 ? sizeof(attr) : version >= 4 ? 16 : 8;
	long fd = syscall(CREATE_RULESET, &attr, size, 0);

	if (fd < 0)
		die("file rules: %s", strerror(errno));
	for (size_t i = 0; i < MAX_PLACES && r->places[i].name != NULL; i++)
		add_place((int)fd, queue_directory, &r->places[i], attr.fs);
	return (int)fd;
}

void landlock_enter(int rules_fd)
{
	if (rules_fd < 0)
		return;
	if (syscall(RESTRICT_SELF, rules_fd, 0) != 0)
		die("file rules: %s", strerror(errno));
	close(rules_fd);
}
