/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_dir.h"

#include <stdio.h>
#include <stdlib.h>

char dir[64];
struct record rec;

int make_dir(void **state) {
        strcpy(dir, "/tmp/crew-audit.XXXXXX");
        return mkdtemp(dir) ? 0 : -1;
}

int remove_dir(void **state) {
        char cmd[128];

        snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
        return system(cmd);
}

struct audit_stream *opened(void) {
        struct crew_err err = CREW_ERR_NULL;
        struct audit_stream *s = NULL;

        if (audit_open(dir, "desk", "writer", NULL, &s, &err) < 0)
                fail_msg("%s", err.msg);
        return s;
}

const struct record *denied(const char *path) {
        record_init(&rec, RECORD_FILE_DENIED, "landlock");
        record_str(&rec, "path", path);
        record_str(&rec, "access", "fs.read_file");
        record_str(&rec, "comm", "python3");
        return &rec;
}

const char *log_path(void) {
        static char path[128];

        snprintf(path, sizeof(path), "%s/writer/log.jsonl", dir);
        return path;
}

struct record_verify verified(void) {
        struct crew_err err = CREW_ERR_NULL;
        struct record_verify v;
        FILE *f = fopen(log_path(), "r");

        assert_non_null(f);
        assert_int_equal(record_verify_stream(f, &v, &err), 0);
        fclose(f);
        if (v.bad_seq)
                fprintf(stderr, "# record %llu: %s\n", (unsigned long long)v.bad_seq, v.problem);
        return v;
}

uint64_t counted(const char *kind, uint64_t *lines) {
        static char line[RECORD_LINE_MAX];
        uint64_t sum = 0;
        FILE *f = fopen(log_path(), "r");

        assert_non_null(f);
        *lines = 0;
        while (fgets(line, sizeof(line), f)) {
                struct record_line l;
                uint64_t count = 1;
                assert_int_equal(record_line_parse(line, strlen(line) - 1, &l), 0);
                (void)record_line_u64(&l, "count", &count);
                bool folded = record_line_is(&l, "kind", "evidence.folded") && record_line_is(&l, "of", kind);
                if (!folded && !record_line_is(&l, "kind", kind))
                        continue;
                sum += count;
                ++*lines;
        }
        fclose(f);
        return sum;
}

uint64_t summed(const char *key) {
        static char line[RECORD_LINE_MAX];
        uint64_t sum = 0, v;
        FILE *f = fopen(log_path(), "r");

        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                struct record_line l;
                assert_int_equal(record_line_parse(line, strlen(line) - 1, &l), 0);
                if (record_line_u64(&l, key, &v))
                        sum += v;
        }
        fclose(f);
        return sum;
}
