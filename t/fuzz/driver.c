/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main() of fuzz targets in ordinary builds: feeds the target its seed files
 * (t/fuzz/corpus/NAME/), mutations of them, and generated inputs, always the same ones, and prints
 * TAP. With --enable-fuzz (clang) libFuzzer takes its place.
 *   usage: NAME_fuzz [FILE...]    runs the given inputs only (to repeat a crash)
 *   environment: POSTHASTE_FUZZ_RUNS (default 20000), POSTHASTE_FUZZ_SEED (default 1)
 * An input that crashes the target is left in ./crash-NAME.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"

#define INPUT_MAX_BYTES 8192u
#define MAX_SEEDS       500u
#define HANG_S          20u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seed {
	uint8_t *data;
	size_t size;
};

static struct seed seeds[MAX_SEEDS];
static size_t seed_count;
static uint64_t state = 1;
static char crash_name[200];
static uint8_t input[INPUT_MAX_BYTES];
static size_t input_size;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static size_t below(size_t bound)
{
	return bound == 0 ? 0 : (size_t)(next_random() % bound);
}

static void drop_line(void *ctx, enum log_level level, const char *program, const char *text,
		      size_t len)
{
	(void)ctx;
	(void)program;
	if (level == LOG_LEVEL_PANIC)
		fprintf(stderr, "# %.*s\n", (int)len, text);
}

static void on_crash(int sig)
{
	int fd = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	static const char hung[] = "not ok 1 - no end in sight; input is in ./crash-*\n1..1\n";
	static const char died[] = "not ok 1 - crashed; input is in ./crash-*\n1..1\n";

	if (fd >= 0 && write(fd, input, input_size) != (ssize_t)input_size)
		fd = -1;
	if ((sig == SIGALRM ? write(1, hung, sizeof(hung) - 1) : write(1, died, sizeof(died) - 1)) <
	    0)
		_exit(3);
	signal(sig == SIGALRM ? SIGABRT : sig, SIG_DFL);
	raise(sig == SIGALRM ? SIGABRT : sig);
}

static void run_one(void)
{
	alarm(HANG_S);
	/* an allocation of exactly this size, so that ASan sees a byte too many */
	uint8_t *copy = malloc(input_size + (input_size == 0));

	memcpy(copy, input, input_size);
	LLVMFuzzerTestOneInput(copy, input_size);
	free(copy);
}

static void add_seed(const char *path)
{
	struct buf b = { 0 };

	if (seed_count < MAX_SEEDS && io_read_file(path, INPUT_MAX_BYTES, &b) == 0) {
		seeds[seed_count].data = malloc(b.len + 1);
		if (b.len > 0)
			memcpy(seeds[seed_count].data, b.p, b.len);
		seeds[seed_count++].size = b.len;
	}
	buf_fini(&b);
}

static int visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static void load_seeds(const char *dir)
{
	struct dirent **list;
	char path[PATH_MAX];
	int n = scandir(dir, &list, visible, alphasort);

	for (int i = 0; i < n; i++) {
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name) <
		    sizeof(path))
			add_seed(path);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

static void make_random(void)
{
	/* mostly short: long random inputs are all alike */
	size_t limit = (size_t)1 << below(13);

	input_size = below(limit + 1);
	unsigned alphabet = (unsigned)below(3);

	for (size_t i = 0; i < input_size; i++) {
		uint8_t byte = (uint8_t)next_random();

		input[i] = alphabet == 0 ? byte : alphabet == 1 ? byte % 4 : 32 + byte % 95;
	}
}

static void insert_bytes(size_t at, const uint8_t *from, size_t n)
{
	n = size_min(n, INPUT_MAX_BYTES - input_size);
	memmove(input + at + n, input + at, input_size - at);
	memcpy(input + at, from, n);
	input_size += n;
}

static void mutate_once(void)
{
	static const uint8_t special[] = { 0,   1,   0x7f, 0x80, 0xff, '\r', '\n', '.',
					   ' ', '<', '>',  '"',  '\\', ':',  '@' };
	size_t at = below(input_size), n = 1 + below(16);

	switch (below(7)) {
	case 0:
		if (input_size > 0)
			input[at] ^= (uint8_t)(1u << below(8));
		break;
	case 1:
		if (input_size > 0)
			input[at] = special[below(sizeof(special))];
		break;
	case 2:
		for (size_t i = at; i < input_size && i < at + n; i++)
			input[i] = (uint8_t)next_random();
		break;
	case 3:
		insert_bytes(at, &special[below(sizeof(special))], 1);
		break;
	case 4: /* repeat a piece */
		n = size_min(below(input_size) + 1, input_size - at);
		uint8_t piece[INPUT_MAX_BYTES];

		memcpy(piece, input + at, n);
		insert_bytes(at, piece, n);
		break;
	case 5: /* cut a piece out, or the rest off */
		n = below(2) ? size_min(n, input_size - at) : input_size - at;
		memmove(input + at, input + at + n, input_size - at - n);
		input_size -= n;
		break;
	case 6: { /* a piece of another seed */
		const struct seed *s = &seeds[below(seed_count)];
		size_t from = below(s->size);

		insert_bytes(at, s->data + from, size_min(s->size - from, 1 + below(200)));
		break;
	}
	}
}

static void make_mutation(void)
{
	const struct seed *s = &seeds[below(seed_count)];

	memcpy(input, s->data, s->size);
	input_size = s->size;
	for (size_t n = 1 + below(8); n > 0; n--)
		mutate_once();
}

static unsigned long env_number(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoul(text, NULL, 10) : otherwise;
}

static void prepare(const char *program)
{
	const char *slash = strrchr(program, '/');
	const char *base = slash != NULL ? slash + 1 : program;
	char name[100], dir[PATH_MAX];
	size_t len = strlen(base);

	if (len > 5 && strcmp(base + len - 5, "_fuzz") == 0)
		len -= 5;
	snprintf(name, sizeof(name), "%.*s", (int)len, base);
	snprintf(crash_name, sizeof(crash_name), "crash-%s", name);
	snprintf(dir, sizeof(dir), "%s/%s", FUZZ_CORPUS_DIR, name);
	load_seeds(dir);
	static const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM };

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		signal(signals[i], on_crash);
	log_set_sink(drop_line, NULL);
}

int main(int argc, char **argv)
{
	unsigned long runs = env_number("POSTHASTE_FUZZ_RUNS", 20000);

	state = env_number("POSTHASTE_FUZZ_SEED", 1) * 0x9e3779b97f4a7c15u | 1;
	prepare(argv[0]);
	if (argc > 1) {
		seed_count = 0;
		for (int i = 1; i < argc; i++)
			add_seed(argv[i]);
		runs = 0;
	}
	for (size_t i = 0; i < seed_count; i++) {
		memcpy(input, seeds[i].data, seeds[i].size);
		input_size = seeds[i].size;
		run_one();
	}
	for (unsigned long i = 0; i < runs; i++) {
		if (seed_count > 0 && i % 4 != 0)
			make_mutation();
		else
			make_random();
		run_one();
	}
	printf("ok 1 - %zu seeds, %lu generated inputs\n1..1\n", seed_count, runs);
	for (size_t i = 0; i < seed_count; i++)
		free(seeds[i].data);
	return 0;
}
