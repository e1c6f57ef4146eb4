# SPDX-License-Identifier: Apache-2.0
"""What a hostile agent tries, one row an attack.

Each row runs three times: outside the jail, where the attack must succeed (a check that cannot fail proves nothing), and
in the jail as root and rootless, where it must fail with exactly the errno given.
"""

import os
import re
import signal
from dataclasses import dataclass, field

import pytest

from escapelib import KEY, host_address, outcome

ROOT = os.geteuid() == 0


@dataclass
class Row:
    attack: str
    args: tuple = ()
    expect: str = "EPERM"  # the errno's name, or killed:N
    rootless: str = ""     # where it differs there
    control: tuple = ()    # arguments of the control run, if they are others; ("-",) for none possible
    wrap: tuple = ()       # the control run is started by this
    user: int = -1         # the control run's uid, if it is another
    needs: tuple = ()      # further fixtures
    may_lack: str = ""     # the control fails on kernels without this: then the row is skipped
    id: str = ""

    def name(self):
        return self.id or "-".join([self.attack, *[re.sub(r"[^\w.@]+", "_", a).strip("_") for a in self.args]])


NEW_MOUNTS = ("unshare", "-m")
AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK, AF_INET, AF_INET6 = 16, 17, 38, 40, 2, 10
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5

PROCESSES = [
    Row("proc_mem", ("{victim}",), "ENOENT"),
    Row("proc_environ", ("{victim}",), "ENOENT"),
    Row("proc_root", ("{victim}",), "ENOENT"),
    Row("proc_cwd", ("{victim}",), "ENOENT"),
    Row("proc_exe", ("{victim}",), "ENOENT"),
    Row("proc_fd", ("{victim}",), "ENOENT"),
    # pid 1 of the jail is ours and trusted: out of reach as if it were not there
    Row("proc_mem", ("1",), "ENOENT", control=("{victim}",)),
    Row("proc_environ", ("1",), "ENOENT", control=("{victim}",)),
    Row("proc_root", ("1",), "ENOENT", control=("{victim}",)),
    Row("proc_exe", ("1",), "ENOENT", control=("{victim}",)),
    Row("proc_fd", ("1",), "ENOENT", control=("{victim}",)),
    Row("ptrace_seize", ("{victim}",), "EPERM"),
    Row("ptrace_seize", ("1",), "EPERM", control=("{victim}",)),
    Row("ptrace_traceme", (), "EPERM"),
    Row("vm_readv", ("{victim}", "1000"), "EPERM"),
    Row("vm_writev", ("{victim}", "1000"), "EPERM"),
    Row("steal_fd", ("{victim}",), "ESRCH"),
    Row("steal_fd", ("1",), "EPERM", control=("{victim}",)),
    Row("kill_one", ("{victim}", "9"), "ESRCH"),
    Row("kill_thread", ("{victim}", "9"), "ESRCH"),
    Row("kill_by_owner", ("{victim}",), "ESRCH"),
    Row("kill_all", (), "ESRCH", wrap=("unshare", "-p", "-f", "--kill-child", "sh", "-c", 'sleep 60 & "$@"', "sh")),
    Row("kill_parent", (), "EPERM", wrap=("sh", "-c", 'trap "" CHLD; (("$@"; echo $? > "$OUT"); :); exit $(cat "$OUT")', "sh")),
    Row("see_processes", ("3",), "ESRCH"),
    *[Row("set_ns", (ns,), "EPERM") for ns in ("net", "mnt", "ipc", "uts", "pid")],
    Row("unshare_user", (), "EPERM"),
    Row("clone_user", (), "EPERM"),
    Row("clone3_user", (), "ENOSYS"),
    Row("seccomp_listener", (), "EPERM"),
    Row("session_keyring", (), "EPERM"),
    Row("read_keys", (), "EPERM"),
    Row("shm_key", (str(KEY),), "ENOENT", needs=("ipc_objects",)),
    Row("msg_key", (str(KEY),), "ENOENT", needs=("ipc_objects",)),
    Row("sem_key", (str(KEY),), "ENOENT", needs=("ipc_objects",)),
    Row("posix_mq", ("/crewd-escape",), "ENOENT", needs=("ipc_objects",)),
    Row("posix_shm", ("crewd-escape",), "ENOENT", needs=("ipc_objects",)),
    Row("unix_connect", ("{sock}",), "ENOENT", needs=("sockets",)),
    Row("unix_connect", ("{abstract}",), "ECONNREFUSED", needs=("sockets",)),
]

