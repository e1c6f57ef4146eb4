#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a kernel that lacks some system calls: a seccomp filter answers them with an errno.

usage: without_calls.py NUMBER[@INDEX:VALUE]=ERRNO... -- COMMAND [ARG...]     (@: only with that value as that argument)
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16  # in struct seccomp_data


class Program(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def main():
    split = sys.argv.index("--")
    code = struct.pack("=HBBI", LOAD, 0, 0, NUMBER)
    for word in sys.argv[1:split]:
        call, errno = word.split("=")
        number, _, argument = call.partition("@")
        refusal = struct.pack("=HBBI", RETURN, 0, 0, RET_ERRNO | int(errno))
        if argument:
            index, value = (int(w) for w in argument.split(":"))
            refusal = (struct.pack("=HBBI", LOAD, 0, 0, FIRST_ARGUMENT + 8 * index)
                       + struct.pack("=HBBI", JUMP_IF_EQUAL, 0, 1, value) + refusal
                       + struct.pack("=HBBI", LOAD, 0, 0, NUMBER))
        code += struct.pack("=HBBI", JUMP_IF_EQUAL, 0, len(refusal) // 8, int(number)) + refusal
    code += struct.pack("=HBBI", RETURN, 0, 0, RET_ALLOW)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if os.geteuid() != 0 and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit("no_new_privs: " + os.strerror(ctypes.get_errno()))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) != 0:
        sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
    os.execv(sys.argv[split + 1], sys.argv[split + 1:])


main()
