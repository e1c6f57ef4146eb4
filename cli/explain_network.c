/* SPDX-License-Identifier: Apache-2.0 */
/* The network section of a policy, compiled, as a person reads it. */
#include "explain_network.h"

#include "common/util.h"
#include "jsonout.h"
#include "table.h"
#include "term.h"

#include <string.h>

#define PRESETS_MAX 128
#define RULES_MAX 400

static void append(char *buf, size_t size, const char *text) {
        size_t used = strlen(buf);

        snprintf(buf + used, size - used, "%s%s", used ? " " : "", text);
}

/* "GET HEAD /v1/quotes inspected credential market-key"; "" for an endpoint whose connections are only passed on. */
static void rules_text(const struct policy_image *p, size_t i, const struct policy_endpoint *e, char buf[RULES_MAX]) {
        buf[0] = '\0';
        for (size_t k = 0; k < e->n_methods; k++)
                append(buf, RULES_MAX, policy_endpoint_method(p, i, k));
        for (size_t k = 0; k < e->n_paths; k++)
                append(buf, RULES_MAX, policy_endpoint_path(p, i, k));
        if (e->inspect)
                append(buf, RULES_MAX, "inspected");
        if (e->credential) {
                append(buf, RULES_MAX, "credential");
                append(buf, RULES_MAX, e->credential);
        }
        if (e->audit)
                append(buf, RULES_MAX, "audit-only");
}

static json_t *endpoint_json(const struct policy_image *p, size_t i) {
        struct policy_endpoint e = policy_endpoint_at(p, i);
        json_t *o = json_pack("{s:o, s:i, s:s, s:s}", "host", jsonout_text(e.host), "port", (int)e.port, "tls",
                              e.inspect ? "inspect" : "passthrough", "enforcement", e.audit ? "audit" : "enforce");
        json_t *methods = json_array(), *paths = json_array();
        char rule[700];

        for (size_t k = 0; k < e.n_methods; k++)
                json_array_append_new(methods, jsonout_text(policy_endpoint_method(p, i, k)));
        for (size_t k = 0; k < e.n_paths; k++)
                json_array_append_new(paths, jsonout_text(policy_endpoint_path(p, i, k)));
        json_object_set_new(o, "methods", methods);
        json_object_set_new(o, "paths", paths);
        if (e.credential)
                json_object_set_new(o, "credential", jsonout_text(e.credential));
        if (e.preset)
                json_object_set_new(o, "preset", jsonout_text(e.preset));
        snprintf(rule, sizeof(rule), "%s:%u", e.file, e.mark.line);
        json_object_set_new(o, "rule", jsonout_text(rule));
        return o;
}

static json_t *endpoints_json(const struct policy_image *p) {
        json_t *all = json_array();

        for (size_t i = 0; i < policy_n_endpoints(p); i++)
                json_array_append_new(all, endpoint_json(p, i));
        return all;
}

/* alone: of a preset by itself, whose name stands above. */
static void print_endpoints(const struct policy_image *p, bool alone, const struct term *term) {
        static const struct table_column columns[] = {{NULL}, {.shrink = true}, {NULL}, {.drop = 1}};
        struct table *t = table_new(columns, ELEMENTSOF(columns));
        char host[300], rules[RULES_MAX];

        for (size_t i = 0; i < policy_n_endpoints(p); i++) {
                struct policy_endpoint e = policy_endpoint_at(p, i);
                rules_text(p, i, &e, rules);
                table_cell(t, TERM_PLAIN, "%s", policy_endpoint_text(&e, host, sizeof(host)));
                table_cell(t, TERM_PLAIN, "%s", rules);
                table_cell(t, TERM_DIM, "%s%s", e.preset && !alone ? "preset " : "", e.preset && !alone ? e.preset : "");
                table_cell(t, TERM_DIM, "%s:%u", e.file, e.mark.line);
        }
        table_print(t, term, "  ");
        table_free(t);
}

static const char *others(const struct policy_network *net) {
        return net->audit ? "let-through" : net->ask ? "ask" : "deny";
}

