/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TAP for unit tests: ok(), is_int(), is_str(), then `return tap_done();` from main().
 * A test that logs unexpectedly should install log_set_sink() and check.
 */
#ifndef PH_T_TAP_H
#define PH_T_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count, tap_failed;

/* How many times longer than usual stress and crash tests shall run: POSTHASTE_STRESS (make
 * check-long), 1 if not set. */
__attribute__((unused)) static unsigned tap_factor(void)
{
	const char *text = getenv("POSTHASTE_STRESS");
	int factor = text != NULL ? atoi(text) : 1;

	return factor < 1 ? 1 : factor > 1000 ? 1000 : (unsigned)factor;
}

__attribute__((format(printf, 4, 5), unused)) static bool tap_ok(bool pass, const char *file,
								 int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("%sok %d - ", pass ? "" : "not ", ++tap_count);
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	if (!pass) {
		tap_failed++;
		printf("# failed at %s:%d\n", file, line);
	}
	fflush(stdout);
	return pass;
}

#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, __VA_ARGS__)

#define is_int(got, want, ...)                                                                     \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (!tap_ok(got_ == want_, __FILE__, __LINE__, __VA_ARGS__))                       \
			printf("# got %lld, want %lld\n", got_, want_);                            \
	} while (0)

#define is_str(got, want, ...)                                                                     \
	do {                                                                                       \
		const char *gs_ = (got), *ws_ = (want);                                            \
		bool same_ = gs_ != NULL && ws_ != NULL ? strcmp(gs_, ws_) == 0 : gs_ == ws_;      \
		if (!tap_ok(same_, __FILE__, __LINE__, __VA_ARGS__))                               \
			printf("# got  '%s'\n# want '%s'\n", gs_ ? gs_ : "(null)",                 \
			       ws_ ? ws_ : "(null)");                                              \
	} while (0)

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif
