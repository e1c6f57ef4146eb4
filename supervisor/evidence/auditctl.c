/* SPDX-License-Identifier: Apache-2.0 */
#include "auditctl.h"

#include "common/util.h"
#include "parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>

#define RECEIVE_BUFFER (64 << 20)
#define BACKLOG 65536u
#define REPLY_MS 8000 /* by a thread of the kernel, which a busy machine keeps waiting; below what crewd waits for us */

/* How auditing was before the first of us. */
struct before {
        uint32_t enabled, backlog_limit;
        uint32_t rule_added;
        uint32_t wait_noted, backlog_wait_time; /* not noted by a crewd that did not change it */
};
#define BEFORE_MIN offsetof(struct before, wait_noted)

struct request {
        struct nlmsghdr head;
        union {
                struct audit_status status;
                struct audit_rule_data rule;
        };
};

static int send_request(struct auditctl *a, struct request *rq, uint16_t type, size_t payload) {
        const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

        rq->head = (struct nlmsghdr){
                .nlmsg_len = (uint32_t)NLMSG_LENGTH(payload),
                .nlmsg_type = type,
                .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
                .nlmsg_seq = ++a->seq,
        };
        ssize_t r = sendto(a->control, rq, rq->head.nlmsg_len, 0, (const struct sockaddr *)&kernel, sizeof(kernel));
        return r < 0 ? -errno : 0;
}

union reply {
        struct nlmsghdr head;
        char bytes[8192];
};

static int receive(struct auditctl *a, union reply *b, size_t *len) {
        struct pollfd p = {.fd = a->control, .events = POLLIN};
        int ready;

        do
                ready = poll(&p, 1, REPLY_MS);
        while (ready < 0 && errno == EINTR);
        if (ready <= 0)
                return ready < 0 ? -errno : -ETIMEDOUT;
        ssize_t n = recv(a->control, b, sizeof(*b), 0);
        *len = n < 0 ? 0 : (size_t)n;
        return n < (ssize_t)sizeof(b->head) ? -EPROTO : 0;
}

/* Reads until the acknowledgement, and the status where one is asked for; they come in either order. */
static int read_reply(struct auditctl *a, struct audit_status *status) {
        bool acked = false, told = !status;
        union reply b = {.bytes = ""};
        size_t n = 0;

        while (!acked || !told) {
                int r = receive(a, &b, &n);
                if (r < 0)
                        return r;
                if (b.head.nlmsg_seq != a->seq)
                        continue;
                if (b.head.nlmsg_type == NLMSG_ERROR) {
                        r = n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) ? -EPROTO
                                                                      : ((struct nlmsgerr *)NLMSG_DATA(&b.head))->error;
                        if (r < 0)
                                return r;
                        acked = true;
                } else if (status && b.head.nlmsg_type == AUDIT_GET) {
                        memset(status, 0, sizeof(*status));
                        memcpy(status, NLMSG_DATA(&b.head), MIN_OF(n - NLMSG_HDRLEN, sizeof(*status)));
                        told = true;
                }
        }
        return 0;
}

static int get_status(struct auditctl *a, struct audit_status *out) {
        struct request rq = {.head = {0}};

        int r = send_request(a, &rq, AUDIT_GET, 0);
        return r < 0 ? r : read_reply(a, out);
}

static int set_status(struct auditctl *a, struct audit_status want) {
        struct request rq = {.status = want};

        int r = send_request(a, &rq, AUDIT_SET, sizeof(rq.status));
        return r < 0 ? r : read_reply(a, NULL);
}

/* `-a never,task`: tasks get no audit context, so system calls cost what they did; our records need none. */
static int task_rule(struct auditctl *a, uint16_t op) {
        struct request rq = {.rule = {.flags = AUDIT_FILTER_TASK, .action = AUDIT_NEVER}};

        for (size_t i = 0; i < AUDIT_BITMASK_SIZE; i++)
                rq.rule.mask[i] = UINT32_MAX;
        int r = send_request(a, &rq, op, sizeof(rq.rule));
        return r < 0 ? r : read_reply(a, NULL);
}

static int open_control(struct auditctl *a, struct crew_err *err) {
        a->control = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
        if (a->control < 0)
                return crew_fail_errno(err, "cannot open the kernel's audit socket");
        return 0;
}

/* Only the two Landlock types; the kernel drops the others before they take room. */
static int attach_filter(int fd) {
        struct sock_filter insns[] = {
                BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(AUDIT_TYPE_LANDLOCK_ACCESS), 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(AUDIT_TYPE_LANDLOCK_DOMAIN), 0, 1),
                BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
                BPF_STMT(BPF_RET | BPF_K, 0),
        };
        const struct sock_fprog prog = {.len = ELEMENTSOF(insns), .filter = insns};

        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

static int open_records(struct auditctl *a, struct crew_err *err) {
        const struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = 1u << (AUDIT_NLGRP_READLOG - 1)};
        const int size = RECEIVE_BUFFER;

        a->records = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_AUDIT);
        if (a->records < 0 || attach_filter(a->records) < 0 ||
            setsockopt(a->records, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
            bind(a->records, (const struct sockaddr *)&group, sizeof(group)) < 0)
                return crew_fail_errno(err, "cannot listen to the kernel's audit records");
        return 0;
}

