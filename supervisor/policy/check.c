/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold of one policy on its own, whatever crew it is used in.  A path is judged by its text and by where it
 * leads on this host now; the spawner, which mounts it later, refuses symbolic links again.
 */
#include "check.h"

#include "common/paths.h"
#include "common/util.h"
#include "endpoint.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum {
        R = 1u << POLICY_READ,
        W = 1u << POLICY_WRITE,
        X = 1u << POLICY_EXEC | 1u << POLICY_RUNTIME,
        GRANTS = R | W | X,
};

/* Places of the host that no policy may grant, and why; `below`: nor anything in them, nor a tree around them. */
static const struct place {
        const char *path;
        bool below;
        unsigned kinds;
        const char *why;
} places[] = {
        {"/", false, GRANTS, "that is the whole system"},
        {"/etc", false, GRANTS, "it holds the system's keys; list the files that are needed"},
        {"/tmp", false, GRANTS, "the agent has a private /tmp; list a directory below it"},
        {"/var", false, GRANTS, "that is the state of the whole system; list a directory below it"},
        {"/home", false, GRANTS, "that is every user's home; list a directory below it"},
        {"/home/agent", false, GRANTS, "the agent has a private /home/agent"},
        {"/root", false, GRANTS, "a home directory holds keys; list a directory below it"},
        {"/proc", true, GRANTS, "the jail has its own /proc"},
        {"/sys", true, GRANTS, "kernel interfaces are never in a jail"},
        {"/dev", true, GRANTS, "the jail has its own /dev"},
        {"/run", true, GRANTS, "it holds the sockets of the system's services"},
        {"/var/run", true, GRANTS, "it holds the sockets of the system's services"},
        {"/etc", true, W | X, "it is the system's configuration"},
        {"/etc/shadow", true, GRANTS, "it holds password hashes"},
        {"/etc/shadow-", true, GRANTS, "it holds password hashes"},
        {"/etc/gshadow", true, GRANTS, "it holds password hashes"},
        {"/etc/gshadow-", true, GRANTS, "it holds password hashes"},
        {"/etc/sudoers", true, GRANTS, "it says who may become root"},
        {"/etc/sudoers.d", true, GRANTS, "it says who may become root"},
        {"/etc/ssh", true, GRANTS, "it holds the host's private keys"},
        {"/etc/ssl/private", true, GRANTS, "it holds private keys"},
        {"/boot", true, W | X, "the system starts from it"},
        {"/usr", true, W, "the runtime of every agent is in it"},
        {"/bin", true, W, "the runtime of every agent is in it"},
        {"/sbin", true, W, "the runtime of every agent is in it"},
        {"/lib", true, W, "the runtime of every agent is in it"},
        {"/lib64", true, W, "the runtime of every agent is in it"},
};

/* What a home directory may hold that an agent should not see. */
static const char *const credentials[] = {
        ".ssh",           ".gnupg",           ".aws",   ".kube",  ".docker", ".azure", ".netrc",
        ".config/gcloud", ".git-credentials", ".npmrc", ".pypirc"};

struct own_dirs {
        struct crew_paths paths;
        char data[PATH_MAX];
        char policy[PATH_MAX]; /* the policy file itself, "" when loaded from memory */
};

struct checker {
        struct bind *b;
        struct draft *d;
        struct own_dirs own;
};

