/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawn plan: everything the spawner and a worker need to know about one agent instance.
 *
 * One flat, position-independent block in a sealed memfd.  Made by supervisor/policy/planner.c from the frozen
 * policy image; read by the spawner (privileged) and by the worker in its jail.  The reader trusts nothing:
 * plan_open() checks magic, version, total size, every offset, every count and that each string ends inside the
 * block, once; the accessors below are then total.  The format is private to one build of crewd: no compatibility.
 */
#pragma once

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_MAGIC 0x4e4c5043u /* "CPLN" */
#define PLAN_VERSION 1u
#define PLAN_MAX_BYTES (1u << 20)
#define PLAN_MAX_MOUNTS 512u
#define PLAN_MAX_RULES 1024u
#define PLAN_MAX_LAYERS 72u
#define PLAN_MAX_PROGRAMS 72u
#define PLAN_MAX_STRINGS 4096u /* argv and env words together */
#define PLAN_MAX_BPF 4096u

/* A string or byte range inside the block; offset 0 means "absent". */
typedef uint32_t plan_off;

enum plan_mount_kind {
        PLAN_MOUNT_BIND,       /* src (host path) at dst; file or tree */
        PLAN_MOUNT_TMPFS,      /* size bytes, mode */
        PLAN_MOUNT_PROC,       /* hidepid=invisible, subset of kernel files masked */
        PLAN_MOUNT_DIR,        /* mkdir -p in the tmpfs root */
        PLAN_MOUNT_FILE,       /* a small file with the bytes of src */
        PLAN_MOUNT_SYMLINK,    /* dst -> src */
        PLAN_MOUNT_DEV,        /* /dev with null zero full random urandom, fd links */
        PLAN_MOUNT_DECOY_FILE, /* tripwire: empty, 0444, no Landlock rule */
        PLAN_MOUNT_DECOY_DIR,  /* tripwire: empty, 0755, no Landlock rule */
        PLAN_MOUNT_HOLE,       /* filesystem.deny inside an allowed tree: covered by something empty */
        PLAN_MOUNT_KIND_N,
};

enum {
        PLAN_MOUNT_RO = 1u << 0,
        PLAN_MOUNT_NOEXEC = 1u << 1,
        PLAN_MOUNT_IDMAP = 1u << 2,    /* root mode: disk_uid/gid appear as the agent's */
        PLAN_MOUNT_OPTIONAL = 1u << 3, /* a missing src is skipped */
        PLAN_MOUNT_CREATE = 1u << 4,   /* a missing src directory is made, 0700, owned by disk_uid:disk_gid */
        PLAN_MOUNT_WATCH = 1u << 5,    /* a policy mount: evidence marks go here */
        PLAN_MOUNT_FOLLOW = 1u << 6,   /* the path may go through symbolic links: only for paths no agent can write (the
                                          runtime).  Without it a link anywhere in src, or in a rule's path, fails the
                                          spawn, for an agent could have put it there. */
};

struct plan_mount {
        uint32_t kind;
        uint32_t flags;
        plan_off src;
        plan_off dst;
        uint32_t mode;
        uint32_t disk_uid;
        uint32_t disk_gid;
        uint32_t src_len; /* PLAN_MOUNT_FILE: bytes at src */
        uint64_t size;
};

/* One Landlock path_beneath rule; access in LANDLOCK_ACCESS_FS_* bits, masked to the running ABI by the worker. */
struct plan_rule {
        plan_off path;
        uint32_t flags; /* PLAN_MOUNT_OPTIONAL: skip when the path is not in the view; PLAN_MOUNT_FOLLOW */
        uint64_t access;
};

enum plan_layer_kind {
        PLAN_LAYER_OUTER, /* index 0: the whole jail */
        PLAN_LAYER_AGENT, /* index 1: the agent program; tools are not even readable */
        PLAN_LAYER_TOOL,
        PLAN_LAYER_KIND_N,
};

struct plan_layer {
        uint32_t kind;
        uint32_t first_rule;
        uint32_t n_rules;
        uint32_t flags;
};

enum {
        PLAN_LAYER_AS_OUTER =
                1u << 0, /* no rules of its own: what the outer layer allows, in a Landlock domain of its own */
};

enum plan_program_kind { PLAN_PROGRAM_AGENT, PLAN_PROGRAM_TOOL, PLAN_PROGRAM_KIND_N };
enum plan_driver { PLAN_DRIVER_NONE, PLAN_DRIVER_EXEC_JSON, PLAN_DRIVER_STDIO_RPC, PLAN_DRIVER_N };

/* A program the worker may start.  Frames name programs; they never carry a command line (crewctl exec excepted). */
struct plan_program {
        uint32_t kind;
        uint32_t driver;    /* enum plan_driver; agents only */
        plan_off name;      /* tool name; the agent's name for the agent */
        uint32_t first_arg; /* into the string table */
        uint32_t n_args;
        uint32_t layer; /* index of its layer */
        uint64_t timeout_ms;
        uint64_t max_output; /* bytes of stdout; more is an error */
};

