/* SPDX-License-Identifier: Apache-2.0 */
/* Text that goes into a frame or onto a terminal must be valid UTF-8 whatever it quotes. */
#pragma once

#include <stddef.h>

/* Copies n bytes of src (SIZE_MAX: up to its NUL), cut at a character; bytes that are no UTF-8 and controls but newline
 * and tab become '?'.  Returns the length. */
size_t text_copy(char *dst, size_t dst_size, const char *src, size_t n);