KERNEL = [
    Row("io_uring", (), "ENOSYS"),
    Row("bpf_map", (), "EPERM"),
    Row("perf_event", (), "EPERM"),
    Row("userfault", (), "EPERM"),
    Row("int80", (), f"killed:{signal.SIGSYS}", may_lack="32-bit system calls"),
    Row("x32", (), f"killed:{signal.SIGSYS}", may_lack="the x32 ABI"),
    Row("mount_tmpfs", ("{write}",), "EPERM", wrap=NEW_MOUNTS),
    Row("fs_open", (), "EPERM"),
    Row("open_tree_clone", (), "EPERM"),
    Row("move_mnt", (), "EPERM"),
    Row("mount_attr_clear", ("/",), "EPERM", wrap=NEW_MOUNTS),
    Row("umount_any", ("/proc",), "EPERM", wrap=NEW_MOUNTS),
    Row("pivot", (), "EPERM", wrap=NEW_MOUNTS),
    Row("change_root", (), "EPERM"),
    Row("by_handle", ("{read}",), "EPERM"),
    Row("device_node", ("{write}",), "EPERM"),
    Row("device_node", ("/tmp",), "EPERM", control=("{private}",)),
    Row("kexec", (), "EPERM", may_lack="kexec"),
    Row("load_module", (), "EPERM", may_lack="modules"),
    Row("drop_module", (), "EPERM", may_lack="modules"),
    Row("reboot_host", (), "EPERM"),
    Row("swap_on", (), "EPERM"),
    Row("set_time", (), "EPERM"),
    Row("set_hostname", (), "EPERM"),
    Row("open_write", ("/proc/sys/kernel/core_pattern",), "EACCES"),
    Row("open_write", ("/proc/self/uid_map",), "EROFS"),
    Row("open_write", ("/proc/self/oom_score_adj",), "EROFS"),
    Row("open_write", ("/proc/self/mem",), "EROFS"),
    Row("random_off", (), "EPERM"),
    Row("make_socket", (str(AF_NETLINK), str(RAW), "0"), "EAFNOSUPPORT", id="socket-netlink"),
    Row("make_socket", (str(AF_PACKET), str(RAW), "0"), "EAFNOSUPPORT", id="socket-packet"),
    Row("make_socket", (str(AF_VSOCK), str(STREAM), "0"), "EAFNOSUPPORT", id="socket-vsock", may_lack="AF_VSOCK"),
    Row("make_socket", (str(AF_ALG), str(SEQPACKET), "0"), "EAFNOSUPPORT", id="socket-alg", may_lack="AF_ALG"),
    Row("make_socket", (str(AF_INET), str(RAW), "1"), "EAFNOSUPPORT", id="socket-raw-icmp"),
    Row("make_socket", (str(AF_INET), str(DGRAM), "1"), "EAFNOSUPPORT", id="socket-ping",
        may_lack="ping sockets (net.ipv4.ping_group_range)"),
    Row("make_socket", (str(AF_INET6), str(RAW), "58"), "EAFNOSUPPORT", id="socket-raw-icmp6"),
    Row("make_socket", (str(AF_INET6), str(DGRAM), "58"), "EAFNOSUPPORT", id="socket-ping6",
        may_lack="ping sockets (net.ipv4.ping_group_range)"),
    Row("syslog_read", (), "EPERM"),
    Row("has_caps", (), "EPERM"),
    Row("exec_setuid", ("{suid}",), "EPERM", user=65534),
    Row("set_uid", (), "EINVAL"),
]

