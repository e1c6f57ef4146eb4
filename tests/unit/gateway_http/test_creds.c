/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "gateway/creds.h"
#include "gateway/creds_file.h"
#include "gateway/redact.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SECRET "sk-test-0123456789"
#define HOSTED "host = api.test\n"

static struct creds_file file;
static char dir[64];

static int parse(const char *text, struct crew_err *err) {
        *err = CREW_ERR_NULL;
        return creds_file_parse(text, strlen(text), &file, err);
}

static void a_file_says_what_goes_where(void **state) {
        struct crew_err err;

        assert_int_equal(parse("# keys\n\n[market-key]\nhost = API.test.\nport = 8443\npath = /v1/**\npath = /v2\n"
                               "header = X-Api-Key\nprefix = \"Key \"\nfile = a.token\nplain_http = yes\n"
                               "  [other]\n" HOSTED "env=OTHER\n[third]\n" HOSTED "command = /bin/echo x",
                               &err),
                         0);
        assert_int_equal(file.n, 3);
        const struct cred_spec *s = &file.specs[0];
        assert_string_equal(s->name, "market-key");
        assert_string_equal(s->host, "api.test");
        assert_int_equal(s->port, 8443);
        assert_int_equal(s->n_paths, 2);
        assert_string_equal(s->header, "X-Api-Key");
        assert_string_equal(s->prefix, "Key ");
        assert_true(s->plain_http);
        assert_int_equal(s->source, CRED_FILE);
        s = &file.specs[1];
        assert_int_equal(s->port, 443);
        assert_string_equal(s->header, "Authorization");
        assert_string_equal(s->prefix, "Bearer ");
        assert_string_equal(s->paths[0], "/**");
        assert_string_equal(s->from, "OTHER");
        assert_false(s->plain_http);
        assert_string_equal(file.specs[2].from, "/bin/echo x");
}

