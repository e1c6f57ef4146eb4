/* SPDX-License-Identifier: Apache-2.0 */
#include "ca_bundle.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "supervisor/policy/netpolicy_make.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CA_MAX (64u << 10)
#define SYSTEM_MAX (4u << 20)

/* Where distributions keep it: Debian and Alpine, Fedora, SUSE. */
static const char *const system_bundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                             "/etc/ssl/ca-bundle.pem"};

bool ca_bundle_wanted(const struct policy_image *p, const struct crew_file *crew) {
        _cleanup_close_ int fd = netpolicy_make(p, crew, 1, NULL);
        const struct netpolicy_head *head;
        bool wanted = false;

        if (fd < 0 || netpolicy_open(fd, &head, NULL) < 0)
                return false; /* and the start of its agent will say why */
        for (uint32_t i = 0; i < head->n_rules; i++)
                wanted |= (netpolicy_rule_at(head, i)->flags & NETPOLICY_INSPECT) != 0;
        netpolicy_close(head);
        return wanted;
}

bool ca_bundle_wanted_by_any(const struct crew_file *crew) {
        for (size_t i = 0; i < crew->n_agents; i++)
                if (crew->agents[i].policy && ca_bundle_wanted(crew->agents[i].policy, crew))
                        return true;
        return false;
}

int ca_bundle_open(struct ca_bundle *b, const char *dir, struct crew_err *err) {
        if ((size_t)snprintf(b->path, sizeof(b->path), "%s/ca-bundle.pem", dir) >= sizeof(b->path))
                return crew_fail(err, ENAMETOOLONG, "%s: path too long", dir);
        unlink(b->path); /* of a crewd that was killed: may still be mounted somewhere */
        b->fd = open(b->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (b->fd < 0 || fchmod(b->fd, 0644) < 0)
                return crew_fail_errno(err, "cannot make %s", b->path);
        return 0;
}

/* A host without any has programs that trust nothing: then the crew's CA is all there is. */
static void read_system(char **out, size_t *n) {
        for (size_t i = 0; i < ELEMENTSOF(system_bundles); i++)
                if (crew_read_file(system_bundles[i], SYSTEM_MAX, out, n, NULL) == 0)
                        return;
}

static int read_ca(int pem_fd, char **out, size_t *n, struct crew_err *err) {
        if (lseek(pem_fd, 0, SEEK_SET) < 0)
                return crew_fail_errno(err, "the gateway's CA cannot be read");
        int r = crew_read_fd(pem_fd, CA_MAX, out, n, err);

        if (r < 0)
                return r;
        if (strlen(*out) != *n || !strstr(*out, "-----BEGIN CERTIFICATE-----") || strstr(*out, "PRIVATE"))
                return crew_fail(err, EPROTO, "what the gateway gives as its CA is no certificate");
        return 0;
}

int ca_bundle_write(struct ca_bundle *b, int pem_fd, struct crew_err *err) {
        _cleanup_free_ char *system = NULL, *ca = NULL;
        size_t n_system = 0, n_ca = 0;
        int r = read_ca(pem_fd, &ca, &n_ca, err);

        if (r < 0)
                return r;
        read_system(&system, &n_system);
        /* The CA first, so that whoever reads meanwhile misses it for a moment only. */
        if (lseek(b->fd, 0, SEEK_SET) < 0 || (r = crew_write_full(b->fd, ca, n_ca)) < 0 ||
            (r = crew_write_full(b->fd, "\n", 1)) < 0 || (r = crew_write_full(b->fd, system, n_system)) < 0)
                return crew_fail(err, r < 0 ? -r : errno, "cannot write %s", b->path);
        if (ftruncate(b->fd, (off_t)(n_ca + 1 + n_system)) < 0)
                return crew_fail_errno(err, "cannot write %s", b->path);
        return 0;
}

void ca_bundle_close(struct ca_bundle *b) {
        if (b->path[0] && b->fd >= 0)
                unlink(b->path);
        crew_close(&b->fd);
        b->path[0] = '\0';
}
