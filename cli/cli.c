/* SPDX-License-Identifier: Apache-2.0 */
/* Options, help and problems, all from the rows of the verb table. */
#include "cli.h"

#include "common/util.h"
#include "jsonout.h"
#include "term.h"
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* --- problems --- */

int cli_problem_set(struct cli_problem *p, int status, const char *code, const char *fmt, ...) {
        va_list ap;

        p->status = status;
        p->told = false;
        p->hint[0] = '\0';
        snprintf(p->code, sizeof(p->code), "%s", code);
        va_start(ap, fmt);
        vsnprintf(p->text, sizeof(p->text), fmt, ap);
        va_end(ap);
        return -1;
}

void cli_problem_hint(struct cli_problem *p, const char *fmt, ...) {
        size_t used = strlen(p->hint);
        va_list ap;

        if (used > 0 && used + 1 < sizeof(p->hint))
                p->hint[used++] = '\n';
        va_start(ap, fmt);
        vsnprintf(p->hint + used, sizeof(p->hint) - used, fmt, ap);
        va_end(ap);
}

static void put_lines(const struct term *t, const char *first, const char *next, const char *text) {
        const char *prefix = first;

        while (*text) {
                size_t n = strcspn(text, "\n");
                _cleanup_free_ char *line = text_safe_dup(text, n, t->utf8);
                if (line)
                        fprintf(t->out, "%s%s\n", prefix, line);
                prefix = next;
                text += n + (text[n] == '\n');
        }
}

static void report_json(const struct cli_problem *p) {
        json_t *e = json_object();

        json_object_set_new(e, "code", jsonout_text(p->code));
        json_object_set_new(e, "message", jsonout_text(p->text));
        if (p->hint[0])
                json_object_set_new(e, "hint", jsonout_text(p->hint));
        jsonout_print(json_pack("{s:o}", "error", e));
}

int cli_report(const struct cli_problem *p, bool json) {
        struct term t;

        fflush(stdout);
        term_init(&t, stderr);
        if (!p->told) {
                put_lines(&t, "crewctl: ", "  ", p->text);
                put_lines(&t, "  ", "  ", p->hint);
        }
        if (json)
                report_json(p);
        return p->status;
}

int cli_fail(bool json, int status, const char *code, const char *fmt, ...) {
        struct cli_problem p = CLI_PROBLEM_NULL;
        va_list ap;

        cli_problem_set(&p, status, code, "%s", "");
        va_start(ap, fmt);
        vsnprintf(p.text, sizeof(p.text), fmt, ap);
        va_end(ap);
        return cli_report(&p, json);
}

/* --- help --- */

void cli_verb_title(const struct cli_verb *v, char *out, size_t n) {
        snprintf(out, n, "%s%s%s", v->group ? v->group : "", v->group ? " " : "", v->name);
}

static void print_option(const char *letter_and_name, const char *help) {
        int pad = 24 - (int)strlen(letter_and_name);

        printf("  %s%*s%s\n", letter_and_name, MAX_OF(pad, 1), "", help);
}

void cli_print_help(const struct cli_verb *v) {
        char title[64], left[96];

        cli_verb_title(v, title, sizeof(title));
        printf("usage: crewctl %s%s%s\n\n%s\n\n", title, v->synopsis[0] ? " " : "", v->synopsis, v->summary);
        for (size_t i = 0; i < v->n_options; i++) {
                const struct cli_option *o = &v->options[i];
                char letter[8] = "";
                if (o->letter)
                        snprintf(letter, sizeof(letter), "-%c, ", o->letter);
                snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
                print_option(left, o->help);
        }
        print_option("-h, --help", "print this");
        if (v->details)
                printf("\n%s", v->details);
}

/* --- parsing --- */

/* The nearest option of the verb, for a word of n bytes; NULL if none is near. */
static const char *nearest_option(const struct cli_verb *v, const char *word, size_t n) {
        const char *names[32];
        char name[64];
        size_t k = 0;

        snprintf(name, sizeof(name), "%.*s", (int)MIN_OF(n, sizeof(name) - 1), word);
        for (size_t i = 0; i < v->n_options && k < ELEMENTSOF(names); i++)
                names[k++] = v->options[i].name;
        return crew_nearest(name, names, k);
}

static int unknown_option(const struct cli_verb *v, const char *word, struct cli_problem *p) {
        const char *bare = word + strspn(word, "-");
        char title[64];

        cli_verb_title(v, title, sizeof(title));
        cli_problem_set(p, CLI_USAGE, "usage", "unknown option '%s' for %s", word, title);
        const char *near = nearest_option(v, bare, strcspn(bare, "="));
        if (near)
                cli_problem_hint(p, "did you mean --%s?", near);
        cli_problem_hint(p, "crewctl %s --help lists the options", title);
        return -EINVAL;
}

/* word is "--name" or "--name=value" (n: bytes of the name), or "-x". */
static const struct cli_option *find_option(const struct cli_verb *v, const char *word, size_t n) {
        for (size_t i = 0; i < v->n_options; i++) {
                const struct cli_option *o = &v->options[i];
                if (word[1] == '-' ? strlen(o->name) == n && strncmp(o->name, word + 2, n) == 0
                                   : o->letter && word[1] == o->letter && word[2] == '\0')
                        return o;
        }
        return NULL;
}

