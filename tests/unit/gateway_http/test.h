/* SPDX-License-Identifier: Apache-2.0 */
/* Includes that cmocka wants first, and a network policy of one rule. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/netpolicy.h"
#include "common/util.h"

struct one_rule {
        const char *host; /* "api.test" when NULL */
        uint16_t port;    /* 80 when 0 */
        uint32_t flags;   /* besides NETPOLICY_HTTP */
        const char *methods[4], *paths[4];
        const char *credential, *ca;
};

static inline uint32_t count_of(const char *const list[4]) {
        uint32_t n = 0;

        while (n < 4 && list[n])
                n++;
        return n;
}

static inline const struct netpolicy_head *one_rule_policy(const struct one_rule *o) {
        const struct netpolicy_spec_rule rule = {
                .fixed = {.kind = NETPOLICY_NAME, .flags = NETPOLICY_HTTP | o->flags, .port = o->port ? o->port : 80},
                .host = o->host ? o->host : "api.test",
                .where = "policies/x.yaml:14",
                .credential = o->credential,
                .ca = o->ca,
                .ca_bytes = o->ca ? strlen(o->ca) : 0,
                .methods = o->methods,
                .n_methods = count_of(o->methods),
                .paths = o->paths,
                .n_paths = count_of(o->paths),
        };
        const struct netpolicy_spec spec = {
                .fixed = {.generation = 1, .max_conns = 8, .max_half_open = 8, .max_dns_per_s = 8},
                .where = "policies/x.yaml:9",
                .rules = &rule,
                .n_rules = 1,
        };
        const struct netpolicy_head *p = NULL;
        struct crew_err err = CREW_ERR_NULL;
        int fd = netpolicy_build(&spec, &err);

        if (fd < 0)
                print_error("%s\n", err.msg);
        assert_true(fd >= 0);
        assert_int_equal(netpolicy_open(fd, &p, &err), 0);
        close(fd);
        return p;
}
