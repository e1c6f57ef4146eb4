/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd: supervises one crew.
 *
 * Order, and why: every inherited descriptor becomes close-on-exec -> the helpers that keep privileges (spawner,
 * crew-evidence) are started before a file of the user's is parsed or a thread exists -> the crew is loaded and locked ->
 * the two processes that start programs of the operator's choice (the gateway's launcher, the hook runner) are forked,
 * with his environment, which is then wiped here -> rights are dropped for good -> only then libuv and nng.
 */
#include "adopt.h"
#include "ca_bundle.h"
#include "channel.h"
#include "common/confine.h"
#include "common/nofile.h"
#include "common/paths.h"
#include "common/util.h"
#include "crewd.h"
#include "descriptors.h"
#include "environment.h"
#include "hooks.h"
#include "launcher.h"
#include "rundir.h"
#include "supervisor/policy/lock.h"
#include "webhook.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/capability.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define EXIT_USAGE 2
#define EXIT_REFUSED 4
#define HELPERS_MAX 5
#define REAP_MS 5000
#define HEAP_KEEPS (128 << 10)

struct options {
        int ready_fd, owner_fd;
        bool locked;
        const char *crew_file;
};

static int foreign_spawner = -1; /* pidfd of one that was taken over: not our child */
static pid_t helpers[HELPERS_MAX];
static size_t n_helpers;

static void usage(FILE *f) {
        fputs("usage: crewd [--ready-fd N] [--owner-fd N] [--locked] CREW.yaml\n"
              "Supervises one crew of AI agents, each in its own jail; usually started by crewctl up or crewctl run.\n"
              "  --ready-fd N   write \"ready\" or \"error: TEXT\" there once the start has ended\n"
              "  --owner-fd N   stop at once when that pipe hangs up\n"
              "  --locked       run nothing that differs from the crew.lock beside CREW.yaml\n"
              "  --version      print the version\n"
              "See crewd(8).\n",
              f);
}

static int parse_fd(const char *s, int *out) {
        uint64_t v;

        if (crew_parse_u64(s, &v) < 0 || v > 1u << 20 || fcntl((int)v, F_GETFD) < 0) {
                fprintf(stderr, "crewd: '%s' is not an open descriptor\n", s);
                return -EINVAL;
        }
        *out = (int)v;
        return 0;
}

/* 0: go on; else the exit status plus one. */
static int parse_args(int argc, char **argv, struct options *o) {
        static const struct option longs[] = {
                {"ready-fd", required_argument, NULL, 'r'}, {"owner-fd", required_argument, NULL, 'o'},
                {"locked", no_argument, NULL, 'l'},         {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'V'},        {NULL, 0, NULL, 0},
        };
        int k;

        while ((k = getopt_long(argc, argv, "hV", longs, NULL)) != -1) {
                if (k == 'h') {
                        usage(stdout);
                        return 1;
                }
                if (k == 'V') {
                        puts("crewd " CREW_VERSION);
                        return 1;
                }
                if (k == 'l') {
                        o->locked = true;
                        continue;
                }
                if ((k == 'r' && parse_fd(optarg, &o->ready_fd) == 0) || (k == 'o' && parse_fd(optarg, &o->owner_fd) == 0))
                        continue;
                usage(stderr);
                return 1 + EXIT_USAGE;
        }
        if (optind + 1 != argc) {
                usage(stderr);
                return 1 + EXIT_USAGE;
        }
        o->crew_file = argv[optind];
        return 0;
}

static void tell(const struct options *o, const char *text) {
        fprintf(stderr, "crewd: %s\n", text);
        if (o->ready_fd >= 0) {
                (void)!crew_write_full(o->ready_fd, "error: ", 7);
                (void)!crew_write_full(o->ready_fd, text, strlen(text));
                (void)!crew_write_full(o->ready_fd, "\n", 1);
        }
}

/* Left to itself malloc raises both to the largest block it has seen freed, and then keeps what such blocks leave behind: a
 * crew whose agents come and go took half a MiB more in 6,000 starts, none of it in use. */
static void keep_heap_small(void) {
        mallopt(M_MMAP_THRESHOLD, HEAP_KEEPS);
        mallopt(M_TRIM_THRESHOLD, HEAP_KEEPS);
}

static void remember(pid_t pid) {
        if (pid > 0 && n_helpers < HELPERS_MAX)
                helpers[n_helpers++] = pid;
}

