/* SPDX-License-Identifier: Apache-2.0 */
/* The network policy's reader on hostile images; after a yes everything it holds is read and decided by. */
#include "common/netpolicy.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile size_t sink;

static void read_text(const struct netpolicy_head *p, uint32_t offset) {
        const char *s = netpolicy_text(p, offset);

        sink += s ? strlen(s) : 0;
}

static void read_rule(const struct netpolicy_head *p, const struct netpolicy_rule *r) {
        read_text(p, r->host);
        read_text(p, r->to_host);
        read_text(p, r->credential);
        read_text(p, r->where);
        for (uint32_t i = 0; i < r->ca_bytes; i++)
                sink += (unsigned char)netpolicy_text(p, r->ca)[i];
        for (uint32_t i = 0; i < r->n_methods; i++)
                sink += strlen(netpolicy_listed(p, r->methods, i));
        for (uint32_t i = 0; i < r->n_paths; i++)
                sink += strlen(netpolicy_listed(p, r->paths, i));
        sink += (size_t)netpolicy_http_decide(p, r, "GET", "/v1/a/b");
        const struct netpolicy_rule *by = netpolicy_http_rule(p, r, "POST", "/v1/chat");
        sink += by ? by->port : 0;
}

static void walk(const struct netpolicy_head *p) {
        struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
        char name[NETPOLICY_NAME_MAX];

        read_text(p, p->where);
        for (uint32_t i = 0; i < p->n_rules; i++) {
                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                read_rule(p, r);
                netpolicy_canonical(netpolicy_text(p, r->host), name);
                sink += netpolicy_knows_name(p, name) + (netpolicy_match_name(p, name, r->port) != NULL);
                memcpy(&to.sin6_addr, r->addr, sizeof(r->addr));
                sink += netpolicy_match_addr(p, (const struct sockaddr *)&to) != NULL;
                sink += (netpolicy_place_name(p, name, r->port) != NULL) +
                        (netpolicy_place_addr(p, (const struct sockaddr *)&to) != NULL);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        /* Mutations keep the old length field; most would die on it, so every second look repairs the head. */
        for (int repair = 0; repair < 2; repair++) {
                uint8_t *copy = malloc(n ? n : 1);
                if (!copy)
                        return 0;
                if (n > 0)
                        memcpy(copy, data, n);
                if (repair && n >= sizeof(struct netpolicy_head)) {
                        struct netpolicy_head *p = (struct netpolicy_head *)copy;
                        p->magic = NETPOLICY_MAGIC;
                        p->version = NETPOLICY_VERSION;
                        p->bytes = (uint32_t)n;
                        p->rules = sizeof(*p);
                        copy[n - 1] = '\0';
                }
                if (netpolicy_check(copy, n, NULL) == 0)
                        walk((const struct netpolicy_head *)copy);
                free(copy);
        }
        return 0;
}