static int save_before(struct auditctl *a, const struct before *b) {
        return pwrite(a->state, b, sizeof(*b), 0) == sizeof(*b) ? 0 : -EIO;
}

/* 1; 0: nobody has noted anything; -EBADMSG: somebody else has. */
static int load_before(const struct auditctl *a, struct before *b) {
        *b = (struct before){0};
        ssize_t n = pread(a->state, b, sizeof(*b), 0);
        return n >= (ssize_t)BEFORE_MIN ? 1 : n == 0 ? 0 : -EBADMSG;
}

static struct audit_status backlog(uint32_t limit, uint32_t wait_time) {
        return (struct audit_status){.mask = AUDIT_STATUS_BACKLOG_LIMIT | AUDIT_STATUS_BACKLOG_WAIT_TIME,
                                     .backlog_limit = limit,
                                     .backlog_wait_time = wait_time};
}

/* We are the only user (lock held exclusively): note how it is, then switch on what is missing. */
static int switch_on(struct auditctl *a, struct crew_err *err) {
        struct audit_status now;
        struct before b;

        int r = get_status(a, &now);
        if (r < 0)
                return crew_fail(err, -r, "cannot read the audit status: %s", strerror(-r));
        if (load_before(a, &b) <= 0) /* else a predecessor was killed: what it found counts */
                b = (struct before){.enabled = now.enabled, .backlog_limit = now.backlog_limit};
        if (!b.wait_noted) {
                b.wait_noted = true;
                b.backlog_wait_time = now.backlog_wait_time;
        }
        if ((r = save_before(a, &b)) < 0)
                return crew_fail(err, -r, "cannot note the audit status");
        if (now.enabled == 0 && (r = set_status(a, (struct audit_status){.mask = AUDIT_STATUS_ENABLED, .enabled = 1})) < 0)
                return crew_fail(err, -r, "cannot switch kernel auditing on: %s", strerror(-r));
        /* The host's own auditing is left alone: with it, rules and the backlog are the host's.
         * Else nobody waits for room in a full backlog: the kernel drops and counts, and that is reported.  It would have
         * everybody wait who makes a record, up to a minute: the spawner, for one, when it makes a network namespace, and
         * behind it the kills, while one agent fills the backlog with its denials. */
        if (b.enabled != 0)
                return 0;
        if ((r = set_status(a, backlog(MAX_OF(now.backlog_limit, BACKLOG), 0))) < 0)
                return crew_fail(err, -r, "cannot widen the audit backlog: %s", strerror(-r));
        r = task_rule(a, AUDIT_ADD_RULE);
        if (r < 0 && r != -EEXIST)
                return crew_fail(err, -r, "cannot add the audit rule never,task: %s", strerror(-r));
        b.rule_added |= r == 0;
        return save_before(a, &b);
}

static void switch_back(struct auditctl *a) {
        struct before b;

        if (load_before(a, &b) <= 0)
                return;
        if (b.rule_added)
                (void)task_rule(a, AUDIT_DEL_RULE);
        if (b.enabled == 0) {
                (void)set_status(a, backlog(b.backlog_limit, b.backlog_wait_time));
                (void)set_status(a, (struct audit_status){.mask = AUDIT_STATUS_ENABLED, .enabled = 0});
        }
        (void)!ftruncate(a->state, 0);
}

/* The first user configures under the exclusive lock; the others wait for that with their shared one. */
static int join_users(struct auditctl *a, struct crew_err *err) {
        struct before b;
        int noted;

        do {
                if (flock(a->state, LOCK_EX | LOCK_NB) == 0) {
                        int r = switch_on(a, err);
                        if (r < 0) {
                                switch_back(a);
                                return r;
                        }
                } else if (errno != EWOULDBLOCK) {
                        return crew_fail_errno(err, "cannot lock the audit state");
                }
                if (flock(a->state, LOCK_SH) < 0)
                        return crew_fail_errno(err, "cannot lock the audit state");
                noted = load_before(a, &b);
        } while (noted == 0); /* the last user left while we waited: we are the first again */
        return noted > 0 ? 0 : crew_fail(err, -noted, "the audit state is none of crewd's: remove it when no crew runs");
}

int auditctl_open(struct auditctl *a, const char *state_path, struct crew_err *err) {
        int r = open_control(a, err);

        if (r < 0 || (r = open_records(a, err)) < 0)
                return r;
        a->state = open(state_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (a->state < 0)
                return crew_fail_errno(err, "cannot open %s", state_path);
        return join_users(a, err);
}

int auditctl_lost(struct auditctl *a, uint32_t *lost) {
        struct audit_status now;

        int r = get_status(a, &now);
        if (r == 0)
                *lost = now.lost;
        return r;
}

void auditctl_close(struct auditctl *a) {
        if (a->state >= 0 && flock(a->state, LOCK_EX | LOCK_NB) == 0)
                switch_back(a);
        crew_close(&a->state);
        crew_close(&a->records);
        crew_close(&a->control);
}
