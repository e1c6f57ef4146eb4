/* SPDX-License-Identifier: Apache-2.0 */
/* Role policy or crew file? */
#include "source_file.h"

#include "common/util.h"

#include <string.h>

#define SOURCE_MAX ((size_t)4 << 20)

/* The scalar after "key:", without quotes and comment; "" when it is not a plain one. */
static void scalar(const char *s, size_t n, char out[CREW_NAME_MAX]) {
        size_t used = 0;
        char quote = '\0';

        while (n > 0 && (*s == ' ' || *s == '\t'))
                s++, n--;
        if (n > 0 && (*s == '"' || *s == '\''))
                quote = *s++, n--;
        for (; n > 0 && used + 1 < CREW_NAME_MAX; s++, n--) {
                if (quote ? *s == quote : *s == ' ' || *s == '#' || *s == '\r')
                        break;
                out[used++] = *s;
        }
        out[used] = '\0';
}

static bool is_key(const char *line, size_t n, const char *key) {
        size_t k = strlen(key);

        return n > k && strncmp(line, key, k) == 0 && line[k] == ':';
}

enum source_kind source_sniff_text(const char *text, struct crew_names *agents) {
        bool crew = false, role = false;

        while (*text) {
                size_t n = strcspn(text, "\n");
                char name[CREW_NAME_MAX];
                if (is_key(text, n, "crew") || is_key(text, n, "agents") || is_key(text, n, "tasks"))
                        crew = true;
                if (is_key(text, n, "agent")) {
                        role = true;
                        scalar(text + 6, n - 6, name);
                        if (name[0])
                                crew_names_add(agents, name);
                }
                if (is_key(text, n, "sandbox"))
                        role = true;
                text += n + (text[n] == '\n');
        }
        return crew ? SOURCE_CREW : role ? SOURCE_ROLE : SOURCE_OTHER;
}

int source_sniff(const char *path, enum source_kind *kind, struct crew_names *agents, struct crew_err *err) {
        _cleanup_free_ char *text = NULL;
        int r = crew_read_file(path, SOURCE_MAX, &text, NULL, err);

        if (r < 0)
                return r;
        *kind = source_sniff_text(text, agents);
        return 0;
}
