/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rules: which calls are meant, and how often they were seen; see t/crash/inject.h. */
#include "t/crash/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/util.h"

static char *classes[MAX_CLASSES];
static struct rule rules[MAX_RULES];

static const struct {
	const char *name, *calls;
} groups[] = {
	{ "storage",
	  "write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,sync_file_range,syncfs,"
	  "rename,renameat,renameat2,unlink,unlinkat,ftruncate,truncate,fallocate,mkdir,"
	  "mkdirat,rmdir,link,linkat,copy_file_range,creat" },
	{ "reads", "read,pread64,readv,preadv,preadv2,getdents64,newfstatat,fstat,statx" },
	{ "net", "socket,socketpair,connect,accept,accept4,bind,listen,sendto,sendmsg,sendmmsg,"
		 "recvfrom,recvmsg,recvmmsg,shutdown,setsockopt,getsockopt" },
	{ "memory", "mmap,mremap,munmap,brk,madvise,mprotect,memfd_create" },
	{ "event", "epoll_create1,epoll_ctl,epoll_wait,epoll_pwait,eventfd2,timerfd_create,"
		   "timerfd_settime,signalfd4,poll,ppoll" },
};

static const char *const action_names[ACT_COUNT_OF] = {
	[ACT_COUNT] = "count", [ACT_LOG] = "log",     [ACT_KILL] = "kill",
	[ACT_ERROR] = "error", [ACT_SHORT] = "short", [ACT_KILL_ALL] = "kill-all",
	[ACT_CUT] = "cut",     [ACT_DELAY] = "delay", [ACT_CUT_DURING] = "cut-during",
};

static const struct {
	const char *name;
	int value;
} errors[] = {
	{ "EIO", EIO },
	{ "ENOSPC", ENOSPC },
	{ "EDQUOT", EDQUOT },
	{ "EMFILE", EMFILE },
	{ "ENFILE", ENFILE },
	{ "ENOMEM", ENOMEM },
	{ "EINTR", EINTR },
	{ "EAGAIN", EAGAIN },
	{ "EPIPE", EPIPE },
	{ "EROFS", EROFS },
	{ "ECONNRESET", ECONNRESET },
	{ "EACCES", EACCES },
	{ "EPERM", EPERM },
	{ "ENOBUFS", ENOBUFS },
	{ "ETIMEDOUT", ETIMEDOUT },
	{ "ENOENT", ENOENT },
	{ "EINVAL", EINVAL },
	{ "EOPNOTSUPP", EOPNOTSUPP },
	{ "ENOSYS", ENOSYS },
	{ "ECONNREFUSED", ECONNREFUSED },
	{ "EHOSTUNREACH", EHOSTUNREACH },
};

unsigned class_number(const char *name)
{
	unsigned i = 0;

	if (strcmp(name, "smtp-in") == 0)
		name = "smtpd";
	while (i < MAX_CLASSES - 1 && classes[i] != NULL && strcmp(classes[i], name) != 0)
		i++;
	if (classes[i] == NULL)
		classes[i] = xstrdup(i < MAX_CLASSES - 1 ? name : "others");
	return i;
}

const char *class_name(unsigned idx)
{
	return classes[idx];
}

const char *call_name(unsigned nr)
{
	static char *names[MAX_CALLS];

	if (names[nr] == NULL)
		names[nr] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)nr);
	return names[nr] == NULL ? "?" : names[nr];
}

static void set_add(struct callset *set, long nr)
{
	set->bits[nr / 64] |= 1ull << (nr % 64);
}

static bool set_has(const struct callset *set, long nr)
{
	return set->bits[nr / 64] >> (nr % 64) & 1;
}

bool callset_has(const struct callset *set, const struct call *c)
{
	if (!set_has(set, c->nr))
		return false;
	if (!set->creat_only)
		return true;
	return (c->nr != SYS_openat || c->args[2] & O_CREAT) &&
	       (c->nr != SYS_open || c->args[1] & O_CREAT);
}

bool callset_parse(struct callset *set, const char *text, bool *all_r)
{
	char *copy = xstrdup(text), *save = NULL;
	bool good = true;

	for (char *name = strtok_r(copy, ",", &save); name != NULL && good;
	     name = strtok_r(NULL, ",", &save)) {
		size_t g = 0;

		while (g < ARRAY_LEN(groups) && strcmp(groups[g].name, name) != 0)
			g++;
		if (strcmp(name, "all") == 0) {
			*all_r = true;
		} else if (g < ARRAY_LEN(groups)) {
			good = callset_parse(set, groups[g].calls, all_r);
			if (g == 0 && !set_has(set, SYS_openat)) {
				set->creat_only = true;
				set_add(set, SYS_openat);
				set_add(set, SYS_open);
			}
		} else {
			int nr = seccomp_syscall_resolve_name(name);

			good = nr >= 0 && nr < MAX_CALLS;
			if (good)
				set_add(set, nr);
			if (nr == SYS_openat || nr == SYS_open)
				set->creat_only = false;
		}
	}
	free(copy);
	return good;
}

