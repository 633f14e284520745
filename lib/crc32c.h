/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CRC32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 where the CPU has it, tables elsewhere. */
#ifndef PH_LIB_CRC32C_H
#define PH_LIB_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue from `crc` (0 to start); crc32c(0, "123456789", 9) is 0xe3069283. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
