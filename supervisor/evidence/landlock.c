/* SPDX-License-Identifier: Apache-2.0 */
#include "landlock.h"

#include "auditctl.h"
#include "common/util.h"
#include "outbox.h"
#include "parse.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define DOMAINS_MAX 65536u
#define BUCKETS 4096u
#define LIMBO_MAX 2048u               /* events whose domain is not known yet, all together */
#define LIMBO_NS (10ull * 1000000000) /* then the domain is somebody else's */
#define BATCH 32u
#define LOST_CHECK_NS 1000000000u
#define RECORD_BYTES 9216u /* the kernel's limit is 8970 */
#define STATE_PATH "/run/crewd/audit-state"

struct limbo {
        struct limbo *next;
        uint64_t time_ns, count;
        uint32_t what;
        char access[sizeof(((struct evidence_msg *)0)->access)];
        size_t path_len;
        char path[];
};

struct domain {
        struct domain *next;
        uint64_t id;
        uint64_t seen_ns;  /* monotonic */
        uint64_t received; /* denials that arrived */
        uint32_t instance; /* 0: not known (yet) */
        uint32_t uid;      /* UINT32_MAX: its record has not come */
        bool freed;
        uint64_t pid_ns;     /* of who made it, 0: gone before we could look */
        uint64_t denials;    /* freed: what the kernel counted */
        struct limbo *limbo; /* newest first */
};

struct landlock_source {
        struct source source;
        struct server *server;
        struct auditctl audit;
        struct domain *buckets[BUCKETS];
        size_t n_domains, n_limbo;
        uint64_t swept_ns, checked_ns;
        uint64_t empty_ns;  /* monotonic: the socket was last found empty */
        uint64_t record_ns; /* realtime of the newest record */
        uint32_t lost;      /* the kernel's counter when last looked at */
        struct parse_record record;
        struct mmsghdr msgs[BATCH];
        struct iovec iovs[BATCH];
        char bytes[BATCH][RECORD_BYTES];
};

static struct domain **find(struct landlock_source *l, uint64_t id) {
        struct domain **d = &l->buckets[(id ^ id >> 12) % BUCKETS];

        while (*d && (*d)->id != id)
                d = &(*d)->next;
        return d;
}

static void drop_limbo(struct landlock_source *l, struct domain *d) {
        while (d->limbo) {
                struct limbo *next = d->limbo->next;
                free(d->limbo);
                d->limbo = next;
                l->n_limbo--;
        }
}

static void remove_domain(struct landlock_source *l, struct domain **at) {
        struct domain *d = *at;
        struct instance *in = d->instance ? server_instance(l->server, d->instance) : NULL;

        *at = d->next;
        if (in && in->domains > 0)
                in->domains--;
        drop_limbo(l, d);
        free(d);
        l->n_domains--;
}

/* Without news for a while and nobody's: another Landlock user of this host. */
static void sweep(struct landlock_source *l) {
        uint64_t now = crew_now_ns();

        if (now - l->swept_ns < LIMBO_NS)
                return;
        l->swept_ns = now;
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct domain **d = &l->buckets[i]; *d;) {
                        if ((*d)->instance == 0 && now - (*d)->seen_ns > LIMBO_NS)
                                remove_domain(l, d);
                        else
                                d = &(*d)->next;
                }
}

static struct domain *find_or_add(struct landlock_source *l, uint64_t id) {
        struct domain **at = find(l, id);

        if (*at || l->n_domains == DOMAINS_MAX)
                return *at;
        struct domain *d = calloc(1, sizeof(*d));
        if (d) {
                d->id = id;
                d->uid = UINT32_MAX;
                d->seen_ns = crew_now_ns();
                *at = d;
                l->n_domains++;
        }
        return d;
}

static void report_lost_of_nobody(struct landlock_source *l) {
        server_report_lost(l->server, 0, EVIDENCE_LANDLOCK, 0);
}

/* Records dropped before they reach a socket show in a counter only. */
static void check_lost(struct landlock_source *l) {
        uint32_t lost;

        l->checked_ns = crew_now_ns();
        if (auditctl_lost(&l->audit, &lost) < 0 || lost == l->lost)
                return;
        l->lost = lost;
        report_lost_of_nobody(l);
}