void explain_network(const struct policy_image *p, bool json) {
        struct policy_network net = policy_network_of(p);
        struct term term;

        if (json) {
                jsonout_print(json_pack("{s:o, s:o, s:s, s:I}", "agent", jsonout_text(policy_agent(p)), "endpoints",
                                        endpoints_json(p), "others", others(&net), "ask_timeout_s", (json_int_t)net.ask_s));
                return;
        }
        term_init(&term, stdout);
        if (policy_n_endpoints(p) == 0)
                puts("no endpoint is allowed");
        print_endpoints(p, false, &term);
        if (net.audit)
                puts("all others are recorded and let through (enforcement: audit)");
        else if (net.ask)
                printf("all others are held for the operator, %u s at most (on_unlisted: ask)\n", net.ask_s);
        else
                puts("all others are denied");
}

/* --- presets --- */

struct preset {
        struct policy_image *image; /* owned */
        char description[200];
};

static void preset_fini(struct preset *s) {
        s->image = policy_image_free(s->image);
}

static int unknown_preset(const char *name, struct cli_problem *problem) {
        static char names[PRESETS_MAX][64];
        const char *list[PRESETS_MAX];
        size_t n = policy_preset_names(names, PRESETS_MAX);

        for (size_t i = 0; i < n; i++)
                list[i] = names[i];
        const char *near = crew_nearest(name, list, n);
        cli_problem_set(problem, CLI_ABSENT, "no-preset", "there is no preset '%s'", name);
        if (near)
                cli_problem_hint(problem, "did you mean %s?", near);
        else
                cli_problem_hint(problem, "crewctl policy explain --presets lists them");
        return -1;
}

static int load_preset(const char *name, struct preset *out, struct cli_problem *problem) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        int r = policy_preset_load(name, &out->image, out->description, sizeof(out->description), &report, &err);

        policy_report_fini(&report);
        if (r == 0)
                return 0;
        if (strstr(err.msg, "there is no preset"))
                return unknown_preset(name, problem);
        return cli_problem_set(problem, CLI_USAGE, "bad-file", "%s", err.msg);
}

static json_t *preset_json(const char *name, const struct preset *s) {
        return json_pack("{s:s, s:o, s:o, s:o}", "preset", name, "description", jsonout_text(s->description), "file",
                         jsonout_text(policy_file(s->image)), "endpoints", endpoints_json(s->image));
}

static void print_preset(const char *name, const struct preset *s, const struct term *term) {
        fputs(term_on(term, TERM_BOLD), stdout);
        term_put(term, name);
        fputs(term_off(term, TERM_BOLD), stdout);
        fputs("   ", stdout);
        term_put(term, s->description);
        fputc('\n', stdout);
        print_endpoints(s->image, true, term);
}

static int show_presets(const char *const *names, size_t n, bool json, bool brief, struct cli_problem *problem) {
        static const struct table_column columns[] = {{NULL}, {.right = true}, {.shrink = true}};
        struct table *t = table_new(columns, ELEMENTSOF(columns));
        json_t *all = json_array();
        struct term term;
        int r = 0;

        term_init(&term, stdout);
        for (size_t i = 0; i < n && r == 0; i++) {
                struct preset s _cleanup_(preset_fini) = {.image = NULL};
                r = load_preset(names[i], &s, problem);
                if (r < 0)
                        break;
                if (json) {
                        json_array_append_new(all, preset_json(names[i], &s));
                } else if (brief) {
                        table_cell(t, TERM_PLAIN, "%s", names[i]);
                        table_cell(t, TERM_PLAIN, "%zu", policy_n_endpoints(s.image));
                        table_cell(t, TERM_PLAIN, "%s", s.description);
                } else {
                        print_preset(names[i], &s, &term);
                }
        }
        if (json && r == 0)
                jsonout_print(json_pack("{s:O}", "presets", all));
        else if (brief && r == 0)
                table_print(t, &term, "");
        json_decref(all);
        table_free(t);
        return r < 0 ? -1 : CLI_OK;
}

int explain_presets(const char *const *names, size_t n, bool json, struct cli_problem *problem) {
        static char found[PRESETS_MAX][64];
        const char *list[PRESETS_MAX];

        if (n > 0)
                return show_presets(names, n, json, false, problem);
        n = policy_preset_names(found, PRESETS_MAX);
        for (size_t i = 0; i < n; i++)
                list[i] = found[i];
        return show_presets(list, n, json, true, problem);
}