/* ---- arming ---- */

static bool parse_action(struct rule *r, const char *value)
{
	size_t len = strlen(value);

	r->at_exit = len > 6 && strcmp(value + len - 6, "-after") == 0;
	if (r->at_exit)
		len -= 6;
	for (unsigned i = 0; i < ACT_COUNT_OF; i++) {
		if (strlen(action_names[i]) == len && strncmp(action_names[i], value, len) == 0) {
			r->action = (enum action)i;
			return true;
		}
	}
	return false;
}

static bool parse_error(struct rule *r, const char *value)
{
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		if (strcmp(errors[i].name, value) == 0) {
			r->error = errors[i].value;
			return true;
		}
	}
	r->error = atoi(value);
	return r->error > 0 && r->error < 4096;
}

static void parse_classes(struct rule *r, char *value)
{
	char *save = NULL;

	for (char *n = strtok_r(value, ",", &save); n != NULL; n = strtok_r(NULL, ",", &save))
		r->classes |= 1u << class_number(n);
}

static bool parse_path(char *dst, const char *value)
{
	return snprintf(dst, PATH_MAX, "%s", value) < PATH_MAX;
}

/* False: not a key, or not a value. */
static bool parse_pair(struct rule *r, const char *key, char *value)
{
	unsigned long n = strtoul(value, NULL, 10);

	if (strcmp(key, "class") == 0)
		parse_classes(r, value);
	else if (strcmp(key, "call") == 0)
		return callset_parse(&r->calls, value, &r->any_call);
	else if (strcmp(key, "action") == 0)
		return parse_action(r, value);
	else if (strcmp(key, "errno") == 0)
		return parse_error(r, value);
	else if (strcmp(key, "path") == 0)
		return parse_path(r->path, value);
	else if (strcmp(key, "mount") == 0)
		return parse_path(r->mount, value);
	else if (strcmp(key, "len") == 0)
		r->half = strcmp(value, "half") == 0;
	else if (strcmp(key, "nth") == 0)
		r->nth = n;
	else if (strcmp(key, "times") == 0)
		r->times = n;
	else if (strcmp(key, "pid") == 0)
		r->pid = (pid_t)n;
	else if (strcmp(key, "id") == 0)
		r->id = (unsigned)n;
	else if (strcmp(key, "after") == 0)
		r->after = (unsigned)n;
	else if (strcmp(key, "ms") == 0)
		r->ms = (unsigned)n;
	else if (strcmp(key, "us") == 0)
		r->us = (unsigned)n;
	else
		return false;
	return true;
}

static struct rule *rule_find(unsigned id)
{
	for (unsigned i = 0; i < MAX_RULES; i++) {
		if (rules[i].used && rules[i].id == id)
			return &rules[i];
	}
	return NULL;
}

static void rule_end(struct rule *r)
{
	for (unsigned i = 0; i < tracee_places; i++) {
		if (tracees[i].rule == r)
			tracees[i].rule = NULL;
	}
	free(r->counts);
	*r = (struct rule){ 0 };
}

void rule_disarm(unsigned id)
{
	for (unsigned i = 0; i < MAX_RULES; i++) {
		if (rules[i].used && (id == 0 || rules[i].id == id))
			rule_end(&rules[i]);
	}
}

static const char *rule_parse(struct rule *r, const char *text)
{
	char *copy = xstrdup(text), *save = NULL;
	const char *wrong = NULL;
	bool has_calls = false;

	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		char *value = strchr(w, '=');

		if (value == NULL) {
			wrong = "not key=value";
			break;
		}
		*value++ = '\0';
		has_calls |= strcmp(w, "call") == 0;
		if (!parse_pair(r, w, value)) {
			wrong = "unknown key or value";
			break;
		}
	}
	if (!has_calls)
		r->any_call = true;
	if (wrong == NULL && r->action == ACT_ERROR && r->error == 0)
		wrong = "action=error needs errno=";
	if (wrong == NULL && (r->action == ACT_CUT || r->action == ACT_CUT_DURING) &&
	    r->mount[0] == '\0')
		wrong = "action=cut needs mount=";
	free(copy);
	return wrong;
}

const char *rule_arm(const char *text)
{
	struct rule fresh = { .used = true, .id = 1, .nth = 1, .times = 1 }, *place = NULL;
	const char *wrong = rule_parse(&fresh, text);

	if (wrong != NULL)
		return wrong;
	place = rule_find(fresh.id);
	for (unsigned i = 0; i < MAX_RULES && place == NULL; i++) {
		if (!rules[i].used)
			place = &rules[i];
	}
	if (place == NULL)
		return "too many rules";
	if (place->used)
		rule_end(place);
	fresh.counts = xcalloc(MAX_CLASSES, sizeof(*fresh.counts));
	*place = fresh;
	return NULL;
}

/* ---- matching ---- */

