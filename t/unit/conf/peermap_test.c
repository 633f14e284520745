/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tables by name and address of a peer: what is asked, in which order, and what ends it. */
#include "conf/peermap.h"

#include "lib/err.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static struct conf *conf;

static struct peermap *tables(const char *param, const char *specs, int want)
{
	struct peermap *m;
	struct conf_diag d;

	conf_diag_init(&d);
	is_int(peermap_open(conf, specs, param, &m, &d), want, "tables \"%s\": %s", specs,
	       buf_cstr(&d.text));
	conf_diag_fini(&d);
	return m;
}

/* What is found, "" = nothing, "!" = an error. */
static void asks(const char *param, const char *specs, const char *name, const char *addr,
		 const char *want)
{
	struct peermap *m = tables(param, specs, 0);
	struct buf out = BUF_INIT;
	enum map_status st = peermap_get(m, name, addr, &out);

	is_str(st == MAP_FOUND   ? buf_cstr(&out)
	       : st == MAP_ERROR ? "!"
				 : "",
	       want, "%s[%s] in %s", name, addr, specs);
	buf_fini(&out);
	peermap_close(&m);
}

int main(void)
{
	static const char param[] = "smtp_tls_loglevel_maps";

	conf = test_conf("parent_domain_matches_subdomains = smtpd_tls_loglevel_maps\n");
	if (conf == NULL)
		return 1;
	ok(tables(param, " , ", 0) == NULL, "no tables");
	asks(param, "", "a.test", "192.0.2.1", "");
	asks(param, "inline:{{mx.a.test=1}}", "MX.a.test", "192.0.2.1", "1");
	asks(param, "inline:{{a.test=1}}", "mx.a.test", "192.0.2.1", "");
	asks(param, "inline:{{.a.test=1},{.test=2}}", "mx.a.test", "192.0.2.1", "1");
	asks(param, "inline:{{.test=2}}", "mx.a.test", "192.0.2.1", "2");
	asks("smtpd_tls_loglevel_maps", "inline:{{a.test=1}}", "mx.a.test", "192.0.2.1", "1");
	asks("smtpd_tls_loglevel_maps", "inline:{{.a.test=1}}", "mx.a.test", "192.0.2.1", "");
	asks(param, "inline:{{192.0.2.1=3}}", "mx.a.test", "192.0.2.1", "3");
	asks(param, "inline:{{192.0.2=3}}", "", "192.0.2.1", "3");
	asks(param, "inline:{{192=3}}", "", "192.0.2.1", "3");
	asks(param, "inline:{{2001:db8=4}}", "", "2001:db8::1", "4");
	asks(param, "inline:{{192.0.2=3},{mx.a.test=1}}", "mx.a.test", "192.0.2.1", "1");
	asks(param, "inline:{{192.0.2.1=3},{.test=dunno}}", "mx.a.test", "192.0.2.1", "");
	asks(param, "inline:{{192.0.2.1=3}}", "not a name", "192.0.2.1", "3");
	asks(param, "inline:{{192=3}}", "192.0.2.1", "192.0.2.1", "3");
	asks(param, "regexp:{{/^\\.a/ 1}}", "mx.a.test", "192.0.2.1", "");
	asks(param, "regexp:{{/a\\.test$/ 1}}, inline:{{mx.a.test=2}}", "mx.a.test", "192.0.2.1",
	     "1");
	asks(param, "cidr:{{192.0.2.0/24 5}}", "mx.a.test", "192.0.2.1", "5");
	asks(param, "hash:/nonexistent/table", "mx.a.test", "192.0.2.1", "!");
	ok(tables(param, "socketmap:inet:127.0.0.1:1:x", E_CONFIG) == NULL, "no remote tables");
	ok(tables(param, "nonsense:x", E_CONFIG) == NULL, "no unknown ones");
	ok(tables(param, "inline:{", E_SYNTAX) == NULL, "braces");
	conf_free(&conf);
	return tap_done();
}