static int store_item(const struct cli_option *o, const char *value, struct cli_list *list, struct cli_problem *p) {
        if (list->n == CLI_LIST_MAX) {
                cli_problem_set(p, CLI_USAGE, "usage", "--%s may be given at most %d times", o->name, CLI_LIST_MAX);
                return -EINVAL;
        }
        list->items[list->n++] = value;
        return 0;
}

static int store(const struct cli_option *o, const char *value, void *options, struct cli_problem *p) {
        void *where = (char *)options + o->offset;
        int r = 0;

        switch (o->kind) {
        case CLI_FLAG:
                *(bool *)where = true;
                return 0;
        case CLI_STRING:
                *(const char **)where = value;
                return 0;
        case CLI_U64:
                r = crew_parse_u64(value, where);
                if (r < 0)
                        cli_problem_set(p, CLI_USAGE, "usage", "--%s needs a number, not '%s'", o->name, value);
                return r < 0 ? -EINVAL : 0;
        case CLI_DURATION:
                r = crew_parse_duration(value, where);
                if (r < 0)
                        cli_problem_set(p, CLI_USAGE, "usage", "--%s needs a duration such as 30s or 5m, not '%s'", o->name,
                                        value);
                return r < 0 ? -EINVAL : 0;
        case CLI_LIST:
                return store_item(o, value, where, p);
        }
        return -EINVAL;
}

/* One option at argv[*i]; moves *i over a separate value. */
static int parse_option(const struct cli_verb *v, int argc, char **argv, int *i, void *options, struct cli_problem *p) {
        const char *word = argv[*i];
        const char *equals = word[1] == '-' ? strchr(word, '=') : NULL;
        size_t n = equals ? (size_t)(equals - word) - 2 : strlen(word) - (word[1] == '-' ? 2 : 1);
        const struct cli_option *o = find_option(v, word, n);
        const char *value = equals ? equals + 1 : NULL;

        if (!o)
                return unknown_option(v, word, p);
        if (o->kind == CLI_FLAG && value) {
                cli_problem_set(p, CLI_USAGE, "usage", "--%s takes no value", o->name);
                return -EINVAL;
        }
        if (o->kind != CLI_FLAG && !value) {
                if (*i + 1 >= argc) {
                        cli_problem_set(p, CLI_USAGE, "usage", "--%s needs a value: --%s %s", o->name, o->name, o->value);
                        return -EINVAL;
                }
                value = argv[++*i];
        }
        return store(o, value, options, p);
}

int cli_parse_into(const struct cli_verb *v, int argc, char **argv, void *options, struct cli_operands *rest,
                   struct cli_problem *problem) {
        int i = 1, kept = 1;

        for (; i < argc; i++) {
                const char *word = argv[i];
                if (strcmp(word, "--") == 0) {
                        i++;
                        break;
                }
                if (word[0] != '-' || word[1] == '\0') {
                        if (v->command)
                                break;
                        argv[kept++] = argv[i];
                        continue;
                }
                if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
                        return 1;
                int r = parse_option(v, argc, argv, &i, options, problem);
                if (r < 0)
                        return r;
        }
        while (i < argc)
                argv[kept++] = argv[i++];
        *rest = (struct cli_operands){argv + 1, (size_t)(kept - 1)};
        return 0;
}

/* Was --json among the words before "--"?  Asked when parsing failed, so the options struct may not say. */
static bool wants_json(const struct cli_verb *v, int argc, char **argv) {
        const struct cli_option *o = find_option(v, "--json", 4);

        for (int i = 1; o && i < argc && strcmp(argv[i], "--") != 0; i++) {
                if (strcmp(argv[i], "--json") == 0)
                        return true;
        }
        return false;
}

bool cli_parse(const struct cli_verb *v, int argc, char **argv, void *options, struct cli_operands *rest, int *status) {
        struct cli_problem problem = CLI_PROBLEM_NULL;
        bool json = wants_json(v, argc, argv);
        int r = cli_parse_into(v, argc, argv, options, rest, &problem);

        if (r == 0)
                return true;
        if (r > 0) {
                cli_print_help(v);
                *status = CLI_OK;
        } else {
                *status = cli_report(&problem, json);
        }
        return false;
}

bool cli_no_operands(const struct cli_verb *v, const struct cli_operands *rest, bool json, int *status) {
        struct cli_problem p = CLI_PROBLEM_NULL;
        char title[64];

        if (rest->n == 0)
                return true;
        cli_verb_title(v, title, sizeof(title));
        cli_problem_set(&p, CLI_USAGE, "usage", "unexpected word '%s' after %s", rest->items[0], title);
        for (size_t i = 0; i < v->n_options; i++) {
                if (v->options[i].complete == CLI_COMPLETE_AGENT)
                        cli_problem_hint(&p, "did you mean --%s %s?", v->options[i].name, rest->items[0]);
        }
        cli_problem_hint(&p, "usage: crewctl %s %s", title, v->synopsis);
        *status = cli_report(&p, json);
        return false;
}