static void a_mistake_is_named_with_its_line(void **state) {
        static const struct {
                const char *text, *say;
        } rows[] = {
                {"host = a.test\n", "1: a key before"},
                {"[a]\n", "1: [a] has no host"},
                {"[a]\nhost = a.test\n", "1: [a] has no source"},
                {"[a]\nhost = a.test\nenv = A\nfile = b\n", "4: file: the secret has a source already"},
                {"[a]\nhost = a.test\nenv = A\nenv = B\n", "4: env is there twice"},
                {"[a]\nhost = a.test\nenv = A\n[a]\n", "4: [a] is there already, line 1"},
                {"[a]\nhots = a.test\n", "2: unknown key; did you mean host?"},
                {"[a]\nsk-live-123 = x\n", "2: unknown key; expected"},
                {"[a]\nsk-live-123\n", "2: expected [name] or key = value"},
                {"[a]\nhost = *.a.test\n", "2: host:"},
                {"[a]\nhost = 127.0.0.1\n", "2: host:"},
                {"[a]\nhost = a.test:443\n", "2: host:"},
                {"[a]\nport = 0\n", "2: port:"},
                {"[a]\nport = 65536\n", "2: port:"},
                {"[a]\npath = v1\n", "2: path:"},
                {"[a]\nheader = Host\n", "2: header: host cannot"},
                {"[a]\nheader = a b\n", "2: header:"},
                {"[a]\nprefix = \n", "2: prefix: expected a value"},
                {"[a]\nprefix = Key \n", "2: prefix: expected a value"},
                {"[a]\nprefix = \"Key\n", "2: prefix: expected a value"},
                {"[a]\nplain_http = true\n", "2: plain_http:"},
                {"[a]\nenv = CREWD_KEY\n", "2: env: variables named CREWD_, XDG_ or LD_"},
                {"[a]\ncommand = pass show x\n", "2: command: expected the absolute path"},
                {"[A]\n", "1: a name is"},
                {"[a\n", "1: expected [name]"},
                {"[a]\n\thost = a.test\n", "2: only printable"},
                {"[a]\r\n", "1: only printable"},
                {"[a]\nhost = \xc3\xa4.test\n", "2: only printable"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct crew_err err;
                if (parse(rows[i].text, &err) != -EINVAL || strncmp(err.msg, rows[i].say, strlen(rows[i].say)) != 0)
                        fail_msg("row %zu: \"%s\", expected \"%s\"", i, err.msg, rows[i].say);
                assert_null(strstr(err.msg, "sk-live"));
        }
}

static void limits_of_the_file_are_exact(void **state) {
        static char text[CREDS_FILE_MAX];
        struct crew_err err;
        char word[CRED_TEXT_MAX + 1];

        memset(word, 'w', sizeof(word));
        word[sizeof(word) - 1] = '\0';
        snprintf(text, sizeof(text), "[a]\npath = /%s\n", word + 2);
        assert_int_equal(parse(text, &err), -EINVAL); /* no host: this line was taken */
        assert_non_null(strstr(err.msg, "no host"));
        snprintf(text, sizeof(text), "[a]\npath = /%s\n", word + 1);
        assert_int_equal(parse(text, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "2: path: at most 511 characters"));
        strcpy(text, "[a]\n" HOSTED "env = A\n");
        for (int i = 0; i < CRED_PATHS_MAX; i++)
                strcat(text, "path = /x\n");
        assert_int_equal(parse(text, &err), 0);
        assert_int_equal(file.specs[0].n_paths, CRED_PATHS_MAX);
        strcat(text, "path = /x\n");
        assert_int_equal(parse(text, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "12: path: at most 8"));
        text[0] = '\0';
        for (int i = 0; i <= CREDS_MAX; i++) {
                assert_int_equal(parse(text, &err), 0);
                assert_int_equal(file.n, i);
                sprintf(text + strlen(text), "[k%d]\n" HOSTED "env = A\n", i);
        }
        assert_int_equal(parse(text, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "at most 64 credentials"));
        memset(text, '#', 1026);
        text[1024] = '\0';
        assert_int_equal(parse(text, &err), 0);
        text[1024] = '#';
        text[1025] = '\0';
        assert_int_equal(parse(text, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "more than 1024"));
}

static void what_a_value_may_be_is_exact(void **state) {
        static const struct {
                const char *line;
                bool ok;
        } rows[] = {
                {"port = 65535", true},
                {"port = 1", true},
                {"port = 443x", false},
                {"path = /a?b", false},
                {"path = /a#b", false},
                {"path = /a\\b", false},
                {"path = /a%b", true},
                {"plain_http = no", true},
                {"plain_http = yes", true},
                {"plain_http = \"\"", false},
                {"prefix = \"a\"b\"", false},
                {"prefix = \"", false},
                {"prefix = a\"", false},
                {"prefix = \"\"", true},
                {"header = Trailer", false},
                {"header = TE", false},
                {"header = connection", false},
                {"header = Content-Length", false},
                {"header = Transfer-Encoding", false},
                {"header = X-Key", true},
                {"header = \"\"", false},
                {"host  =  b.test", true},
        };
        struct crew_err err;
        char text[256];

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const bool host = rows[i].line[0] == 'h' && rows[i].line[1] == 'o';
                snprintf(text, sizeof(text), "[a]\n%s\n%sfile = CREWD_IS_NO_VARIABLE_HERE\n", rows[i].line,
                         host ? "" : HOSTED);
                if ((parse(text, &err) == 0) != rows[i].ok)
                        fail_msg("%s: %s", rows[i].line, err.msg);
        }
        assert_int_equal(parse("[a]\n" HOSTED "env = A\nprefix = \"\"\n", &err), 0);
        assert_string_equal(file.specs[0].prefix, ""); /* not the one that Authorization has without a word */
        assert_int_equal(parse("[a]\n" HOSTED "env = A\nheader = X-Key\n", &err), 0);
        assert_string_equal(file.specs[0].prefix, "");
}