FILES = [
    Row("read_path", ("/etc/shadow",), "EACCES"),
    Row("read_path", ("/etc/gshadow",), "ENOENT"),
    Row("read_path", ("/root",), "EACCES"),
    Row("read_path", ("/",), "EACCES"),
    Row("read_path", ("/root/.ssh/id_rsa",), "ENOENT", control=("/etc/shadow",)),
    Row("read_path", ("{private}/secret",), "ENOENT"),
    Row("read_path", ("{home}",), "EACCES", id="read_path-home"),
    Row("read_path", ("{read}/hole",), "EACCES"),
    Row("read_path", ("{read}/hole/secret",), "EACCES"),
    Row("read_path", ("{write}/a/hole/secret",), "EACCES"),
    Row("read_path", ("/sys/kernel",), "ENOENT"),
    Row("read_path", ("/run",), "ENOENT"),
    Row("read_path", ("/proc/kcore",), "EACCES", may_lack="/proc/kcore"),
    Row("read_path", ("/proc/kmsg",), "EACCES"),
    Row("read_path", ("/dev/kmsg",), "ENOENT"),
    Row("read_path", ("{disk}",), "ENOENT", id="read_path-disk", may_lack="disk that root may read"),
    Row("read_dots", ("{read}", "/etc/shadow"), "EACCES"),
    Row("read_dots", ("{read}", "{private}/secret"), "ENOENT"),
    Row("read_path", ("/proc/self/root/../../../etc/shadow",), "EACCES"),
    Row("read_path", ("/proc/self/cwd/../../../../../etc/shadow",), "EACCES"),
    Row("by_symlink", ("{write}", "{private}/secret"), "ENOENT"),
    Row("by_symlink", ("{write}", "/etc/shadow"), "EACCES"),
    Row("by_hardlink", ("{write}", "{private}/secret"), "ENOENT"),
    Row("by_hardlink", ("{write}", "{read}/file"), "EXDEV"),
    Row("reopen_path", ("/etc/shadow",), "EACCES"),
    Row("reopen_write", ("{read}/file",), "EROFS"),
    Row("reopen_write", ("{write}/a/keep/file",), "EROFS"),
    Row("exchange", ("{write}", "{write2}"), "EROFS"),
    Row("move", ("{write}", "{home}/elsewhere"), "EROFS"),
    Row("move", ("{write}/a", "{write}/c"), "EBUSY", id="move-parent-of-read-only"),
    Row("exchange", ("{write}/a/keep", "{write}/a/b"), "EBUSY", id="exchange-read-only"),
    Row("exchange", ("{write}/a/hole", "{write}/a/b"), "EBUSY", id="exchange-hole"),
    Row("open_trunc", ("{read}/file",), "EROFS"),
    Row("truncate_path", ("{read}/file",), "EROFS"),
    Row("truncate_path", ("{write}/a/keep/file",), "EROFS"),
    Row("allocate", ("{read}/file",), "EBADF", control=("-",)),
    Row("write_mapping", ("{read}/file",), "EACCES", control=("-",)),
    Row("change_mode", ("{read}/file",), "EROFS"),
    Row("change_mode", ("{private}/secret",), "ENOENT"),
    Row("change_mode", ("/usr/bin/true",), "EROFS", control=("{private}/secret",)),
    Row("change_mode", ("/etc/passwd",), "EROFS", control=("{private}/secret",)),
    Row("change_owner", ("{read}/file",), "EROFS"),
    Row("change_owner", ("{private}/secret",), "ENOENT"),
    Row("change_times", ("{read}/file",), "EROFS"),
    Row("change_times", ("{private}/secret",), "ENOENT"),
    Row("set_attribute", ("{read}/file",), "EROFS"),
    Row("set_attribute", ("{private}/secret",), "ENOENT"),
    Row("get_attribute", ("{private}/secret",), "ENOENT"),
    Row("watch", ("{private}",), "ENOENT"),
    Row("watch", ("{home}/policy.yaml",), "ENOENT"),
    Row("stat_path", ("{private}/secret",), "ENOENT"),
    Row("tmpfile_link", ("{write}", "{read}"), "EROFS"),
    Row("tmpfile_link", ("{write}", "{write}/a/keep"), "EROFS"),
    Row("take_lease", ("{write}",), "EPERM"),
    Row("notify_directory", ("/usr/bin",), "EPERM"),
    Row("create_in", ("{read}",), "EROFS"),
    Row("create_in", ("{write}/a/keep",), "EROFS"),
    Row("create_in", ("/usr/bin",), "EROFS", control=("{private}",)),
    Row("create_in", ("{home}",), "EROFS"),
    Row("remove_path", ("{read}/file",), "EROFS"),
    Row("make_fifo", ("{write}",), "EACCES"),
    Row("make_setuid", ("{write}",), "EPERM"),
    Row("make_setgid_creat", ("{write}",), "EPERM"),
    Row("open_write", ("{home}/policy.yaml",), "ENOENT"),
    Row("open_write", ("{home}/exec/plain",), "EROFS"),
    Row("run_path", ("{read}/program",), "EACCES"),
    Row("run_copy", ("{home}/exec/plain", "{write}"), "EACCES"),
    Row("run_copy", ("/usr/bin/true", "/tmp"), "EACCES", control=("/usr/bin/true", "{private}")),
    Row("run_copy", ("/usr/bin/true", "/home/agent"), "EACCES", control=("/usr/bin/true", "{private}")),
    Row("memfd_exec", ("/usr/bin/true",), "EACCES"),
    Row("memfd_noexec_exec", ("/usr/bin/true",), "EACCES", control=("",), may_lack="MFD_NOEXEC_SEAL (since 6.3)"),
    Row("map_code", ("{read}/program",), "EPERM"),
    Row("map_code", ("{write}/preload.so",), "EPERM"),
    Row("protect_code", ("{read}/program",), "EACCES"),
    Row("protect_code", ("{write}/preload.so",), "EACCES"),
]

