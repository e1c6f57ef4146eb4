/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real crew-gateway and a real network namespace with the real rules.  A child makes the namespace (unprivileged),
 * binds the capture listeners and then dials for the test: sockets made in there are handed out, so that a test holds both
 * ends of a connection and plays crewd, all in one process.
 */
#pragma once

#include "common/gate.h"
#include "common/netpolicy.h"

#include <stdint.h>
#include <sys/types.h>

struct world {
        int gate; /* crewd's end */
        pid_t gateway;
        uint32_t id;
};
struct jail {
        int sock;
        pid_t pid;
        int listeners[GATE_LISTENERS];
};

extern const char *gateway_path;

void world_start(struct world *w);
void world_start_with(struct world *w, unsigned max_files); /* 0: as many as we may have */
/* Ends the gateway by hanging up; its exit status. */
int world_stop(struct world *w);
/* 0, or 77 where no namespace can be made. */
int jail_start(struct jail *j);
void jail_stop(struct jail *j);
/* Hands the jail's listeners over with this policy, -1: none.  Closes the policy; the listeners stay, as crewd keeps
 * them. */
void world_add(struct world *w, struct jail *j, uint32_t id, int policy);
void world_send(struct world *w, struct gate_msg m, const int *fds, size_t n_fds);
/* The next message, waited for as long as a loaded machine may need. */
struct gate_msg world_next(struct world *w);
/* The next one that is not op: 1 when there is none within ms. */
int world_quiet(struct world *w, int ms);
struct gate_msg world_expect(struct world *w, enum gate_op op);

/* A connected socket of the jail's, or -errno. */
int jail_dial(struct jail *j, const char *host, uint16_t port);
/* A UDP socket of the jail's, connected to host:port. */
int jail_udp(struct jail *j, const char *host, uint16_t port);
/* Asks 127.0.0.1: the rcode, or -errno.  addr: the first A record, "" without. */
int jail_ask(struct jail *j, const char *name, unsigned type, char addr[16]);
/* The name's address dialled. */
int jail_dial_name(struct jail *j, const char *name, uint16_t port);

/* A listener of the host's on 127.0.0.1, and a connection to it (-ETIMEDOUT). */
int host_listen(uint16_t *port);
int host_accept(int listener);
/* Reads exactly n bytes; what came, or -errno. */
ssize_t read_n(int fd, void *buf, size_t n);
/* 0 at an orderly end, the errno of a broken connection, -1 when there is a byte, -2 when nothing comes. */
int read_end(int fd);

/* Rules by name that lead to a port of the host's own 127.0.0.1. */
struct netpolicy_spec_rule rule_to(const char *name, uint16_t port, uint16_t to_port);
int policy_of(const struct netpolicy_spec_rule *rules, uint32_t n, uint32_t flags, uint32_t generation);
int policy_with(struct netpolicy_spec *spec);
struct netpolicy_spec spec_of(const struct netpolicy_spec_rule *rules, uint32_t n);

/* A ClientHello with this SNI (NULL: none); its length. */
size_t client_hello(const char *sni, uint8_t out[1024]);

/* --- the usual scene: one gateway, one jail, one server of the host's, anew for each test --- */

extern struct world world;
extern struct jail jail;
extern int server;
extern uint16_t server_port;
/* Instance 7, with api.test:443 and *.wild.test:443, which both lead to the server. */
void add(uint32_t flags);
/* A listed connection, both ends. */
void pair_up(int *in, int *out);
void say(int fd, const void *bytes, size_t n);
void expect_bytes(int fd, const char *text);
/* A dial that is refused: by the kernel's answer to connect() or to the first read. */
void expect_refused(int fd);
void expect_denied(const char *name, uint16_t p, const char *text);

struct CMUnitTest;
#define SCENE(test) cmocka_unit_test(test)
/* Arguments: the gateway's path, perhaps a filter of tests. */
int scene_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n);
