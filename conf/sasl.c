/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See conf/sasl.h. */
#include "conf/sasl.h"

#include <string.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/util.h"

bool sasl_is_used(const struct conf *c)
{
	for (unsigned i = 0; i < conf_listener_count(c); i++) {
		if (conf_listener(c, i)->service->params->smtpd_sasl_auth_enable)
			return true;
	}
	return false;
}

bool sasl_client_is_used(const struct conf *c)
{
	for (unsigned i = 0; i < conf_transport_count(c); i++) {
		const struct conf_transport *t = conf_transport(c, i);

		if ((t->kind == TRANSPORT_SMTP && t->params->smtp_sasl_auth_enable) ||
		    (t->kind == TRANSPORT_LMTP && t->params->lmtp_sasl_auth_enable))
			return true;
	}
	return false;
}

int sasl_options_parse(const char *text, const char *param, unsigned *options_r,
		       struct conf_diag *d)
{
	static const struct {
		const char *word;
		unsigned bit;
	} words[] = {
		{ "noplaintext", SASL_NO_PLAINTEXT },        { "noactive", SASL_NO_ACTIVE },
		{ "nodictionary", SASL_NO_DICTIONARY },      { "noanonymous", SASL_NO_ANONYMOUS },
		{ "forward_secrecy", SASL_FORWARD_SECRECY }, { "mutual_auth", SASL_MUTUAL_AUTH },
	};

	*options_r = 0;
	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		size_t i = 0;

		n = strcspn(text, ", \t\r\n");
		while (i < ARRAY_LEN(words) &&
		       !sv_eq_nocase((struct sv){ text, n }, sv_from(words[i].word)))
			i++;
		if (i == ARRAY_LEN(words)) {
			conf_diag_add(d, true, NULL, 0, "parameter %s: unknown option \"%.*s\"",
				      param, (int)n, text);
			return E_CONFIG;
		}
		*options_r |= words[i].bit;
	}
	return 0;
}

static struct sv next_word(const char **at)
{
	*at += strspn(*at, " \t");
	struct sv word = { *at, strcspn(*at, " \t") };

	*at += word.len;
	return word;
}

int sasl_filter_mechanisms(struct matchlist *filter, const char *words, struct buf *out)
{
	for (struct sv w; (w = next_word(&words)).len > 0;) {
		int hit = filter == NULL ? 1 : matchlist_has_string(filter, w);

		if (hit < 0)
			return E_AGAIN;
		if (hit == 0)
			continue;
		if (out->len > 0)
			buf_add_c(out, ' ');
		buf_add_sv(out, w);
	}
	return 0;
}

bool sasl_has_mechanism(const char *words, const char *mechanism)
{
	for (struct sv w; (w = next_word(&words)).len > 0;) {
		if (sv_eq_nocase(w, sv_from(mechanism)))
			return true;
	}
	return false;
}
