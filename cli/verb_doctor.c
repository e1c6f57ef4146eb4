/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl doctor: what this kernel can enforce, what is missing, and the exact fix.
 *
 * One table of walls; each names the probes it is made of and judges them once for crews started by root and once for
 * crews started by an ordinary user.  Run as root it also asks as nobody, run by a user it answers for that user only.
 */
#include "cli.h"

#include "common/confine.h"
#include "common/kernel.h"
#include "common/util.h"
#include "jsonout.h"
#include "table.h"
#include "term.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

enum level { LEVEL_OK, LEVEL_WEAKER, LEVEL_MISSING, LEVEL_N };
static const char *const level_names[LEVEL_N] = {"ok", "weaker", "missing"};

struct finding {
        enum level level;
        const char *name; /* of the wall */
        char text[256];
        char fix[512]; /* shell commands; "" when nothing can be done or need be */
};

#define FINDINGS_MAX 32
struct findings {
        struct finding items[FINDINGS_MAX];
        size_t n, missing, weaker;
};

static struct finding *add(struct findings *f, enum level level, const char *name, const char *text) {
        crew_assert(f->n < FINDINGS_MAX);
        struct finding *x = &f->items[f->n++];

        *x = (struct finding){.level = level, .name = name};
        snprintf(x->text, sizeof(x->text), "%s", text);
        f->missing += level == LEVEL_MISSING;
        f->weaker += level == LEVEL_WEAKER;
        return x;
}

static void set_fix(struct finding *x, const char *fix) {
        snprintf(x->fix, sizeof(x->fix), "%s", fix);
}

/* --- file walls --- */

/* What each Landlock ABI added, from the point of view of a jail. */
static const struct {
        int abi;
        const char *what;
} landlock_steps[] = {{2, "refer"}, {3, "truncate"}, {4, "net"}, {5, "ioctl"}, {6, "scope"}, {7, "audit"}};

static void landlock_text(int abi, char *out, size_t n) {
        size_t at = (size_t)snprintf(out, n, "landlock %d (", abi);

        for (size_t i = 0; i < ELEMENTSOF(landlock_steps); i++)
                if (abi >= landlock_steps[i].abi)
                        at += (size_t)snprintf(out + at, n - at, "%s%s", out[at - 1] == '(' ? "" : ", ",
                                               landlock_steps[i].what);
        snprintf(out + at, n - at, "%s)", out[at - 1] == '(' ? "basic" : "");
}

static void judge_landlock(struct findings *f, const struct crew_kernel *k) {
        char text[128];

        if (k->landlock_abi >= 2) {
                landlock_text(k->landlock_abi, text, sizeof(text));
                add(f, LEVEL_OK, "file walls", text);
                return;
        }
        if (k->landlock_abi == 1) {
                set_fix(add(f, LEVEL_MISSING, "file walls", "landlock 1 refuses renames between directories; 2 is needed"),
                        "run Linux 5.19 or newer");
                return;
        }
        if (k->result[CREW_PROBE_LANDLOCK] == -EOPNOTSUPP)
                set_fix(add(f, LEVEL_MISSING, "file walls", "landlock is built in but switched off at boot"),
                        "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&lsm=landlock,lockdown,yama,integrity,apparmor,bpf /' "
                        "/etc/default/grub && sudo update-grub && sudo reboot");
        else
                set_fix(add(f, LEVEL_MISSING, "file walls", "this kernel has no landlock"),
                        "run a kernel of 5.19 or newer built with CONFIG_SECURITY_LANDLOCK=y");
}

/* What lies between an agent and its tools, which run beside it under the same uid. */
static void judge_tools(struct findings *f, const struct crew_kernel *k) {
        if (k->landlock_abi >= 6)
                add(f, LEVEL_OK, "tool walls", "files, memory and signals, by landlock domains");
        else if (k->landlock_abi > 0)
                add(f, LEVEL_WEAKER, "tool walls",
                    "files and memory; an agent can signal the tools it calls: landlock scopes need Linux 6.12");
}

static void judge_filter(struct findings *f, const struct crew_kernel *k) {
        if (k->result[CREW_PROBE_SECCOMP] == 0)
                add(f, LEVEL_OK, "system calls", "seccomp allow-list");
        else
                set_fix(add(f, LEVEL_MISSING, "system calls", "this kernel has no seccomp filters"),
                        "run a kernel built with CONFIG_SECCOMP_FILTER=y");
}

