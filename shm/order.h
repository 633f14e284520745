/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * For structures that are read while their one writer goes on (qtab, dtab): copying of payload that
 * may be changing, and the fences around it. Private to shm/.
 * ThreadSanitizer knows no fences; it runs on x86, where both are compiler barriers only.
 */
#ifndef PH_SHM_ORDER_H
#define PH_SHM_ORDER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __SANITIZE_THREAD__
#define SHM_NO_FENCES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHM_NO_FENCES 1
#endif
#endif

static inline void shm_fence_release(void)
{
#ifdef SHM_NO_FENCES
	__asm__ __volatile__("" ::: "memory");
#else
	atomic_thread_fence(memory_order_release);
#endif
}

static inline void shm_fence_acquire(void)
{
#ifdef SHM_NO_FENCES
	__asm__ __volatile__("" ::: "memory");
#else
	atomic_thread_fence(memory_order_acquire);
#endif
}

/* Copies 32-bit words that the writer may be changing. What was copied is used only when the word
 * that guards it is the same before and after, so the race is meant. */
__attribute__((noinline, unused, no_sanitize("thread"))) static void shm_copy_racing(
	void *to, const void *from, size_t words)
{
	uint32_t *out = to;
	const volatile uint32_t *in = from;

	for (size_t i = 0; i < words; i++)
		out[i] = in[i];
}

#endif
