/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What servers of tables may answer, for every protocol that workers/lookup speaks by itself:
 * socketmap, tcp, memcache, redis and policy services. The first byte chooses the protocol, and how
 * much of the rest comes over the first connection; a second one, if it is opened, has what is
 * left. An answer is found, not found or an error with a reason; it fits into a record and has no
 * NUL.
 */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/policy_spec.h"
#include "lib/clock.h"
#include "shm/proto.h"
#include "t/unit/workers/testconf.h"
#include "workers/lookup/stream.h"
#include "workers/lookup/table.h"

#define KINDS 5u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_stream_connect(struct stream *s, const char *where, const char *port);

static struct {
	const uint8_t *data;
	size_t left, first; /* bytes of the first connection */
	unsigned connections;
	int other; /* the server's end */
} script = { .other = -1 };

static void hang_up(void)
{
	if (script.other >= 0)
		close(script.other);
	script.other = -1;
}

/* In place of the real one (--wrap): connected to the script. */
int __wrap_stream_connect(struct stream *s, const char *where UNUSED, const char *port UNUSED)
{
	size_t n = script.connections == 0 ? size_min(script.first, script.left) : script.left;
	int fds[2];

	if (s->fd >= 0)
		return 0;
	if (script.connections++ > 1)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return err_errno();
	hang_up();
	script.other = fds[1];
	ssize_t put = n == 0 ? 0 : write(fds[1], script.data, n);

	ASSERT(put >= 0);
	script.data += put;
	script.left -= (size_t)put;
	shutdown(fds[1], SHUT_WR);
	s->fd = fds[0];
	s->fresh = true;
	return 0;
}

static struct table *open_one(const struct conf *c, const char *spec)
{
	struct table *t = NULL;
	struct conf_diag d;

	conf_diag_init(&d);
	if (table_open(c, spec, &t, &d) != 0)
		die("%s: %s", spec, buf_cstr(&d.text));
	conf_diag_fini(&d);
	return t;
}

static void open_all(struct table *tables[KINDS])
{
	static struct conf *c;
	struct policy_spec *policy;
	char why[POLICY_SPEC_WHY_SIZE];

	clock_init();
	c = test_conf("cache_memcache = unix:/no\ncache_timeout = 1\ncache_max_try = 2\n"
		      "cache_backup = socketmap:unix:/no:map\n"
		      "store_server = unix:/no\nstore_password = x\nstore_database = 3\n"
		      "store_timeout = 1\nstore_expansion_limit = 3\n");
	if (policy_spec_parse(conf_params(c), SV("{ unix:/no, try_limit=1, timeout=1s }"), &policy,
			      why) != 0)
		die("%s", why);
	tables[0] = open_one(c, "socketmap:unix:/no:map");
	tables[1] = open_one(c, "tcp:192.0.2.1:1");
	tables[2] = open_one(c, "memcache:cache");
	tables[3] = open_one(c, "redis:store");
	tables[4] = open_one(c, policy->remote);
	policy_spec_free(&policy);
}

static void ask(const struct table *t, void *connection, struct sv key, bool may_have_nul)
{
	struct table_answer a = { .status = MAP_NOT_FOUND };

	t->source->ask(t, connection, key, &a);
	ASSERT(a.status == MAP_FOUND || a.status == MAP_NOT_FOUND || a.status == MAP_ERROR);
	ASSERT(memchr(a.why, '\0', sizeof(a.why)) != NULL);
	ASSERT(a.status != MAP_ERROR || (a.why[0] != '\0' && a.value.len == 0));
	ASSERT(a.status != MAP_FOUND || a.value.len <= PROTO_TABLE_VALUE_MAX);
	ASSERT(may_have_nul || a.status != MAP_FOUND || a.value.len == 0 ||
	       memchr(a.value.p, '\0', a.value.len) == NULL);
	for (const char *p = a.why; *p != '\0'; p++)
		ASSERT((unsigned char)*p >= ' ' && *p != 127);
	buf_fini(&a.value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct table *tables[KINDS];

	if (tables[0] == NULL)
		open_all(tables);
	if (size < 2)
		return 0;
	const struct table *t = tables[data[0] % KINDS];
	struct sv key = data[0] % KINDS == 4 ? SV("line\nrequest=x\n\n") : SV("user@ex.test");

	script.data = data + 2;
	script.left = size - 2;
	script.first = data[0] < 128 ? script.left : data[1];
	script.connections = 0;
	void *connection = t->source->connect(t);

	ask(t, connection, key, false);
	ask(t, connection, key, false); /* over the same connection, if it still stands */
	t->source->disconnect(connection);
	if (t->source->tick != NULL)
		t->source->tick(t);
	hang_up();
	return 0;
}
