/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Match lists: domains, networks, tables, files, negation, the parent rule. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "t/unit/tap.h"

static struct matchlist *list(const char *param, enum matchlist_kind kind, const char *text)
{
	struct matchlist *l;
	struct conf_diag d;

	conf_diag_init(&d);
	if (!ok(matchlist_open(NULL, text, param, kind, &l, &d) == 0, "list %.70s", text))
		printf("# %s\n", buf_cstr(&d.text));
	conf_diag_fini(&d);
	return l;
}

static void list_fails(enum matchlist_kind kind, const char *text, const char *why)
{
	struct matchlist *l;
	struct conf_diag d;

	conf_diag_init(&d);
	ok(matchlist_open(NULL, text, "p", kind, &l, &d) < 0 && l == NULL, "bad list %s", text);
	if (!ok(strstr(buf_cstr(&d.text), why) != NULL, "  because %s", why))
		printf("# %s\n", buf_cstr(&d.text));
	conf_diag_fini(&d);
}

static void domains(struct matchlist *l, const char *yes, const char *no)
{
	char copy[400], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", yes);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		is_int(matchlist_has_domain(l, sv_from(w)), 1, "  has %s", w);
	snprintf(copy, sizeof(copy), "%s", no);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		is_int(matchlist_has_domain(l, sv_from(w)), 0, "  has not %s", w);
	matchlist_close(&l);
}

static void ips(struct matchlist *l, const char *yes, const char *no)
{
	char copy[400], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", yes);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		is_int(matchlist_has_ip(l, w), 1, "  has %s", w);
	snprintf(copy, sizeof(copy), "%s", no);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		is_int(matchlist_has_ip(l, w), 0, "  has not %s", w);
	matchlist_close(&l);
}

static void test_domains(void)
{
	domains(list("mydestination", MATCHLIST_DOMAIN, "Example.com, .sub.org\n localhost"),
		"example.com EXAMPLE.COM a.sub.org b.a.sub.org localhost",
		"a.example.com sub.org xsub.org com localhost.x");
	domains(list("relay_domains", MATCHLIST_DOMAIN, "example.com"),
		"example.com a.example.com b.a.example.com", "xexample.com com example.com.org");
	domains(list("mydestination", MATCHLIST_DOMAIN, "!a.example.com .example.com"),
		"b.example.com", "a.example.com");
	domains(list("mydestination", MATCHLIST_DOMAIN, "! a.example.com .example.com"),
		"b.example.com", "a.example.com");
	domains(list("mydestination", MATCHLIST_DOMAIN, ".example.com !a.example.com"),
		"b.example.com a.example.com", "");
	domains(list("mydestination", MATCHLIST_DOMAIN, "inline:{a.x=1, .b.x=1}"),
		"a.x A.X c.b.x d.c.b.x", "c.a.x b.x x");
	domains(list("relay_domains", MATCHLIST_DOMAIN, "inline:{a.x=1, .b.x=1}"),
		"a.x c.a.x d.c.a.x", "b.x c.b.x");
	domains(list("relay_domains", MATCHLIST_DOMAIN, "pcre:{{/^b\\.x$/ 1}}"), "b.x", "a.b.x");
	domains(list("mydestination", MATCHLIST_DOMAIN, ""), "", "x");
	domains(list("mydestination", MATCHLIST_DOMAIN, "static:all"), "x y.z", "");
	domains(NULL, "", "x");
}

