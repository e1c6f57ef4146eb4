/* SPDX-License-Identifier: Apache-2.0 */
#include "grace.h"

#include "common/util.h"
#include "term.h"
#include "text.h"

#define SLACK_MS 30000u /* after the grace: the kill, the records, the hooks */
#define LOOK_MS 250
#define LAST_FRAMES 1000u  /* that were there when the time was over */
#define SHOW_AFTER_MS 700u /* what ends at once needs no line */

static void show(struct term *t, const struct grace *g, uint64_t started_ns) {
        uint64_t now = crew_now_ns(), ms = (now - started_ns) / 1000000u;
        char line[256], passed[TEXT_WORD], all[TEXT_WORD];

        if (!t->moves || g->quiet || ms < SHOW_AFTER_MS)
                return;
        text_duration_short(ms * 1000000u, passed);
        text_duration_short(g->grace_ms * 1000000u, all);
        if (ms < g->grace_ms)
                snprintf(line, sizeof(line), "%s was asked to end: %s of %s", g->what, passed, all);
        else
                snprintf(line, sizeof(line), "%s: its time of %s is over, it is being killed", g->what, all);
        term_live_clear(t);
        term_live_line(t, TERM_YELLOW, term_spinner(t, now), line);
        fflush(t->out);
}

static int await(struct client *c, uint64_t seq, const struct grace *g, struct term *t, const Crew__Envelope **answer,
                 struct cli_problem *p) {
        uint64_t started = crew_now_ns(), until = started + (g->grace_ms + SLACK_MS) * 1000000u;
        unsigned last = LAST_FRAMES;

        for (;;) {
                /* Before the look: an answer that is there counts, however late we are. */
                bool over = crew_now_ns() >= until;
                int r = client_next(c, over ? 0 : LOOK_MS, answer, p);
                if (r < 0)
                        return r;
                if (over && (r == 0 || --last == 0))
                        break;
                show(t, g, started);
                if (r == 0 || (*answer)->corr != seq || (*answer)->body_case == CREW__ENVELOPE__BODY_EVENT)
                        continue;
                if ((*answer)->body_case == CREW__ENVELOPE__BODY_REFUSED)
                        return client_refused((*answer)->refused, p);
                return 0;
        }
        return cli_problem_set(p, CLI_FAILED, "timeout", "crewd of crew %s (pid %u) does not answer", client_crew(c),
                               client_server_pid(c));
}

int grace_call(struct client *c, Crew__Envelope *e, const struct grace *g, const Crew__Envelope **answer,
               struct cli_problem *p) {
        struct term t;
        uint64_t seq = 0;
        int r = client_send(c, e, &seq, p);

        if (r < 0)
                return r;
        term_init(&t, stdout);
        r = await(c, seq, g, &t, answer, p);
        term_live_clear(&t);
        fflush(stdout);
        return r;
}
