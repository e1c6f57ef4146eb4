/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does nftables redirect here?  Sends one batch (table, nat chain on output, a rule with `redir`) over netlink and
 * reads the acknowledgements.  The caller is in a network namespace of its own, which takes the rules with it.
 */
#include "kernel_nft.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

struct batch {
        char bytes[1024];
        size_t n;
};

static void *put(struct batch *b, const void *data, size_t n) {
        crew_assert(b->n + NLMSG_ALIGN(n) <= sizeof(b->bytes));
        void *at = b->bytes + b->n;
        memset(at, 0, NLMSG_ALIGN(n));
        if (data)
                memcpy(at, data, n);
        b->n += NLMSG_ALIGN(n);
        return at;
}

static size_t open_attr(struct batch *b, uint16_t type) {
        struct nlattr a = {.nla_type = type};
        size_t at = b->n;

        put(b, &a, sizeof(a));
        return at;
}

static void close_attr(struct batch *b, size_t at) {
        uint16_t n = (uint16_t)(b->n - at);
        memcpy(b->bytes + at + offsetof(struct nlattr, nla_len), &n, sizeof(n));
}

static void put_attr(struct batch *b, uint16_t type, const void *data, size_t n) {
        struct nlattr a = {.nla_len = (uint16_t)(NLA_HDRLEN + n), .nla_type = type};

        put(b, &a, sizeof(a));
        put(b, data, n);
}

static void put_string(struct batch *b, uint16_t type, const char *s) {
        put_attr(b, type, s, strlen(s) + 1);
}

static void put_u32(struct batch *b, uint16_t type, uint32_t v) {
        uint32_t be = htonl(v);
        put_attr(b, type, &be, sizeof(be));
}

static size_t open_msg(struct batch *b, uint16_t type, uint16_t flags, uint8_t family, uint16_t res_id) {
        struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
        struct nfgenmsg g = {.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(res_id)};
        size_t at = b->n;

        put(b, &h, sizeof(h));
        put(b, &g, sizeof(g));
        return at;
}

static void close_msg(struct batch *b, size_t at) {
        uint32_t n = (uint32_t)(b->n - at);
        memcpy(b->bytes + at + offsetof(struct nlmsghdr, nlmsg_len), &n, sizeof(n));
}

static uint16_t nft(uint16_t type) {
        return (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
}

static void put_table(struct batch *b) {
        size_t m = open_msg(b, nft(NFT_MSG_NEWTABLE), NLM_F_CREATE | NLM_F_ACK, NFPROTO_IPV4, 0);
        put_string(b, NFTA_TABLE_NAME, "probe");
        close_msg(b, m);
}

static void put_chain(struct batch *b) {
        size_t m = open_msg(b, nft(NFT_MSG_NEWCHAIN), NLM_F_CREATE | NLM_F_ACK, NFPROTO_IPV4, 0);
        put_string(b, NFTA_CHAIN_TABLE, "probe");
        put_string(b, NFTA_CHAIN_NAME, "out");
        size_t hook = open_attr(b, NLA_F_NESTED | NFTA_CHAIN_HOOK);
        put_u32(b, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
        put_u32(b, NFTA_HOOK_PRIORITY, (uint32_t)-100);
        close_attr(b, hook);
        put_string(b, NFTA_CHAIN_TYPE, "nat");
        close_msg(b, m);
}

static void put_rule(struct batch *b) {
        size_t m = open_msg(b, nft(NFT_MSG_NEWRULE), NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, NFPROTO_IPV4, 0);
        put_string(b, NFTA_RULE_TABLE, "probe");
        put_string(b, NFTA_RULE_CHAIN, "out");
        size_t list = open_attr(b, NLA_F_NESTED | NFTA_RULE_EXPRESSIONS);
        size_t elem = open_attr(b, NLA_F_NESTED | NFTA_LIST_ELEM);
        put_string(b, NFTA_EXPR_NAME, "redir");
        close_attr(b, open_attr(b, NLA_F_NESTED | NFTA_EXPR_DATA));
        close_attr(b, elem);
        close_attr(b, list);
        close_msg(b, m);
}

/* Three acknowledgements, or the first error. */
static int read_acks(int fd, int want) {
        char buf[4096] __attribute__((aligned(NLMSG_ALIGNTO)));

        while (want > 0) {
                ssize_t n = recv(fd, buf, sizeof(buf), 0);
                if (n < 0)
                        return -errno;
                size_t left = (size_t)n;
                for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
                        if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)))
                                return -EPROTO;
                        int error = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
                        if (error < 0)
                                return error;
                        want--;
                }
        }
        return 0;
}

int kernel_nft_try(void) {
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
        struct timeval limit = {.tv_sec = 1};
        struct batch b = {.n = 0};

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                return -errno;
        close_msg(&b, open_msg(&b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
        put_table(&b);
        put_chain(&b);
        put_rule(&b);
        close_msg(&b, open_msg(&b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
        if (sendto(fd, b.bytes, b.n, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
                return -errno;
        return read_acks(fd, 3);
}
