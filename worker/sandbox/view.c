/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the mount tree with the file-descriptor mount API: sources are detached mounts, targets are one name, which is
 * not followed if it is a link, in a directory whose descriptor was reached without following one.  See view.h for who
 * runs which half.
 */
#include "view.h"

#include "idmap.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ATTR_ALWAYS MOUNT_ATTR_NOSUID
#define ROOT_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static const char *const device_names[VIEW_DEVICES] = {"null", "zero", "full", "random", "urandom"};

/* --- the outer half: sources --- */

static int open_how(int dirfd, const char *path, uint64_t flags, uint64_t resolve) {
        struct open_how how = {.flags = flags | O_PATH | O_CLOEXEC, .resolve = resolve | RESOLVE_NO_MAGICLINKS};
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        return fd < 0 ? -errno : (int)fd;
}

int view_open_plain(const char *path) {
        int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

        while (at >= 0 && *path) {
                char name[NAME_MAX + 1];
                path += strspn(path, "/");
                size_t n = strcspn(path, "/");
                if (n == 0)
                        break;
                if (n > NAME_MAX) {
                        close(at);
                        return -ENAMETOOLONG;
                }
                memcpy(name, path, n);
                name[n] = '\0';
                path += n;
                int next = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                int saved = errno;
                close(at);
                errno = saved;
                at = next;
        }
        if (at < 0)
                return -errno;
        struct stat st;
        if (fstat(at, &st) == 0 && !S_ISLNK(st.st_mode))
                return at;
        close(at);
        return -ELOOP;
}

static int source_failed(struct crew_err *err, int r, const char *src) {
        if (r == -ELOOP)
                return crew_fail(err, ELOOP, "%s: a symbolic link on the way; name the real path", src);
        return crew_fail(err, -r, "%s: %s", src, strerror(-r));
}

static int open_source(const struct plan *p, const struct plan_mount *m) {
        uint64_t resolve = m->flags & PLAN_MOUNT_FOLLOW ? 0 : RESOLVE_NO_SYMLINKS;
        return open_how(AT_FDCWD, plan_str(p, m->src), 0, resolve);
}

/* mkdir -p without following links; new directories get the owner. */
static int create_dir(const char *path, uid_t uid, gid_t gid) {
        _cleanup_close_ int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

        for (const char *p = path + 1; at >= 0 && *p;) {
                char name[NAME_MAX + 1];
                size_t n = strcspn(p, "/");
                if (n > NAME_MAX)
                        return -ENAMETOOLONG;
                memcpy(name, p, n);
                name[n] = '\0';
                p += n + (p[n] == '/');
                bool made = mkdirat(at, name, 0700) == 0;
                if (!made && errno != EEXIST && errno != EROFS)
                        return -errno;
                int next = openat(at, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
                if (next < 0)
                        return -errno;
                close(at);
                at = next;
                if (made && geteuid() == 0 && fchownat(at, "", uid, gid, AT_EMPTY_PATH) < 0)
                        return -errno;
        }
        return at < 0 ? -errno : 0;
}

int view_create_dirs(const struct plan *plan, struct crew_err *err) {
        for (uint32_t i = 0; i < plan->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(plan, i);
                if (m->kind != PLAN_MOUNT_BIND || !(m->flags & PLAN_MOUNT_CREATE))
                        continue;
                int fd = open_source(plan, m);
                if (fd >= 0) {
                        close(fd);
                        continue;
                }
                int r = fd == -ENOENT ? create_dir(plan_str(plan, m->src), m->disk_uid, m->disk_gid) : fd;
                if (r < 0)
                        return source_failed(err, r, plan_str(plan, m->src));
        }
        return 0;
}

/* A private, detached copy of what fd names, with attributes.  fd of the mount or -errno. */
static int detach(int fd, uint64_t attrs, int userns) {
        struct mount_attr attr = {.attr_set = attrs, .propagation = MS_PRIVATE};
        int tree = open_tree(fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

        if (tree < 0)
                return -errno;
        if (userns >= 0) {
                attr.attr_set |= MOUNT_ATTR_IDMAP;
                attr.userns_fd = (uint64_t)userns;
        }
        if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) == 0)
                return tree;
        int r = -errno;
        close(tree);
        return r;
}