/* --- namespaces --- */

static const struct {
        uint32_t bit;
        const char *text, *fix;
} restrictions[] = {
        {CREW_RESTRICT_APPARMOR, "AppArmor restricts user namespaces for this binary",
         "sudo install -m 644 dist/apparmor/crewctl /etc/apparmor.d/ && sudo apparmor_parser -r /etc/apparmor.d/crewctl"},
        {CREW_RESTRICT_SYSCTL, "kernel.unprivileged_userns_clone is 0",
         "echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/60-crewd.conf && sudo sysctl --system"},
        {CREW_RESTRICT_MAX_USERNS, "user.max_user_namespaces is 0",
         "echo user.max_user_namespaces=65536 | sudo tee /etc/sysctl.d/60-crewd.conf && sudo sysctl --system"},
        {CREW_RESTRICT_MAX_NETNS, "user.max_net_namespaces is 0",
         "echo user.max_net_namespaces=65536 | sudo tee /etc/sysctl.d/60-crewd.conf && sudo sysctl --system"},
};

/* A switch is named only where something fails: it may be set and this binary be exempt. */
static bool blame_restriction(struct findings *f, const struct crew_kernel *k, const char *wall, uint32_t candidates) {
        for (size_t i = 0; i < ELEMENTSOF(restrictions); i++) {
                if (!(k->restrictions & restrictions[i].bit & candidates))
                        continue;
                set_fix(add(f, LEVEL_MISSING, wall, restrictions[i].text), restrictions[i].fix);
                return true;
        }
        return false;
}

static void judge_userns(struct findings *f, const struct crew_kernel *k) {
        const uint32_t mine = CREW_RESTRICT_APPARMOR | CREW_RESTRICT_SYSCTL | CREW_RESTRICT_MAX_USERNS;
        int r = k->result[CREW_PROBE_USERNS];
        char text[160];

        if (r == 0) {
                add(f, LEVEL_OK, "process walls", "user, pid, mount, ipc and uts namespaces");
                return;
        }
        if (blame_restriction(f, k, "process walls", mine))
                return;
        snprintf(text, sizeof(text), "a user namespace cannot be used: %s", strerror(-r));
        set_fix(add(f, LEVEL_MISSING, "process walls", text), "if this is a container, start it with user namespaces "
                                                              "allowed (docker: --security-opt seccomp=unconfined)");
}

static void judge_network(struct findings *f, const struct crew_kernel *k) {
        if (k->result[CREW_PROBE_NETNS] != 0) {
                if (k->result[CREW_PROBE_USERNS] == 0 && !blame_restriction(f, k, "network walls", CREW_RESTRICT_MAX_NETNS))
                        set_fix(add(f, LEVEL_MISSING, "network walls", "no network namespaces"),
                                "run a kernel built with CONFIG_NET_NS=y");
        } else if (k->result[CREW_PROBE_NFTABLES] == 0) {
                add(f, LEVEL_OK, "network walls", "netns, nftables, local default route");
        } else {
                set_fix(add(f, LEVEL_MISSING, "network walls",
                            "netns without nftables: what agents dial could not be recorded"),
                        "sudo modprobe -a nf_tables nft_redir nft_chain_nat nft_reject_inet");
        }
}

/* --- life --- */

static void judge_kill(struct findings *f, const struct crew_kernel *k) {
        if (k->result[CREW_PROBE_PIDFD] != 0)
                set_fix(add(f, LEVEL_MISSING, "kill", "no pidfds"), "run Linux 5.19 or newer");
        else
                add(f, LEVEL_OK, "kill",
                    k->result[CREW_PROBE_CGROUP_KILL] == 0 ? "pid namespace, pidfd, cgroup.kill" : "pid namespace, pidfd");
}

