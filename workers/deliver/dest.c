/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Destinations of this worker: (transport, next hop text). Each holds the jobs that wait for a
 * connection, and decides whether a job goes over an idle connection, a new one, or waits. Called
 * by job.c (new jobs) and conn.c (connections become free or end). See workers/deliver/deliver.h.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/deliver.h"
#include "workers/tables/client.h"

struct sv dest_nexthop(const struct dest *d)
{
	return (struct sv){ d->key + 2, d->key_len - 2 };
}

static int dest_new(struct deliver *d, struct job *j, struct sv key, struct dest **dest_r)
{
	struct dest *dest = xcalloc(1, sizeof(*dest));
	const struct tconf *t = j->t;
	int err = nexthop_parse(j->nexthop, t->mx, t->port, &dest->nh);

	if (err == 0 && t->fallback_relay[0] != '\0' &&
	    nexthop_parse(sv_from(t->fallback_relay), t->mx, t->port, &dest->nh) != 0)
		log_warn("fallback_relay: malformed: \"%s\"", t->fallback_relay);
	if (err != 0) {
		free(dest);
		return err;
	}
	dest->d = d;
	dest->t = j->t;
	for (unsigned i = 0; i < dest->nh.count; i++) {
		struct sv *text = &dest->nh.alts[i].text;

		if (t->tls_client != NULL || t->login != NULL)
			dest->alts[i].text = xstrndup(text->p, text->len);
		*text = (struct sv){ NULL, 0 }; /* the job's text goes with the job */
	}
	dest->key = xstrndup(key.p, key.len);
	dest->key_len = key.len;
	strmap_put(d->dests, key, dest);
	*dest_r = dest;
	return 0;
}

static void unstarve(struct dest *dest)
{
	struct dest **at = &dest->d->starved;

	if (!dest->is_starved)
		return;
	while (*at != dest)
		at = &(*at)->starved_next;
	*at = dest->starved_next;
	if (dest->d->starved_tail == &dest->starved_next)
		dest->d->starved_tail = at;
	dest->is_starved = false;
}

static void alt_policy_free(struct alt_state *alt)
{
	if (alt->fetch != NULL)
		tables_cancel(alt->fetch);
	map_memo_free(&alt->memo);
	tls_site_unref(&alt->site);
	free(alt->text);
}

static void dest_free_if_empty(struct dest *dest)
{
	if (dest->first != NULL || dest->conn_count > 0)
		return;
	unstarve(dest);
	for (unsigned i = 0; i < dest->nh.count; i++) {
		route_lookup_cancel(&dest->alts[i].lookup);
		route_unref(&dest->alts[i].route);
		if (dest->alts[i].text != NULL)
			alt_policy_free(&dest->alts[i]);
	}
	strmap_remove(dest->d->dests, (struct sv){ dest->key, dest->key_len });
	free(dest->key);
	free(dest);
}

static void push_back(struct dest *dest, struct job *j)
{
	j->next = NULL;
	if (dest->last != NULL)
		dest->last->next = j;
	else
		dest->first = j;
	dest->last = j;
}

int dest_add(struct deliver *d, struct job *j)
{
	char key[2 + PROTO_NAME_MAX + 1];
	struct dest *dest;
	struct sv k = { key, 2 + size_min(j->nexthop.len, PROTO_NAME_MAX) };
	int err = 0;

	memcpy(key, &j->pj.transport, 2);
	memcpy(key + 2, j->nexthop.p, k.len - 2);
	dest = strmap_get(d->dests, k);
	if (dest == NULL)
		err = dest_new(d, j, k, &dest);
	if (err != 0)
		return err;
	dest->row = j->pj.dest;
	dest->window = j->pj.window > 0 ? j->pj.window : 1;
	j->dest = dest;
	push_back(dest, j);
	dest_pump(dest);
	return 0;
}

void dest_requeue(struct dest *dest, struct job *j)
{
	j->conn = NULL;
	j->next = dest->first;
	dest->first = j;
	if (dest->last == NULL)
		dest->last = j;
}

static bool is_fresh(const struct job *j)
{
	return j->route == NULL && j->alt == 0;
}

static struct job *take_first(struct dest *dest)
{
	struct job *j = dest->first;

	dest->first = j->next;
	if (dest->first == NULL)
		dest->last = NULL;
	j->next = NULL;
	j->tried = true;
	return j;
}

struct job *dest_take_fresh(struct dest *dest)
{
	/* those on their second host stand in front and are few */
	if (dest->first == NULL || !is_fresh(dest->first))
		return NULL;
	return take_first(dest);
}

/* Room for one more connection of the worker; an idle one of another destination makes way. */
static bool make_room(struct deliver *d)
{
	if (d->conn_count >= d->connection_limit && d->idle_last != NULL) {
		struct dest *other = d->idle_last->dest;

		conn_close_idle(d->idle_last);
		dest_pump(other); /* it may have nothing left */
	}
	return d->conn_count < d->connection_limit;
}

static void starve(struct dest *dest)
{
	if (dest->is_starved)
		return;
	dest->is_starved = true;
	dest->starved_next = NULL;
	*dest->d->starved_tail = dest;
	dest->d->starved_tail = &dest->starved_next;
}

static void pump(struct dest *dest)
{
	while (dest->first != NULL) {
		if (is_fresh(dest->first) && dest->idle != NULL) {
			struct conn *c = dest->idle;

			conn_reuse(c, take_first(dest));
			continue;
		}
		if (dest->conn_count >= dest->window) {
			if (dest->idle == NULL)
				return;
			conn_close_idle(dest->idle); /* a job for its second host needs the place */
			continue;
		}
		if (!make_room(dest->d)) {
			starve(dest);
			return;
		}
		conn_open(dest, take_first(dest));
	}
}

void dest_pump(struct dest *dest)
{
	if (dest->pumping)
		return;
	dest->pumping = true;
	pump(dest);
	dest->pumping = false;
	dest_free_if_empty(dest);
}

void dest_pump_starved(struct deliver *d)
{
	while (d->starved != NULL &&
	       (d->conn_count < d->connection_limit || d->idle_last != NULL)) {
		struct dest *dest = d->starved;

		unstarve(dest);
		dest_pump(dest); /* back to the end of the line when it wants more than there is */
	}
}

void dest_drop_unbegun(struct dest *dest)
{
	struct job *list = dest->first;

	dest->first = dest->last = NULL;
	while (list != NULL) {
		struct job *j = list;

		list = j->next;
		if (j->tried)
			push_back(dest, j);
		else
			job_withdraw(j);
	}
}