static int prepare_bind(struct view *v, uint32_t i, struct crew_err *err) {
        const struct plan_mount *m = plan_mount_at(v->plan, i);
        const char *src = plan_str(v->plan, m->src);
        uint64_t attrs = ATTR_ALWAYS | MOUNT_ATTR_NODEV;
        int userns = -1;

        _cleanup_close_ int fd = open_source(v->plan, m);
        if (fd == -ENOENT && (m->flags & PLAN_MOUNT_OPTIONAL))
                return 0;
        if (fd < 0)
                return source_failed(err, fd, src);
        if (m->flags & PLAN_MOUNT_RO)
                attrs |= MOUNT_ATTR_RDONLY;
        if (m->flags & PLAN_MOUNT_NOEXEC)
                attrs |= MOUNT_ATTR_NOEXEC;
        if ((m->flags & PLAN_MOUNT_IDMAP) && (v->plan->flags & PLAN_ROOT_MODE)) {
                userns = idmap_userns(m->disk_uid, m->disk_gid, v->plan->host_uid, v->plan->host_gid, err);
                if (userns < 0)
                        return userns;
        }
        v->sources[i] = detach(fd, attrs, userns);
        if (v->sources[i] == -EINVAL && userns >= 0)
                return crew_fail(err, EINVAL, "%s: its file system cannot be idmapped", src);
        return v->sources[i] < 0 ? source_failed(err, v->sources[i], src) : 0;
}

static int prepare_devices(struct view *v, struct crew_err *err) {
        for (size_t i = 0; i < VIEW_DEVICES; i++) {
                char path[32];
                snprintf(path, sizeof(path), "/dev/%s", device_names[i]);
                _cleanup_close_ int fd = open_how(AT_FDCWD, path, 0, RESOLVE_NO_SYMLINKS);
                v->devices[i] = fd < 0 ? fd : detach(fd, ATTR_ALWAYS | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY, -1);
                if (v->devices[i] < 0)
                        return source_failed(err, v->devices[i], path);
        }
        return 0;
}

int view_init(struct view *v, const struct plan *plan, struct crew_err *err) {
        v->plan = plan;
        v->sources = malloc((plan->n_mounts + 1) * sizeof(int));
        if (!v->sources)
                return crew_fail(err, ENOMEM, "out of memory");
        for (uint32_t i = 0; i < plan->n_mounts; i++)
                v->sources[i] = -1;
        return 0;
}

int view_prepare(struct view *v, struct crew_err *err) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < v->plan->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(v->plan, i);
                if (m->kind == PLAN_MOUNT_BIND)
                        r = prepare_bind(v, i, err);
                else if (m->kind == PLAN_MOUNT_DEV && v->devices[0] < 0)
                        r = prepare_devices(v, err);
        }
        return r;
}

/* Numbers: the mounts of the plan, then the devices. */
static int *source_slot(const struct view *v, uint32_t number) {
        if (number < v->plan->n_mounts)
                return &v->sources[number];
        number -= v->plan->n_mounts;
        return number < VIEW_DEVICES ? (int *)&v->devices[number] : NULL;
}

int view_next_source(const struct view *v, uint32_t *at, uint32_t *number) {
        const int *slot;

        while ((slot = source_slot(v, *at))) {
                *number = (*at)++;
                if (*slot >= 0)
                        return *slot;
        }
        return -1;
}

int view_adopt(struct view *v, uint32_t number, int fd) {
        int *slot = source_slot(v, number);

        if (!slot || *slot >= 0) {
                close(fd);
                return -EINVAL;
        }
        *slot = fd;
        return 0;
}

