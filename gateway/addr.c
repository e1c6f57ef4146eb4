/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two tables, first match decides: what an address is, and which word is enough to dial it.  IPv6 is an allow-list: only
 * 2000::/3 is public, and of that not the blocks above the last row.
 */
#include "addr.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <string.h>

struct prefix {
        uint8_t bytes[16];
        uint8_t bits;
        uint8_t class;
};

static const struct prefix table4[] = {
        {{169, 254, 169, 254}, 32, ADDR_METADATA},
        {{100, 100, 100, 200}, 32, ADDR_METADATA},
        {{168, 63, 129, 16}, 32, ADDR_METADATA},
        {{192, 0, 0, 192}, 32, ADDR_METADATA},
        {{0}, 8, ADDR_RESERVED},
        {{10}, 8, ADDR_PRIVATE},
        {{100, 64}, 10, ADDR_PRIVATE},
        {{127}, 8, ADDR_LOOPBACK},
        {{169, 254}, 16, ADDR_LINK_LOCAL},
        {{172, 16}, 12, ADDR_PRIVATE},
        {{192, 0, 0}, 24, ADDR_RESERVED},
        {{192, 0, 2}, 24, ADDR_RESERVED},
        {{192, 88, 99}, 24, ADDR_RESERVED},
        {{192, 168}, 16, ADDR_PRIVATE},
        {{198, 18}, 15, ADDR_RESERVED},
        {{198, 51, 100}, 24, ADDR_RESERVED},
        {{203, 0, 113}, 24, ADDR_RESERVED},
        {{224}, 4, ADDR_MULTICAST},
        {{240}, 4, ADDR_RESERVED},
        {{0}, 0, ADDR_PUBLIC},
};

static const struct prefix table6[] = {
        {{0xfd, 0x00, 0x0e, 0xc2}, 32, ADDR_METADATA}, /* fd00:ec2::254, and ::23, which hands out a pod's credentials */
        {{0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}, 128, ADDR_METADATA}, /* fd20:ce::254 */
        {{0xfd, 0x00, 0x00, 0x42, [15] = 0x42}, 128, ADDR_METADATA},              /* fd00:42::42 */
        {{[15] = 1}, 128, ADDR_LOOPBACK},
        {{0}, 128, ADDR_RESERVED},                           /* :: */
        {{[10] = 0xff, 0xff}, 96, ADDR_EMBEDDED},            /* v4-mapped */
        {{0}, 96, ADDR_EMBEDDED},                            /* v4-compatible */
        {{[8] = 0xff, 0xff}, 96, ADDR_EMBEDDED},             /* v4-translated, RFC 2765 */
        {{0x00, 0x64, 0xff, 0x9b}, 96, ADDR_EMBEDDED},       /* NAT64 */
        {{0x00, 0x64, 0xff, 0x9b, 0, 1}, 48, ADDR_EMBEDDED}, /* local NAT64 */
        {{0x20, 0x02}, 16, ADDR_EMBEDDED},                   /* 6to4 */
        {{0x20, 0x01, 0, 0}, 32, ADDR_EMBEDDED},             /* Teredo */
        {{0x20, 0x01, 0x0d, 0xb8}, 32, ADDR_RESERVED},       /* documentation */
        {{0x3f, 0xff}, 20, ADDR_RESERVED},                   /* documentation */
        {{0x20, 0x01}, 23, ADDR_RESERVED},                   /* IETF protocol assignments */
        {{0xfe, 0x80}, 10, ADDR_LINK_LOCAL},
        {{0xfe, 0xc0}, 10, ADDR_PRIVATE}, /* site-local, deprecated */
        {{0xfc}, 7, ADDR_PRIVATE},
        {{0xff}, 8, ADDR_MULTICAST},
        {{0x20}, 3, ADDR_PUBLIC},
        {{0}, 0, ADDR_RESERVED},
};

