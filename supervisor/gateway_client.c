/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_client.h"

#include "channel.h"
#include "common/gate.h"
#include "common/util.h"
#include "crewd.h"
#include "journal.h"

#include <errno.h>
#include <string.h>

struct gateway {
        struct crewd *crewd;
        struct channel *channel;
};

static const char *proto_name(uint32_t proto) {
        switch (proto) {
        case GATE_TCP:
                return "tcp";
        case GATE_UDP:
                return "udp";
        case GATE_DNS:
                return "dns";
        default:
                return "other";
        }
}

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        struct gateway *g = user;
        struct gate_msg m;

        (void)fds;
        (void)n_fds;
        memcpy(&m, bytes, sizeof(m));
        m.name[sizeof(m.name) - 1] = '\0';
        if (m.op != GATE_DENIED)
                return;
        struct agent *a = crewd_agent_by_id(g->crewd, m.id);
        if (a)
                journal_network_denied(a, proto_name(m.proto), m.name, m.port, MAX_OF(m.count, 1u));
}

static void on_hangup(void *user) {
        struct gateway *g = user;
        struct crewd *c = g->crewd;

        crewd_log(
                c,
                "the gateway is gone: agents started from now on have no network at all, and their dials leave no record");
        for (uint32_t i = 0; i < c->n_agents; i++)
                journal_evidence_lost(&c->agents[i], "gateway", 0, "crew-gateway died; every connection is refused");
        c->gateway = NULL;
        gateway_close(g);
}

int gateway_open(struct crewd *c, int fd, struct gateway **out, struct crew_err *err) {
        static const struct channel_callbacks cb = {.on_message = on_message, .on_hangup = on_hangup};
        struct gateway *g = calloc(1, sizeof(*g));

        if (!g) {
                close(fd);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        g->crewd = c;
        int r = channel_open(&c->loop, fd, sizeof(struct gate_msg), &cb, g, &g->channel, err);
        if (r < 0) {
                free(g);
                return r;
        }
        *out = g;
        return 0;
}

void gateway_close(struct gateway *g) {
        if (!g)
                return;
        channel_close(g->channel);
        free(g);
}

int gateway_add(struct gateway *g, uint32_t id, const int *fds) {
        struct gate_msg m = {.op = GATE_ADD, .id = id};

        return channel_send(g->channel, &m, fds, GATEWAY_LISTENERS);
}

void gateway_remove(struct gateway *g, uint32_t id) {
        struct gate_msg m = {.op = GATE_REMOVE, .id = id};

        channel_send(g->channel, &m, NULL, 0);
}
