/* SPDX-License-Identifier: Apache-2.0 */
#include "landlock_hide.h"

#include "landlock_layer.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The last argument of a call, which is 64 bits wide, as a filter sees it. */
#define ARGUMENT offsetof(struct seccomp_data, args[5])
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW ARGUMENT
#define HIGH (ARGUMENT + 4)
#else
#define LOW (ARGUMENT + 4)
#define HIGH ARGUMENT
#endif

void landlock_hide_filter(uint64_t pass, struct sock_filter out[LANDLOCK_HIDE_INSNS]) {
        const struct sock_filter insns[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_landlock_restrict_self, 9, 0),
                BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_landlock_create_ruleset, 0, 8),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW),
                BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, (uint32_t)pass),
                BPF_STMT(BPF_MISC | BPF_TAX, 0),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, HIGH),
                BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, (uint32_t)(pass >> 32)),
                BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };

        _Static_assert(sizeof(insns) == LANDLOCK_HIDE_INSNS * sizeof(insns[0]), "all of them");
        memcpy(out, insns, sizeof(insns));
}

int landlock_hide(void) {
        static bool hidden;
        struct sock_filter insns[LANDLOCK_HIDE_INSNS];
        const struct sock_fprog prog = {.len = LANDLOCK_HIDE_INSNS, .filter = insns};
        uint64_t pass;

        if (hidden)
                return 0;
        ssize_t n = getrandom(&pass, sizeof(pass), 0);
        if (n != sizeof(pass))
                return n < 0 ? -errno : -EIO;
        landlock_hide_filter(pass, insns);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
                return -errno;
        landlock_layer_pass(pass);
        hidden = true;
        return 0;
}