static bool matches(const struct prefix *p, const uint8_t *bytes) {
        size_t whole = p->bits / 8;
        uint8_t rest = (uint8_t)(0xff00u >> (p->bits % 8));

        return memcmp(p->bytes, bytes, whole) == 0 && (p->bits % 8 == 0 || ((p->bytes[whole] ^ bytes[whole]) & rest) == 0);
}

/* The last row of each table has no bits and so always matches. */
static enum addr_class look_up(const struct prefix *p, const uint8_t *bytes) {
        while (!matches(p, bytes))
                p++;
        return p->class;
}

enum addr_class addr_classify(const struct sockaddr *a) {
        if (a->sa_family == AF_INET)
                return look_up(table4, (const uint8_t *)&((const struct sockaddr_in *)(const void *)a)->sin_addr);
        if (a->sa_family == AF_INET6)
                return look_up(table6, (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
        return ADDR_RESERVED;
}

const char *addr_class_text(enum addr_class c) {
        static const char *const names[] = {
                [ADDR_PUBLIC] = "public",
                [ADDR_PRIVATE] = "private",
                [ADDR_LOOPBACK] = "loopback",
                [ADDR_LINK_LOCAL] = "link-local",
                [ADDR_METADATA] = "metadata service",
                [ADDR_MULTICAST] = "multicast",
                [ADDR_RESERVED] = "reserved",
                [ADDR_EMBEDDED] = "an IPv4 address inside an IPv6 one",
        };
        static_assert(ELEMENTSOF(names) == ADDR_CLASS_N, "a text for each class");
        return names[c];
}

#define BIT(c) (1u << (c))
static const unsigned enough[] = {
        [ADDR_WORD_NAME] = BIT(ADDR_PUBLIC),
        [ADDR_WORD_APPROVAL] = BIT(ADDR_PUBLIC) | BIT(ADDR_PRIVATE),
        [ADDR_WORD_TO_NAME] = BIT(ADDR_PUBLIC) | BIT(ADDR_PRIVATE) | BIT(ADDR_LOOPBACK),
        [ADDR_WORD_LITERAL] = BIT(ADDR_CLASS_N) - 1,
};
static_assert(ELEMENTSOF(enough) == ADDR_WORD_N, "a row for each word");

bool addr_may_dial(const struct sockaddr *a, enum addr_word word) {
        return (a->sa_family == AF_INET || a->sa_family == AF_INET6) && enough[word] & BIT(addr_classify(a));
}

void addr_text(const struct sockaddr *a, char out[ADDR_TEXT_MAX]) {
        const void *bytes = a->sa_family == AF_INET
                                    ? (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr
                                    : (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;

        if ((a->sa_family != AF_INET && a->sa_family != AF_INET6) || !inet_ntop(a->sa_family, bytes, out, ADDR_TEXT_MAX))
                snprintf(out, ADDR_TEXT_MAX, "unknown");
}

void addr_text_port(const struct sockaddr *a, char *out, size_t out_size) {
        char text[ADDR_TEXT_MAX];

        addr_text(a, text);
        snprintf(out, out_size, a->sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, addr_port(a));
}

uint16_t addr_port(const struct sockaddr *a) {
        if (a->sa_family == AF_INET)
                return ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port);
        return a->sa_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)(const void *)a)->sin6_port) : 0;
}

socklen_t addr_len(const struct sockaddr *a) {
        return a->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

void addr_unmap(struct sockaddr_storage *a) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)a;
        struct sockaddr_in four = {.sin_family = AF_INET};

        if (a->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
                return;
        four.sin_port = six->sin6_port;
        memcpy(&four.sin_addr, &six->sin6_addr.s6_addr[12], 4);
        memset(a, 0, sizeof(*a));
        memcpy(a, &four, sizeof(four));
}

bool addr_name_never(const char *canonical) {
        static const char *const names[] = {"localhost",     "metadata",
                                            "metadata.goog", "metadata.google.internal",
                                            "instance-data", "instance-data.ec2.internal"};
        size_t n = strlen(canonical);

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                if (strcmp(canonical, names[i]) == 0)
                        return true;
        }
        return n > 10 && strcmp(canonical + n - 10, ".localhost") == 0;
}
