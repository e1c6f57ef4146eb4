/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "bytes.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>

struct entry {
        struct entry *next;
        char *key; /* owned, as is json */
        char *json;
        size_t len, charge;
        uint32_t by;
};

struct space {
        const struct crew_memory *decl;
        struct entry *first, **last;
        uint32_t n;
        uint64_t bytes;
        uint64_t *of_agent; /* room: bytes they have put */
};

struct memory {
        uint32_t n_agents; /* that the crew file knows */
        size_t n;
        struct space spaces[];
};

struct memory *memory_new(const struct crew_file *crew, uint32_t room) {
        struct memory *m = calloc(1, sizeof(*m) + crew->n_memory * sizeof(m->spaces[0]));

        if (!m)
                return NULL;
        m->n_agents = (uint32_t)crew->n_agents;
        for (; m->n < crew->n_memory; m->n++) {
                struct space *s = &m->spaces[m->n];
                s->decl = &crew->memory[m->n];
                s->last = &s->first;
                s->of_agent = calloc(MAX_OF(room, 1u), sizeof(*s->of_agent));
                if (!s->of_agent)
                        return memory_free(m);
        }
        return m;
}

void memory_take_file(struct memory *m, const struct crew_file *crew) {
        for (size_t i = 0; i < crew->n_memory; i++) {
                for (size_t k = 0; k < m->n; k++) {
                        if (strcmp(m->spaces[k].decl->name, crew->memory[i].name) == 0)
                                m->spaces[k].decl = &crew->memory[i];
                }
        }
        m->n_agents = (uint32_t)crew->n_agents;
}

static void entry_free(struct entry *e) {
        free(e->key);
        free(e->json);
        free(e);
}

struct memory *memory_free(struct memory *m) {
        for (size_t i = 0; m && i < m->n; i++) {
                while (m->spaces[i].first) {
                        struct entry *e = m->spaces[i].first;
                        m->spaces[i].first = e->next;
                        entry_free(e);
                }
                free(m->spaces[i].of_agent);
        }
        free(m);
        return NULL;
}

static struct space *find_space(const struct memory *m, const char *name) {
        for (size_t i = 0; i < m->n; i++)
                if (strcmp(m->spaces[i].decl->name, name) == 0)
                        return (struct space *)&m->spaces[i];
        return NULL;
}

static struct entry **find_entry(struct space *s, const char *key) {
        struct entry **at = &s->first;

        while (*at && strcmp((*at)->key, key) != 0)
                at = &(*at)->next;
        return at;
}

static enum memory_outcome enter(const struct memory *m, uint32_t agent, const char *name, uint8_t right,
                                 struct space **out) {
        *out = find_space(m, name);
        if (!*out)
                return MEMORY_NO_NAMESPACE;
        return agent < m->n_agents && (*out)->decl->rights[agent] & right ? MEMORY_OK : MEMORY_DENIED;
}

/* --- put --- */

static enum memory_outcome fits(const struct space *s, const struct entry *old, uint32_t agent, size_t charge) {
        uint64_t bytes = s->bytes - (old ? old->charge : 0) + charge;
        uint64_t own = s->of_agent[agent] - (old && old->by == agent ? old->charge : 0) + charge;

        if (!old && s->n >= s->decl->max_keys)
                return MEMORY_TOO_MANY_KEYS;
        if (bytes > s->decl->max_bytes)
                return MEMORY_TOO_MUCH;
        return own > s->decl->agent_bytes ? MEMORY_SHARE_USED : MEMORY_OK;
}

static void discharge(struct space *s, const struct entry *e) {
        s->bytes -= e->charge;
        s->of_agent[e->by] -= e->charge;
}

static void charge(struct space *s, const struct entry *e) {
        s->bytes += e->charge;
        s->of_agent[e->by] += e->charge;
}

static void drop(struct space *s, struct entry **at) {
        struct entry *e = *at;

        *at = e->next;
        if (!e->next)
                s->last = at;
        discharge(s, e);
        s->n--;
        entry_free(e);
}

static struct entry *add_entry(struct space *s, const char *key) {
        struct entry *e = calloc(1, sizeof(*e));

        if (!e || !(e->key = strdup(key))) {
                free(e);
                return NULL;
        }
        *s->last = e;
        s->last = &e->next;
        s->n++;
        return e;
}

