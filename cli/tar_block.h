/* SPDX-License-Identifier: Apache-2.0 */
/* The header block of a tar archive. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK 512u

struct tar_header {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2],
                uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is one block");

enum { TAR_FILE = '0', TAR_LINK = '2', TAR_DIR = '5', TAR_PAX = 'x', TAR_PAX_GLOBAL = 'g', TAR_GNU_NAME = 'L' };

/* The sum of its bytes with blanks for the sum itself. */
static inline unsigned tar_checksum(const struct tar_header *h) {
        const uint8_t *p = (const uint8_t *)h;
        unsigned sum = 0;

        for (size_t i = 0; i < sizeof(*h); i++)
                sum += i >= offsetof(struct tar_header, checksum) && i < offsetof(struct tar_header, type) ? ' ' : p[i];
        return sum;
}
