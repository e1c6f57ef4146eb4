/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bpf_run.h"

#include <stdbool.h>
#include <string.h>

uint32_t bpf_run(const struct program *p, const struct seccomp_data *data) {
        uint32_t a = 0, x = 0, mem[16] = {0};

        for (size_t pc = 0; pc < p->n; pc++) {
                const struct sock_filter *i = &p->insns[pc];
                bool jump = false;
                switch (i->code) {
                case BPF_LD | BPF_W | BPF_ABS:
                        assert_true(i->k % 4 == 0 && i->k + 4 <= sizeof(*data));
                        memcpy(&a, (const char *)data + i->k, 4);
                        continue;
                case BPF_ALU | BPF_AND | BPF_K:
                        a &= i->k;
                        continue;
                case BPF_ALU | BPF_SUB | BPF_K:
                        a -= i->k;
                        continue;
                case BPF_ALU | BPF_OR | BPF_X:
                        a |= x;
                        continue;
                case BPF_MISC | BPF_TAX:
                        x = a;
                        continue;
                case BPF_ST:
                        mem[i->k & 15] = a;
                        continue;
                case BPF_LD | BPF_MEM:
                        a = mem[i->k & 15];
                        continue;
                case BPF_RET | BPF_K:
                        return i->k;
                case BPF_JMP | BPF_JA:
                        pc += i->k;
                        continue;
                case BPF_JMP | BPF_JEQ | BPF_K:
                        jump = a == i->k;
                        break;
                case BPF_JMP | BPF_JGT | BPF_K:
                        jump = a > i->k;
                        break;
                case BPF_JMP | BPF_JGE | BPF_K:
                        jump = a >= i->k;
                        break;
                case BPF_JMP | BPF_JSET | BPF_K:
                        jump = a & i->k;
                        break;
                default:
                        fail_msg("opcode 0x%x at %zu", i->code, pc);
                }
                pc += jump ? i->jt : i->jf;
        }
        fail_msg("ran off the end");
        return 0;
}