static void put_limbo(struct landlock_source *l, struct domain *d, const struct parse_record *r) {
        struct limbo *b = d->limbo;

        if (b && b->what == r->what && b->path_len == r->path_len && memcmp(b->path, r->path, r->path_len) == 0 &&
            strcmp(b->access, r->access) == 0) {
                b->count++;
                return;
        }
        b = l->n_limbo < LIMBO_MAX ? malloc(sizeof(*b) + r->path_len) : NULL;
        if (!b) { /* then the sum at the domain's end shows it */
                d->received--;
                return;
        }
        *b = (struct limbo){.next = d->limbo, .time_ns = r->time_ns, .count = 1, .what = r->what, .path_len = r->path_len};
        memcpy(b->access, r->access, sizeof(b->access));
        memcpy(b->path, r->path, r->path_len);
        d->limbo = b;
        l->n_limbo++;
}

static void on_access(struct landlock_source *l, const struct parse_record *r) {
        struct domain *d = find_or_add(l, r->domain);

        if (!d) {
                report_lost_of_nobody(l);
                return;
        }
        d->received++;
        struct instance *in = d->instance ? server_instance(l->server, d->instance) : NULL;
        if (!in) {
                put_limbo(l, d, r);
                return;
        }
        const struct event ev = {
                .source = EVIDENCE_LANDLOCK,
                .what = (enum evidence_what)r->what,
                .time_ns = r->time_ns,
                .count = 1,
                .access = r->access,
                .path = r->path,
                .path_len = r->path_len,
        };
        outbox_add(in->outbox, &ev);
}

static void deliver_limbo(struct landlock_source *l, struct domain *d, struct instance *in) {
        struct limbo *oldest = NULL;

        while (d->limbo) {
                struct limbo *b = d->limbo;
                d->limbo = b->next;
                b->next = oldest;
                oldest = b;
        }
        while (oldest) {
                struct limbo *b = oldest;
                const struct event ev = {.source = EVIDENCE_LANDLOCK,
                                         .what = (enum evidence_what)b->what,
                                         .time_ns = b->time_ns,
                                         .count = b->count,
                                         .access = b->access,
                                         .path = b->path,
                                         .path_len = b->path_len};
                outbox_add(in->outbox, &ev);
                oldest = b->next;
                free(b);
                l->n_limbo--;
        }
}

/* The kernel's count against ours; then the domain is done. */
static void settle(struct landlock_source *l, struct domain **at) {
        struct domain *d = *at;
        struct instance *in = d->instance ? server_instance(l->server, d->instance) : NULL;

        if (in && d->denials > d->received)
                outbox_add_lost(in->outbox, EVIDENCE_LANDLOCK, d->denials - d->received);
        remove_domain(l, at);
}

/* True when that was also the end of it. */
static bool adopt(struct landlock_source *l, struct domain **at, struct instance *in) {
        struct domain *d = *at;

        if (!d)
                return true;
        d->instance = in->id;
        in->domains++;
        deliver_limbo(l, d, in);
        if (!d->freed)
                return false;
        settle(l, at);
        return true;
}

static void on_domain(struct landlock_source *l, const struct parse_record *r) {
        struct domain *d = find_or_add(l, r->domain);

        if (!d) {
                report_lost_of_nobody(l);
                return;
        }
        d->uid = r->uid;
        d->pid_ns = server_pid_ns(r->pid);
        struct instance *in = server_instance_of(l->server, d->uid, d->pid_ns);
        if (in && d->instance == 0)
                (void)adopt(l, find(l, r->domain), in);
}

static void on_domain_freed(struct landlock_source *l, const struct parse_record *r) {
        struct domain **at = find(l, r->domain);

        if (!*at)
                return;
        (*at)->freed = true;
        (*at)->denials = r->denials;
        if ((*at)->uid == UINT32_MAX) /* the record that says whose it is was lost */
                report_lost_of_nobody(l);
        if ((*at)->instance || (*at)->uid == UINT32_MAX)
                settle(l, at);
}

