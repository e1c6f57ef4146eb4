/* SPDX-License-Identifier: Apache-2.0 */
/* Where a secret comes from: a private file, a variable of the gateway's environment, or a program's output. */
#pragma once

#include "creds_file.h"

/* A regular file of the caller's uid, mode 0600 or less, no symbolic link; NUL-terminated, to be freed. */
int cred_private_file(const char *path, size_t max_bytes, char **out, size_t *n, struct crew_err *err);
/* Fills at most room bytes; dir: where a relative file is looked up.  Nothing read is left anywhere else. */
int cred_source_read(const struct cred_spec *s, const char *dir, char *out, size_t room, size_t *n, struct crew_err *err);
/* After every secret was read: an environment variable is overwritten in place and removed. */
void cred_source_forget(const struct cred_spec *s);