static void test_networks(void)
{
	ips(list("mynetworks", MATCHLIST_ADDRESS,
		 "127.0.0.0/8 10.1.0.0/16, 192.0.2.7 [::1]/128 [fe80::]/64 [2001:db8::5] "
		 "2001:db8:1::/48"),
	    "127.0.0.1 127.255.255.255 10.1.2.3 192.0.2.7 ::1 fe80::9 2001:db8::5 2001:DB8:0::5 "
	    "2001:db8:1:2::3 ::ffff:10.1.0.1",
	    "128.0.0.1 10.2.0.1 192.0.2.8 ::2 fe80:0:0:1::1 2001:db8::6 junk 1.2.3");
	ips(list("mynetworks", MATCHLIST_ADDRESS, "!10.1.1.1 10.0.0.0/8"), "10.2.0.1", "10.1.1.1");
	ips(list("mynetworks", MATCHLIST_ADDRESS, "0.0.0.0/0"), "1.2.3.4", "::1");
	ips(list("mynetworks", MATCHLIST_ADDRESS, "10.0.0.0/9"), "10.127.0.1", "10.128.0.1");
	ips(list("mynetworks", MATCHLIST_ADDRESS, "cidr:{{10.0.0.0/8 x}}, inline:{1.2.3.4=x}"),
	    "10.0.0.1 1.2.3.4 ::ffff:1.2.3.4", "1.2.3.5");
	ips(list("mynetworks", MATCHLIST_ADDRESS, "host.example.com"), "", "1.2.3.4");
	struct matchlist *l = list("mynetworks", MATCHLIST_ADDRESS, "example.com 10.0.0.0/8");

	is_int(matchlist_has_client(l, SV("a.example.com"), "1.2.3.4"), 1, "  client by name");
	is_int(matchlist_has_client(l, SV("unknown"), "10.2.3.4"), 1, "  client by address");
	is_int(matchlist_has_client(l, SV("unknown"), "1.2.3.4"), 0, "  another client");
	matchlist_close(&l);
	list_fails(MATCHLIST_ADDRESS, "10.1.0.1/8", "perhaps you should use 10.0.0.0/8");
	list_fails(MATCHLIST_ADDRESS, "10.0.0.0/33", "bad network");
	list_fails(MATCHLIST_ADDRESS, "10.0.0/8", "bad network");
	list_fails(MATCHLIST_ADDRESS, "[::1", "bad network");
	list_fails(MATCHLIST_ADDRESS, "nosuch:/x", "cannot use table");
	list_fails(MATCHLIST_DOMAIN, "a !", "no pattern");
	list_fails(MATCHLIST_DOMAIN, "inline:{a=b", "unbalanced");
	list_fails(MATCHLIST_DOMAIN, "/no/such/file", "No such file");
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || io_write_all(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

static void test_files(void)
{
	char dir[] = "/tmp/matchtest.XXXXXX", a[100], b[100], text[300];

	if (mkdtemp(dir) == NULL)
		abort();
	snprintf(a, sizeof(a), "%s/a", dir);
	snprintf(b, sizeof(b), "%s/b", dir);
	snprintf(text, sizeof(text), "# comment\n!10.1.1.1\n10.1.0.0/16 10.2.0.0/16\n%s\n", b);
	write_file(a, text);
	write_file(b, "10.3.0.0/16\n");
	ips(list("mynetworks", MATCHLIST_ADDRESS, a), "10.1.0.1 10.2.1.1 10.3.1.1",
	    "10.1.1.1 10.4.0.1");
	snprintf(text, sizeof(text), "!%s 0.0.0.0/0", a);
	ips(list("mynetworks", MATCHLIST_ADDRESS, text), "10.1.1.1 10.4.0.1", "10.1.0.1 10.3.1.1");
	write_file(b, a); /* a loop */
	list_fails(MATCHLIST_ADDRESS, a, "nested too deeply");
	write_file(b, "10.3.0.1/16\n");
	list_fails(MATCHLIST_ADDRESS, b, "line 1");
	unlink(a);
	unlink(b);
	rmdir(dir);
}

static void quiet(void *ctx, enum log_level level, const char *program, const char *text,
		  size_t len)
{
	(void)level;
	(void)program;
	(void)text;
	(void)len;
	++*(int *)ctx;
}

static void test_errors(void)
{
	int lines = 0;
	struct matchlist *l = list("mydestination", MATCHLIST_DOMAIN, "a, fail:x, b");

	log_set_sink(quiet, &lines);
	is_int(matchlist_has_domain(l, SV("a")), 1, "  before the failing table");
	ok(matchlist_has_domain(l, SV("b")) < 0, "  a failing table is no answer");
	ok(lines > 0, "  and is logged");
	log_set_sink(NULL, NULL);
	matchlist_close(&l);
	l = list("p", MATCHLIST_STRING, "One two inline:{three=x}");
	is_int(matchlist_has_string(l, SV("one")), 1, "  string");
	is_int(matchlist_has_string(l, SV("THREE")), 1, "  string by table");
	is_int(matchlist_has_string(l, SV("four")), 0, "  no string");
	matchlist_close(&l);
	ok(matchlist_word_in("a, B c", "b") && !matchlist_word_in("ab", "a"), "word in list");
}

int main(void)
{
	test_domains();
	test_networks();
	test_files();
	test_errors();
	return tap_done();
}