static const char *put(const char *name, const char *text, mode_t mode) {
        static char path[4][128];
        static unsigned turn;
        char *p = path[turn++ % 4];

        snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
        unlink(p);
        int fd = open(p, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_true(fd >= 0 && crew_write_full(fd, text, strlen(text)) == 0 && fchmod(fd, mode) == 0);
        close(fd);
        return p;
}

static int load(const char *text, struct creds **c, struct crew_err *err) {
        *err = CREW_ERR_NULL;
        *c = NULL;
        return creds_load(put("creds", text, 0600), c, err);
}

static void secrets_come_from_a_file_a_variable_or_a_command(void **state) {
        struct creds *c;
        struct crew_err err;
        size_t n;
        char command[300];

        put("token", SECRET "\n", 0400);
        put("echo.sh", "#!/bin/sh\necho from-$1-$2\n", 0700);
        char *variable = strdup("KEYS_TEST_KEY=variable-secret");
        putenv(variable);
        snprintf(command, sizeof(command),
                 "[a]\n" HOSTED "file = token\n[b]\n" HOSTED "env = KEYS_TEST_KEY\n[c]\n" HOSTED
                 "command = %s/echo.sh one two\n",
                 dir);
        int r = load(command, &c, &err);
        if (r < 0)
                print_error("%s\n", err.msg);
        assert_int_equal(r, 0);
        assert_memory_equal(cred_secret(creds_find(c, "a"), &n), SECRET, 18);
        assert_int_equal(n, 18);
        assert_memory_equal(cred_secret(creds_find(c, "b"), &n), "variable-secret", 15);
        assert_memory_equal(cred_secret(creds_find(c, "c"), &n), "from-one-two", 12);
        assert_int_equal(n, 12);
        assert_null(creds_find(c, "d"));
        /* The variable is gone, and what /proc/PID/environ would show of it too. */
        assert_null(getenv("KEYS_TEST_KEY"));
        assert_null(memmem(variable, sizeof("KEYS_TEST_KEY=variable-secret"), "variable-secret", 15));
        free(variable);
        creds_free(c);
}

static void what_others_may_read_is_refused(void **state) {
        char path[160], target[160];
        struct creds *c;
        struct crew_err err;

        for (unsigned mode = 0640; mode; mode = mode == 0640 ? 0604 : mode == 0604 ? 0620 : 0) {
                err = CREW_ERR_NULL;
                assert_int_equal(creds_load(put("creds", "", mode), &c, &err), -EPERM);
                assert_non_null(strstr(err.msg, "chmod 600"));
        }
        put("token", SECRET, 0644);
        assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), -EPERM);
        assert_non_null(strstr(err.msg, "credential a: its file: has mode 0644"));
        snprintf(target, sizeof(target), "%s", put("token", SECRET, 0600));
        snprintf(path, sizeof(path), "%s/link", dir);
        assert_int_equal(symlink(target, path), 0);
        assert_int_equal(load("[a]\n" HOSTED "file = link\n", &c, &err), -ELOOP);
        put("creds", "", 0600);
        snprintf(target, sizeof(target), "%s/creds", dir);
        unlink(path);
        assert_int_equal(symlink(target, path), 0);
        assert_int_equal(creds_load(path, &c, &err), -ELOOP);
        assert_int_equal(creds_load("/dev/null", &c, &err), -EINVAL);
        assert_int_equal(creds_load(dir, &c, &err), -EINVAL);
        if (geteuid() == 0) {
                assert_int_equal(chown(target, 1, 1), 0);
                assert_int_equal(creds_load(target, &c, &err), -EPERM);
                assert_non_null(strstr(err.msg, "belongs to uid 1"));
        }
        unlink(path);
        unlink(target);
}

static void a_bad_secret_is_refused_and_not_shown(void **state) {
        static const struct {
                const char *secret, *say;
        } rows[] = {
                {"short", "not 8 to 4096 bytes"},
                {"", "not 8 to 4096 bytes"},
                {"two\nlines-of-text", "cannot stand in a header"},
                {"carriage-return\r\n", "cannot stand in a header"},
                {"um\xc3\xa4laut-secret", "cannot stand in a header"},
        };
        struct creds *c;
        struct crew_err err;
        char *large = calloc(1, 5000);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                put("token", rows[i].secret, 0600);
                assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), -EINVAL);
                assert_non_null(strstr(err.msg, rows[i].say));
                if (rows[i].secret[0])
                        assert_null(strstr(err.msg, rows[i].secret));
        }
        memset(large, 'k', 4998);
        put("token", large, 0600);
        assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), -EINVAL);
        large[4096] = '\n';
        large[4097] = '\0';
        put("token", large, 0600);
        assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), 0);
        creds_free(c);
        free(large);
}

static void a_command_that_fails_is_said_without_its_words(void **state) {
        struct creds *c;
        struct crew_err err;

        assert_true(load("[a]\n" HOSTED "command = /bin/sh /nonexistent-hunter2\n", &c, &err) < 0);
        assert_non_null(strstr(err.msg, "credential a: its command failed (status"));
        assert_null(strstr(err.msg, "hunter2"));
        assert_true(load("[a]\n" HOSTED "command = /nonexistent\n", &c, &err) < 0);
        assert_true(load("[a]\n" HOSTED "env = KEYS_TEST_NOT_SET\n", &c, &err) < 0);
}

