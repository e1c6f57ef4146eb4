/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl policy explain: may this agent do that, and which rule decides?  The answer is policy_decide()'s, the function
 * that crewd enforces by; no daemon decides, one is asked at most for the crew file it was started from.
 */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "crews.h"
#include "explain_network.h"
#include "jsonout.h"
#include "supervisor/policy/crew_file.h"
#include "supervisor/policy/endpoint.h"
#include "supervisor/policy/policy.h"
#include "term.h"

#include <limits.h>
#include <string.h>

struct options {
        const char *agent, *crew, *policy, *crew_dir;
        bool json, presets;
};

static const struct cli_option option_rows[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "whom it is about", CLI_COMPLETE_AGENT},
        {"crew", 0, CLI_STRING, offsetof(struct options, crew), "FILE",
         "the crew file, or the name of a running crew (default: the crew that runs)", CLI_COMPLETE_FILE},
        {"policy", 0, CLI_STRING, offsetof(struct options, policy), "FILE", "a role file alone", CLI_COMPLETE_FILE},
        {"crew-dir", 0, CLI_STRING, offsetof(struct options, crew_dir), "DIR",
         "with --policy: what ${CREW_DIR} means (default: here)", CLI_COMPLETE_FILE},
        {"presets", 0, CLI_FLAG, offsetof(struct options, presets), NULL, "show the presets, or what each named one adds",
         CLI_COMPLETE_NONE},
        CLI_OPTION_JSON(struct options),
};

struct explain {
        const struct options *o;
        struct crew_file *crew;           /* owned; NULL with --policy */
        struct policy_image *alone;       /* owned; with --policy */
        const struct policy_image *image; /* the one asked about */
        enum policy_verb action;
        char object[4096];
        bool network; /* all that is allowed is listed, and nothing decided */
};

/* Problems in the files are shown as `policy check` shows them. */
static int bad_files(struct policy_report *report, int r, const struct crew_err *err, bool json, struct cli_problem *p) {
        size_t errors = report->errors;

        if (r < 0 && errors > 0 && !json)
                policy_report_print(report, stderr, false);
        policy_report_fini(report);
        if (r == 0)
                return 0;
        if (errors == 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err->msg);
        cli_problem_set(p, CLI_USAGE, "bad-file", "the policy has errors; crewctl policy check shows them");
        p->told = !json;
        return -1;
}

static int load_alone(struct explain *x, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        char here[PATH_MAX];

        if (!getcwd(here, sizeof(here)))
                strcpy(here, "/");
        int r = policy_load(x->o->policy, x->o->agent, x->o->crew_dir ? x->o->crew_dir : here, &x->alone, &report, &err);

        x->image = x->alone;
        return bad_files(&report, r, &err, x->o->json, p);
}

static bool is_path(const char *s) {
        size_t n = strlen(s);

        return strchr(s, '/') || (n > 5 && strcmp(s + n - 5, ".yaml") == 0) || (n > 4 && strcmp(s + n - 4, ".yml") == 0);
}

/* The crew file given, or the one the running crew was started from. */
static int crew_path(const struct options *o, char out[PATH_MAX], struct cli_problem *p) {
        _cleanup_client_ struct client *c = NULL;

        if (o->crew && is_path(o->crew)) {
                if ((size_t)snprintf(out, PATH_MAX, "%s", o->crew) >= PATH_MAX)
                        return cli_problem_set(p, CLI_USAGE, "bad-file", "path too long");
                return 0;
        }
        if (client_open(o->crew, &c, p) < 0) {
                if (strcmp(p->code, "no-crew") == 0)
                        cli_problem_hint(p, "or name the file: crewctl policy explain --crew CREW.yaml ...");
                return -1;
        }
        if ((size_t)snprintf(out, PATH_MAX, "%s", client_crew_file(c)) >= PATH_MAX)
                return cli_problem_set(p, CLI_FAILED, "bad-file", "path too long");
        return 0;
}

static int load_crew(struct explain *x, struct cli_problem *p) {
        _cleanup_names_ struct crew_names known = {0};
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        char path[PATH_MAX];

        if (!x->o->agent)
                return cli_problem_set(p, CLI_USAGE, "usage", "which agent? crewctl policy explain --agent AGENT ...");
        if (crew_path(x->o, path, p) < 0)
                return -1;
        int r = crew_load(path, &x->crew, &report, &err);
        if (bad_files(&report, r, &err, x->o->json, p) < 0)
                return -1;
        const struct crew_agent *a = crew_find_agent(x->crew, x->o->agent);
        if (!a) {
                for (size_t i = 0; i < x->crew->n_agents; i++)
                        crew_names_add(&known, x->crew->agents[i].name);
                return crew_unknown_agent(p, x->crew->name, x->o->agent, &known);
        }
        x->image = a->policy;
        return 0;
}

