/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Results as the operator wants them; see workers/common/statusfilter.h. */
#include "workers/common/statusfilter.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/smtp/reply.h"

struct status_filter {
	const char *param;
	struct map_list *maps;
	bool soft_bounce;
};

int status_filter_open(const struct conf *c, const struct conf_transport *ct,
		       struct status_filter **f_r, struct conf_diag *d)
{
	const struct params *p = ct->params;
	const struct {
		const char *param, *specs;
	} rows[] = {
		[TRANSPORT_SMTP] = { "smtp_delivery_status_filter",
				     p->smtp_delivery_status_filter },
		[TRANSPORT_LMTP] = { "lmtp_delivery_status_filter",
				     p->lmtp_delivery_status_filter },
		[TRANSPORT_VIRTUAL] = { "virtual_delivery_status_filter",
					p->virtual_delivery_status_filter },
		[TRANSPORT_LOCAL] = { "local_delivery_status_filter",
				      p->local_delivery_status_filter },
		[TRANSPORT_PIPE] = { "pipe_delivery_status_filter",
				     p->pipe_delivery_status_filter },
	};
	bool own = ct->kind < ARRAY_LEN(rows) && rows[ct->kind].param != NULL;
	struct status_filter *f = xcalloc(1, sizeof(*f));
	int err;

	f->param = own ? rows[ct->kind].param : "default_delivery_status_filter";
	f->soft_bounce = p->soft_bounce;
	err = map_list_open(c, own ? rows[ct->kind].specs : p->default_delivery_status_filter,
			    f->param, &f->maps, d);
	if (err < 0)
		status_filter_close(&f);
	*f_r = f;
	return err;
}

void status_filter_close(struct status_filter **fp)
{
	if (*fp == NULL)
		return;
	map_list_close(&(*fp)->maps);
	free(*fp);
	*fp = NULL;
}

static void ask(const struct status_filter *f, uint8_t dsn[3], struct sv *text, struct buf *mem)
{
	struct buf key = BUF_INIT;
	uint8_t now[3];
	size_t n;

	buf_printf(&key, "%u.%u.%u %.*s", dsn[0], dsn[1], dsn[2], (int)text->len, text->p);
	if (map_list_get(f->maps, buf_sv(&key), mem) == MAP_FOUND) {
		n = smtp_dsn_parse(buf_sv(mem), now);
		if (n == 0 || (dsn[0] == 2) != (now[0] == 2)) {
			log_warn("%s: bad status code: %s", f->param, buf_cstr(mem));
		} else {
			memcpy(dsn, now, 3);
			*text = sv_trim((struct sv){ mem->p + n, mem->len - n });
		}
	}
	buf_fini(&key);
}

const char *status_filter_apply(const struct status_filter *f, uint8_t dsn[3], struct sv *text,
				struct buf *mem)
{
	if (f != NULL && !map_list_is_empty(f->maps))
		ask(f, dsn, text, mem);
	if (dsn[0] == 5 && f != NULL && f->soft_bounce) {
		dsn[0] = 4;
		return "SOFTBOUNCE";
	}
	return dsn[0] == 2 ? "sent" : dsn[0] == 5 ? "bounced" : "deferred";
}