/* Nothing but its words and its output: no descriptor, no input, no terminal to write to. */
static void a_command_has_nothing_of_the_gateways(void **state) {
        struct creds *c;
        struct crew_err err;
        char text[512];
        int leak = fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 77);

        assert_int_equal(leak, 77); /* without close-on-exec */
        put("echo.sh",
            "#!/bin/sh\n[ -e /proc/self/fd/77 ] && exit 1\nread line && exit 2\n"
            "[ \"$(readlink /proc/$$/fd/2)\" = /dev/null ] || exit 3\n[ \"$(cut -d' ' -f6 /proc/$$/stat)\" -eq $$ ] || "
            "exit 4\n"
            "[ $# -le 14 ] || exit 5\necho words-$#-$2\n",
            0700);
        snprintf(text, sizeof(text), "[c]\n" HOSTED "command = %s/echo.sh  1  two 3 4 5 6 7 8 9 10 11 12 13 14\n", dir);
        int r = load(text, &c, &err);
        if (r < 0)
                fail_msg("%s", err.msg);
        size_t n;
        assert_memory_equal(cred_secret(creds_find(c, "c"), &n), "words-14-two", 12);
        creds_free(c);
        snprintf(text, sizeof(text), "[c]\n" HOSTED "command = %s/echo.sh 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n",
                 dir);
        assert_true(load(text, &c, &err) < 0);
        assert_non_null(strstr(err.msg, "its command failed (status 126)"));
        close(leak);
        close(leak - 1);
}

/* VmFlags of proc(5): dd is left out of dumps, dc is not copied on fork. */
static void secrets_are_in_memory_that_stays_here(void **state) {
        struct creds *c;
        struct crew_err err;
        char line[512];
        size_t n;
        bool here = false, checked = false;

        put("token", SECRET, 0600);
        assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), 0);
        const uintptr_t at = (uintptr_t)cred_secret(creds_find(c, "a"), &n);
        FILE *maps = fopen("/proc/self/smaps", "re");
        assert_non_null(maps);
        while (fgets(line, sizeof(line), maps)) {
                unsigned long from, to;
                if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
                        here = from <= at && at < to;
                if (!here || strncmp(line, "VmFlags:", 8) != 0)
                        continue;
                assert_non_null(strstr(line, " dd"));
                assert_non_null(strstr(line, " dc"));
                checked = true;
        }
        fclose(maps);
        assert_true(checked);
        creds_free(c);
}

static void as_many_credentials_for_one_place_as_answers_are_searched_for(void **state) {
        char text[2048] = "";
        struct creds *c;
        struct crew_err err;
        const struct cred *of[CREDS_PER_HOST_MAX];

        put("token", SECRET, 0600);
        for (int i = 0; i < CREDS_PER_HOST_MAX; i++)
                sprintf(text + strlen(text), "[a%d]\n" HOSTED "file = token\n", i);
        strcat(text, "[b]\n" HOSTED "port = 444\nfile = token\n[c]\nhost = b.test\nfile = token\n"); /* of other places */
        assert_int_equal(load(text, &c, &err), 0);
        assert_int_equal(creds_of(c, "api.test", 443, of), CREDS_PER_HOST_MAX);
        assert_int_equal(creds_of(c, "api.test", 444, of), 1);
        assert_int_equal(creds_of(NULL, "api.test", 443, of), 0);
        assert_null(creds_find(NULL, "b"));
        creds_free(c);
        strcat(text, "[last]\n" HOSTED "file = token\n");
        assert_int_equal(load(text, &c, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "more than 8 credentials for one host and port"));
}

static void a_secret_of_any_printable_byte_is_taken(void **state) {
        struct creds *c;
        struct crew_err err;
        char secret[] = "01234567";

        for (unsigned byte = 1; byte < 256; byte++) {
                secret[3] = (char)byte;
                put("token", secret, 0600);
                const bool ok = byte >= 0x20 && byte < 0x7f;
                assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), ok ? 0 : -EINVAL);
                if (ok)
                        creds_free(c);
        }
        put("token", "1234567", 0600);
        assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), -EINVAL);
        static char large[CREDS_FILE_MAX + 2];
        memset(large, '\n', CREDS_FILE_MAX);
        assert_int_equal(load(large, &c, &err), 0);
        creds_free(c);
        large[CREDS_FILE_MAX] = '\n';
        assert_int_equal(load(large, &c, &err), -EFBIG);
}

