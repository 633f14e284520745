/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Allocation that dies instead of failing; see lib/util.h. */
#include "lib/util.h"

#include <stdarg.h>
#include <stdio.h>

#include "lib/log.h"

static void *checked(void *ptr, size_t size)
{
	if (ptr == NULL && size != 0)
		die("out of memory allocating %zu bytes", size);
	return ptr;
}

void *xmalloc(size_t size)
{
	return checked(malloc(size), size);
}

void *xcalloc(size_t count, size_t size)
{
	return checked(calloc(count, size), count * size);
}

void *xrealloc(void *ptr, size_t size)
{
	return checked(realloc(ptr, size), size);
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t len)
{
	char *copy = xmalloc(len + 1);

	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		die("out of memory formatting a string");
	va_end(ap);
	return text;
}
