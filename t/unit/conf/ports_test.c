/* SPDX-License-Identifier: GPL-3.0-or-later */
/* known_tcp_ports: names, lists that cannot be read. */
#include "conf/conf.h"
#include "conf/ports.h"
#include "lib/err.h"
#include "t/unit/tap.h"

static void know(const char *text, const char *complaint)
{
	struct conf_diag d;

	conf_diag_init(&d);
	ports_know(text, &d);
	is_int(d.errors, 0, "\"%s\" stops nothing", text);
	if (*complaint == '\0')
		is_int((long long)d.text.len, 0, "... and is understood");
	else
		ok(strstr(buf_cstr(&d.text), complaint) != NULL, "... and \"%s\"", complaint);
	conf_diag_fini(&d);
}

static void finds(const char *text, int port)
{
	uint16_t got = 0;
	int err = ports_find(sv_from(text), &got);

	is_int(err == 0 ? got : err, port, "%s", text);
}

int main(void)
{
	finds("submissions", 465);
	finds("2525", 2525);
	know(" hop = 2501 , a=b = 77,, ", "");
	finds("hop", 2501);
	finds("a", 77);
	finds("b", 77);
	finds("submissions-but-no-service", E_SYNTAX);
	finds("0", E_SYNTAX);
	finds("65536", E_SYNTAX);
	finds("", E_SYNTAX);
	finds("7x", E_SYNTAX);
	is_str(ports_known("hop"), "2501", "as text");
	is_str(ports_known("other"), "other", "... and what is not known");
	know("good=1, alone", "in \"alone\": is not in \"name = value\" form");
	finds("good", 1);
	finds("hop", E_SYNTAX);
	know("x=", "missing port value after \"=\"");
	know("x=1 2", "whitespace in port number");
	know("=1", "missing service name before \"=\"");
	know("a b=1", "whitespace in service name");
	know("12=1", "numerical service name");
	know("x=one", "non-numerical service port");
	know("x=70000", "port number out of range");
	know("x=1, y=x=2", "duplicate service name");
	finds("x", 1);
	finds("y", 2);
	know("", "");
	know("nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn=1",
	     "service name is too long");
	return tap_done();
}
