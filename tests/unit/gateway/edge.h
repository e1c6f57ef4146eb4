/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes with nothing behind them: one read too many is a fault, in every build. */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A copy of n bytes at the end of its page; valid until the next call. */
static inline void *at_the_edge(const void *bytes, size_t n) {
        static uint8_t *pages;
        const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 8 * page;

        if (!pages) {
                pages = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                assert_ptr_not_equal(pages, MAP_FAILED);
                assert_int_equal(mprotect(pages + room, page, PROT_NONE), 0);
        }
        assert_in_range(n, 0, room);
        return memcpy(pages + room - n, bytes, n);
}
