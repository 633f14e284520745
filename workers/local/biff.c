/* SPDX-License-Identifier: GPL-3.0-or-later */
/* New mail for comsat(8); see workers/local/biff.h. Called by local.c and expand_act.c. */
#include "workers/local/biff.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIFF_PORT 512 /* without a line in services(5) */

static struct sockaddr_in comsat = { .sin_family = AF_INET };

int biff_open(void)
{
	const struct servent *service = getservbyname("biff", "udp");

	comsat.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	comsat.sin_port = service != NULL ? (in_port_t)service->s_port : htons(BIFF_PORT);
	return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

void biff_tell(int fd, const char *user, uint64_t offset)
{
	char text[300];
	int len = snprintf(text, sizeof(text), "%s@%llu", user, (unsigned long long)offset);

	if (fd < 0 || len >= (int)sizeof(text))
		return;
	/* with the NUL, as comsat reads it; the socket has no room, or nobody listens: no matter */
	if (sendto(fd, text, (size_t)len + 1, MSG_NOSIGNAL, (const struct sockaddr *)&comsat,
		   sizeof(comsat)) < 0)
		return;
}
