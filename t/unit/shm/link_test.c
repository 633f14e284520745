/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Links: both directions, wake-ups, and a peer that rewrites the offsets. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/err.h"
#include "shm/link.h"
#include "t/unit/tap.h"

static struct link_shm *places(struct shm_region *r)
{
	return (void *)((char *)r->base + sizeof(struct shm_header));
}

static void both_ways(void)
{
	struct shm_region r0, r1;
	struct link a, b;
	char buf[100];
	size_t len;
	int fd0 = eventfd(0, EFD_NONBLOCK), fd1 = eventfd(0, EFD_NONBLOCK);

	is_int(link_create("t", 4096, 1024, 0, 7, &r0), 0, "create");
	is_int(shm_region_map(dup(r0.fd), SHM_KIND_LINK, true, &r1), 0, "the other side maps it");
	is_int(link_attach(&a, &r0, 0, dup(fd1)), 0, "attach side 0");
	is_int(link_attach(&b, &r1, 1, dup(fd0)), 0, "attach side 1");
	ok(r0.base == NULL && r1.base == NULL, "the regions were taken over");
	ok(link_is_attached(&a), "attached");
	is_int(a.out.size, 4096, "size of 0 to 1");
	is_int(a.in.size, 1024, "size of 1 to 0");
	ring_put(&a.out, "to one", 6);
	ring_put(&b.out, "to zero", 7);
	link_flush(&a);
	link_flush(&b);
	ok(ring_get(&b.in, buf, sizeof(buf), &len) == 1 && len == 6 &&
		   memcmp(buf, "to one", 6) == 0,
	   "0 to 1");
	ok(ring_get(&a.in, buf, sizeof(buf), &len) == 1 && len == 7 &&
		   memcmp(buf, "to zero", 7) == 0,
	   "1 to 0");
	ok(!ring_cons_sleep(&b.in), "side 1 sleeps");
	ring_put(&a.out, "x", 1);
	link_flush(&a);
	uint64_t n = 0;

	is_int(read(fd1, &n, sizeof(n)), sizeof(n), "its eventfd was written");
	link_detach(&a);
	link_detach(&a);
	ok(!link_is_attached(&a), "detached twice without harm");
	is_int(ring_get(&b.in, buf, sizeof(buf), &len), 1,
	       "what a gone peer published is still there");
	link_detach(&b);
	close(fd0);
	close(fd1);
}

static void refused(const char *what, unsigned which, uint64_t off, uint64_t len)
{
	struct shm_region r;
	struct link l;
	int fd = eventfd(0, 0);

	link_create("t", 4096, 4096, 1, 2, &r);
	places(&r)->ring_off[which] = off;
	places(&r)->ring_len[which] = len;
	is_int(link_attach(&l, &r, 0, fd), E_CORRUPT, "refused: %s", what);
	ok(!link_is_attached(&l) && r.base == NULL && fcntl(fd, F_GETFD) < 0, "all closed: %s",
	   what);
}

int main(void)
{
	size_t each = ring_bytes(4096);

	both_ways();
	refused("ring past the end", 1, 128 + each, each + 64);
	refused("ring far past the end", 1, UINT64_MAX - 63, 128);
	refused("length that wraps", 1, 128 + each, UINT64_MAX);
	refused("ring over the header", 0, 0, each);
	refused("rings over each other", 1, 128 + 64, each);
	refused("crooked offset", 1, 128 + each + 4, each - 64);
	refused("too short for its ring", 0, 128, 192);
	struct shm_region r;
	struct link l;

	link_create("t", 4096, 4096, 1, 2, &r);
	memset((char *)r.base + 128, 0xff, r.size - 128);
	is_int(link_attach(&l, &r, 1, -1), E_CORRUPT, "refused: no rings in there");
	return tap_done();
}
