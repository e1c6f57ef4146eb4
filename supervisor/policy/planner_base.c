/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every view has, whatever its policy says: the read-only runtime, a minimal /etc, /proc, /dev, the private
 * directories; what no view may have; and the tripwires.
 *
 * A tripwire is an empty file or directory that everybody may read by mode and nobody by Landlock: the attempt fails
 * and the kernel records it with its path.  It must lie where no rule reaches, so there are none in the private trees.
 */
#include "planner_view.h"

#include "common/landlock.h"
#include "common/paths.h"
#include "common/util.h"
#include "path.h"
#include "planner_crew.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define DECOYS_MAX 160

#define ACCESS_READ_TREE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_RUN_TREE (ACCESS_READ_TREE | LANDLOCK_ACCESS_FS_EXECUTE)
#define ACCESS_PRIVATE                                                                                                     \
        (ACCESS_READ_TREE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_MAKE_REG |    \
         LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_FIFO |                        \
         LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                   \
         LANDLOCK_ACCESS_FS_REFER)
#define ACCESS_CHANNELS (LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SOCK)
/* The worker makes the agent's socket there; nobody else may. */
#define ACCESS_CREW_OUTER (ACCESS_RUN_TREE | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)

/* Top directories that are links into /usr on a merged system and real ones elsewhere. */
static const char *const root_dirs[BASE_ROOT_N] = {"/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"};

/* Of the host's /etc: what programs need to start and to check certificates, and nothing that names people or hosts. */
static const char *const etc_paths[BASE_ETC_N] = {"/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/certs",
                                                  "/etc/alternatives"};

static const struct {
        const char *path, *text;
} etc_files[] = {
        {"/etc/passwd", "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
                        "agent:x:1000:1000:agent:/home/agent:/bin/sh\n"
                        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
        {"/etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"},
        {"/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
        {"/etc/resolv.conf", "nameserver 127.0.0.1\n"},
        {"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nservices: files\n"
                               "protocols: files\n"},
};

static const struct {
        const char *path;
        mode_t mode;
} privates[] = {{"/tmp", 01777}, {"/home/agent", 0700}, {"/run/crew", 0755}};

bool base_is_private(const char *path) {
        for (size_t i = 0; i < ELEMENTSOF(privates); i++)
                if (path_within(privates[i].path, path))
                        return true;
        return false;
}

bool base_has(const char *path) {
        for (size_t i = 0; i < ELEMENTSOF(etc_files); i++)
                if (strcmp(etc_files[i].path, path) == 0)
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(etc_paths); i++)
                if (strcmp(etc_paths[i], path) == 0)
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(root_dirs); i++)
                if (strcmp(root_dirs[i], path) == 0)
                        return true;
        return strcmp(path, "/usr") == 0;
}

bool base_is_linked(const struct view *v, const char *path) {
        for (size_t i = 0; i < ELEMENTSOF(root_dirs); i++)
                if (path_within(root_dirs[i], path))
                        return v->root_links[i] != NULL;
        return false;
}

/* `whole` refuses the path itself and what contains it; otherwise everything below it too. */
static const struct {
        const char *path;
        bool whole, write_only;
        const char *why;
} refusals[] = {
        {"/proc", false, false, "the jail has a /proc of its own"},
        {"/sys", false, false, "it describes and configures the host"},
        {"/dev", false, false, "the jail has a /dev of its own"},
        {"/run", false, false, "it holds the sockets of the host's services"},
        {"/etc", true, false, "it would replace the minimal /etc and show /etc/shadow; grant the files that are needed"},
        {"/home/agent", true, false, "the agent's private home is there"},
        {STATE_DIR, false, false, "the agent's own state directory is there"},
        {"/tmp", true, false, "the agent has a private /tmp; grant a directory below it"},
        {"/usr", false, true, "it is the runtime, and what may be written may never be executed"},
        {"/bin", false, true, "it is the runtime, and what may be written may never be executed"},
        {"/sbin", false, true, "it is the runtime, and what may be written may never be executed"},
        {"/lib", false, true, "it is the runtime, and what may be written may never be executed"},
        {"/lib64", false, true, "it is the runtime, and what may be written may never be executed"},
};

