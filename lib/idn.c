/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names in UTF-8; see lib/idn.h. Programs that use it link with libidn2. */
#include "lib/idn.h"

#include <idn2.h>
#include <string.h>

#include "lib/str.h"

bool idn_to_ascii(const char *name, bool transitional, char *out, size_t size)
{
	int flags = IDN2_NFC_INPUT | (transitional ? IDN2_TRANSITIONAL : IDN2_NONTRANSITIONAL);
	char *ace = NULL;
	bool fine;

	if (str_is_ascii(name, strlen(name)))
		return str_copy(out, size, sv_from(name));
	if (idn2_to_ascii_8z(name, &ace, flags) != IDN2_OK)
		return false;
	fine = str_copy(out, size, sv_from(ace));
	idn2_free(ace);
	return fine;
}