static void judge_limits(struct findings *f, const struct crew_kernel *k) {
        static const struct {
                enum crew_probe probe;
                const char *name;
        } kinds[] = {
                {CREW_PROBE_CGROUP_MEMORY, "memory"}, {CREW_PROBE_CGROUP_PIDS, "pids"}, {CREW_PROBE_CGROUP_CPU, "cpu"}};
        char have[64] = "", lack[64] = "", text[192];
        const char *mode = k->cgroup_mode == CREW_CGROUP_V2 ? "cgroup v2" : "cgroup v1";

        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                char *list = k->result[kinds[i].probe] == 0 ? have : lack;
                size_t at = strlen(list);
                snprintf(list + at, sizeof(have) - at, "%s%s", at ? ", " : "", kinds[i].name);
        }
        if (!lack[0]) {
                snprintf(text, sizeof(text), "%s by %s", have, mode);
                add(f, LEVEL_OK, "limits", text);
                return;
        }
        snprintf(text, sizeof(text), "%s%s%s%s%s by crewd and rlimits: no cgroup is ours", have, have[0] ? " by " : "",
                 have[0] ? mode : "", have[0] ? "; " : "", lack);
        struct finding *x = add(f, LEVEL_WEAKER, "limits", text);
        if (k->cgroup_mode == CREW_CGROUP_V2)
                set_fix(x, "systemd-run --user --scope -p Delegate=yes crewctl up CREW.yaml");
}

/* --- evidence --- */

static void judge_denials(struct findings *f, const struct crew_kernel *k, bool root) {
        const char *why = k->landlock_abi < 7 ? "landlock audit needs Linux 6.15" : "the kernel's audit cannot be read";
        char text[160];

        if (root && k->landlock_abi >= 7 && k->result[CREW_PROBE_AUDIT] == 0) {
                add(f, LEVEL_OK, "denial evidence", "kernel audit readable");
        } else if (k->result[CREW_PROBE_SECCOMP_NOTIFY] == 0) {
                snprintf(text, sizeof(text), "attempts, by seccomp notification%s%s", root ? ": " : "", root ? why : "");
                add(f, LEVEL_WEAKER, "denial evidence", text);
        } else {
                set_fix(add(f, LEVEL_MISSING, "denial evidence", "neither kernel audit nor seccomp notification"),
                        "run Linux 5.19 or newer; or write allow_degraded: [evidence] into the policies");
        }
}

static void judge_evidence(struct findings *f, const struct crew_kernel *k, bool root) {
        judge_denials(f, k, root);
        if (!root)
                return;
        if (k->result[CREW_PROBE_FANOTIFY] == 0)
                add(f, LEVEL_OK, "file evidence", "fanotify on policy mounts");
        else
                set_fix(add(f, LEVEL_MISSING, "file evidence", "no fanotify: opens and writes could not be recorded"),
                        "run a kernel built with CONFIG_FANOTIFY=y; or write allow_degraded: [evidence] into the policies");
}

static void judge_identity(struct findings *f, const struct crew_kernel *k) {
        if (k->result[CREW_PROBE_IDMAP] == 0)
                add(f, LEVEL_OK, "identity", "a host uid per agent, idmapped mounts");
        else
                set_fix(add(f, LEVEL_MISSING, "identity", "no idmapped mounts on the root file system"),
                        "run Linux 5.19 or newer on ext4, xfs, btrfs or tmpfs; or start crews as an ordinary user");
}

static void judge(struct findings *f, const struct crew_kernel *k, bool root) {
        judge_landlock(f, k);
        judge_tools(f, k);
        judge_filter(f, k);
        judge_userns(f, k);
        judge_network(f, k);
        judge_kill(f, k);
        judge_limits(f, k);
        if (root)
                judge_identity(f, k);
        judge_evidence(f, k, root);
}

/* --- output --- */

static void print_finding(const struct term *t, const struct finding *x) {
        static const enum term_mark marks[LEVEL_N] = {
                [LEVEL_OK] = TERM_OK, [LEVEL_WEAKER] = TERM_WARN, [LEVEL_MISSING] = TERM_FAIL};
        enum term_mark m = marks[x->level];

        fprintf(t->out, "  %s%s%s %-24s  %s\n", term_on(t, term_mark_style(m)), term_mark(t, m),
                term_off(t, term_mark_style(m)), x->name, x->text);
        if (x->fix[0])
                fprintf(t->out, "      fix: %s\n", x->fix);
}

/* Rootless, only what differs from root: the same lines twice help nobody. */
static bool said_already(const struct findings *said, const struct finding *x) {
        for (size_t i = 0; said && i < said->n; i++)
                if (strcmp(said->items[i].name, x->name) == 0 && strcmp(said->items[i].text, x->text) == 0)
                        return true;
        return false;
}

static void print_findings(const struct term *t, const struct findings *f, const struct findings *said) {
        for (size_t i = 0; i < f->n; i++)
                if (!said_already(said, &f->items[i]))
                        print_finding(t, &f->items[i]);
}