const char *base_refuses(const char *path, bool write) {
        for (size_t i = 0; i < ELEMENTSOF(refusals); i++) {
                if (refusals[i].write_only && !write)
                        continue;
                if (path_within(path, refusals[i].path) || (!refusals[i].whole && path_within(refusals[i].path, path)))
                        return refusals[i].why;
        }
        return NULL;
}

static int add_runtime(struct view *v, const char *path) {
        if (arena_grow(&v->arena, &v->grants, v->n_grants, sizeof(*v->grants)) < 0)
                return crew_fail(v->err, ENOMEM, "out of memory");
        v->grants[v->n_grants++] =
                (struct grant){.kind = GRANT_RUNTIME, .src = path, .dst = path, .dir = true, .program = GRANT_EVERYBODY};
        return 0;
}

int base_collect(struct view *v) {
        int r = add_runtime(v, "/usr");

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(root_dirs); i++) {
                char target[PATH_MAX];
                ssize_t n = readlink(root_dirs[i], target, sizeof(target) - 1);
                if (n < 0 && errno == EINVAL)
                        r = add_runtime(v, root_dirs[i]);
                if (n > 0 && !(v->root_links[i] = arena_strndup(&v->arena, target, (size_t)n)))
                        return crew_fail(v->err, ENOMEM, "out of memory");
        }
        for (size_t i = 0; i < ELEMENTSOF(etc_paths); i++)
                if (lstat(etc_paths[i], &v->etc[i]) < 0)
                        v->etc[i].st_mode = 0;
        return r;
}

/* --- mounts --- */

static void add_link(struct plan_builder *b, const char *path, const char *target) {
        plan_add_mount(b, PLAN_MOUNT_SYMLINK, 0, target, path, 0, 0, 0, 0);
}

/* A link of the host stays the same link; anything else is bound.  What is not there is left out. */
static void add_etc(const struct view *v, struct plan_builder *b, size_t i) {
        const char *path = etc_paths[i];
        char target[PATH_MAX];

        if (S_ISLNK(v->etc[i].st_mode)) {
                ssize_t n = readlink(path, target, sizeof(target) - 1);
                if (n > 0) {
                        target[n] = '\0';
                        add_link(b, path, target);
                }
        } else if (v->etc[i].st_mode) {
                plan_add_mount(b, PLAN_MOUNT_BIND,
                               PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC | PLAN_MOUNT_OPTIONAL | PLAN_MOUNT_FOLLOW, path, path, 0,
                               0, 0, 0);
        }
}

static void add_private(const struct view *v, struct plan_builder *b) {
        uint64_t size = policy_limits_of(v->in->policy).tmp_bytes;

        for (size_t i = 0; i < ELEMENTSOF(privates); i++) {
                bool crew_dir = strcmp(privates[i].path, "/run/crew") == 0;
                if (crew_dir && !v->in->crew)
                        continue;
                plan_add_mount(b, PLAN_MOUNT_TMPFS, PLAN_MOUNT_NOEXEC, NULL, privates[i].path, privates[i].mode,
                               crew_dir ? 1u << 20 : size, 0, 0);
        }
}

/* Private like the home it lies in, whose rule reaches it; not watched either. */
static void add_state(const struct view *v, struct plan_builder *b) {
        uint32_t flags = PLAN_MOUNT_NOEXEC | (v->in->root_mode ? PLAN_MOUNT_IDMAP : 0u);

        if (v->in->state_dir)
                plan_add_mount(b, PLAN_MOUNT_BIND, flags, v->in->state_dir, STATE_DIR, 0, 0, v->in->owner_uid,
                               v->in->owner_gid);
}

static int add_crew_call(const struct view *v, struct plan_builder *b) {
        char found[PATH_MAX];
        const char *path = v->in->crew_call;

        if (!path) {
                int r = crew_program_path("crew-call", found, v->err);
                if (r < 0)
                        return r;
                path = found;
        }
        return plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_RO | PLAN_MOUNT_FOLLOW, path, "/run/crew/bin/crew-call", 0, 0,
                              0, 0);
}

