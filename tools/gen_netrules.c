/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build-time generator: prints common/netrules_table.c, the netlink messages of common/netrules.h as bytes.
 *
 * The rules are the same for every jail, so libnftnl and libmnl run once here instead of 0.6 ms an agent.  In nft's words:
 *
 *   table ip crew {
 *     chain nat    { type nat hook output priority -100;
 *                    ip daddr 127.0.0.0/8 accept; meta l4proto tcp redirect to :1; udp dport 53 redirect to :53 }
 *     chain filter { type filter hook output priority 0;
 *                    ip daddr 127.0.0.0/8 accept; ct state established,related accept; reject }
 *   }
 *   and the same for ip6 with ::1.
 */
#include "common/gate.h"
#include "common/netrules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOPBACK_IFINDEX 1 /* lo is the first device of every network namespace */
/* From linux/netfilter/nf_conntrack_common.h, kernel side only. */
#define CT_STATE_BIT(info) (1u << ((info) % IP_CT_IS_REPLY + 1))

struct section {
        char bytes[16384];
        size_t n;
        unsigned acks, seq;
};

struct family {
        uint8_t nfproto;
        uint32_t daddr_offset, addr_len;
        uint8_t mask[16], loopback[16];
};

static void *next_message(struct section *s) {
        if (s->n + 2048 > sizeof(s->bytes)) {
                fputs("gen_netrules: section too small\n", stderr);
                exit(1);
        }
        return s->bytes + s->n;
}

static void added(struct section *s, const struct nlmsghdr *h) {
        s->n += NLMSG_ALIGN(h->nlmsg_len);
        if (h->nlmsg_flags & NLM_F_ACK)
                s->acks++;
}

static void *checked(void *p) {
        if (!p) {
                fputs("gen_netrules: out of memory\n", stderr);
                exit(1);
        }
        return p;
}

static void add_link_up(struct section *s) {
        struct nlmsghdr *h = mnl_nlmsg_put_header(next_message(s));
        struct ifinfomsg *i;

        h->nlmsg_type = RTM_NEWLINK;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        h->nlmsg_seq = ++s->seq;
        i = mnl_nlmsg_put_extra_header(h, sizeof(*i));
        i->ifi_family = AF_UNSPEC;
        i->ifi_index = LOOPBACK_IFINDEX;
        i->ifi_flags = IFF_UP;
        i->ifi_change = IFF_UP;
        added(s, h);
}

/* ip route add local 0.0.0.0/0 dev lo: every address is ours, so the output hook sees each packet. */
static void add_local_default(struct section *s, uint8_t af) {
        struct nlmsghdr *h = mnl_nlmsg_put_header(next_message(s));
        struct rtmsg *r;

        h->nlmsg_type = RTM_NEWROUTE;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        h->nlmsg_seq = ++s->seq;
        r = mnl_nlmsg_put_extra_header(h, sizeof(*r));
        r->rtm_family = af;
        r->rtm_table = RT_TABLE_LOCAL;
        r->rtm_protocol = RTPROT_BOOT;
        r->rtm_scope = af == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
        r->rtm_type = RTN_LOCAL;
        mnl_attr_put_u32(h, RTA_OIF, LOOPBACK_IFINDEX);
        added(s, h);
}

static void add_batch_edge(struct section *s, uint16_t type) {
        if (type == NFNL_MSG_BATCH_BEGIN)
                nftnl_batch_begin(next_message(s), ++s->seq);
        else
                nftnl_batch_end(next_message(s), ++s->seq);
        s->n += NLMSG_ALIGN(((struct nlmsghdr *)next_message(s))->nlmsg_len);
}

static struct nlmsghdr *nft_message(struct section *s, uint16_t type, const struct family *f, uint16_t flags) {
        return nftnl_nlmsg_build_hdr(next_message(s), type, f->nfproto, (uint16_t)(flags | NLM_F_ACK), ++s->seq);
}

static void add_table(struct section *s, const struct family *f) {
        struct nftnl_table *t = checked(nftnl_table_alloc());
        struct nlmsghdr *h = nft_message(s, NFT_MSG_NEWTABLE, f, NLM_F_CREATE);

        nftnl_table_set_str(t, NFTNL_TABLE_NAME, "crew");
        nftnl_table_nlmsg_build_payload(h, t);
        nftnl_table_free(t);
        added(s, h);
}

static void add_chain(struct section *s, const struct family *f, const char *name, const char *type, int32_t priority) {
        struct nftnl_chain *c = checked(nftnl_chain_alloc());
        struct nlmsghdr *h = nft_message(s, NFT_MSG_NEWCHAIN, f, NLM_F_CREATE);

        nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, "crew");
        nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
        nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
        nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, NF_INET_LOCAL_OUT);
        nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
        nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
        nftnl_chain_nlmsg_build_payload(h, c);
        nftnl_chain_free(c);
        added(s, h);
}

static struct nftnl_rule *rule_new(const char *chain) {
        struct nftnl_rule *r = checked(nftnl_rule_alloc());

        nftnl_rule_set_str(r, NFTNL_RULE_TABLE, "crew");
        nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
        return r;
}

static void rule_add(struct section *s, const struct family *f, struct nftnl_rule *r) {
        struct nlmsghdr *h = nft_message(s, NFT_MSG_NEWRULE, f, NLM_F_CREATE | NLM_F_APPEND);

        nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, f->nfproto);
        nftnl_rule_nlmsg_build_payload(h, r);
        nftnl_rule_free(r);
        added(s, h);
}