/* Without it crewd goes on: what is missing then is decided by each policy and named in status. */
static int start_optional(const char *program) {
        struct crew_err err = CREW_ERR_NULL;
        pid_t pid = -1;
        int fd = channel_start_program(program, "--fd", environment_for_helpers(), &pid, &err);

        if (fd < 0)
                fprintf(stderr, "crewd: %s\n", err.msg);
        remember(pid);
        return fd < 0 ? -1 : fd;
}

static int start_helpers(struct crewd_setup *s, struct crew_err *err) {
        pid_t pid = -1;

        s->spawner_fd = channel_start_program("crew-worker", "--spawner", environment_for_helpers(), &pid, err);
        if (s->spawner_fd < 0)
                return s->spawner_fd;
        remember(pid);
        s->evidence_fd = start_optional("crew-evidence");
        return 0;
}

/* Without a gateway crewd goes on too: jails then have no network at all, and status says so. */
static int start_launcher(struct crewd_setup *s, struct crew_err *err) {
        const char *credentials = s->file->credentials;
        bool inspect = ca_bundle_wanted_by_any(s->file);
        struct launcher_args args = {.program = "crew-gateway"};
        size_t n = 0;
        pid_t pid = -1;

        if (inspect)
                args.words[n++] = "--inspect";
        if (credentials) {
                args.words[n++] = "--credentials";
                args.words[n++] = credentials;
        }
        s->gateway_fd = launcher_start(&args, &pid, err);
        remember(pid);
        if (s->gateway_fd == -ENOENT && n == 0) {
                fprintf(stderr, "crewd: %s\n", err->msg);
                return 0;
        }
        return MIN_OF(s->gateway_fd, 0);
}

/* An operator who asks to be told must be, so without it the crew does not start. */
static int start_webhook(struct crewd_setup *s, struct crew_err *err) {
        pid_t pid = -1;

        int r = webhook_start(s->file, &s->webhook, &pid, err);
        remember(pid);
        return r;
}

/* They end when their channels close; waited for, so that crewd's end is the end of all of it. */
static void reap_helpers(void) {
        uint64_t deadline = crew_now_ns() + REAP_MS * 1000000ull;

        for (size_t i = 0; i < n_helpers; i++) {
                while (waitpid(helpers[i], NULL, WNOHANG) == 0 && crew_now_ns() < deadline)
                        usleep(2000);
        }
        if (foreign_spawner >= 0)
                (void)poll(&(struct pollfd){.fd = foreign_spawner, .events = POLLIN}, 1, REAP_MS);
}

static int load(const struct options *o, struct crewd_setup *s) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        char *text = NULL;
        size_t n = 0;

        int r = crew_load(o->crew_file, &s->file, &report, &err);
        if (r == 0 && o->locked)
                r = crew_lock_verify(s->file, &s->lock, &report, &err);
        FILE *f = open_memstream(&text, &n);
        if (f) {
                policy_report_print(&report, f, false);
                fclose(f);
        }
        while (n > 0 && text[n - 1] == '\n' && r < 0)
                text[--n] = '\0'; /* tell() ends the line */
        if (r < 0)
                tell(o, report.n && text ? text : err.msg);
        else if (report.n && text)
                fprintf(stderr, "%s", text);
        if (r == 0 && !realpath(o->crew_file, s->crew_path))
                snprintf(s->crew_path, sizeof(s->crew_path), "%.*s", (int)sizeof(s->crew_path) - 1, o->crew_file);
        free(text);
        policy_report_fini(&report);
        return r;
}

static int make_dirs(const struct crewd_setup *s, struct crew_err *err) {
        char path[PATH_MAX + 80];
        int r;

        if ((r = crew_mkdir_p(s->paths.state, 0755, err)) < 0)
                return r;
        snprintf(path, sizeof(path), "%s/%s", s->paths.state, s->file->name);
        if ((r = crew_mkdir_p(path, 0700, err)) < 0)
                return r;
        snprintf(path, sizeof(path), "%s/%s/audit", s->paths.state, s->file->name);
        return crew_mkdir_p(path, 0700, err);
}

/*
 * From here on: no new program, no other socket family, no mount, no trace, no module, no other identity.  In root mode
 * the uid stays (the files are root's), and of the capabilities only the one that lets the planner look at paths below
 * directories of other users.
 */
