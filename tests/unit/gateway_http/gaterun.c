/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays crewd for one gateway and one jail: a network namespace with the real rules, a policy from the command line, and a
 * command that runs in there.
 *
 *   gaterun [--log FILE] [--ca FILE] --gateway "PROGRAM ARGS..." {--rule "key=value ..."} -- COMMAND...
 *
 * Rule keys: host port to=ADDRESS:PORT methods=A,B paths=/a,/b credential ca=FILE inspect audit.  FILE of --log gets each
 * message of the gateway as a line; "{ca}" of COMMAND's environment variable CA_FILE is the CA's certificate, from --ca.
 * Exit status: the command's; 125 when something here fails, 124 when the gateway did not start.
 */
#include "common/gate.h"
#include "common/netpolicy.h"
#include "common/netrules.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RULES_MAX 8
#define LISTED_MAX 16
#define PATIENCE_MS 20000

struct rule {
        struct netpolicy_spec_rule spec;
        const char *methods[LISTED_MAX], *paths[LISTED_MAX];
        char where[32];
};

static struct rule rules[RULES_MAX];
static size_t n_rules;
static FILE *record;

static _Noreturn void die(const char *what) {
        fprintf(stderr, "gaterun: %s: %s\n", what, strerror(errno));
        exit(125);
}

/* --- the policy --- */

static uint32_t split(char *value, const char **out) {
        uint32_t n = 0;

        for (char *w; n < LISTED_MAX && (w = strsep(&value, ","));)
                out[n++] = w;
        return n;
}

static void set_to(struct netpolicy_rule *r, char *value) {
        char *colon = strrchr(value, ':');

        *colon = '\0';
        r->flags |= NETPOLICY_TO;
        r->to_port = (uint16_t)atoi(colon + 1);
        r->to_kind = NETPOLICY_ADDR4;
        if (inet_pton(AF_INET, value, r->to_addr) != 1)
                die("to");
}

static void set_key(struct rule *r, const char *key, char *value) {
        struct netpolicy_rule *f = &r->spec.fixed;
        struct crew_err err;

        if (strcmp(key, "host") == 0)
                r->spec.host = value;
        else if (strcmp(key, "port") == 0)
                f->port = (uint16_t)atoi(value);
        else if (strcmp(key, "to") == 0)
                set_to(f, value), r->spec.to_host = value;
        else if (strcmp(key, "methods") == 0)
                r->spec.n_methods = split(value, r->methods);
        else if (strcmp(key, "paths") == 0)
                r->spec.n_paths = split(value, r->paths);
        else if (strcmp(key, "credential") == 0)
                r->spec.credential = value;
        else if (strcmp(key, "inspect") == 0)
                f->flags |= NETPOLICY_INSPECT | NETPOLICY_HTTP;
        else if (strcmp(key, "audit") == 0)
                f->flags |= NETPOLICY_AUDIT;
        else if (strcmp(key, "ca") != 0 ||
                 crew_read_file(value, NETPOLICY_CA_MAX, (char **)&r->spec.ca, &r->spec.ca_bytes, &err) < 0)
                die(key);
}

static void add_rule(char *text) {
        struct rule *r = &rules[n_rules++];

        r->spec.fixed.kind = NETPOLICY_NAME;
        for (char *w; (w = strsep(&text, " "));) {
                char *value = strchr(w, '=');
                if (value)
                        *value++ = '\0';
                set_key(r, w, value);
        }
        if (r->spec.n_methods || r->spec.n_paths || r->spec.credential)
                r->spec.fixed.flags |= NETPOLICY_HTTP;
        r->spec.methods = r->methods;
        r->spec.paths = r->paths;
        snprintf(r->where, sizeof(r->where), "policy.yaml:%zu", n_rules);
        r->spec.where = r->where;
}

static int build_policy(void) {
        struct netpolicy_spec_rule specs[RULES_MAX];
        struct crew_err err = CREW_ERR_NULL;
        struct netpolicy_spec s = {.fixed = {.generation = 1, .max_conns = 256, .max_half_open = 64, .max_dns_per_s = 200},
                                   .where = "policy.yaml:0",
                                   .rules = specs,
                                   .n_rules = (uint32_t)n_rules};

        for (size_t i = 0; i < n_rules; i++)
                specs[i] = rules[i].spec;
        int fd = netpolicy_build(&s, &err);
        if (fd < 0) {
                fprintf(stderr, "gaterun: %s\n", err.msg);
                exit(125);
        }
        return fd;
}