/* Where programs look that no variable reaches: over the bundle that came with /etc/ssl/certs. */
static int add_ca_bundle(const struct view *v, struct plan_builder *b) {
        static const char system[] = "/etc/ssl/certs/ca-certificates.crt";
        const uint32_t flags = PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC | PLAN_MOUNT_FOLLOW;
        struct stat st;

        if (!v->in->ca_bundle)
                return 0;
        if (lstat(system, &st) == 0 && S_ISREG(st.st_mode))
                plan_add_mount(b, PLAN_MOUNT_BIND, flags, v->in->ca_bundle, system, 0, 0, 0, 0);
        return plan_add_mount(b, PLAN_MOUNT_BIND, flags, v->in->ca_bundle, CA_BUNDLE, 0, 0, 0, 0);
}

int base_add_mounts(struct view *v, struct plan_builder *b) {
        for (size_t i = 0; i < ELEMENTSOF(root_dirs); i++)
                if (v->root_links[i])
                        add_link(b, root_dirs[i], v->root_links[i]);
        plan_add_mount(b, PLAN_MOUNT_DIR, 0, NULL, "/etc", 0755, 0, 0, 0);
        for (size_t i = 0; i < ELEMENTSOF(etc_files); i++)
                plan_add_file(b, etc_files[i].path, etc_files[i].text, strlen(etc_files[i].text), 0444);
        for (size_t i = 0; i < ELEMENTSOF(etc_paths); i++)
                add_etc(v, b, i);
        plan_add_mount(b, PLAN_MOUNT_PROC, 0, NULL, "/proc", 0, 0, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_DEV, 0, NULL, "/dev", 0755, 0, 0, 0);
        add_link(b, "/dev/shm", "/tmp"); /* POSIX shared memory and semaphores, private as /tmp is */
        add_private(v, b);
        add_state(v, b);
        int r = add_ca_bundle(v, b);
        return r == 0 && v->in->crew ? add_crew_call(v, b) : r;
}

/* --- rules --- */

/* A write tree mounted below /tmp comes under its rule: then no sockets or pipes can be made in /tmp. */
static bool shares_tmp(const struct view *v) {
        for (size_t i = 0; i < v->n_grants; i++)
                if (v->grants[i].kind == GRANT_WRITE && path_within("/tmp", v->grants[i].dst))
                        return true;
        return false;
}

int base_add_rules(struct view *v, struct plan_builder *b, enum plan_layer_kind layer) {
        /* A rule reaches everything below its path, so there is none on /etc itself beyond listing it: tripwires are in it.
         */
        plan_add_rule(b, "/etc", LANDLOCK_ACCESS_FS_READ_DIR, 0);
        for (size_t i = 0; i < ELEMENTSOF(etc_files); i++)
                plan_add_rule(b, etc_files[i].path, LANDLOCK_ACCESS_FS_READ_FILE, 0);
        for (size_t i = 0; i < ELEMENTSOF(etc_paths); i++)
                if (v->etc[i].st_mode && !S_ISLNK(v->etc[i].st_mode))
                        plan_add_rule(b, etc_paths[i],
                                      S_ISDIR(v->etc[i].st_mode) ? ACCESS_READ_TREE : LANDLOCK_ACCESS_FS_READ_FILE,
                                      PLAN_MOUNT_OPTIONAL);
        plan_add_rule(b, "/proc", ACCESS_READ_TREE, 0);
        plan_add_rule(b, "/dev", ACCESS_READ_TREE | LANDLOCK_ACCESS_FS_WRITE_FILE, 0);
        plan_add_rule(b, "/tmp", shares_tmp(v) ? ACCESS_PRIVATE & ~ACCESS_CHANNELS : ACCESS_PRIVATE, 0);
        if (v->in->crew)
                plan_add_rule(b, "/run/crew", layer == PLAN_LAYER_OUTER ? ACCESS_CREW_OUTER : ACCESS_RUN_TREE, 0);
        return plan_add_rule(b, "/home/agent", ACCESS_PRIVATE, 0);
}

