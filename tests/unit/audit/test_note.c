/* SPDX-License-Identifier: Apache-2.0 */
/* The tree is RFC 6962's, keys and notes are C2SP's, and nothing that was changed passes. */
#include "tests/unit/supervisor/test.h"

#include "common/keys.h"
#include "common/merkle.h"
#include "common/note.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>

/* --- the tree --- */

static const struct {
        const char *bytes;
        size_t n;
} leaves[] = {{"", 0},
              {"\0", 1},
              {"\x10", 1},
              {"\x20\x21", 2},
              {"\x30\x31", 2},
              {"\x40\x41\x42\x43", 4},
              {"\x50\x51\x52\x53\x54\x55\x56\x57", 8},
              {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16}};
/* Of the first n of them: the reference implementation's. */
static const char *const roots[] = {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                                    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                                    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                                    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                                    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                                    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                                    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                                    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};

static void root_is(const struct merkle *m, const char *hex) {
        uint8_t root[CREW_SHA256_BYTES];
        char own[CREW_SHA256_HEX];

        merkle_root(m, root);
        crew_hex(root, sizeof(root), own);
        assert_string_equal(own, hex);
}

static void the_tree_is_that_of_the_rfc(void **state) {
        struct merkle m;

        merkle_init(&m, crew_sha256_parts);
        for (size_t i = 0; i < ELEMENTSOF(leaves); i++) {
                root_is(&m, roots[i]);
                merkle_add(&m, leaves[i].bytes, leaves[i].n);
        }
        root_is(&m, roots[ELEMENTSOF(leaves)]);
}

/* All roots of 0 to 130 lines "line N", one behind the other: their digest, by another implementation. */
static void many_lines_and_going_on_from_every_edge(void **state) {
        uint8_t all[131][CREW_SHA256_BYTES], edge[MERKLE_EDGE_MAX], digest[CREW_SHA256_BYTES];
        char hex[CREW_SHA256_HEX], line[24];
        struct merkle m, other;

        merkle_init(&m, crew_sha256_parts);
        for (unsigned i = 0; i < 131; i++) {
                merkle_root(&m, all[i]);
                size_t n = merkle_edge(&m, edge);
                merkle_init(&other, crew_sha256_parts);
                assert_true(merkle_restore(&other, i, edge, n));
                assert_false(merkle_restore(&other, i, edge, n + 1));
                assert_false(merkle_restore(&other, i + 1, edge, n) && __builtin_popcount(i) != __builtin_popcount(i + 1));
                assert_true(merkle_restore(&other, i, edge, n));
                int len = snprintf(line, sizeof(line), "line %u", i);
                merkle_add(&m, line, (size_t)len);
                merkle_add(&other, line, (size_t)len);
                merkle_root(&m, digest);
                crew_hex(digest, sizeof(digest), hex);
                root_is(&other, hex);
        }
        crew_sha256_hex(all, sizeof(all), hex);
        assert_string_equal(hex, "97483a7b8d7c51570c72c51747a9d13dbffa302b20748df908b09a8f6177ee1b");
        assert_false(merkle_restore(&m, 1ull << MERKLE_LEVELS, edge, CREW_SHA256_BYTES));
}

/* --- keys --- */

#define OTHERS_KEY "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
#define OTHERS_TEXT "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
#define OTHERS_SIGNATURE "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="

static void a_signature_of_another_implementation_is_good(void **state) {
        struct verify_key k;
        uint8_t sig[68];
        char text[KEY_TEXT_MAX];
        size_t n;

        assert_true(verify_key_parse(OTHERS_KEY, strlen(OTHERS_KEY), &k));
        verify_key_text(&k, text);
        assert_string_equal(text, OTHERS_KEY "\n");
        assert_true(crew_unbase64(OTHERS_SIGNATURE, strlen(OTHERS_SIGNATURE), sig, sizeof(sig), &n));
        assert_int_equal(n, sizeof(sig));
        assert_memory_equal(sig, k.hash, sizeof(k.hash));
        assert_true(verify_key_accepts(&k, OTHERS_TEXT, strlen(OTHERS_TEXT), sig + 4));
        assert_false(verify_key_accepts(&k, OTHERS_TEXT, strlen(OTHERS_TEXT) - 1, sig + 4));
        for (size_t i = 0; i + 1 < strlen(text); i++) {
                struct verify_key changed;
                text[i] ^= 1;
                assert_false(verify_key_parse(text, strlen(text), &changed));
                text[i] ^= 1;
        }
        sig[10] ^= 1;
        assert_false(verify_key_accepts(&k, OTHERS_TEXT, strlen(OTHERS_TEXT), sig + 4));
}

