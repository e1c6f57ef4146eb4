/* SPDX-License-Identifier: Apache-2.0 */
/* Archives for crewctl state import: whatever is in one, nothing appears outside of the directory it is unpacked into, and
 * nothing but directories and regular files inside. */
#include "cli/tar.h"

#include "cli/tar_block.h"
#include "common/tree.h"
#include "common/util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BYTES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int plain(const struct tree_item *item, void *user) {
        (void)user;
        if (!S_ISDIR(item->st.st_mode) && !S_ISREG(item->st.st_mode))
                abort();
        if ((item->st.st_mode & 07000) != 0 || (S_ISREG(item->st.st_mode) && item->st.st_size > BYTES_MAX))
                abort();
        return 0;
}

/* base/in is the directory; base itself must hold nothing else afterwards. */
static void unpack(const uint8_t *data, size_t n) {
        const struct tree_visitor v = {.on_item = plain};
        char base[] = "/tmp/crew-fuzz-tar-XXXXXX";
        struct crew_err err = CREW_ERR_NULL;
        struct tree_size all;
        struct tar_counts counts;

        if (!mkdtemp(base))
                abort();
        int at = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (at < 0 || mkdirat(at, "in", 0700) < 0)
                abort();
        int dir = openat(at, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int fd = memfd_create("fuzz", MFD_CLOEXEC);
        if (crew_write_full(fd, data, n) < 0 || lseek(fd, 0, SEEK_SET) != 0)
                abort();
        (void)tar_extract(fd, dir, BYTES_MAX, &counts, &err);
        if (counts.bytes > BYTES_MAX || tree_walk(dir, &v) != 0 || tree_remove(at, "in") < 0)
                abort();
        if (tree_measure(at, 0, &all) < 0 || all.entries != 0)
                abort();
        close(fd);
        close(dir);
        close(at);
        if (tree_remove(AT_FDCWD, base) < 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        uint8_t *copy = malloc(n + 1);

        if (!copy)
                return 0;
        memcpy(copy, data, n);
        /* Mutations break the checksum; with it repaired they get further. */
        for (size_t i = 0; i + TAR_BLOCK <= n; i += TAR_BLOCK) {
                struct tar_header h;
                memcpy(&h, copy + i, sizeof(h));
                if (memcmp(h.magic, "ustar", 5) != 0)
                        continue;
                snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_checksum(&h) & 0777777u);
                memcpy(copy + i, &h, sizeof(h));
        }
        unpack(copy, n);
        free(copy);
        return 0;
}