static void print_head(const struct crew_kernel *k) {
        char landlock[32] = "no landlock";

        if (k->landlock_abi > 0)
                snprintf(landlock, sizeof(landlock), "landlock ABI %d", k->landlock_abi);
        printf("kernel %-20s  %s%s%s, cgroup %s\n", k->release, landlock,
               k->result[CREW_PROBE_SECCOMP_NOTIFY] == 0 ? ", seccomp notify" : "",
               k->result[CREW_PROBE_USERNS] == 0 ? ", user namespaces" : "", crew_cgroup_mode_names[k->cgroup_mode]);
}

static void print_sum(const struct findings *f, const char *whom) {
        if (f->missing > 0)
                printf("%zu thing%s to fix %s\n", f->missing, f->missing == 1 ? "" : "s", whom);
        else if (f->weaker > 0)
                printf("every wall stands %s; %zu weaker as marked\n", whom, f->weaker);
        else
                printf("fully enforceable %s\n", whom);
}

static void print_text(const struct crew_kernel *k, const struct findings *root, const struct findings *user) {
        struct term t;

        term_init(&t, stdout);
        print_head(k);
        if (root)
                print_findings(&t, root, NULL);
        if (root && user)
                printf("rootless\n");
        print_findings(&t, user ? user : root, root && user ? root : NULL);
        if (root)
                print_sum(root, "as root");
        if (user)
                print_sum(user, root ? "for rootless" : "for you");
}

static json_t *findings_json(const struct findings *f) {
        json_t *list = json_array();

        for (size_t i = 0; i < f->n; i++) {
                const struct finding *x = &f->items[i];
                json_t *o = json_pack("{s:s, s:s, s:s}", "wall", x->name, "level", level_names[x->level], "text", x->text);
                if (x->fix[0])
                        json_object_set_new(o, "fix", json_string(x->fix));
                json_array_append_new(list, o);
        }
        return json_pack("{s:b, s:i, s:i, s:o}", "enforceable", f->missing == 0, "missing", (int)f->missing, "weaker",
                         (int)f->weaker, "findings", list);
}

static json_t *probes_json(const struct crew_kernel *k) {
        json_t *o = json_object();

        for (size_t i = 0; i < CREW_PROBE_N; i++)
                json_object_set_new(o, crew_probe_names[i],
                                    k->result[i] == 0 ? json_true() : json_string(strerrorname_np(-k->result[i])));
        return o;
}

static void print_json(const struct crew_kernel *k, const struct findings *root, const struct findings *user) {
        json_t *o = json_pack("{s:s, s:i, s:s, s:o}", "kernel", k->release, "landlock_abi", k->landlock_abi, "cgroup",
                              crew_cgroup_mode_names[k->cgroup_mode], "probes", probes_json(k));

        if (root)
                json_object_set_new(o, "root", findings_json(root));
        if (user)
                json_object_set_new(o, "rootless", findings_json(user));
        jsonout_print(o);
}

struct options {
        bool json;
};

static const struct cli_option option_rows[] = {CLI_OPTION_JSON(struct options)};

static int run(const struct cli_verb *self, int argc, char **argv) {
        static struct findings as_root, as_user;
        struct options o = {0};
        struct cli_operands rest;
        struct crew_kernel k, theirs;
        struct crew_err err = CREW_ERR_NULL;
        const bool root = geteuid() == 0;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        crew_kernel_probe(&k);
        if (root) {
                judge(&as_root, &k, true);
                if (crew_kernel_probe_as(CONFINE_NOBODY, CONFINE_NOBODY, &theirs, &err) < 0)
                        return cli_fail(o.json, CLI_INTERNAL, "probe", "%s", err.msg);
        } else {
                theirs = k;
        }
        judge(&as_user, &theirs, false);
        (o.json ? print_json : print_text)(&k, root ? &as_root : NULL, &as_user);
        return (root ? as_root.missing : as_user.missing) > 0 ? CLI_KERNEL : CLI_OK;
}

const struct cli_verb verb_doctor = {
        .name = "doctor",
        .synopsis = "[--json]",
        .summary = "what this kernel can enforce, what is missing, and the fix",
        .details =
                "As root it answers for crews started by root and by ordinary users, else for yours.  Nothing is changed.\n"
                "Exit status 69 if something that crewd needs is missing.\n",
        .options = option_rows,
        .n_options = ELEMENTSOF(option_rows),
        .run = run,
};
