/* SPDX-License-Identifier: GPL-3.0-or-later */
/* postmap and postalias as commands: what they build is what the table types find. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/kch_build.h"
#include "conf/map.h"
#include "lib/io.h"
#include "t/unit/tap.h"

static char dir[] = "/tmp/postmaptest.XXXXXX";
static char bin[400]; /* folder of the commands */

static const char *path_of(const char *name)
{
	static char path[2][200];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void write_file(const char *name, const char *text)
{
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0640);

	if (fd < 0 || io_write_all(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

/* Run in the test's folder; exit status, and all output. */
static int run(const char *command, struct buf *out)
{
	char line[1000];
	FILE *f;

	snprintf(line, sizeof(line), "cd %s && PATH=%s:$PATH && { %s; } 2>&1", dir, bin, command);
	buf_reset(out);
	f = popen(line, "r");
	if (f == NULL || io_read_to_buf(fileno(f), 1 << 20, out) < 0)
		abort();
	int status = pclose(f);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run_is(const char *command, int want_status, const char *want)
{
	struct buf out = BUF_INIT;

	is_int(run(command, &out), want_status, "%s", command);
	is_str(buf_cstr(&out), want, "  output");
	buf_fini(&out);
}

static void run_says(const char *command, int want_status, const char *want)
{
	struct buf out = BUF_INIT;

	is_int(run(command, &out), want_status, "%s", command);
	if (!ok(strstr(buf_cstr(&out), want) != NULL, "  says %s", want))
		printf("# %s\n", buf_cstr(&out));
	buf_fini(&out);
}

static void test_postmap(void)
{
	struct stat st;

	write_file("t", "Key  value\nb two  words\n# c\nkey again\nbad\n\"a b\"@x  v\n");
	run_is("postmap hash:t", 0,
	       "postmap: warning: t, line 4: duplicate entry: \"key\"\n"
	       "postmap: warning: t, line 5: expected format: key whitespace value\n");
	ok(stat(path_of("t.kch"), &st) == 0 && (st.st_mode & 0777) == 0640,
	   "the table has the rights of its source");
	run_is("postmap -q KEY hash:t", 0, "value\n");
	run_is("postmap -f -q KEY hash:t", 1, "");
	run_is("postmap -q nokey hash:t", 1, "");
	run_is("printf 'b\\nz\\nkey\\n' | postmap -q - hash:t", 0, "b\ttwo  words\nkey\tvalue\n");
	run_is("postmap -q b inline:{a=1} hash:t", 0, "two  words\n");
	run_is("echo new one | postmap -i hash:t", 0, "");
	run_is("postmap -q new hash:t", 0, "one\n");
	run_is("postmap -q b hash:t", 0, "two  words\n");
	run_says("echo key three | postmap -i hash:t", 0, "stdin, line 1: duplicate entry");
	run_is("echo key three | postmap -w -i hash:t", 0, "");
	run_is("postmap -q key hash:t", 0, "value\n");
	run_is("echo key three | postmap -r -i hash:t", 0, "");
	run_is("postmap -q key hash:t", 0, "three\n");
	run_is("postmap -d B hash:t", 0, "");
	run_is("postmap -d b hash:t", 1, "");
	run_is("printf 'new\\nq\\n' | postmap -d - hash:t", 0, "");
	run_is("postmap -s hash:t | sort", 0, "\"a b\"@x\tv\nkey\tthree\n");
	run_is("postmap -p -w hash:t 2>/dev/null", 0, "");
	ok(stat(path_of("t.kch"), &st) == 0 && (st.st_mode & 0777) == 0644, "-p: default rights");
	run_is("postmap -r -f hash:t 2>/dev/null; postmap -f -q Key hash:t", 0, "value\n");
	run_is("ls", 0, "t\nt.kch\n");
}

static void test_refusals(void)
{
	run_says("postmap hash:none", 1, "postmap: fatal: open none: No such file");
	run_says("postmap texthash:t", 1, "unsupported map type for this operation: texthash");
	run_says("postmap ldap:t", 1, "unsupported map type for this operation: ldap");
	run_says("postmap foo:t", 1, "unsupported map type for this operation: foo");
	run_says("postmap -q x foo:t", 1, "unsupported dictionary type: foo");
	run_says("postmap -s static:t", 1, "sequence operation is not supported");
	run_is("postmap -s 'inline:{ { b = 1 2 }, a=3 }'", 0, "b\t1 2\na\t3\n");
	run_says("postmap -q x hash:none", 1, "run \"postmap hash:none\"");
	run_says("postmap -q x fail:y", 1, "query error");
	run_says("postmap -d x hash:none", 1, "No such file");
	run_says("postmap -s hash:none", 1, "fatal: open none.kch");
	run_says("postmap -q x -d y hash:t", 1, "only one of");
	run_says("postmap", 1, "usage");
	run_says("postmap -Z hash:t", 1, "usage");
	run_says("postmap hash:/dev/null", 1, "not a regular file");
	run_says("mkdir d && touch d/x && mkdir d/x.kch && postmap hash:d/x", 1, "rename to");
	run_is("ls d; rm -r d", 0, "x\nx.kch\n");
	run_says("touch 'a#b' && postmap 'hash:a#b'; rc=$?; rm 'a#b'; exit $rc", 1,
		 "not a usable file name");
	write_file("t.kch", "damaged");
	run_says("postmap -q x hash:t", 1, "fatal: hash:t: open t.kch");
	run_says("echo a b | postmap -i hash:t", 1, "fatal: open t.kch");
	run_is("postmap -w hash:t 2>/dev/null && postmap -q b hash:t", 0, "two  words\n");
}

static void test_postalias(void)
{
	write_file("al",
		   "root: me,\n  you\n\"a b\": /file\nInclude: :include:/x\nx@y: z\nnocolon\n");
	run_is("postalias hash:al", 0,
	       "postalias: warning: al, line 5: name must be local\n"
	       "postalias: warning: al, line 6: need name:value pair\n");
	run_is("postalias -q ROOT hash:al", 0, "me,  you\n");
	run_is("postalias -q 'a b' hash:al", 0, "/file\n");
	run_is("postalias -q include hash:al", 0, ":include:/x\n");
}

static bool count_one(void *ctx, struct sv key, struct sv value)
{
	size_t *n = ctx;

	(void)key;
	*n += value.len == 1;
	return true;
}

static void test_builder(void)
{
	struct kch_build *b;
	char *why, name[200];
	size_t n = 0;
	char key[20];

	snprintf(name, sizeof(name), "%s", path_of("big"));
	is_int(kch_build_begin(name, 10, 0600, false, &b, &why), 0, "begin");
	for (int i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		if (kch_build_add(b, sv_from(key), SV("v"), KCH_DUP_KEEP) != 1)
			ok(false, "add %d", i);
	}
	ok(access(path_of("big.kch"), F_OK) < 0, "nothing to see before the commit");
	is_int(kch_build_commit(&b, &why), 0, "commit");
	is_int(kch_each(name, count_one, &n, &why), 0, "read all");
	is_int(n, 5000, "all are there");
	is_int(kch_build_begin(name, 10, 0600, true, &b, &why), 0, "begin on top of it");
	kch_build_add(b, SV("more"), SV("v"), KCH_DUP_KEEP);
	kch_build_abort(&b);
	n = 0;
	kch_each(name, count_one, &n, &why);
	is_int(n, 5000, "an aborted change leaves no trace");
	snprintf(key, sizeof(key), "%ld", (long)getpid());
	ok(access(path_of("big.kch"), F_OK) == 0, "the table is there");
	run_is("ls | grep -c tmp", 1, "0\n");
}

int main(void)
{
	char command[100], cwd[300];

	if (mkdtemp(dir) == NULL || getcwd(cwd, sizeof(cwd)) == NULL)
		return 1;
	snprintf(bin, sizeof(bin), "%s/daemon", cwd);
	test_postmap();
	test_refusals();
	test_postalias();
	test_builder();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) != 0 || tap_done();
}
