/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Connections to policy services as the lookup worker has them, against a server in a thread:
 * which connection is used, when one is closed, what answers may look like.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/lookup/table.h"

static struct conf *conf;
static char socket_path[64];
static int listen_fd;

/* What the server does with the next requests, in their order; "-" closes without an answer, "!"
 * answers and closes. */
static const char *const *script;
static char seen[4096]; /* "connection:request," */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned connections;

static void serve(int fd, unsigned number)
{
	char in[4096];
	size_t len = 0;

	for (;;) {
		ssize_t n = read(fd, in + len, sizeof(in) - 1 - len);

		if (n <= 0)
			return;
		len += (size_t)n;
		in[len] = '\0';
		if (strstr(in, "\n\n") == NULL)
			continue;
		len = 0;
		pthread_mutex_lock(&lock);
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%u:%.*s,", number,
			 (int)strcspn(in, "\n"), in);
		const char *say = *script != NULL ? *script++ : "action=DUNNO\n\n";

		pthread_mutex_unlock(&lock);
		if (say[0] == '-')
			return;
		bool close_it = say[0] == '!';

		say += close_it;
		if (send(fd, say, strlen(say), MSG_NOSIGNAL) < 0 || close_it)
			return;
	}
}

static void *one_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;

	pthread_mutex_lock(&lock);
	unsigned number = ++connections;

	pthread_mutex_unlock(&lock);
	serve(fd, number);
	close(fd);
	return NULL;
}

static void *server_main(void *arg UNUSED)
{
	for (;;) {
		int fd = accept(listen_fd, NULL, NULL);
		pthread_t t;

		if (fd < 0 || pthread_create(&t, NULL, one_connection, (void *)(intptr_t)fd) != 0)
			return NULL;
		pthread_detach(t);
	}
}

static void start_server(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	pthread_t t;

	snprintf(socket_path, sizeof(socket_path), "/tmp/policy-test-%d", (int)getpid());
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", socket_path);
	unlink(socket_path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ASSERT(listen_fd >= 0 && bind(listen_fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 &&
	       listen(listen_fd, 16) == 0);
	ASSERT(pthread_create(&t, NULL, server_main, NULL) == 0);
	pthread_detach(t);
}

static struct table *open_service(const char *numbers)
{
	char spec[200];
	struct conf_diag d;
	struct table *t;

	snprintf(spec, sizeof(spec), "policy:%s unix:%s", numbers, socket_path);
	conf_diag_init(&d);
	ASSERT(table_open(conf, spec, &t, &d) == 0);
	conf_diag_fini(&d);
	connections = 0;
	seen[0] = '\0';
	return t;
}

/* Asks; the answer's lines with '|' for the ends. */
static const char *ask(struct table *t, const char *name)
{
	static char out[40000];
	struct table_answer a = { .status = MAP_NOT_FOUND };
	char key[100];

	snprintf(key, sizeof(key), "7\nrequest=%s\n\n", name);
	t->source->ask(t, NULL, sv_from(key), &a);
	ok(a.status == MAP_FOUND && a.troubled == (strstr(buf_cstr(&a.value), "\na") == NULL &&
						   buf_cstr(&a.value)[0] != 'a'),
	   "an answer in any case, and whether it is good");
	snprintf(out, sizeof(out), "%s", buf_cstr(&a.value));
	for (char *p = out; (p = strchr(p, '\n')) != NULL;)
		*p = '|';
	buf_fini(&a.value);
	return out;
}

static void test_connections(void)
{
	static const char *const says[] = { "action=OK\n\n",        "action=DUNNO\n\n",
					    "!action=REJECT x\n\n", "-",
					    "action=OK\n\n",        NULL };
	struct table *t = open_service("5000 60000 60000 1 0 2");

	script = says;
	is_str(ask(t, "a"), "aOK|", "an action");
	is_str(ask(t, "b"), "aDUNNO|", "the next");
	is_str(ask(t, "c"), "aREJECT x|", "and one more");
	is_str(ask(t, "d"), "aOK|", "a server that closed is asked again, quietly");
	is_str(seen, "1:request=a,1:request=b,1:request=c,2:request=d,3:request=d,",
	       "over one connection, while it is there; the number of the key is not sent");
	table_close(&t);
	t = open_service("5000 60000 60000 1 2 2");
	for (int i = 0; i < 5; i++)
		ask(t, "x");
	is_int(connections, 3, "request_limit");
	table_close(&t);
	t = open_service("5000 60000 1 1 0 2");
	ask(t, "x");
	poll(NULL, 0, 2);
	ask(t, "x");
	is_int(connections, 2, "max_ttl");
	table_close(&t);
	t = open_service("5000 1 60000 1 0 2");
	ask(t, "x");
	poll(NULL, 0, 2);
	t->source->tick(t);
	ask(t, "x");
	is_int(connections, 2, "max_idle");
	table_close(&t);
}

static void test_answers(void)
{
	static char many[20000];
	char expected[400];
	struct {
		const char *say, *answer; /* PATH stands for the socket */
	} cases[] = {
		{ "action=\n\n", "a|" },
		{ "action=a=b\r\n\r\n", "aa=b|" },
		{ "x=1\naction=one\naction=two\ny\n\n", "aone|" },
		{ "x=1\n\n", "wmissing attribute action in input from PATH|wproblem talking to "
			     "server PATH: Application error||" },
		{ "\n", "wmissing attribute action in input from PATH|wproblem talking to "
			"server PATH: Application error||" },
		{ "action\n\n", "wmissing value for string attribute action from PATH|wproblem "
				"talking to server PATH: Application error||" },
		{ "!action=OK\n", "wproblem talking to server PATH: Application error||" },
		{ "!acti", "wpremature end-of-input on PATH while reading input attribute "
			   "name|wproblem talking to server PATH: Application error||" },
		{ "-", "wproblem talking to server PATH: Application error||" },
		{ many, "wproblem talking to server PATH: limit reached||" },
	};

	memset(many, 'x', sizeof(many) - 1);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *const one[] = { cases[i].say, NULL };
		struct table *t = open_service("5000 60000 60000 1 0 1");
		const char *from = cases[i].answer, *at;

		expected[0] = '\0';
		for (; (at = strstr(from, "PATH")) != NULL; from = at + 4)
			snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected),
				 "%.*s%s", (int)(at - from), from, socket_path);
		snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "%s",
			 from);
		script = one;
		is_str(ask(t, "x"), expected, "answer %zu", i + 1);
		table_close(&t);
	}
	struct table *t = open_service("1 60000 60000 1 0 1");
	static const char *const silent[] = { "", NULL };

	script = silent;
	ok(strstr(ask(t, "x"), "Connection timed out") != NULL, "no answer in time");
	table_close(&t);
}

static void test_down(void)
{
	struct table *t = open_service("1000 60000 60000 1 0 3");

	unlink(socket_path);
	const char *said = ask(t, "x");
	unsigned connects = 0, problems = 0;

	for (const char *p = said; (p = strstr(p, "wconnect to ")) != NULL; p++)
		connects++;
	for (const char *p = said; (p = strstr(p, "wproblem talking")) != NULL; p++)
		problems++;
	is_int(connects, 3, "a server that is not there is tried as often as it says");
	is_int(problems, 1, "no such file is a problem only at the end, as in Postfix");
	table_close(&t);
}

int main(void)
{
	static const char *const nothing[] = { NULL };

	conf = test_conf("");
	script = nothing;
	start_server();
	test_connections();
	test_answers();
	test_down();
	conf_free(&conf);
	return tap_done();
}