static bool is_file_action(enum policy_verb v) {
        return v == POLICY_DO_READ || v == POLICY_DO_WRITE || v == POLICY_DO_EXEC;
}

/* Another agent whose own rules (not the shared runtime) reach the path: there a decoy stands in this agent's view. */
static const char *owner_of(const struct explain *x) {
        for (size_t i = 0; x->crew && is_file_action(x->action) && i < x->crew->n_agents; i++) {
                const struct crew_agent *a = &x->crew->agents[i];
                if (a->policy == x->image || !a->policy)
                        continue;
                struct policy_verdict v = policy_decide(a->policy, POLICY_DO_READ, x->object);
                if (v.allowed && v.section && strcmp(v.section, "filesystem.runtime") != 0)
                        return a->name;
        }
        return NULL;
}

/* Where the crew file says that the host lives; NULL: where its name leads. */
static const struct crew_endpoint *place_of(const struct explain *x) {
        struct endpoint_text to;
        const char *why, *hint;

        if (!x->crew || x->action != POLICY_DO_CONNECT || endpoint_parse(x->object, &to, &why, &hint) < 0)
                return NULL;
        for (size_t i = 0; i < x->crew->n_endpoints; i++) {
                const struct crew_endpoint *e = &x->crew->endpoints[i];
                if (e->port == to.port && strcmp(e->host, to.host) == 0)
                        return e;
        }
        return NULL;
}

static const char *place_text(const struct crew_endpoint *e, char *buf, size_t size) {
        bool v6 = strchr(e->to_host, ':');

        snprintf(buf, size, "%s%s%s:%u", v6 ? "[" : "", e->to_host, v6 ? "]" : "", e->to_port);
        return buf;
}

static void explain_json(const struct explain *x, const struct policy_verdict *v, const char *owner) {
        const struct crew_endpoint *place = place_of(x);
        char to[300];
        json_t *o = json_pack("{s:o, s:s, s:o, s:b, s:o}", "agent", jsonout_text(policy_agent(x->image)), "action",
                              policy_verb_names[x->action], "object", jsonout_text(x->object), "allowed", (int)v->allowed,
                              "text", jsonout_text(v->text));

        if (v->section)
                json_object_set_new(o, "section", jsonout_text(v->section));
        if (v->rule[0])
                json_object_set_new(o, "rule", jsonout_text(v->rule));
        if (v->detail[0])
                json_object_set_new(o, "detail", jsonout_text(v->detail));
        if (v->asks)
                json_object_set_new(o, "asks", json_true());
        if ((v->allowed || v->asks) && place)
                json_object_set_new(o, "connect_to", jsonout_text(place_text(place, to, sizeof(to))));
        if (owner)
                json_object_set_new(o, "tripwire_of", jsonout_text(owner));
        if (!v->allowed && v->next_step[0])
                json_object_set_new(o, "next_step", jsonout_text(v->next_step));
        jsonout_print(o);
}

static void explain_text(const struct explain *x, const struct policy_verdict *v, const char *owner) {
        const struct crew_endpoint *place = place_of(x);
        struct term t;

        term_init(&t, stdout);
        enum term_style style = v->allowed ? TERM_GREEN : TERM_RED;
        /* With a detail nothing matched: the default decided, and the detail says what is listed instead. */
        bool by_default = !v->allowed && v->detail[0] && strncmp(v->text, "not in ", 7) == 0;
        const char *text = by_default ? "no rule allows it" : v->text;
        if (v->allowed && strncmp(text, "allowed by ", 11) == 0)
                text += 8;
        printf("%s%s%s%s", term_on(&t, style), v->allowed ? "allowed" : "denied", term_off(&t, style),
               text == v->text + 8 ? " " : ": ");
        term_put(&t, text);
        fputc('\n', stdout);
        if (v->rule[0]) {
                fputs("  ", stdout);
                term_put(&t, v->rule);
                if (v->detail[0])
                        fputs("  ", stdout), term_put(&t, v->detail);
                else if (v->section)
                        printf("  %s", v->section);
                fputc('\n', stdout);
        }
        if ((v->allowed || v->asks) && place) {
                char to[300];
                fputs("  connects to ", stdout);
                term_put(&t, place_text(place, to, sizeof(to)));
                fputs("  ", stdout);
                term_put(&t, x->crew->path);
                printf(":%u\n", place->mark.line);
        }
        if (v->allowed)
                return;
        if (v->asks)
                puts("  the connection is held until the operator answers (network.on_unlisted: ask)");
        if (owner)
                printf("  a tripwire: the path belongs to %s, so an attempt is recorded\n", owner);
        if (v->next_step[0]) {
                fputs("  to allow it: ", stdout);
                term_put(&t, v->next_step);
                fputc('\n', stdout);
        }
}