enum memory_outcome memory_may_put(const struct memory *m, uint32_t agent, const char *space, const char *key,
                                   const char *json, size_t len) {
        struct space *s;
        enum memory_outcome out = enter(m, agent, space, CREW_MEMORY_WRITE, &s);

        return out == MEMORY_OK && json ? fits(s, *find_entry(s, key), agent, strlen(key) + len) : out;
}

int memory_put(struct memory *m, uint32_t agent, const char *space, const char *key, const char *json, size_t len) {
        enum memory_outcome out = memory_may_put(m, agent, space, key, json, len);
        struct space *s = find_space(m, space);

        if (out != MEMORY_OK)
                return out;
        struct entry **at = find_entry(s, key), *e = *at;
        if (!json) {
                if (e)
                        drop(s, at);
                return MEMORY_OK;
        }
        size_t cost = strlen(key) + len;
        char *copy = strndup(json, len);
        if (!copy || (!e && !(e = add_entry(s, key)))) {
                free(copy);
                return -ENOMEM;
        }
        discharge(s, e);
        free(e->json);
        e->json = copy;
        e->len = len;
        e->charge = cost;
        e->by = agent;
        charge(s, e);
        return MEMORY_OK;
}

/* --- get, list --- */

static struct memory_value value_of(const struct entry *e) {
        return (struct memory_value){.key = e->key, .json = e->json, .len = e->len, .by = e->by};
}

int memory_get(const struct memory *m, uint32_t agent, const char *space, const char *key, struct memory_value *out) {
        struct space *s;
        enum memory_outcome r = enter(m, agent, space, CREW_MEMORY_READ, &s);

        *out = (struct memory_value){0};
        if (r != MEMORY_OK)
                return r;
        const struct entry *e = *find_entry(s, key);
        if (e)
                *out = value_of(e);
        return MEMORY_OK;
}

int memory_list(const struct memory *m, uint32_t agent, const char *space,
                void (*fn)(const struct memory_value *v, void *user), void *user) {
        struct space *s;
        enum memory_outcome r = enter(m, agent, space, CREW_MEMORY_READ, &s);

        if (r != MEMORY_OK)
                return r;
        for (const struct entry *e = s->first; e; e = e->next) {
                struct memory_value v = value_of(e);
                fn(&v, user);
        }
        return MEMORY_OK;
}

const struct crew_memory *memory_decl(const struct memory *m, const char *space) {
        const struct space *s = find_space(m, space);

        return s ? s->decl : NULL;
}

uint64_t memory_bytes(const struct memory *m, const char *space) {
        const struct space *s = find_space(m, space);

        return s ? s->bytes : 0;
}

/* --- for the next crewd --- */

void memory_save(const struct memory *m, struct bytes_out *b) {
        for (size_t i = 0; i < m->n; i++) {
                const struct space *s = &m->spaces[i];
                bytes_put_u64(b, s->n);
                for (const struct entry *e = s->first; e; e = e->next) {
                        bytes_put_u64(b, e->by);
                        bytes_put_text(b, e->key, strlen(e->key));
                        bytes_put_text(b, e->json, e->len);
                }
        }
}

static int load_entry(struct space *s, uint32_t n_agents, struct bytes_in *b) {
        uint64_t by = bytes_get_u64(b);
        size_t len;
        _cleanup_free_ char *key = bytes_get_text(b, NULL), *json = bytes_get_text(b, &len);

        if (b->failed || !key || !json || by >= n_agents)
                return -EBADMSG;
        struct entry *e = add_entry(s, key);
        if (!e)
                return -ENOMEM;
        e->json = crew_steal_ptr(&json);
        e->len = len;
        e->charge = strlen(key) + len;
        e->by = (uint32_t)by;
        charge(s, e);
        return 0;
}

int memory_load(struct memory *m, struct bytes_in *b) {
        int r = 0;

        for (size_t i = 0; i < m->n && r == 0; i++) {
                uint64_t n = bytes_get_u64(b);
                for (uint64_t k = 0; k < n && r == 0; k++)
                        r = load_entry(&m->spaces[i], m->n_agents, b);
        }
        return b->failed ? -EBADMSG : r;
}
