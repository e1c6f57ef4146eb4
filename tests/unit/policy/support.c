/* SPDX-License-Identifier: Apache-2.0 */
/* Support of the policy tests; nothing here decides what is right. */
#include "support.h"

#include "common/util.h"

#include <ftw.h>
#include <string.h>
#include <sys/stat.h>

void load_text(struct loaded *l, const char *yaml, const char *crew_dir) {
        *l = (struct loaded){0};
        l->r = policy_load_bytes("role.yaml", yaml, strlen(yaml), NULL, crew_dir, &l->image, &l->report, &l->err);
}

void load_file(struct loaded *l, const char *file, const char *agent, const char *crew_dir) {
        *l = (struct loaded){0};
        l->r = policy_load(file, agent, crew_dir, &l->image, &l->report, &l->err);
}

void load_crew(struct loaded *l, const char *file) {
        *l = (struct loaded){0};
        l->r = crew_load(file, &l->crew, &l->report, &l->err);
}

void loaded_fini(struct loaded *l) {
        policy_image_free(l->image);
        crew_file_free(l->crew);
        policy_report_fini(&l->report);
}

static void list(const struct loaded *l) {
        for (size_t i = 0; i < l->report.n; i++) {
                const struct policy_problem *p = &l->report.items[i];
                print_error("%s:%d:%d: %s%s [%s]\n", p->file, p->line, p->column, p->warning ? "warning: " : "", p->text,
                            p->hint);
        }
}

const struct policy_problem *problem_with(const struct loaded *l, const char *text) {
        for (size_t i = 0; i < l->report.n; i++)
                if (strstr(l->report.items[i].text, text))
                        return &l->report.items[i];
        list(l);
        fail_msg("no problem says '%s'", text);
        return NULL;
}

static void expect(const char *yaml, bool warning, int line, int column, const char *text, const char *hint) {
        struct loaded l;

        load_text(&l, yaml, NULL);
        const struct policy_problem *p = problem_with(&l, text);
        if (p->warning != warning || (line && p->line != line) || (column && p->column != column) ||
            !strstr(p->hint, hint)) {
                list(&l);
                fail_msg("expected %d:%d %s '%s' [%s]", line, column, warning ? "warning" : "error", text, hint);
        }
        assert_int_equal(l.r, warning ? 0 : -EINVAL);
        assert_int_equal(l.image == NULL, !warning);
        if (!warning)
                assert_true(l.err.msg[0]);
        loaded_fini(&l);
}

void expect_error(const char *yaml, int line, int column, const char *text, const char *hint) {
        expect(yaml, false, line, column, text, hint);
}

void expect_warning(const char *yaml, int line, int column, const char *text, const char *hint) {
        expect(yaml, true, line, column, text, hint);
}

void expect_clean(const char *yaml) {
        struct loaded l;

        load_text(&l, yaml, NULL);
        if (l.r != 0 || l.report.n != 0) {
                list(&l);
                fail_msg("expected no problem (%d %s) in:\n%s", l.r, l.err.msg, yaml);
        }
        loaded_fini(&l);
}

const char *role(const char *body) {
        static char text[64 * 1024];

        snprintf(text, sizeof(text), "agent: x\nsandbox:\n  mode: deny-by-default\n%s", body);
        return text;
}

void scratch_init(struct scratch *s) {
        char made[] = "/tmp/crew-policy-XXXXXX";

        assert_non_null(mkdtemp(made));
        assert_non_null(realpath(made, s->dir));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

void scratch_fini(struct scratch *s) {
        nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_path(const struct scratch *s, const char *name) {
        static char paths[8][PATH_MAX];
        static unsigned next;
        char *p = paths[next++ % 8];

        snprintf(p, PATH_MAX, "%.2000s/%.2000s", s->dir, name);
        return p;
}

void scratch_dir(const struct scratch *s, const char *name) {
        assert_int_equal(crew_mkdir_p(scratch_path(s, name), 0755, NULL), 0);
}

const char *scratch_file(const struct scratch *s, const char *name, const char *text) {
        const char *path = scratch_path(s, name);
        char dir[PATH_MAX];

        snprintf(dir, sizeof(dir), "%s", path);
        *strrchr(dir, '/') = '\0';
        assert_int_equal(crew_mkdir_p(dir, 0755, NULL), 0);
        assert_int_equal(crew_write_file_atomic(path, text, strlen(text), 0755, NULL), 0);
        return path;
}