/* --- the namespace --- */

static int apply_section(const struct netrules_section *s, const void *bytes) {
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)s->protocol);
        _Alignas(struct nlmsghdr) char buf[16384];

        if (fd < 0 || send(fd, bytes, s->bytes, 0) < 0)
                return -errno;
        for (unsigned got = 0; got < s->acks;) {
                ssize_t n = recv(fd, buf, sizeof(buf), 0);
                if (n < 0)
                        return -errno;
                for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n), got++) {
                        int error = h->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(h))->error : -EPROTO;
                        if (error)
                                return error;
                }
        }
        return 0;
}

static void apply_rules(void) {
        for (size_t at = 0; at < crew_netrules_bytes;) {
                struct netrules_section s;
                memcpy(&s, crew_netrules + at, sizeof(s));
                at += sizeof(s);
                if ((errno = -apply_section(&s, crew_netrules + at)))
                        die("network rules");
                at += s.bytes;
        }
}

static int listener(int family, int type, uint16_t port) {
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 ||
            (family == AF_INET ? bind(fd, (void *)&four, sizeof(four)) : bind(fd, (void *)&six, sizeof(six))) < 0 ||
            (type == SOCK_STREAM && listen(fd, 128) < 0))
                die("listener");
        return fd;
}

static void write_text(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

        if (fd < 0 || crew_write_full(fd, text, strlen(text)) < 0)
                die(path);
}