static void a_credential_goes_to_its_host_port_and_path_only(void **state) {
        struct creds *c;
        struct crew_err err;
        const struct cred *of[CREDS_PER_HOST_MAX];

        put("token", SECRET, 0600);
        assert_int_equal(load("[a]\nhost = api.test\nport = 443\npath = /v1/**\nfile = token\n"
                              "[b]\nhost = api.test\nport = 80\nplain_http = yes\nfile = token\n",
                              &c, &err),
                         0);
        const struct cred *a = creds_find(c, "a"), *b = creds_find(c, "b");
        assert_true(cred_bound(a, "api.test", 443, "/v1/x", true));
        assert_false(cred_bound(a, "api.test", 443, "/v1/x", false));
        assert_false(cred_bound(a, "api.test", 443, "/v2/x", true));
        assert_false(cred_bound(a, "api.test", 444, "/v1/x", true));
        assert_false(cred_bound(a, "evil.test", 443, "/v1/x", true));
        assert_false(cred_bound(a, "api.test", 443, "", true));
        assert_true(cred_bound(b, "api.test", 80, "/anything", false));
        assert_int_equal(creds_of(c, "api.test", 443, of), 1);
        assert_ptr_equal(of[0], a);
        assert_int_equal(creds_of(c, "evil.test", 443, of), 0);
        creds_free(c);
}

static void a_secret_in_an_answer_is_masked_in_any_pieces(void **state) {
        struct creds *c;
        struct crew_err err;
        const struct cred *of[CREDS_PER_HOST_MAX];
        const char *text = "x" SECRET "y sk-test-0123456788 sk-sk-test-0123456789" SECRET "sk-tes";
        const char *want = "x******************y sk-test-0123456788 sk-************************************sk-tes";

        put("token", SECRET, 0600);
        assert_int_equal(load("[a]\n" HOSTED "file = token\n", &c, &err), 0);
        size_t n = creds_of(c, "api.test", 443, of), all = strlen(text);
        for (size_t step = 1; step <= all; step++) {
                char window[256], out[256];
                size_t held = 0, done = 0;
                for (size_t at = 0; at < all;) {
                        const size_t k = MIN_OF(step, all - at);
                        memcpy(window + held, text + at, k);
                        at += k;
                        size_t have = held + k;
                        held = at == all ? 0 : redact(of, n, window, have);
                        if (at == all)
                                redact(of, n, window, have);
                        memcpy(out + done, window, have - held);
                        done += have - held;
                        memmove(window, window + have - held, held);
                }
                out[done] = '\0';
                assert_string_equal(out, want);
        }
        creds_free(c);
}

static int set_up(void **state) {
        strcpy(dir, "/tmp/crewd-creds-XXXXXX");
        return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state) {
        static const char *const names[] = {"creds", "token", "echo.sh", "link"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                char path[128];
                snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
                unlink(path);
        }
        return rmdir(dir);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_file_says_what_goes_where),
                cmocka_unit_test(a_mistake_is_named_with_its_line),
                cmocka_unit_test(secrets_come_from_a_file_a_variable_or_a_command),
                cmocka_unit_test(what_others_may_read_is_refused),
                cmocka_unit_test(a_bad_secret_is_refused_and_not_shown),
                cmocka_unit_test(a_command_that_fails_is_said_without_its_words),
                cmocka_unit_test(limits_of_the_file_are_exact),
                cmocka_unit_test(what_a_value_may_be_is_exact),
                cmocka_unit_test(a_command_has_nothing_of_the_gateways),
                cmocka_unit_test(secrets_are_in_memory_that_stays_here),
                cmocka_unit_test(as_many_credentials_for_one_place_as_answers_are_searched_for),
                cmocka_unit_test(a_secret_of_any_printable_byte_is_taken),
                cmocka_unit_test(a_credential_goes_to_its_host_port_and_path_only),
                cmocka_unit_test(a_secret_in_an_answer_is_masked_in_any_pieces),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