static void on_record(struct landlock_source *l, const char *bytes, size_t n) {
        struct nlmsghdr head;

        if (n < sizeof(head))
                return;
        memcpy(&head, bytes, sizeof(head));
        if (!parse_audit(head.nlmsg_type, bytes + NLMSG_HDRLEN, n - NLMSG_HDRLEN, &l->record))
                return;
        l->record_ns = l->record.time_ns;
        switch (l->record.kind) {
        case PARSE_ACCESS:
                on_access(l, &l->record);
                break;
        case PARSE_DOMAIN_ALLOCATED:
                on_domain(l, &l->record);
                break;
        case PARSE_DOMAIN_FREED:
                on_domain_freed(l, &l->record);
                break;
        }
}

static void on_ready(struct source *s, uint32_t events) {
        struct landlock_source *l = (struct landlock_source *)s;

        (void)events;
        sweep(l);
        /* A bounded number of batches, so that other sources get their turn in a storm. */
        for (unsigned round = 0; round < 32; round++) {
                int n = recvmmsg(s->fd, l->msgs, BATCH, MSG_DONTWAIT, NULL);
                if (n < 0 && errno == ENOBUFS) {
                        report_lost_of_nobody(l);
                        continue;
                }
                for (int i = 0; i < n; i++)
                        on_record(l, l->bytes[i], l->msgs[i].msg_len);
                if (n < (int)BATCH) {
                        l->empty_ns = crew_now_ns();
                        break;
                }
        }
        if (crew_now_ns() - l->checked_ns > LOST_CHECK_NS)
                check_lost(l);
}

bool landlock_caught_up(struct server *sv, const struct instance *in, uint64_t min_ns) {
        struct landlock_source *l = sv->landlock;

        if (!l)
                return true;
        /* Nothing waits, or what comes now is younger. */
        struct pollfd p = {.fd = l->source.fd, .events = POLLIN};
        if (poll(&p, 1, 0) != 0 && l->empty_ns < in->forget_ns + min_ns && l->record_ns < in->forget_realtime_ns + min_ns)
                return false;
        if (l->checked_ns < in->forget_ns + min_ns)
                check_lost(l);
        return true;
}

int landlock_open(struct server *sv, struct crew_err *err) {
        struct landlock_source *l = calloc(1, sizeof(*l));

        if (!l)
                return crew_fail(err, ENOMEM, "out of memory");
        for (unsigned i = 0; i < BATCH; i++) {
                l->iovs[i] = (struct iovec){.iov_base = l->bytes[i], .iov_len = RECORD_BYTES};
                l->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &l->iovs[i], .msg_iovlen = 1};
        }
        l->server = sv;
        l->audit = AUDITCTL_NULL;
        l->source = (struct source){.fd = -1, .on_ready = on_ready};
        sv->landlock = l;
        int r = crew_mkdir_p("/run/crewd", 0755, err);
        if (r == 0)
                r = auditctl_open(&l->audit, STATE_PATH, err);
        l->source.fd = l->audit.records;
        if (r == 0 && (r = auditctl_lost(&l->audit, &l->lost)) < 0)
                (void)crew_fail(err, -r, "cannot read the audit status: %s", strerror(-r));
        if (r == 0)
                r = server_add(sv, &l->source, EPOLLIN, err);
        if (r < 0)
                landlock_close(sv);
        return r;
}

void landlock_close(struct server *sv) {
        struct landlock_source *l = sv->landlock;

        if (!l)
                return;
        for (size_t i = 0; i < BUCKETS; i++)
                while (l->buckets[i])
                        remove_domain(l, &l->buckets[i]);
        auditctl_close(&l->audit);
        sv->landlock = NULL;
        free(l);
}

void landlock_watch(struct server *sv, struct instance *in) {
        struct landlock_source *l = sv->landlock;

        for (size_t i = 0; l && i < BUCKETS; i++)
                for (struct domain **d = &l->buckets[i]; *d;) {
                        bool ours = (*d)->instance == 0 && server_instance_of(sv, (*d)->uid, (*d)->pid_ns) == in;
                        if (!ours || !adopt(l, d, in))
                                d = &(*d)->next;
                }
}

void landlock_forget(struct server *sv, struct instance *in) {
        struct landlock_source *l = sv->landlock;

        for (size_t i = 0; l && i < BUCKETS; i++)
                for (struct domain **d = &l->buckets[i]; *d;) {
                        if ((*d)->instance == in->id)
                                remove_domain(l, d);
                        else
                                d = &(*d)->next;
                }
}