static void problem(struct checker *c, bool warning, const struct policy_mark *m, const char *hint, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
static void problem(struct checker *c, bool warning, const struct policy_mark *m, const char *hint, const char *fmt, ...) {
        char text[sizeof(((struct policy_problem *)0)->text)];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        policy_report_add(c->b->report, warning, c->b->file, (int)m->line, (int)m->column, hint, "%s", text);
}

#define error_at(c, p, hint, ...) problem((c), false, &(p)->mark, (hint), __VA_ARGS__)
#define warn_at(c, p, hint, ...) problem((c), true, &(p)->mark, (hint), __VA_ARGS__)

static bool is_grant(const struct policy_path *p) {
        return (1u << p->kind) & GRANTS;
}

static const char *verb_of(const struct policy_path *p) {
        return image_section_names[image_section_of_path(p->kind)];
}

static const char *slash(const struct policy_path *p) {
        return p->tree && strcmp(p->path, "/") != 0 ? "/" : "";
}

/* --- places --- */

static bool place_hit(const struct place *at, enum policy_path_kind kind, const char *path) {
        return at->kinds & 1u << kind && (at->below ? path_within(at->path, path) : strcmp(at->path, path) == 0);
}

const char *place_refused(enum policy_path_kind kind, const char *path) {
        for (size_t i = 0; i < ELEMENTSOF(places); i++)
                if (place_hit(&places[i], kind, path))
                        return places[i].why;
        return NULL;
}

static bool covered_by_hole(const struct checker *c, const char *path) {
        for (size_t i = 0; i < c->d->n_paths; i++)
                if (c->d->paths[i].kind == POLICY_DENY && path_covers(&c->d->paths[i], path))
                        return true;
        return false;
}

static bool check_place(struct checker *c, const struct policy_path *p) {
        const char *why = place_refused(p->kind, p->path), *inner = NULL;

        for (size_t i = 0; !why && p->tree && i < ELEMENTSOF(places); i++) {
                const struct place *at = &places[i];
                if (at->below && at->kinds & 1u << p->kind && path_within(p->path, at->path) &&
                    !covered_by_hole(c, at->path))
                        why = at->why, inner = at->path;
        }
        if (why)
                error_at(c, p, inner ? "put a hole there, in filesystem.deny" : "",
                         "'%s%s' cannot be granted in %s: %s%s%s", p->path, slash(p), verb_of(p), inner ? inner : "",
                         inner ? " is inside, and " : "", why);
        return !why;
}

static bool check_own(struct checker *c, const struct policy_path *p) {
        const struct {
                const char *dir, *what;
        } dirs[] = {{c->own.paths.state, "the audit and state of crewd"},
                    {c->own.paths.run, "the control sockets of crewd"},
                    {c->own.paths.config, "the configuration of crewd"}};

        for (size_t i = 0; i < ELEMENTSOF(dirs); i++) {
                if (path_overlaps(dirs[i].dir, p->path)) {
                        error_at(c, p, "", "'%s%s' cannot be granted: %s is in %s", p->path, slash(p), dirs[i].what,
                                 dirs[i].dir);
                        return false;
                }
        }
        if (p->kind == POLICY_WRITE && c->own.data[0] && path_overlaps(c->own.data, p->path)) {
                error_at(c, p, "", "'%s%s' cannot be written: it holds roles, runtimes and profiles", p->path, slash(p));
                return false;
        }
        if (p->kind == POLICY_WRITE && c->own.policy[0] && path_within(p->path, c->own.policy)) {
                error_at(c, p, "write to a directory of its own", "the write tree '%s%s' holds this policy file", p->path,
                         slash(p));
                return false;
        }
        return true;
}

static void warn_credentials(struct checker *c, const struct policy_path *p, bool exists) {
        char path[PATH_MAX];

        for (size_t i = 0; i < ELEMENTSOF(credentials); i++) {
                const char *at = strstr(p->path, credentials[i]);
                if (at && at[-1] == '/' && strchr("/" /* or its end */, at[strlen(credentials[i])])) {
                        warn_at(c, p, "", "'%s%s' holds credentials", p->path, slash(p));
                        return;
                }
                if (!p->tree || !exists ||
                    (size_t)snprintf(path, sizeof(path), "%s/%s", p->path, credentials[i]) >= sizeof(path))
                        continue;
                if (faccessat(-1, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 && !covered_by_hole(c, path))
                        warn_at(c, p, "list it in filesystem.deny", "the tree '%s/' holds credentials: %s", p->path,
                                credentials[i]);
        }
}

/* --- what stands on disk --- */

/* What stands there: enum path_state, or -errno.  Reports what does not fit. */
static int check_disk(struct checker *c, const struct policy_path *p) {
        char real[PATH_MAX], hint[256] = "";
        int state = path_look(p->path, real);

        if (state == PATH_SYMLINKED) {
                if (strlen(real) < 200)
                        snprintf(hint, sizeof(hint), "write '%s%s'", real, slash(p));
                error_at(c, p, hint, "'%s%s' is reached through a symbolic link", p->path, slash(p));
        } else if (state == -ELOOP) {
                error_at(c, p, "", "'%s%s' is a symbolic link that leads nowhere", p->path, slash(p));
        } else if (state < 0) {
                error_at(c, p, "", "'%s%s' cannot be looked at: %s", p->path, slash(p), strerror(-state));
        } else if (state == PATH_OTHER) {
                error_at(c, p, "", "'%s' is a device, a socket or a pipe; only files and directories can be listed",
                         p->path);
        } else if (state == PATH_DIRECTORY && !p->tree) {
                snprintf(hint, sizeof(hint), "a tree ends in '/'");
                error_at(c, p, hint, "'%s' is a directory", p->path);
        } else if (state == PATH_FILE && p->tree) {
                error_at(c, p, "leave out the last '/'", "'%s/' is a file", p->path);
        }
        return state;
}

/* --- the paths among themselves --- */

static void check_exec_and_write(struct checker *c, const struct policy_path *x) {
        for (size_t i = 0; i < c->d->n_paths; i++) {
                const struct policy_path *w = &c->d->paths[i];
                if (w->kind == POLICY_WRITE && path_overlaps(w->path, x->path))
                        error_at(c, x, "what an agent can write it must not execute",
                                 "%s '%s%s' overlaps the write path '%s%s' of line %u", verb_of(x), x->path, slash(x),
                                 w->path, slash(w), w->mark.line);
        }
}

/* A hole must lie strictly inside a tree that is granted. */
static void check_inside(struct checker *c, const struct policy_path *hole) {
        bool inside = false;

        for (size_t i = 0; i < c->d->n_paths; i++) {
                const struct policy_path *g = &c->d->paths[i];
                bool fits = hole->kind == POLICY_READ_ONLY ? g->kind == POLICY_WRITE
                                                           : g->kind != POLICY_DENY && g->kind != POLICY_READ_ONLY;
                if (!fits)
                        continue;
                if (strcmp(g->path, hole->path) == 0 && (hole->kind == POLICY_READ_ONLY || is_grant(g))) {
                        error_at(c, hole, "", "%s '%s%s' is the same path as %s on line %u", verb_of(hole), hole->path,
                                 slash(hole), verb_of(g), g->mark.line);
                        return;
                }
                inside = inside || (g->tree && path_within(g->path, hole->path));
        }
        if (!inside)
                error_at(c, hole, "what is not listed is denied without a hole", "%s '%s%s' does not lie inside %s",
                         verb_of(hole), hole->path, slash(hole),
                         hole->kind == POLICY_READ_ONLY ? "a write tree" : "a granted tree");
}

static void check_grant_in_hole(struct checker *c, const struct policy_path *p) {
        for (size_t i = 0; i < c->d->n_paths; i++) {
                const struct policy_path *h = &c->d->paths[i];
                if (h->kind == POLICY_DENY && strcmp(h->path, p->path) != 0 && path_covers(h, p->path))
                        error_at(c, p, "", "'%s%s' lies in the hole '%s%s' of line %u: it would never be visible", p->path,
                                 slash(p), h->path, slash(h), h->mark.line);
                if (h->kind == POLICY_READ_ONLY && p->kind == POLICY_WRITE && path_covers(h, p->path))
                        error_at(c, p, "", "'%s%s' lies in the read-only part '%s%s' of line %u", p->path, slash(p),
                                 h->path, slash(h), h->mark.line);
        }
}

static void check_twice(struct checker *c, size_t i) {
        const struct policy_path *p = &c->d->paths[i];

        for (size_t k = 0; k < i; k++) {
                const struct policy_path *q = &c->d->paths[k];
                if (q->kind == p->kind && strcmp(q->path, p->path) == 0)
                        warn_at(c, p, "", "'%s%s' is listed twice in %s (first on line %u)", p->path, slash(p), verb_of(p),
                                q->mark.line);
        }
}

/* write implies read: a read path inside a write tree adds nothing, and must not become a read-only part of it. */
static void drop_covered_reads(struct draft *d) {
        size_t kept = 0;

        for (size_t i = 0; i < d->n_paths; i++) {
                bool covered = false;
                for (size_t k = 0; d->paths[i].kind == POLICY_READ && k < d->n_paths; k++)
                        covered = covered ||
                                  (d->paths[k].kind == POLICY_WRITE && path_covers(&d->paths[k], d->paths[i].path));
                if (!covered)
                        d->paths[kept++] = d->paths[i];
        }
        d->n_paths = kept;
}

/* From a runtime set, not from the user's text: sets are part of the installation and were not written here. */
static bool from_set(const struct policy_path *p) {
        return p->kind == POLICY_RUNTIME_READ || (p->kind == POLICY_RUNTIME && p->optional);
}

static void check_path(struct checker *c, size_t i) {
        const struct policy_path *p = &c->d->paths[i];
        bool fine = true;

        if (p->kind == POLICY_EXEC || p->kind == POLICY_RUNTIME)
                check_exec_and_write(c, p);
        if (from_set(p))
                return;
        check_twice(c, i);
        if (p->kind == POLICY_DENY || p->kind == POLICY_READ_ONLY)
                check_inside(c, p);
        if (is_grant(p)) {
                fine = check_place(c, p) && check_own(c, p);
                check_grant_in_hole(c, p);
        }
        if (!fine)
                return;
        int state = check_disk(c, p);
        if (is_grant(p))
                warn_credentials(c, p, state == PATH_DIRECTORY);
}

/* --- network and tools --- */

static void check_network(struct checker *c) {
        const struct draft *d = c->d;
        const struct policy_endpoint *first = d->n_endpoints ? &d->endpoints[0].e : NULL;
        char text[ENDPOINT_HOST_MAX + 16];

        network_check(c->b, d);
        if (!first && !d->network.audit)
                return;
        for (size_t i = 0; i < d->n_paths; i++) {
                const struct policy_path *p = &d->paths[i];
                if (p->kind != POLICY_READ || !path_is_private(p->path, c->b->crew_dir))
                        continue;
                if (d->network.audit)
                        warn_at(c, p, "an agent that reads it should have no endpoint",
                                "a way out: '%s%s' can be read and every host can be reached ('enforcement: audit', line "
                                "%u)",
                                p->path, slash(p), d->enforcement->mark.line);
                else
                        warn_at(c, p, "an agent that reads it should have no endpoint",
                                "a way out: '%s%s' can be read and '%s' (line %u) can be reached", p->path, slash(p),
                                policy_endpoint_text(first, text, sizeof(text)), first->listed.line);
        }
}

static void check_tools(struct checker *c) {
        const struct draft_list *allowed = &c->d->names[POLICY_TOOLS_ALLOWED], *denied = &c->d->names[POLICY_TOOLS_DENIED];

        for (size_t i = 0; i < allowed->n; i++)
                for (size_t k = 0; k < denied->n; k++)
                        if (strcmp(denied->items[k].name, allowed->items[i].name) == 0)
                                problem(c, true, &allowed->items[i].mark, "", "'%s' is denied on line %u, which wins",
                                        allowed->items[i].name, denied->items[k].mark.line);
}

static void check_targets(struct checker *c) {
        const struct draft_list *l = &c->d->names[POLICY_TARGETS];

        for (size_t i = 0; i < l->n; i++)
                if (c->d->agent && strcmp(l->items[i].name, c->d->agent) == 0)
                        problem(c, true, &l->items[i].mark, "", "'%s' may address itself, which does nothing",
                                l->items[i].name);
}

static int own_dirs_find(struct own_dirs *own, const char *file, struct crew_err *err) {
        char data[PATH_MAX];
        int r = crew_paths_init(&own->paths, err);

        if (r < 0)
                return r;
        if (crew_data_dir(data, NULL) < 0 || !realpath(data, own->data))
                own->data[0] = '\0';
        if (!realpath(file, own->policy))
                own->policy[0] = '\0';
        return 0;
}

bool path_is_private(const char *path, const char *crew_dir) {
        if (path_within("/tmp", path) || path_within("/var/tmp", path) || path_within("/usr", path))
                return false;
        return !crew_dir || !crew_dir[0] || !path_within(crew_dir, path);
}

int draft_check(struct bind *b, struct draft *d, struct crew_err *err) {
        struct checker *c = calloc(1, sizeof(*c)); /* several PATH_MAX */
        int r;

        if (!c)
                return crew_fail(err, ENOMEM, "%s: out of memory", b->file);
        c->b = b;
        c->d = d;
        r = own_dirs_find(&c->own, b->file, err);
        for (size_t i = 0; r == 0 && i < d->n_paths; i++)
                check_path(c, i);
        if (r == 0) {
                check_network(c);
                check_tools(c);
                check_targets(c);
                drop_covered_reads(d);
        }
        free(c);
        return r;
}

/* --- missing paths: a question of the crew, hence apart --- */

static bool needs_to_exist(const struct policy_path *p) {
        if (p->optional || from_set(p))
                return false;
        return p->kind != POLICY_WRITE || !p->tree;
}

static void missing(struct policy_report *report, bool warning, const char *file, const struct policy_path *p) {
        const char *hint = p->kind == POLICY_WRITE       ? "end it in '/' for a directory that is made at start"
                           : p->kind == POLICY_READ      ? "create it, or write {path: ..., optional: true}"
                           : p->kind == POLICY_DENY      ? "the hole opens when it appears later"
                           : p->kind == POLICY_READ_ONLY ? "the agent could create it"
                                                         : "";
        policy_report_add(report, warning || p->kind == POLICY_DENY, file, (int)p->mark.line, (int)p->mark.column, hint,
                          "%s '%s%s' does not exist", verb_of(p), p->path, slash(p));
}

void policy_check_missing(const struct policy_image *p, bool warning, policy_made_fn made, const void *user,
                          struct policy_report *report) {
        char real[PATH_MAX];

        for (size_t i = 0; i < policy_n_paths(p); i++) {
                struct policy_path path = policy_path_at(p, i);
                if (!needs_to_exist(&path) || path_look(path.path, real) != PATH_MISSING)
                        continue;
                if (made && made(user, path.path))
                        continue;
                missing(report, warning, policy_file(p), &path);
        }
}