static int drop_rights(struct crew_err *err) {
        static const int denied[] = {
                SYS_execve,
                SYS_execveat,
                SYS_ptrace,
                SYS_process_vm_readv,
                SYS_process_vm_writev,
                SYS_mount,
                SYS_umount2,
                SYS_pivot_root,
                SYS_chroot,
                SYS_unshare,
                SYS_setns,
                SYS_bpf,
                SYS_perf_event_open,
                SYS_init_module,
                SYS_finit_module,
                SYS_delete_module,
                SYS_kexec_load,
                SYS_reboot,
                SYS_swapon,
                SYS_swapoff,
                SYS_keyctl,
                SYS_add_key,
                SYS_request_key,
                SYS_userfaultfd,
                SYS_open_by_handle_at,
                SYS_personality,
                SYS_setuid,
                SYS_setgid,
                SYS_setresuid,
                SYS_setresgid,
                SYS_setgroups,
                SYS_sethostname,
                SYS_settimeofday,
                SYS_clock_settime,
                SYS_acct,
                428 /* open_tree */,
                429 /* move_mount */,
                430 /* fsopen */,
                432 /* fsmount */,
                442 /* mount_setattr */,
                425 /* io_uring_setup */,
        };
        const struct confine c = {.keep_caps = 1ull << CAP_DAC_READ_SEARCH,
                                  .denied = denied,
                                  .n_denied = ELEMENTSOF(denied),
                                  .unix_sockets_only = true};
        return confine_self(&c, err);
}

/* What is held for this crew has a spawner, and needs no other. */
static int take_over(struct crewd_setup *s, struct crew_err *err) {
        int r = 0;

        if (s->file->on_loss == CREW_LOSS_HOLD && ca_bundle_wanted_by_any(s->file))
                return crew_fail(
                        err, EINVAL,
                        "on_supervisor_loss: hold and tls: inspect: the crew's CA is in the gateway's memory alone and "
                        "ends with it; use one of the two");
        r = adopt_find(s->rundir, s->file, &s->legacy, err);
        if (s->legacy) {
                foreign_spawner = legacy_watch_spawner(s->legacy);
                crew_close(&s->spawner_fd);
                s->spawner_fd = legacy_take_spawner(s->legacy);
        } else if (r == 0) {
                rundir_unlisten(s->rundir); /* of one whose agents have ended since */
        }
        return r;
}

static int prepare(const struct options *o, struct crewd_setup *s) {
        struct crew_err err = CREW_ERR_NULL;
        int r;

        if ((r = crew_paths_init(&s->paths, &err)) == 0)
                r = start_helpers(s, &err);
        if (r < 0) {
                tell(o, err.msg);
                return 1;
        }
        if ((r = load(o, s)) < 0)
                return r == -EKEYREJECTED ? EXIT_REFUSED : EXIT_USAGE;
        r = descriptors_check(NULL, s->file, &err);
        if (r == 0)
                r = rundir_open(s->paths.run, s->file->name, &s->rundir, &err);
        if (r == 0)
                r = make_dirs(s, &err);
        if (r == 0)
                r = take_over(s, &err);
        if (r == 0)
                r = start_launcher(s, &err);
        if (r == 0 && s->file->webhook.url)
                r = start_webhook(s, &err);
        if (r == 0 && s->file->hook_terminated)
                r = s->hooks_fd = hooks_start_runner(s->file->hook_terminated, &err);
        environment_wipe();
        signal(SIGXFSZ, SIG_IGN); /* a stream that cannot grow freezes its agent; only now: programs have it as it was */
        if (r >= 0)
                r = r == RUNDIR_BUSY && !s->rundir ? -EBUSY : drop_rights(&err);
        if (r < 0) {
                tell(o, err.msg);
                return 1;
        }
        return 0;
}

int main(int argc, char **argv) {
        struct options o = {.ready_fd = -1, .owner_fd = -1};
        struct crewd_setup s = {
                .spawner_fd = -1, .evidence_fd = -1, .gateway_fd = -1, .hooks_fd = -1, .webhook = WEBHOOK_FDS_NULL};
        int status = parse_args(argc, argv, &o);

        if (status)
                return status - 1;
        signal(SIGPIPE, SIG_IGN);
        umask(077);
        if (syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */) < 0) {
                tell(&o, "this kernel has no close_range(2)");
                return 69;
        }
        keep_heap_small();
        nofile_raise(); /* every agent costs descriptors here, in the spawner and in crew-evidence */
        status = prepare(&o, &s);
        if (status == 0) {
                s.ready_fd = o.ready_fd;
                s.owner_fd = o.owner_fd;
                status = crewd_run(&s);
        } else {
                crew_lock_free(s.lock);
                crew_file_free(s.file);
                rundir_close(s.rundir);
        }
        /* Those that nobody came to take: their helpers end with them. */
        crew_close(&s.spawner_fd);
        crew_close(&s.evidence_fd);
        crew_close(&s.gateway_fd);
        crew_close(&s.hooks_fd);
        crew_close(&s.webhook.launcher);
        crew_close(&s.webhook.channel);
        reap_helpers();
        return status;
}