static struct sign_key *made(const char *name) {
        struct crew_err err = CREW_ERR_NULL;
        struct sign_key *k = NULL;

        if (sign_key_make(name, &k, &err) < 0)
                fail_msg("%s", err.msg);
        return k;
}

static void a_key_is_itself_again_and_a_changed_text_is_none(void **state) {
        struct sign_key *k = made("crewd/desk"), *again = NULL;
        uint8_t sig[KEY_SIGNATURE_BYTES];
        char text[KEY_TEXT_MAX];
        struct verify_key public;

        sign_key_text(k, text);
        assert_int_equal(strncmp(text, "PRIVATE+KEY+crewd/desk+", 23), 0);
        assert_int_equal(sign_key_parse(text, strlen(text), &again, NULL), 0);
        sign_key_sign(again, "x", 1, sig);
        assert_true(verify_key_accepts(sign_key_public(k), "x", 1, sig));
        again = sign_key_free(again);
        for (size_t i = 0; text[i + 1]; i++) {
                text[i] ^= 1;
                assert_int_equal(sign_key_parse(text, strlen(text), &again, NULL), -EINVAL);
                text[i] ^= 1;
        }
        assert_false(verify_key_parse(text, strlen(text), &public)); /* a private one is not public */
        verify_key_text(sign_key_public(k), text);
        assert_null(strstr(text, "PRIVATE"));
        assert_int_equal(sign_key_parse(text, strlen(text), &again, NULL), -EINVAL);
        assert_int_equal(sign_key_make("two words", &again, NULL), -EINVAL);
        assert_int_equal(sign_key_make("a+b", &again, NULL), -EINVAL);
        assert_int_equal(sign_key_make("", &again, NULL), -EINVAL);
        sign_key_free(k);
}

static void base64_has_one_form(void **state) {
        static const char *const bad[] = {
                "QQ", "QQ=", "QR==", "QQ==\n", " QQ==", "QQ==QQ==", "Q=Q=", "QUI-", "=", "Pet\xef", "QQ==="};
        uint8_t out[8];
        size_t n;

        assert_true(crew_unbase64("QQ==", 4, out, sizeof(out), &n) && n == 1 && out[0] == 'A');
        assert_true(crew_unbase64("", 0, out, sizeof(out), &n) && n == 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(crew_unbase64(bad[i], strlen(bad[i]), out, sizeof(out), &n));
        assert_false(crew_unbase64("QUJD", 4, out, 2, &n)); /* no room */
}

/* --- notes --- */

static size_t example(const struct sign_key *k, char text[NOTE_MAX], struct note *n) {
        struct merkle m;

        *n = (struct note){.origin = "crewd/desk/writer", .bytes = 4096, .has_edge = true};
        merkle_init(&m, crew_sha256_parts);
        for (int i = 0; i < 7; i++)
                merkle_add(&m, "x", 1);
        n->lines = m.n;
        merkle_root(&m, n->root);
        n->edge_len = merkle_edge(&m, n->edge);
        return note_format(n, k, text);
}

static void a_note_says_what_was_signed(void **state) {
        struct sign_key *k = made("crewd/desk"), *other = made("crewd/desk"), *nobody = made("nobody");
        struct note n, back;
        char text[NOTE_MAX];
        size_t len = example(k, text, &n);

        assert_int_equal(note_parse(text, len, sign_key_public(k), &back), NOTE_OK);
        assert_string_equal(back.origin, n.origin);
        assert_int_equal(back.lines, 7);
        assert_int_equal(back.bytes, 4096);
        assert_int_equal(back.edge_len, n.edge_len);
        assert_memory_equal(back.edge, n.edge, n.edge_len);
        assert_memory_equal(back.root, n.root, sizeof(n.root));
        assert_int_equal(note_parse(text, len, sign_key_public(other), &back), NOTE_UNSIGNED);
        assert_int_equal(note_parse(text, len, sign_key_public(nobody), &back), NOTE_UNSIGNED);
        assert_int_equal(back.lines, 7);
        sign_key_free(k);
        sign_key_free(other);
        sign_key_free(nobody);
}

static void no_byte_of_a_note_can_be_changed(void **state) {
        struct sign_key *k = made("crewd/desk");
        struct note n, back;
        char text[NOTE_MAX];
        size_t len = example(k, text, &n);

        for (size_t i = 0; i < len; i++) {
                for (unsigned bit = 0; bit < 8; bit++) {
                        text[i] ^= (char)(1u << bit);
                        assert_int_not_equal(note_parse(text, len, sign_key_public(k), &back), NOTE_OK);
                        text[i] ^= (char)(1u << bit);
                }
                assert_int_not_equal(note_parse(text, i, sign_key_public(k), &back), NOTE_OK);
        }
        text[len] = '\n';
        assert_int_equal(note_parse(text, len + 1, sign_key_public(k), &back), NOTE_MALFORMED);
        assert_int_equal(note_parse(text, len, sign_key_public(k), &back), NOTE_OK);
        sign_key_free(k);
}

/* A cosigner's line may be there as well; a second "edge" and numbers in odd forms may not. */
static void others_may_sign_too(void **state) {
        struct sign_key *k = made("crewd/desk");
        struct note n, back;
        char text[NOTE_MAX];
        size_t len = example(k, text, &n);

        len += (size_t)snprintf(text + len, sizeof(text) - len, "\xe2\x80\x94 PeterNeumann %s\n", OTHERS_SIGNATURE);
        assert_int_equal(note_parse(text, len, sign_key_public(k), &back), NOTE_OK);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "what is this\n");
        assert_int_equal(note_parse(text, len, sign_key_public(k), &back), NOTE_MALFORMED);
        sign_key_free(k);
}