/* Root in a user namespace of its own, so that it can bind port 1 and mount. */
static void enter(void) {
        char resolv[] = "/tmp/gaterun-XXXXXX", map[64];
        const unsigned uid = geteuid(), gid = getegid();
        int fd;

        if (unshare((uid ? CLONE_NEWUSER : 0) | CLONE_NEWNET | CLONE_NEWNS) < 0)
                die("unshare");
        if (uid) {
                write_text("/proc/self/setgroups", "deny");
                snprintf(map, sizeof(map), "0 %u 1", uid);
                write_text("/proc/self/uid_map", map);
                snprintf(map, sizeof(map), "0 %u 1", gid);
                write_text("/proc/self/gid_map", map);
        }
        if ((fd = mkstemp(resolv)) < 0 || crew_write_full(fd, "nameserver 127.0.0.1\n", 21) < 0 || fchmod(fd, 0644) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount(resolv, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
                die("resolv.conf");
        close(fd);
        unlink(resolv);
        apply_rules();
}

static _Noreturn void in_jail(int sock, char **argv) {
        char go;

        enter();
        int fds[] = {listener(AF_INET, SOCK_STREAM, GATE_TCP_PORT), listener(AF_INET6, SOCK_STREAM, GATE_TCP_PORT),
                     listener(AF_INET, SOCK_DGRAM, GATE_UDP_PORT), listener(AF_INET6, SOCK_DGRAM, GATE_UDP_PORT)};
        if (crew_send_fds(sock, "L", 1, fds, 4) != 1 || read(sock, &go, 1) != 1)
                die("hand over");
        for (int i = 0; i < 4; i++)
                close(fds[i]);
        close(sock);
        execvp(argv[0], argv);
        die(argv[0]);
}

/* --- the gateway --- */

static pid_t start_gateway(char *words, int *fd) {
        char *argv[32], number[16];
        int pair[2], n = 0;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
                die("socketpair");
        fcntl(pair[0], F_SETFD, FD_CLOEXEC);
        snprintf(number, sizeof(number), "%d", pair[1]);
        for (char *w; n < 28 && (w = strsep(&words, " "));)
                argv[n++] = w;
        argv[n++] = (char *)"--fd";
        argv[n++] = number;
        argv[n] = NULL;
        pid_t pid = fork();
        if (pid == 0) {
                execv(argv[0], argv);
                die(argv[0]);
        }
        close(pair[1]);
        *fd = pair[0];
        return pid;
}

static int n_open; /* connections that were let through and are not told as closed */

static void note(const struct gate_msg *m) {
        static const char *const ops[] = {"DENIED", "ALLOWED", "CLOSED", "HTTP"}, *const verdicts[] = {"refuse", "let",
                                                                                                       "would"};
        static const struct gate_msg none;
        unsigned op = m->op - GATE_DENIED;

        n_open += (m->op == GATE_ALLOWED) - (m->op == GATE_CLOSED);
        if (!record || memcmp(m, &none, sizeof(none)) == 0)
                return;
        fprintf(record,
                "%s\tname=%s\tport=%u\tpeer=%s\twhere=%s\ttext=%s\twhy=%s\tverdict=%s\tstatus=%u\tup=%lu\tdown=%lu\n",
                op < ELEMENTSOF(ops) ? ops[op] : "OTHER", m->name, m->port, m->peer, m->where, m->text, m->why,
                m->verdict < 3 ? verdicts[m->verdict] : "?", m->status, (unsigned long)m->up, (unsigned long)m->down);
        fflush(record);
}

static void await_hello(int gate, const char *ca_path) {
        struct gate_msg m = {0};
        int fds[1] = {-1};
        size_t n_fds = 1, n;
        char *pem;
        struct crew_err err;

        if (crew_recv_fds(gate, &m, sizeof(m), fds, &n_fds, 0) != sizeof(m) || m.op != GATE_HELLO || m.text[0]) {
                fprintf(stderr, "gaterun: no gateway: %s\n", m.text);
                exit(124);
        }
        if (n_fds == 0 || !ca_path)
                return;
        lseek(fds[0], 0, SEEK_SET);
        if (crew_read_fd(fds[0], 65536, &pem, &n, &err) < 0)
                die("CA");
        write_text(ca_path, pem);
        setenv("CA_FILE", ca_path, 1);
        free(pem);
}

/* What comes within wait_ms of the one before, until there is one of this kind. */
static bool take_messages(int gate, int wait_ms, unsigned until) {
        struct pollfd p = {.fd = gate, .events = POLLIN};
        struct gate_msg m;

        while (poll(&p, 1, wait_ms) == 1 && recv(gate, &m, sizeof(m), MSG_DONTWAIT) == sizeof(m)) {
                note(&m);
                if (m.op == until)
                        return true;
        }
        return false;
}

/* Until the connections' last messages are there, however slow it is: each has its end, then a moment of silence. */
static void take_last_messages(int gate) {
        const struct gate_msg ping = {.op = GATE_PING};

        if (crew_send_fds(gate, &ping, sizeof(ping), NULL, 0) != sizeof(ping) ||
            !take_messages(gate, PATIENCE_MS, GATE_PONG))
                return;
        for (uint64_t end = crew_now_ns() + PATIENCE_MS * 1000000ull; n_open > 0 && crew_now_ns() < end;)
                take_messages(gate, 20, 0);
        take_messages(gate, 300, 0);
}

static int run(int gate, pid_t jail) {
        int status = 0;

        while (waitpid(jail, &status, WNOHANG) == 0) {
                take_messages(gate, 0, 0);
                usleep(2000);
        }
        take_last_messages(gate);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv) {
        const char *ca = NULL;
        char *gateway = NULL, c;
        int i, gate, pair[2], fds[5];
        size_t n_fds = 4;

        for (i = 1; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
                if (strcmp(argv[i], "--log") == 0)
                        record = fopen(argv[i + 1], "we");
                else if (strcmp(argv[i], "--ca") == 0)
                        ca = argv[i + 1];
                else if (strcmp(argv[i], "--gateway") == 0)
                        gateway = argv[i + 1];
                else if (strcmp(argv[i], "--rule") == 0 && n_rules < RULES_MAX)
                        add_rule(argv[i + 1]);
        }
        if (!gateway || i + 1 >= argc || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                die("usage");
        pid_t pid = start_gateway(gateway, &gate);
        await_hello(gate, ca);
        pid_t jail = fork();
        if (jail == 0)
                in_jail(pair[1], argv + i + 1);
        close(pair[1]);
        if (crew_recv_fds(pair[0], &c, 1, fds, &n_fds, 0) != 1 || n_fds != 4)
                exit(125);
        fds[4] = build_policy();
        const struct gate_msg add = {.op = GATE_ADD, .id = 7};
        if (crew_send_fds(gate, &add, sizeof(add), fds, 5) != sizeof(add) || crew_write_full(pair[0], "g", 1) < 0)
                die("add");
        for (int k = 0; k < 5; k++)
                close(fds[k]);
        int status = run(gate, jail);
        const struct gate_msg gone = {.op = GATE_REMOVE, .id = 7};
        crew_send_fds(gate, &gone, sizeof(gone), NULL, 0);
        take_messages(gate, PATIENCE_MS, GATE_REMOVED);
        close(gate);
        int ended;
        waitpid(pid, &ended, 0);
        if (!WIFEXITED(ended) || WEXITSTATUS(ended) != 0) {
                fprintf(stderr, "gaterun: the gateway ended with %d\n", ended);
                return 123;
        }
        return status;
}
