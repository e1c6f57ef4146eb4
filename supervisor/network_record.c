/* SPDX-License-Identifier: Apache-2.0 */
#include "network_record.h"

#include "common/util.h"

#include <string.h>

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

void network_message_end(struct gate_msg *m) {
        m->name[sizeof(m->name) - 1] = '\0';
        m->peer[sizeof(m->peer) - 1] = '\0';
        m->where[sizeof(m->where) - 1] = '\0';
        m->text[sizeof(m->text) - 1] = '\0';
        m->why[sizeof(m->why) - 1] = '\0';
}

static void put_text(struct record *r, const char *key, const char *text) {
        record_str(r, key, *text ? text : NULL);
}

static void begin(struct record *r, enum record_kind kind, const struct gate_msg *m) {
        record_init(r, kind, "gateway");
        record_str(r, "host", m->name);
        if (m->port)
                record_int(r, "port", m->port);
        if (m->conn)
                record_int(r, "conn", (int64_t)m->conn);
        put_text(r, "rule", m->where);
}

static void make_denied(struct record *r, const struct gate_msg *m) {
        begin(r, RECORD_NETWORK_DENIED, m);
        record_str(r, "proto", proto_name(m->proto));
        put_text(r, "peer", m->peer);
        put_text(r, "reason", m->text);
}

static void make_allowed(struct record *r, const struct gate_msg *m) {
        begin(r, RECORD_NETWORK_ALLOWED, m);
        record_str(r, "proto", "tcp");
        put_text(r, "peer", m->peer);
        put_text(r, "reason", m->text);
        if (m->verdict == GATE_WOULD_REFUSE)
                record_str(r, "verdict", "would deny");
}

static void make_closed(struct record *r, const struct gate_msg *m) {
        begin(r, RECORD_NETWORK_CLOSED, m);
        record_int(r, "bytes_out", (int64_t)m->up);
        record_int(r, "bytes_in", (int64_t)m->down);
        record_int(r, "ms", (int64_t)(m->duration_us / 1000u));
        put_text(r, "reason", m->text);
}

static void make_http(struct record *r, const struct gate_msg *m) {
        static const char *const verdicts[] = {
                [GATE_REFUSE] = "denied", [GATE_LET] = "allowed", [GATE_WOULD_REFUSE] = "would deny"};
        const char *blank = strchr(m->text, ' ');

        begin(r, RECORD_NETWORK_HTTP, m);
        record_bytes(r, "method", m->text, blank ? (size_t)(blank - m->text) : strlen(m->text));
        put_text(r, "path", blank ? blank + 1 : "");
        const char *verdict = verdicts[m->verdict < ELEMENTSOF(verdicts) ? m->verdict : GATE_REFUSE];
        /* One that was let through was told before it went out, and is told again with the server's status. */
        record_str(r, "verdict",
                   m->status && (m->verdict == GATE_LET || m->verdict == GATE_WOULD_REFUSE) ? "answered" : verdict);
        put_text(r, "reason", m->why);
        if (m->status)
                record_int(r, "status", m->status);
}

enum network_record network_record_make(struct record *r, const struct gate_msg *m) {
        switch (m->op) {
        case GATE_DENIED:
                make_denied(r, m);
                return NETWORK_RECORD_DENIAL;
        case GATE_ALLOWED:
                make_allowed(r, m);
                return NETWORK_RECORD_FACT;
        case GATE_CLOSED:
                make_closed(r, m);
                return NETWORK_RECORD_FACT;
        case GATE_HTTP:
                make_http(r, m);
                return m->verdict == GATE_LET || m->verdict == GATE_WOULD_REFUSE ? NETWORK_RECORD_FACT
                                                                                 : NETWORK_RECORD_DENIAL;
        default:
                return NETWORK_RECORD_NONE;
        }
}
