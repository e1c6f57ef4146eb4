/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"
#include "common/netpolicy.h"
#include "gateway/dns.h"
#include "gateway/unlisted.h"

#include <string.h>

static uint64_t asked, told;

static void on_told(void *user, const char *name, uint32_t lookups) {
        told += lookups;
}

/* What a jail does with the names it makes up: a table that lives on from one input to the next. */
static void look_up(const char *name) {
        static struct unlisted *table;
        char canonical[NETPOLICY_NAME_MAX];
        struct in_addr a;

        netpolicy_canonical(name, canonical);
        if (!canonical[0])
                return;
        if (!table)
                table = unlisted_new(on_told, NULL);
        crew_assert(table && unlisted_ask(table, canonical, UNLISTED_A, asked, &a) == 0);
        asked++;
        if (asked % 3)
                return;
        const char *is = unlisted_dialled(table, a);
        crew_assert(is && strcmp(is, canonical) == 0);
        unlisted_tell_late(table, asked);
        crew_assert(told <= asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        uint8_t out[DNS_MESSAGE_MAX];
        struct dns_question q;
        enum dns_parse what = dns_parse_query(data, n, &q);

        if (what == DNS_IGNORE)
                return 0;
        crew_assert(strlen(q.name) < DNS_NAME_TEXT_MAX);
        for (const char *p = q.name; *p; p++)
                crew_assert(*p > ' ' && *p < 0x7f);
        size_t k = dns_answer_error(data, &q, what == DNS_OK ? DNS_RCODE_REFUSED : DNS_RCODE_FORMERR, out);
        crew_assert(k >= 12 && k <= n && k <= sizeof(out));
        crew_assert(out[2] & 0x80);
        const struct in_addr addr = {0x010012c6};
        if (what == DNS_OK)
                look_up(q.name);
        if (what == DNS_OK)
                crew_assert(dns_answer_a(data, &q, &addr, out) == k + 16 && out[7] == 1 &&
                            memcmp(out + k + 12, &addr, 4) == 0);
        return 0;
}