/* --- tripwires --- */

struct decoys {
        struct view *v;
        struct plan_builder *b;
        const char *paths[DECOYS_MAX];
        size_t n;
};

/* Is something there already that a rule reaches, or that would lie under the decoy? */
static bool taken(const struct decoys *d, const char *path) {
        static const char *const base[] = {"/usr", "/proc", "/dev", "/sys", "/bin", "/sbin", "/lib", "/lib64"};
        const struct view *v = d->v;

        if (base_is_private(path) || strcmp(path, "/etc") == 0 || strcmp(path, "/") == 0)
                return true;
        for (size_t i = 0; i < ELEMENTSOF(base); i++)
                if (path_within(base[i], path))
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(privates); i++)
                if (path_within(path, privates[i].path))
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(etc_files); i++)
                if (path_overlaps(etc_files[i].path, path))
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(etc_paths); i++)
                if (path_overlaps(etc_paths[i], path))
                        return true;
        for (size_t i = 0; i < v->n_grants; i++)
                if (path_overlaps(v->grants[i].dst, path))
                        return true;
        for (size_t i = 0; i < d->n; i++)
                if (path_overlaps(d->paths[i], path))
                        return true;
        return false;
}

static void add_decoy(struct decoys *d, const char *path, bool dir) {
        if (d->n == DECOYS_MAX || taken(d, path))
                return;
        char *copy = arena_strndup(&d->v->arena, path, strlen(path));
        if (!copy)
                return; /* a tripwire less: the path is not in the view in any case */
        d->paths[d->n++] = copy;
        plan_add_mount(d->b, dir ? PLAN_MOUNT_DECOY_DIR : PLAN_MOUNT_DECOY_FILE, 0, NULL, copy, dir ? 0755 : 0444, 0, 0, 0);
}

static void add_home_decoys(struct decoys *d, const char *home) {
        static const struct {
                const char *path;
                bool dir;
        } secrets[] = {
                {".ssh/id_rsa", false},         {".ssh/id_ed25519", false}, {".ssh/authorized_keys", false},
                {".aws/credentials", false},    {".config/gcloud", true},   {".kube/config", false},
                {".docker/config.json", false}, {".gnupg", true},           {".netrc", false},
                {".git-credentials", false},    {".bash_history", false},
        };
        char path[PATH_MAX];

        for (size_t i = 0; i < ELEMENTSOF(secrets); i++)
                if ((size_t)snprintf(path, sizeof(path), "%s/%s", home, secrets[i].path) < sizeof(path))
                        add_decoy(d, path, secrets[i].dir);
}

static void add_crew_decoys(struct decoys *d) {
        const struct planner_input *in = d->v->in;
        size_t n = 0;
        const struct reach *reach = d->v->together ? planner_crew_reach(d->v->together, &n) : NULL;

        for (size_t i = 0; i < n && d->n < DECOYS_MAX; i++)
                if (reach[i].holder == REACH_SEVERAL || in->crew->agents[reach[i].holder].policy != in->policy)
                        add_decoy(d, reach[i].path, reach[i].tree);
}

int base_add_decoys(struct view *v, struct plan_builder *b) {
        static const char *const files[] = {"/etc/shadow", "/etc/gshadow", "/run/docker.sock", "/var/run/docker.sock"};
        struct decoys d = {.v = v, .b = b};
        const char *home = v->in->operator_home;

        if (!v->in->crew) {
                /* Nobody records what a command in crewctl sandbox tries: two names that it is sure to look for will do. */
                add_decoy(&d, files[0], false);
                add_decoy(&d, "/root", true);
                return 0;
        }
        /* The crew's own first: if there are too many, those are what an agent of it would look for. */
        add_crew_decoys(&d);
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                add_decoy(&d, files[i], false);
        if (home && home[0] == '/' && home[1] && home[strlen(home) - 1] != '/' && strcmp(home, "/root") != 0)
                add_home_decoys(&d, home);
        add_home_decoys(&d, "/root");
        return 0;
}
