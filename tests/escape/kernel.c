/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel surface.  Calls that would do harm where they are allowed are made with arguments that the kernel refuses only
 * after its permission check: getting that far is the success.
 */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <unistd.h>

static int io_uring(char **a) {
        struct io_uring_params params = {0};
        return judge(syscall(SYS_io_uring_setup, 1, &params));
}

static int bpf_map(char **a) {
        union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
        return judge(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static int perf_event(char **a) {
        struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK};
        return judge(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

static int userfault(char **a) {
        return judge(syscall(SYS_userfaultfd, O_CLOEXEC));
}

/* getpid by the 32-bit entry, which a filter for the native architecture alone would not see. */
static int int80(char **a) {
#ifdef __x86_64__
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
        return r > 0 ? won("pid %ld", r) : denied((int)-r);
#else
        return broken("no such entry here");
#endif
}

static int x32(char **a) {
        return judge(syscall(SYS_getpid | 0x40000000));
}

static int mount_tmpfs(char **a) {
        return judge(mount("none", a[0], "tmpfs", 0, NULL));
}

static int fs_open(char **a) {
        return judge(syscall(SYS_fsopen, "tmpfs", 0));
}

static int open_tree_clone(char **a) {
        return judge(syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE));
}

static int move_mnt(char **a) {
        return reached(syscall(SYS_move_mount, -1, "", -1, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), EBADF);
}

static int mount_attr_clear(char **a) {
        struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC};
        return judge(syscall(SYS_mount_setattr, AT_FDCWD, a[0], 0, &attr, sizeof(attr)));
}

static int umount_any(char **a) {
        return judge(umount2(a[0], MNT_DETACH));
}

static int pivot(char **a) {
        long r = syscall(SYS_pivot_root, ".", ".");
        return errno == EBUSY ? won("reached the kernel's code") : reached(r, EINVAL);
}

static int change_root(char **a) {
        return judge(chroot("/"));
}

/* PATH on the file system whose handles are tried */
static int by_handle(char **a) {
        struct {
                struct file_handle h;
                unsigned char room[128];
        } handle = {.h = {.handle_bytes = 128}};
        int id, top = open(a[0], O_RDONLY | O_DIRECTORY);

        if (top < 0)
                return broken("%s", a[0]);
        if (name_to_handle_at(top, ".", &handle.h, &id, 0) < 0) {
                /* The handle of an inode can be guessed; 2 is the root directory of ext4. */
                handle.h = (struct file_handle){.handle_bytes = 8, .handle_type = 1};
                memcpy(handle.h.f_handle, (uint32_t[]){2, 0}, 8);
        }
        return judge(open_by_handle_at(top, &handle.h, O_RDONLY));
}

/* DIR */
static int device_node(char **a) {
        char path[256];

        snprintf(path, sizeof(path), "%s/null", a[0]);
        return judge(mknod(path, S_IFCHR | 0666, makedev(1, 3)));
}

static int kexec(char **a) {
        return reached(syscall(SYS_kexec_load, 0, 1000000, NULL, 0), EINVAL);
}

static int load_module(char **a) {
        return reached(syscall(SYS_finit_module, -1, "", 0), EBADF);
}

static int drop_module(char **a) {
        return reached(syscall(SYS_delete_module, "no_such_module", O_NONBLOCK), ENOENT);
}

static int reboot_host(char **a) {
        return reached(syscall(SYS_reboot, 0, 0, 0, NULL), EINVAL);
}

static int swap_on(char **a) {
        return reached(syscall(SYS_swapon, "/nonexistent", 0), ENOENT);
}

static int set_time(char **a) {
        struct timex t = {0};

        if (adjtimex(&t) < 0)
                return denied(errno);
        t.modes = ADJ_TICK; /* to what it is */
        return judge(adjtimex(&t));
}

static int set_hostname(char **a) {
        char name[65] = "";

        gethostname(name, sizeof(name) - 1);
        return judge(sethostname(name, strlen(name)));
}

/* PATH: opened for writing only, nothing is written */
static int open_write(char **a) {
        return judge(open(a[0], O_WRONLY | O_CLOEXEC));
}

static int random_off(char **a) {
        int now = personality(0xffffffff);
        return judge(personality((unsigned long)now | ADDR_NO_RANDOMIZE));
}

/* FAMILY TYPE PROTOCOL */
static int make_socket(char **a) {
        return judge(socket(atoi(a[0]), atoi(a[1]), atoi(a[2])));
}

static int syslog_read(char **a) {
        return judge(syscall(SYS_syslog, 10 /* size of the buffer */, NULL, 0));
}

static int has_caps(char **a) {
        FILE *f = fopen("/proc/self/status", "re");
        char line[256];

        if (!f)
                return broken("/proc/self/status");
        while (fgets(line, sizeof(line), f))
                if (strncmp(line, "Cap", 3) == 0 && strtoull(line + 7, NULL, 16) != 0)
                        return won("%.31s", line);
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? denied(EPERM) : won("new privileges are possible");
}

/* Run as a set-user-ID program: who are we? */
static int became_root(char **a) {
        return geteuid() == 0 ? won("euid 0") : denied(EPERM);
}

/* PROGRAM: the same, started from here */
static int exec_setuid(char **a) {
        execl(a[0], a[0], "became_root", NULL);
        return denied(errno);
}

static int set_uid(char **a) {
        return judge(setresuid(0, 0, 0));
}

const struct attack kernel_attacks[] = {
        {"io_uring", io_uring, 0},
        {"bpf_map", bpf_map, 0},
        {"perf_event", perf_event, 0},
        {"userfault", userfault, 0},
        {"int80", int80, 0},
        {"x32", x32, 0},
        {"mount_tmpfs", mount_tmpfs, 1},
        {"fs_open", fs_open, 0},
        {"open_tree_clone", open_tree_clone, 0},
        {"move_mnt", move_mnt, 0},
        {"mount_attr_clear", mount_attr_clear, 1},
        {"umount_any", umount_any, 1},
        {"pivot", pivot, 0},
        {"change_root", change_root, 0},
        {"by_handle", by_handle, 1},
        {"device_node", device_node, 1},
        {"kexec", kexec, 0},
        {"load_module", load_module, 0},
        {"drop_module", drop_module, 0},
        {"reboot_host", reboot_host, 0},
        {"swap_on", swap_on, 0},
        {"set_time", set_time, 0},
        {"set_hostname", set_hostname, 0},
        {"open_write", open_write, 1},
        {"random_off", random_off, 0},
        {"make_socket", make_socket, 3},
        {"syslog_read", syslog_read, 0},
        {"has_caps", has_caps, 0},
        {"became_root", became_root, 0},
        {"exec_setuid", exec_setuid, 1},
        {"set_uid", set_uid, 0},
        {NULL, NULL, 0},
};