struct plan_limits {
        uint64_t memory_bytes; /* 0: none */
        uint64_t tmp_bytes;
        uint64_t output_bytes; /* RLIMIT_FSIZE is derived from it */
        uint64_t wall_ms;      /* per task */
        uint32_t processes;
        uint32_t open_files;
        uint32_t cpu_milli; /* 1000 = one core; 0: none */
        uint32_t connections;
};

enum {
        PLAN_ROOT_MODE = 1u << 0,    /* host uid from a range, idmapped mounts */
        PLAN_NETRULES = 1u << 1,     /* capture listeners are made and handed out */
        PLAN_NOTIFY = 1u << 2,       /* rootless evidence: a seccomp listener is made and handed out */
        PLAN_LANDLOCK_LOG = 1u << 3, /* root evidence: LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON */
        PLAN_HOLD = 1u << 5,         /* a lost link is not its end: the spawner hands it another one */
        PLAN_SANDBOX = 1u << 4,      /* crewctl sandbox: run one program and exit with its status; no link */
};

/* Protections that allow_degraded may switch off; the bit index is the position in plan_feature_names[]. */
enum plan_feature {
        PLAN_FEATURE_LANDLOCK,
        PLAN_FEATURE_LANDLOCK_ABI, /* an ABI below the one the policy needs */
        PLAN_FEATURE_NETNS,
        PLAN_FEATURE_CGROUP_MEMORY,
        PLAN_FEATURE_CGROUP_PIDS,
        PLAN_FEATURE_CGROUP_CPU,
        PLAN_FEATURE_EVIDENCE,
        PLAN_FEATURE_N,
};
extern const char *const plan_feature_names[PLAN_FEATURE_N]; /* "landlock", "landlock-abi", "netns", "cgroup-memory", ... */

struct plan {
        uint32_t magic, version, total_bytes, flags;
        char crew[64];
        char agent[64];
        uint32_t incarnation;
        uint32_t host_uid, host_gid;   /* never 0 */
        uint32_t inner_uid, inner_gid; /* 1000:1000 */
        uint32_t landlock_abi_min;
        uint32_t allow_degraded; /* bit set of enum plan_feature */
        uint8_t policy_sha256[32];
        struct plan_limits limits;
        plan_off workdir;
        plan_off mounts, rules, layers, programs, strings, bpf, netrules;
        uint32_t n_mounts, n_rules, n_layers, n_programs, n_strings, n_bpf /* struct sock_filter */, netrules_bytes;
        uint32_t first_env, n_env; /* into the string table: NAME=VALUE for agent and tools */
        /* blob follows */
};

/* Maps a sealed memfd and checks the whole block.  *out stays valid until plan_close. */
int plan_open(int memfd, const struct plan **out, struct crew_err *err);
void plan_close(const struct plan *p);
int plan_check(const void *block, size_t n, struct crew_err *err); /* what plan_open does; fuzzed */

static inline const char *plan_str(const struct plan *p, plan_off o) {
        return o ? (const char *)p + o : NULL;
}
const struct plan_mount *plan_mount_at(const struct plan *p, uint32_t i);
const struct plan_rule *plan_rule_at(const struct plan *p, uint32_t i);
const struct plan_layer *plan_layer_at(const struct plan *p, uint32_t i);
const struct plan_program *plan_program_at(const struct plan *p, uint32_t i);
const char *plan_string_at(const struct plan *p, uint32_t i);
const struct plan_program *plan_program_find(const struct plan *p, enum plan_program_kind kind, const char *name);

/* Builder: appends in any order, one finish.  Any call after a failure is a no-op that returns the first error. */
struct plan_builder;
struct plan_builder *plan_builder_new(const struct plan *head); /* copies the scalar fields of head */
struct plan_builder *plan_builder_free(struct plan_builder *b);
int plan_add_mount(struct plan_builder *b, enum plan_mount_kind kind, uint32_t flags, const char *src, const char *dst,
                   uint32_t mode, uint64_t size, uint32_t disk_uid, uint32_t disk_gid);
int plan_add_file(struct plan_builder *b, const char *dst, const void *bytes, size_t n, uint32_t mode);
int plan_add_layer(struct plan_builder *b,
                   enum plan_layer_kind kind);                    /* rules added next belong to it; returns its index */
int plan_set_layer_flags(struct plan_builder *b, uint32_t flags); /* of the layer added last */
int plan_add_rule(struct plan_builder *b, const char *path, uint64_t access, uint32_t flags);
int plan_add_program(struct plan_builder *b, enum plan_program_kind kind, enum plan_driver driver, const char *name,
                     const char *const *argv, size_t n_args, uint32_t layer, uint64_t timeout_ms, uint64_t max_output);
int plan_add_env(struct plan_builder *b, const char *name, const char *value);
int plan_set_workdir(struct plan_builder *b, const char *path);
int plan_set_bpf(struct plan_builder *b, const void *insns, size_t n_insns);
int plan_set_netrules(struct plan_builder *b, const void *bytes, size_t n);
/* The finished block, malloc'd (caller frees); put it in a memfd with crew_sealed_memfd(). */
int plan_builder_finish(struct plan_builder *b, void **out, size_t *out_len, struct crew_err *err);