static void what_is_no_checkpoint_is_refused(void **state) {
#define ROOT "4zsbAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define SIGNED "\n\xe2\x80\x94 x AAAAAAAAAAA=\n"
        static const char *const bad[] = {
                "",
                "\n",
                "\n\n",
                "o\n1\n" ROOT,
                "o\n01\n" ROOT SIGNED,
                "o\n-1\n" ROOT SIGNED,
                "o\n1 \n" ROOT SIGNED,
                "o\n99999999999999999999\n" ROOT SIGNED,
                "\n1\n" ROOT SIGNED,
                "o\n1\nAAAA\n" SIGNED,
                "o\n1\n" ROOT "edge 1 \nedge 1 \n" SIGNED,
                "o\n1\n" ROOT "edge 1\n" SIGNED,
                "o\n1\n" ROOT "edge x \n" SIGNED,
                "o\r\n1\n" ROOT SIGNED,
                "o\n1\n" ROOT "\n\xe2\x80\x94 x AAAAAAAAAAA",
                "o\n1\n" ROOT "\nx AAAAAAAAAAA=\n",
                "o\n1\n" ROOT "\n\xe2\x80\x94 x AAAA\n",
        };
        struct verify_key k;
        struct note n;

        assert_true(verify_key_parse(OTHERS_KEY, strlen(OTHERS_KEY), &k));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(note_parse(bad[i], strlen(bad[i]), &k, &n), NOTE_MALFORMED);
        assert_int_equal(note_parse("o\n1\n" ROOT SIGNED, strlen("o\n1\n" ROOT SIGNED), &k, &n), NOTE_UNSIGNED);
        assert_int_equal(note_parse("o\n1\n" ROOT "new line\n" SIGNED, strlen("o\n1\n" ROOT "new line\n" SIGNED), &k, &n),
                         NOTE_UNSIGNED);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_tree_is_that_of_the_rfc),
                cmocka_unit_test(many_lines_and_going_on_from_every_edge),
                cmocka_unit_test(a_signature_of_another_implementation_is_good),
                cmocka_unit_test(a_key_is_itself_again_and_a_changed_text_is_none),
                cmocka_unit_test(base64_has_one_form),
                cmocka_unit_test(a_note_says_what_was_signed),
                cmocka_unit_test(no_byte_of_a_note_can_be_changed),
                cmocka_unit_test(others_may_sign_too),
                cmocka_unit_test(what_is_no_checkpoint_is_refused),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