static struct nftnl_expr *expr(struct nftnl_rule *r, const char *name) {
        struct nftnl_expr *e = checked(nftnl_expr_alloc(name));

        nftnl_rule_add_expr(r, e);
        return e;
}

static void match(struct nftnl_rule *r, uint32_t op, const void *data, uint32_t n) {
        struct nftnl_expr *e = expr(r, "cmp");

        nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
        nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, n);
}

static void mask(struct nftnl_rule *r, const void *bits, uint32_t n) {
        static const uint8_t zero[16];
        struct nftnl_expr *e = expr(r, "bitwise");

        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, n);
        nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, bits, n);
        nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero, n);
}

static void load_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t n) {
        struct nftnl_expr *e = expr(r, "payload");

        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, n);
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
}

static void match_l4proto(struct nftnl_rule *r, uint8_t proto) {
        struct nftnl_expr *e = expr(r, "meta");

        nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
        nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
        match(r, NFT_CMP_EQ, &proto, sizeof(proto));
}

static void verdict_accept(struct nftnl_rule *r) {
        struct nftnl_expr *e = expr(r, "immediate");

        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, NF_ACCEPT);
}

static void verdict_redirect(struct nftnl_rule *r, uint16_t port) {
        const uint16_t be = htons(port);
        struct nftnl_expr *e = expr(r, "immediate");

        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
        nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, &be, sizeof(be));
        e = expr(r, "redir");
        nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_REG_PROTO_MAX, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
}

static void verdict_reject(struct nftnl_rule *r, const struct family *f) {
        struct nftnl_expr *e = expr(r, "reject");

        nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
        nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, f->nfproto == NFPROTO_IPV4 ? 3 : 4); /* port unreachable */
}

static void add_loopback_accept(struct section *s, const struct family *f, const char *chain) {
        struct nftnl_rule *r = rule_new(chain);

        load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, f->daddr_offset, f->addr_len);
        mask(r, f->mask, f->addr_len);
        match(r, NFT_CMP_EQ, f->loopback, f->addr_len);
        verdict_accept(r);
        rule_add(s, f, r);
}

static void add_nat_rules(struct section *s, const struct family *f) {
        const uint16_t dns = htons(53);
        struct nftnl_rule *r;

        add_loopback_accept(s, f, "nat");
        r = rule_new("nat");
        match_l4proto(r, IPPROTO_TCP);
        verdict_redirect(r, GATE_TCP_PORT);
        rule_add(s, f, r);
        r = rule_new("nat");
        match_l4proto(r, IPPROTO_UDP);
        load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
        match(r, NFT_CMP_EQ, &dns, sizeof(dns));
        verdict_redirect(r, GATE_UDP_PORT);
        rule_add(s, f, r);
}

static void add_filter_rules(struct section *s, const struct family *f) {
        const uint32_t states = CT_STATE_BIT(IP_CT_ESTABLISHED) | CT_STATE_BIT(IP_CT_RELATED), zero = 0;
        struct nftnl_rule *r;
        struct nftnl_expr *e;

        add_loopback_accept(s, f, "filter");
        r = rule_new("filter");
        e = expr(r, "ct");
        nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATE);
        nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
        mask(r, &states, sizeof(states));
        match(r, NFT_CMP_NEQ, &zero, sizeof(zero));
        verdict_accept(r);
        rule_add(s, f, r);
        r = rule_new("filter");
        verdict_reject(r, f);
        rule_add(s, f, r);
}

static void print_bytes(const void *bytes, size_t n) {
        const unsigned char *p = bytes;

        for (size_t i = 0; i < n; i++)
                printf("%s%u,", i % 24 == 0 ? "\n        " : " ", p[i]);
}

static void print_section(uint32_t protocol, const struct section *s) {
        struct netrules_section head = {.protocol = protocol, .acks = s->acks, .bytes = (uint32_t)s->n};

        print_bytes(&head, sizeof(head));
        print_bytes(s->bytes, s->n);
}

int main(void) {
        static const struct family families[] = {
                {.nfproto = NFPROTO_IPV4, .daddr_offset = 16, .addr_len = 4, .mask = {255}, .loopback = {127}},
                {.nfproto = NFPROTO_IPV6,
                 .daddr_offset = 24,
                 .addr_len = 16,
                 .mask = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
                 .loopback = {[15] = 1}},
        };
        static struct section route, nft;

        add_link_up(&route);
        add_local_default(&route, AF_INET);
        add_local_default(&route, AF_INET6);
        add_batch_edge(&nft, NFNL_MSG_BATCH_BEGIN);
        for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
                const struct family *f = &families[i];
                add_table(&nft, f);
                add_chain(&nft, f, "nat", "nat", -100);
                add_chain(&nft, f, "filter", "filter", 0);
                add_nat_rules(&nft, f);
                add_filter_rules(&nft, f);
        }
        add_batch_edge(&nft, NFNL_MSG_BATCH_END);

        puts("/* SPDX-License-Identifier: Apache-2.0 */\n/* Generated by tools/gen_netrules.c; do not edit. */\n"
             "#include \"common/netrules.h\"\n\nconst uint8_t crew_netrules[] __attribute__((aligned(8))) = {");
        print_section(NETLINK_ROUTE, &route);
        print_section(NETLINK_NETFILTER, &nft);
        puts("\n};\nconst size_t crew_netrules_bytes = sizeof(crew_netrules);");
        return 0;
}