NETWORK = [
    Row("tcp", ("127.0.0.1", "{tcp}"), "ECONNREFUSED", needs=("sockets",)),
    Row("tcp", ("{host}", "{tcp}"), "ENETUNREACH", needs=("sockets", "host")),
    Row("udp", ("{host}", "{udp}"), "ENETUNREACH", needs=("sockets", "host")),
    Row("fast_open", ("{host}", "{tcp}"), "ENETUNREACH", needs=("sockets", "host")),
    Row("mptcp", ("{host}", "{tcp}"), "EAFNOSUPPORT", needs=("sockets", "host"), may_lack="MPTCP"),
    Row("sctp", ("{host}", "{tcp}"), "EAFNOSUPPORT", control=("-",), needs=("sockets", "host")),
    Row("tcp", ("::ffff:{host}", "{tcp}"), "ENETUNREACH", needs=("sockets", "host"), id="tcp-v4-mapped"),
    Row("interfaces", (), "ENODEV", may_lack="a second interface"),
]

RESOURCES = [
    Row("fork_bomb", ("64",), "EAGAIN"),
    Row("thread_bomb", ("64",), "EAGAIN"),
    Row("memory_bomb", ("256",), "killed:9", rootless="ENOMEM"),
    Row("memory_hold", ("96", "60"), "killed:9", control=("96", "0")),
    Row("fill_file", ("{write}/big", "64"), "EFBIG"),
    Row("fill_file", ("/tmp/big", "12"), "ENOSPC", control=("{private}/big", "12")),
    Row("sparse_file", ("{write}/sparse", "1024"), "EFBIG"),
    Row("open_many", ("100",), "EMFILE"),
]


def rows(table):
    return pytest.mark.parametrize("row", table, ids=[r.name() for r in table])


def fill(world, request, args, needs):
    """The placeholders of a row's arguments.  A victim is started only where one is named."""
    values = {"home": str(world.home), "suid": world.path("exec/suid")}
    for d in ("read", "write", "write2", "private"):
        values[d] = world.path(d)
    if "host" in needs:
        values["host"] = host_address()
        if not values["host"]:
            pytest.skip("this host has no address but loopback")
    if "sockets" in needs:
        values.update(request.getfixturevalue("sockets"))
    if "ipc_objects" in needs:
        request.getfixturevalue("ipc_objects")
    if any("{victim}" in a for a in args):
        values["victim"] = world.victim().pid
    if any("{disk}" in a for a in args):
        disks = [f"/dev/{d}" for d in ("vda", "sda", "nvme0n1", "xvda") if os.path.exists(f"/dev/{d}")]
        if not disks:
            pytest.skip("no disk to read")
        values["disk"] = disks[0]
    return [a.format(**values) for a in args]


def control_run(world, request, row):
    """The attack must succeed without the jail."""
    if row.control == ("-",):
        return
    args = fill(world, request, row.control or row.args, row.needs)
    env = dict(os.environ, OUT=world.path("private/status"))
    r = world.outside(row.attack, *args, wrap=row.wrap, user=row.user if row.user >= 0 else None, env=env)
    if outcome(r) != "won" and row.may_lack:
        pytest.skip(f"this kernel has no {row.may_lack}")
    if outcome(r) != "won" and not ROOT:
        pytest.skip("the control run needs root")
    assert outcome(r) == "won", f"the control run failed: {r.stdout}"


def check(world, request, row):
    args = fill(world, request, row.args, row.needs)
    r = world.inside(row.attack, *args)
    want = row.rootless if row.rootless and world.runner.rootless else row.expect
    assert outcome(r) == want, f"{r.stdout}{r.stderr}"
    for p in world.victims:
        assert p.poll() is None, "the victim was reached"


def try_row(world, request, row):
    if row.attack == "exec_setuid" and not ROOT:
        pytest.skip("only root can make the set-user-ID program")
    if row.may_lack:
        control_run(world, request, row)
    check(world, request, row)
    if not row.may_lack:
        control_run(world, request, row)


@rows(PROCESSES)
def test_other_processes(world, request, row):
    try_row(world, request, row)


@rows(KERNEL)
def test_kernel_surface(world, request, row):
    try_row(world, request, row)


@rows(FILES)
def test_files(world, request, row):
    try_row(world, request, row)


@rows(NETWORK)
def test_network(world, request, row):
    try_row(world, request, row)


@rows(RESOURCES)
def test_resources(world, request, row):
    try_row(world, request, row)