/* Calls whose file is not (or not only) the descriptor in the first argument. */
static const struct {
	long nr;
	int at, path; /* argument of the directory's descriptor, -1 = none, and of the name */
} named[] = {
	{ SYS_openat, 0, 1 },  { SYS_open, -1, 0 },     { SYS_creat, -1, 0 },
	{ SYS_rename, -1, 0 }, { SYS_renameat, 0, 1 },  { SYS_renameat2, 0, 1 },
	{ SYS_unlink, -1, 0 }, { SYS_unlinkat, 0, 1 },  { SYS_mkdir, -1, 0 },
	{ SYS_mkdirat, 0, 1 }, { SYS_rmdir, -1, 0 },    { SYS_link, -1, 1 },
	{ SYS_linkat, 2, 3 },  { SYS_truncate, -1, 0 }, { SYS_newfstatat, 0, 1 },
	{ SYS_mmap, 4, -1 },   { SYS_statx, 0, 1 },
};

static bool read_name(pid_t pid, uint64_t at, char *dst, size_t size)
{
	char mem[64];

	snprintf(mem, sizeof(mem), "/proc/%d/mem", (int)pid);
	int fd = open(mem, O_RDONLY | O_CLOEXEC);
	/* a name near the end of its page: the rest may not be there */
	ssize_t n = fd < 0 ? -1 : pread(fd, dst, size - 1, (off_t)at);

	if (fd >= 0)
		close(fd);
	dst[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* Where a descriptor of the process leads; the path as the system outside sees it. */
static bool fd_path(pid_t pid, int fd, char *dst)
{
	char proc[64];

	if (fd == AT_FDCWD)
		snprintf(proc, sizeof(proc), "/proc/%d/cwd", (int)pid);
	else
		snprintf(proc, sizeof(proc), "/proc/%d/fd/%d", (int)pid, fd);
	ssize_t n = readlink(proc, dst, PATH_MAX - 1);

	dst[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* What the call is about, for rules with a path and for their lines in the log. */
static char file[2 * PATH_MAX];

const char *call_file(void)
{
	return file;
}

static bool find_file(const struct call *c)
{
	char name[PATH_MAX] = "", dir[PATH_MAX], proc[64];
	int at = 0, path = -1;

	for (size_t i = 0; i < ARRAY_LEN(named); i++) {
		if (named[i].nr == (long)c->nr) {
			at = named[i].at;
			path = named[i].path;
		}
	}
	if (path >= 0)
		read_name(c->pid, c->args[path], name, sizeof(name));
	if (name[0] == '/') {
		/* inside of its root */
		snprintf(proc, sizeof(proc), "/proc/%d/root", (int)c->pid);
		ssize_t n = readlink(proc, dir, sizeof(dir) - 1);

		dir[n > 1 ? n : 0] = '\0';
		snprintf(file, sizeof(file), "%s%s", dir, name);
		return true;
	}
	if (!fd_path(c->pid, at < 0 ? AT_FDCWD : (int)c->args[at], dir))
		return false;
	snprintf(file, sizeof(file), "%s%s%s", dir, name[0] == '\0' ? "" : "/", name);
	return true;
}

static bool at_path(const struct call *c, const char *top)
{
	return find_file(c) && below(file, top);
}

static bool rule_matches(const struct rule *r, const struct call *c)
{
	if (!r->used || (r->classes != 0 && !(r->classes >> c->class_idx & 1)) ||
	    (r->pid != 0 && r->pid != c->pid))
		return false;
	if (!r->any_call && !callset_has(&r->calls, c))
		return false;
	if (r->after != 0) {
		const struct rule *before = rule_find(r->after);

		if (before == NULL || before->acted == 0)
			return false;
	}
	return r->path[0] == '\0' || at_path(c, r->path);
}

struct rule *rules_match(const struct call *c)
{
	struct rule *acts = NULL;

	for (unsigned i = 0; i < MAX_RULES; i++) {
		struct rule *r = &rules[i];

		if (!rule_matches(r, c))
			continue;
		r->seen++;
		r->counts[c->class_idx][c->nr]++;
		/* the first that acts; a line in the log gives way to a deed */
		if ((acts == NULL || acts->action == ACT_LOG) && r->action != ACT_COUNT &&
		    r->seen >= r->nth && (r->times == 0 || r->seen < r->nth + r->times)) {
			r->acted++;
			acts = r;
		}
	}
	return acts;
}

void rules_print(FILE *out, bool counts)
{
	for (unsigned i = 0; i < MAX_RULES; i++) {
		const struct rule *r = &rules[i];

		if (!r->used)
			continue;
		fprintf(out, "rule %u %s seen=%llu acted=%llu\n", r->id, action_names[r->action],
			(unsigned long long)r->seen, (unsigned long long)r->acted);
		for (unsigned k = 0; counts && k < MAX_CLASSES; k++) {
			for (unsigned n = 0; n < MAX_CALLS; n++) {
				if (r->counts[k][n] != 0)
					fprintf(out, "count %u %s %s %u\n", r->id, classes[k],
						call_name(n), r->counts[k][n]);
			}
		}
	}
}