/* `http GET https://host/path` may be one word or two. */
static bool join_object(struct explain *x, const struct cli_operands *rest) {
        bool two = x->action == POLICY_DO_HTTP && rest->n == 3;
        int n = snprintf(x->object, sizeof(x->object), "%s%s%s", rest->items[1], two ? " " : "", two ? rest->items[2] : "");

        return (rest->n == 2 || two) && n >= 0 && (size_t)n < sizeof(x->object);
}

static int need_object(struct cli_problem *p) {
        cli_problem_set(p, CLI_USAGE, "usage", "an action and an object are needed");
        cli_problem_hint(p, "such as: read /etc/shadow, tool csv_parser_tool, send report-writer, connect host:443,\n"
                            "http GET https://host/path; or network alone, for all that can be reached");
        return -1;
}

static int parse_request(struct explain *x, const struct cli_operands *rest, struct cli_problem *p) {
        x->network = rest->n == 1 && strcmp(rest->items[0], "network") == 0;
        if (x->network)
                return 0;
        if (rest->n < 2)
                return need_object(p);
        for (size_t i = 0; i < POLICY_VERB_N; i++) {
                if (strcmp(rest->items[0], policy_verb_names[i]) == 0) {
                        x->action = (enum policy_verb)i;
                        if (!join_object(x, rest))
                                return need_object(p);
                        if (is_file_action(x->action) && x->object[0] != '/')
                                return cli_problem_set(p, CLI_USAGE, "usage", "'%s' is not an absolute path", x->object);
                        return 0;
                }
        }
        const char *near = crew_nearest(rest->items[0], policy_verb_names, POLICY_VERB_N);
        cli_problem_set(p, CLI_USAGE, "usage", "unknown action '%s'", rest->items[0]);
        cli_problem_hint(p, "actions: read, write, exec, tool, send, connect, http, network%s%s%s",
                         near ? "   (did you mean " : "", near ? near : "", near ? "?)" : "");
        return -1;
}

static int show_presets(const struct options *o, const struct cli_operands *rest) {
        struct cli_problem problem = CLI_PROBLEM_NULL;
        int r;

        if (o->agent || o->crew || o->policy)
                return cli_fail(o->json, CLI_USAGE, "usage", "--presets stands alone, with the names of presets");
        r = explain_presets((const char *const *)rest->items, rest->n, o->json, &problem);
        return r < 0 ? cli_report(&problem, o->json) : r;
}

static int decide(const struct explain *x) {
        struct policy_verdict v = policy_decide(x->image, x->action, x->object);
        const char *owner = v.allowed ? NULL : owner_of(x);

        (x->o->json ? explain_json : explain_text)(x, &v, owner);
        return v.allowed ? CLI_OK : CLI_REFUSED;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct explain x = {.o = &o};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (o.presets)
                return show_presets(&o, &rest);
        if (o.policy && o.crew)
                return cli_fail(o.json, CLI_USAGE, "usage", "--policy and --crew exclude each other");
        if (parse_request(&x, &rest, &problem) < 0 || (o.policy ? load_alone(&x, &problem) : load_crew(&x, &problem)) < 0) {
                status = cli_report(&problem, o.json);
        } else if (x.network) {
                explain_network(x.image, o.json);
                status = CLI_OK;
        } else {
                status = decide(&x);
        }
        policy_image_free(x.alone);
        crew_file_free(x.crew);
        return status;
}

const struct cli_verb verb_policy_explain = {
        .group = "policy",
        .name = "explain",
        .synopsis = "--agent AGENT [--crew FILE | --policy FILE] [--json] ACTION OBJECT",
        .summary = "say whether an agent may do something, and which rule decides",
        .details = "ACTION is read, write or exec with an absolute path, tool with a tool, send with an agent, connect\n"
                   "with host:port, or http with a method and a URL.  network, alone, lists all that the agent can reach.\n"
                   "Reads the files as they are now; a running crew keeps the policies it started with.\n"
                   "Exit 0: allowed, 4: denied.\n"
                   "\n"
                   "  crewctl policy explain --agent data-collector read /data/client-portfolios/acme.csv\n"
                   "  crewctl policy explain --policy policies/roles/researcher.yaml connect example.org:443\n"
                   "  crewctl policy explain --agent data-collector http GET https://api.marketdata.com/v1/quotes\n"
                   "  crewctl policy explain --agent data-collector network\n"
                   "  crewctl policy explain --presets pypi github\n",
        .options = option_rows,
        .n_options = ELEMENTSOF(option_rows),
        .operands = CLI_COMPLETE_ACTION,
        .run = run,
};