void view_fini(struct view *v) {
        for (uint32_t i = 0; v->sources && i < v->plan->n_mounts; i++)
                crew_close(&v->sources[i]);
        for (size_t i = 0; i < VIEW_DEVICES; i++)
                crew_close(&v->devices[i]);
        free(v->sources);
        v->sources = NULL;
}

/* --- the inner half: targets --- */

struct builder {
        struct view *v;
        int root;
        /* The directory of the last target: neighbours are common (/etc, /dev). */
        int dir;
        char dir_path[PATH_MAX];
        /* Ancestors already pinned; see pin_ancestors(). */
        uint32_t n_pins;
        char *pins[64];
        /* Private trees of this size share the root's superblock; 0: none does. */
        uint64_t pool_bytes;
        uint32_t n_pooled;
};

/* Absolute view path -> descriptor below the new root.  fd or -errno. */
static int open_below(const struct builder *b, const char *path, uint64_t flags) {
        return open_how(b->root, path[1] ? path + 1 : ".", flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

static int open_dir_p(const struct builder *b, const char *path) {
        char parent[PATH_MAX];
        int fd = open_below(b, path, O_DIRECTORY);

        if (fd != -ENOENT)
                return fd;
        size_t n = (size_t)(strrchr(path, '/') - path);
        memcpy(parent, path, n);
        parent[n] = '\0';
        _cleanup_close_ int above = n ? open_dir_p(b, parent) : -1;
        if (n && above < 0)
                return above;
        int up = n ? above : b->root;
        if (mkdirat(up, path + n + 1, 0755) < 0)
                return -errno;
        fd = openat(up, path + n + 1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* The directory of path, made if need be; *name is the last component.  The descriptor belongs to the builder. */
static int parent_of(struct builder *b, const char *path, const char **name) {
        size_t n = (size_t)(strrchr(path, '/') - path);

        *name = path + n + 1;
        if (n == 0)
                return b->root;
        if (b->dir >= 0 && strncmp(b->dir_path, path, n) == 0 && b->dir_path[n] == '\0')
                return b->dir;
        crew_close(&b->dir);
        memcpy(b->dir_path, path, n);
        b->dir_path[n] = '\0';
        int fd = open_dir_p(b, b->dir_path);
        b->dir = fd < 0 ? -1 : fd;
        return fd;
}

/* An existing or new mount point: *name in the directory that is returned, as by parent_of(). */
static int mount_point(struct builder *b, const char *path, bool directory, const char **name) {
        int dir = parent_of(b, path, name);

        if (dir < 0)
                return dir;
        if ((directory ? mkdirat(dir, *name, 0755) : mknodat(dir, *name, S_IFREG | 0444, 0)) < 0 && errno != EEXIST)
                return -errno;
        return dir;
}

static bool lies_below(const char *path, const char *tree) {
        size_t n = strlen(tree);
        return strncmp(path, tree, n) == 0 && path[n] == '/';
}

/* At name in dir, or at dir itself if that is "".  What the builder's cached directory names may now be covered by the
 * mount at dst.  A directory goes onto a directory only, anything else onto anything else (the kernel's EINVAL). */
static int attach(struct builder *b, int mount_fd, int dir, const char *name, const char *dst) {
        unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*name ? 0 : MOVE_MOUNT_T_EMPTY_PATH);

        if (lies_below(b->dir_path, dst) || strcmp(b->dir_path, dst) == 0)
                crew_close(&b->dir);
        return move_mount(mount_fd, "", dir, name, flags) < 0 ? -errno : 0;
}

/* The innermost bind of the plan, before mount i, whose tree holds path; NULL: the tmpfs root does. */
static const char *covering_tree(const struct builder *b, uint32_t i, const char *path, bool *writable) {
        const char *best = NULL;

        for (uint32_t k = 0; k < i; k++) {
                const struct plan_mount *m = plan_mount_at(b->v->plan, k);
                const char *dst = plan_str(b->v->plan, m->dst);
                if (m->kind != PLAN_MOUNT_BIND || b->v->sources[k] < 0 || !lies_below(path, dst))
                        continue;
                if (!best || strlen(dst) >= strlen(best)) {
                        best = dst;
                        *writable = !(m->flags & PLAN_MOUNT_RO);
                }
        }
        return best;
}

static int pin(struct builder *b, const char *path) {
        for (uint32_t i = 0; i < b->n_pins; i++) {
                if (strcmp(b->pins[i], path) == 0)
                        return 0;
        }
        if (b->n_pins == ELEMENTSOF(b->pins))
                return -E2BIG;
        _cleanup_close_ int fd = open_below(b, path, O_DIRECTORY);
        if (fd < 0)
                return fd;
        _cleanup_close_ int tree = open_tree(fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (tree < 0)
                return -errno;
        int r = attach(b, tree, fd, "", path);
        if (r == 0 && (b->pins[b->n_pins] = strdup(path)))
                b->n_pins++;
        return r;
}

/*
 * A hole or a read-only part deep inside a write tree could be carried away: the agent renames a directory on the way,
 * and at the next start the path no longer names what was to be protected.  A mount point cannot be renamed, so every
 * directory between the write tree and the protected path is mounted onto itself.
 */
static int pin_ancestors(struct builder *b, uint32_t i, const char *dst) {
        bool writable = false;
        const char *tree = covering_tree(b, i, dst, &writable);
        char part[PATH_MAX];

        if (!tree || !writable)
                return 0;
        for (const char *s = dst + strlen(tree) + 1; (s = strchr(s, '/')); s++) {
                memcpy(part, dst, (size_t)(s - dst));
                part[s - dst] = '\0';
                int r = pin(b, part);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- one function a kind --- */

static int put_bind(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        struct stat st;
        const char *name;
        int source = b->v->sources[i];

        if (source < 0)
                return 0; /* optional and missing */
        if (fstat(source, &st) < 0)
                return -errno;
        int r = m->flags & PLAN_MOUNT_RO ? pin_ancestors(b, i, dst) : 0;
        if (r < 0)
                return r;
        int dir = mount_point(b, dst, S_ISDIR(st.st_mode), &name);
        return dir < 0 ? dir : attach(b, source, dir, name, dst);
}

static int set_option(int fs, const char *key, bool octal, unsigned long long v) {
        char value[32];

        snprintf(value, sizeof(value), octal ? "%llo" : "%llu", v);
        return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int finish_fs(int fs, uint64_t attrs) {
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        int fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
        return fd < 0 ? -errno : fd;
}

static int new_tmpfs(uint64_t bytes, uint32_t mode, uint64_t attrs) {
        _cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
        int r;

        if (fs < 0)
                return -errno;
        if ((r = set_option(fs, "size", false, bytes)) < 0 || (r = set_option(fs, "mode", true, mode)) < 0 ||
            (r = set_option(fs, "nr_inodes", false, 1024 + bytes / 4096)) < 0)
                return r;
        return finish_fs(fs, attrs);
}

/*
 * Private trees of the same size are directories of one superblock, the root's: making and taking down a tmpfs each costs
 * more than all else about them, and their size is then what they may hold together.  They stay writable when the root
 * mount becomes read-only; the way to them through the root is closed to everybody (see close_pool).
 */
static int pool_directory(struct builder *b, uint32_t mode) {
        char name[16];

        _cleanup_close_ int pool = open_below(b, VIEW_POOL, O_DIRECTORY);
        if (pool < 0)
                return pool;
        snprintf(name, sizeof(name), "%u", b->n_pooled++);
        if (mkdirat(pool, name, mode) < 0)
                return -errno;
        int tree = open_tree(pool, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        return tree < 0 ? -errno : tree;
}

static int set_attributes(int tree, uint64_t attrs, uint64_t clear) {
        struct mount_attr attr = {.attr_set = attrs, .attr_clr = clear & ~attrs};
        return mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int close_pool(struct builder *b) {
        return fchmodat(b->root, &VIEW_POOL[1], 0, 0) < 0 ? -errno : 0;
}

static int tmpfs_tree(struct builder *b, const struct plan_mount *m, uint64_t attrs) {
        uint32_t mode = m->mode ? m->mode : 0700;

        if (m->size != b->pool_bytes)
                return new_tmpfs(m->size ? m->size : 1u << 20, mode, attrs);
        _cleanup_close_ int tree = pool_directory(b, mode);
        if (tree < 0)
                return tree;
        int r = set_attributes(tree, attrs, ROOT_ATTRS);
        return r < 0 ? r : crew_steal_fd(&tree);
}

static int put_tmpfs(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        uint64_t attrs = ATTR_ALWAYS | MOUNT_ATTR_NODEV;
        const char *name;

        if (m->flags & PLAN_MOUNT_NOEXEC)
                attrs |= MOUNT_ATTR_NOEXEC;
        if (m->flags & PLAN_MOUNT_RO)
                attrs |= MOUNT_ATTR_RDONLY;
        int dir = mount_point(b, dst, true, &name);
        if (dir < 0)
                return dir;
        _cleanup_close_ int fd = tmpfs_tree(b, m, attrs);
        return fd < 0 ? fd : attach(b, fd, dir, name, dst);
}

/* World-readable and about the host rather than about the agent: its command line, its timings, its kernel.  Last is one
 * that every kernel has: a cover that is left over would have to be taken down. */
static const char *const proc_masks[] = {"interrupts", "kallsyms",    "key-users", "keys",
                                         "modules",    "sched_debug", "cmdline"};

static int clone_void_at(int fd) {
        int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

        if (tree < 0)
                return -errno;
        if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
                return tree;
        int r = -errno;
        close(tree);
        return r;
}

static int clone_void(struct builder *b, const char *path) {
        _cleanup_close_ int fd = open_below(b, path, 0);
        return fd < 0 ? fd : clone_void_at(fd);
}

static int mask_proc(struct builder *b, int proc) {
        _cleanup_close_ int empty = open_below(b, VIEW_VOID_FILE, 0), cover = -1;

        if (empty < 0)
                return empty;
        for (size_t i = 0; i < ELEMENTSOF(proc_masks); i++) {
                if (cover < 0)
                        cover = open_tree(empty, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
                int r = cover < 0 ? -errno : attach(b, cover, proc, proc_masks[i], proc_masks[i]);
                if (r == -ENOENT)
                        continue; /* this kernel has none */
                if (r < 0)
                        return r;
                crew_close(&cover);
        }
        /* All of them, and proc, which is read-only already, in one call. */
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
        return mount_setattr(proc, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int put_proc(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        const char *name;
        int dir = mount_point(b, dst, true, &name);
        _cleanup_close_ int fs = fsopen("proc", FSOPEN_CLOEXEC);

        if (dir < 0)
                return dir;
        if (fs < 0)
                return -errno;
        int r = set_option(fs, "hidepid", false, 2);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = finish_fs(fs, ROOT_ATTRS | MOUNT_ATTR_RDONLY);
        if (fd < 0)
                return fd;
        if ((r = attach(b, fd, dir, name, dst)) < 0)
                return r;
        return mask_proc(b, fd);
}

static int put_dir(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        const char *name;

        if (dst[1] == '\0')
                return 0;
        int dir = parent_of(b, dst, &name);
        if (dir < 0)
                return dir;
        if (mkdirat(dir, name, m->mode ? m->mode : 0755) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

static int put_file(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        const char *name;
        int dir = parent_of(b, dst, &name);

        if (dir < 0)
                return dir;
        _cleanup_close_ int fd =
                openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, m->mode ? m->mode : 0444);
        return fd < 0 ? -errno : crew_write_full(fd, plan_str(b->v->plan, m->src), m->src_len);
}

static int put_symlink(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        const char *name;
        int dir = parent_of(b, dst, &name);

        if (dir < 0)
                return dir;
        return symlinkat(plan_str(b->v->plan, m->src), dir, name) < 0 ? -errno : 0;
}

static int put_dev(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        static const char *const links[][2] = {
                {"/proc/self/fd", "fd"}, {"fd/0", "stdin"}, {"fd/1", "stdout"}, {"fd/2", "stderr"}};
        _cleanup_close_ int dir = open_dir_p(b, dst);
        int r = 0;

        if (dir < 0)
                return dir;
        for (size_t k = 0; k < ELEMENTSOF(links); k++) {
                if (symlinkat(links[k][0], dir, links[k][1]) < 0)
                        return -errno;
        }
        for (size_t k = 0; r == 0 && k < VIEW_DEVICES; k++) {
                if (mknodat(dir, device_names[k], S_IFREG | 0444, 0) < 0)
                        return -errno;
                r = attach(b, b->v->devices[k], dir, device_names[k], device_names[k]);
        }
        return r;
}

/* Only in our own tmpfs: a decoy never covers what is there and is never made in a tree of the host. */
static int put_decoy(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        bool directory = m->kind == PLAN_MOUNT_DECOY_DIR, writable;
        const char *name;

        if (covering_tree(b, i, dst, &writable))
                return 0;
        int dir = parent_of(b, dst, &name);
        if (dir < 0)
                return dir == -ENOTDIR || dir == -ELOOP ? 0 : dir;
        if ((directory ? mkdirat(dir, name, 0755) : mknodat(dir, name, S_IFREG | 0444, 0)) == 0) {
                b->v->tripwires++;
                return 0;
        }
        return errno == EEXIST ? 0 : -errno;
}

static int put_hole(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst) {
        struct stat st;
        int r = pin_ancestors(b, i, dst);

        if (r == -ENOENT)
                return 0;
        _cleanup_close_ int target = r < 0 ? r : open_below(b, dst, 0);
        if (target == -ENOENT)
                return 0; /* nothing there to hide */
        if (target < 0)
                return target;
        if (fstat(target, &st) < 0)
                return -errno;
        _cleanup_close_ int cover = clone_void(b, S_ISDIR(st.st_mode) ? VIEW_VOID_HOLE_DIR : VIEW_VOID_HOLE_FILE);
        return cover < 0 ? cover : attach(b, cover, target, "", dst);
}

typedef int (*put_fn)(struct builder *b, uint32_t i, const struct plan_mount *m, const char *dst);
static const put_fn puts_[PLAN_MOUNT_KIND_N] = {
        [PLAN_MOUNT_BIND] = put_bind, [PLAN_MOUNT_TMPFS] = put_tmpfs,      [PLAN_MOUNT_PROC] = put_proc,
        [PLAN_MOUNT_DIR] = put_dir,   [PLAN_MOUNT_FILE] = put_file,        [PLAN_MOUNT_SYMLINK] = put_symlink,
        [PLAN_MOUNT_DEV] = put_dev,   [PLAN_MOUNT_DECOY_FILE] = put_decoy, [PLAN_MOUNT_DECOY_DIR] = put_decoy,
        [PLAN_MOUNT_HOLE] = put_hole,
};
static const char *const kind_names[PLAN_MOUNT_KIND_N] = {
        [PLAN_MOUNT_BIND] = "bind",     [PLAN_MOUNT_TMPFS] = "tmpfs",      [PLAN_MOUNT_PROC] = "proc",
        [PLAN_MOUNT_DIR] = "directory", [PLAN_MOUNT_FILE] = "file",        [PLAN_MOUNT_SYMLINK] = "link",
        [PLAN_MOUNT_DEV] = "devices",   [PLAN_MOUNT_DECOY_FILE] = "decoy", [PLAN_MOUNT_DECOY_DIR] = "decoy",
        [PLAN_MOUNT_HOLE] = "hole",
};

static int put_all(struct builder *b, struct crew_err *err) {
        const struct plan *p = b->v->plan;

        for (uint32_t i = 0; i < p->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(p, i);
                const char *dst = plan_str(p, m->dst);
                int r = puts_[m->kind](b, i, m, dst);
                if (r == -EPERM && m->kind == PLAN_MOUNT_PROC)
                        return crew_fail(
                                err, EPERM,
                                "proc: refused by the kernel; the host's own /proc is partly covered, as in a container");
                if (r < 0)
                        return crew_fail(err, -r, "%s %s: %s", kind_names[m->kind], dst, strerror(-r));
        }
        return 0;
}

/* The size of the first private tree. */
static uint64_t pool_size(const struct plan *p) {
        for (uint32_t i = 0; i < p->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(p, i);
                if (m->kind == PLAN_MOUNT_TMPFS)
                        return m->size;
        }
        return 0;
}

/* What the root itself takes: the plan's small files and some pages for names.  The rest of the superblock is the pool. */
static uint64_t root_size(const struct plan *p) {
        uint64_t pages = 16;

        for (uint32_t i = 0; i < p->n_mounts; i++)
                pages += (plan_mount_at(p, i)->src_len + 4095u) / 4096;
        return pages * 4096;
}

static int new_root(struct builder *b, struct crew_err *err) {
        const char *name;

        b->pool_bytes = pool_size(b->v->plan);
        b->root = new_tmpfs(root_size(b->v->plan) + b->pool_bytes, 0755, ROOT_ATTRS);
        if (b->root < 0)
                return crew_fail(err, -b->root, "root tmpfs: %s", strerror(-b->root));
        /* Over the old root: nothing else is sure to exist.  Paths still start at the old one until pivot_root. */
        if (move_mount(b->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return crew_fail_errno(err, "cannot attach the root tmpfs");
        int dir = parent_of(b, VIEW_VOID_FILE, &name);
        if (dir < 0 || mknodat(dir, name, S_IFREG | 0444, 0) < 0 || mknodat(dir, "hole", S_IFREG, 0) < 0 ||
            mkdirat(dir, "holes", 0) < 0 || mkdirat(b->root, &VIEW_POOL[1], 0755) < 0)
                return crew_fail_errno(err, "cannot make %s", VIEW_VOID);
        return 0;
}

static int enter_root(struct builder *b, struct crew_err *err) {
        if (fchdir(b->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
                return crew_fail_errno(err, "pivot_root");
        /* The old root is on top of the new one now; take it away with all below it. */
        if (umount2(".", MNT_DETACH) < 0)
                return crew_fail_errno(err, "cannot detach the old root");
        return chdir("/") < 0 ? crew_fail_errno(err, "chdir /") : 0;
}

int view_build(struct view *v, struct crew_err *err) {
        struct builder b = {.v = v, .root = -1, .dir = -1};
        mode_t mask = umask(0);
        int r = new_root(&b, err);

        if (r == 0)
                r = put_all(&b, err);
        if (r == 0 && (r = close_pool(&b)) < 0)
                crew_fail(err, -r, "cannot close %s: %s", VIEW_POOL, strerror(-r));
        if (r == 0)
                r = enter_root(&b, err);
        umask(mask);
        for (uint32_t i = 0; i < b.n_pins; i++)
                free(b.pins[i]);
        crew_close(&b.dir);
        crew_close(&b.root);
        return r;
}

int view_seal(struct crew_err *err) {
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

        if (mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0)
                return crew_fail_errno(err, "cannot make the root read-only");
        return 0;
}
