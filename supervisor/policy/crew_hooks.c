/* SPDX-License-Identifier: Apache-2.0 */
/* The key `hooks` of a crew file, and what a file with a secret must be. */
#include "crew_draft.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?#[]@!$&'()*+,;=%"

int crew_secret_file(struct bind *b, const struct node *v, const struct bind_field *f, const char **out) {
        const char *text = NULL;
        struct stat st;
        int r = bind_text(b, v, f, &text);

        if (r < 0 || !text || (r = crew_path(b, v, text, out)) != 0)
                return MIN_OF(r, 0);
        const char *path = *out;
        if (lstat(path, &st) < 0)
                bind_error(b, v, "", "'%s': %.300s: %s", f->key, path, strerror(errno));
        else if (!S_ISREG(st.st_mode))
                bind_error(b, v, "", "'%s': %.300s is not a regular file", f->key, path);
        else if (st.st_mode & 077)
                bind_error(b, v, "chmod 600 it", "'%s': %.300s can be read or written by others (mode %04o)", f->key, path,
                           (unsigned)(st.st_mode & 07777));
        return 0;
}

static int hook_command(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;

        return crew_bind_command(b, v, &d->hook_command, &d->c->hook_terminated, &d->c->n_hook_terminated);
}
static int webhook_url(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_webhook *w = &((struct crew_draft *)out)->c->webhook;
        const char *text = NULL;
        int r = bind_text(b, v, f, &text);

        if (r < 0 || !text)
                return r;
        const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                           : strncmp(text, "http://", 7) == 0 ? text + 7
                                                              : NULL;
        size_t n = strlen(text);
        if (!host || !*host || strchr("/:?#", *host) || n > 1024 || strspn(text, URL_CHARACTERS) != n)
                bind_error(b, v, "", "'url': expected https://HOST/PATH, at most 1024 characters");
        else if (memchr(host, '@', strcspn(host, "/?#")))
                bind_error(b, v, "the signature says who sends", "'url': no user name or password in it");
        else
                w->url = text;
        return 0;
}

static int webhook_secret(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;

        d->webhook_secret = v;
        return crew_secret_file(b, v, f, &d->c->webhook.secret_file);
}

static int webhook_ca(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_webhook *w = &((struct crew_draft *)out)->c->webhook;
        const char *text = NULL;
        int r = bind_text(b, v, f, &text);

        if (r < 0 || !text || (r = crew_path(b, v, text, &w->ca_file)) != 0)
                return MIN_OF(r, 0);
        if (access(w->ca_file, R_OK) < 0)
                bind_error(b, v, "", "'ca': %.300s: %s", w->ca_file, strerror(errno));
        return 0;
}

static const struct bind_field webhook_fields[] = {
        {"url", webhook_url, .required = true},
        {"secret_file", webhook_secret, .required = true},
        {"ca", webhook_ca},
};
static const struct bind_table webhook_table = {"under webhook", webhook_fields, ELEMENTSOF(webhook_fields)};

static int hook_webhook(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        ((struct crew_draft *)out)->c->webhook.mark = v->key->mark;
        return bind_map(b, v, &webhook_table, out);
}

static const struct bind_field hook_fields[] = {{"command", hook_command}, {"webhook", hook_webhook}};
static const struct bind_table hook_table = {"in a hook", hook_fields, ELEMENTSOF(hook_fields)};

static int hook_terminated(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        int r = bind_map(b, v, &hook_table, out);

        if (r == 0 && v->kind == NODE_MAP && !node_get(v, "command") && !node_get(v, "webhook"))
                bind_error(b, v->key, "", "'%s' needs 'command' or 'webhook'", f->key);
        return r;
}
static const struct bind_field hooks_fields[] = {{"on_agent_terminated", hook_terminated}};
static const struct bind_table hooks_table = {"under hooks", hooks_fields, ELEMENTSOF(hooks_fields)};

int crew_bind_hooks(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_map(b, v, &hooks_table, out);
}
