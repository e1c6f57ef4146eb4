/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"
#include "gateway/dns.h"

#include <string.h>

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
                crew_assert(dns_answer_a(data, &q, &addr, out) == k + 16 && out[7] == 1 &&
                            memcmp(out + k + 12, &addr, 4) == 0);
        return 0;
}
