/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of gateway/tls.c against each other and against plain OpenSSL, in memory. */
#include "test.h"

#include "gateway/tls.h"
#include "tests/unit/skipped.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/mman.h>

/* What the code under test takes for the time. */
static time_t passed_s;
time_t __real_time(time_t *out);
time_t __wrap_time(time_t *out);
time_t __wrap_time(time_t *out) {
        return __real_time(out) + passed_s;
}

static struct ca *ca;
static struct tls_context *context;
static const char *pem;
static size_t pem_n;

static void move(struct tls *from, struct tls *to) {
        size_t n;
        const void *p = tls_out(from, &n);

        if (n) {
                assert_int_equal(tls_feed(to, p, n), 0);
                tls_sent(from, n);
        }
}

/* What both sides' handshakes come to. */
static void shake(struct tls *a, struct tls *b, int *ra, int *rb) {
        *ra = *rb = -EAGAIN;
        for (int i = 0; i < 10; i++) {
                *ra = tls_handshake(a);
                move(a, b);
                *rb = tls_handshake(b);
                move(b, a);
        }
}

static struct tls *client(const char *name, const char *trust, size_t n) {
        struct tls *t = NULL;
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(tls_connect(context, name, trust, n, &t, &err), 0);
        return t;
}

static struct tls *server(const char *name) {
        struct tls *t = NULL;
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(tls_accept(context, name, &t, &err), 0);
        return t;
}

static void both_sides_understand_each_other(void **state) {
        static const char *const names[] = {"api.test", "a.very-long.example.com", "192.0.2.7", "2001:db8::7"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                struct tls *c = client(names[i], pem, pem_n), *s = server(names[i]);
                char buf[64];
                int rc, rs;
                shake(c, s, &rc, &rs);
                if (rc || rs)
                        fail_msg("%s: client \"%s\" server \"%s\"", names[i], tls_error(c), tls_error(s));
                assert_int_equal(tls_read(s, buf, sizeof(buf)), -EAGAIN);
                assert_int_equal(tls_write(c, "hello", 5), 5);
                move(c, s);
                assert_int_equal(tls_read(s, buf, sizeof(buf)), 5);
                assert_memory_equal(buf, "hello", 5);
                tls_close(c);
                move(c, s);
                assert_int_equal(tls_read(s, buf, sizeof(buf)), 0);
                tls_free(c);
                tls_free(s);
        }
}

static void a_certificate_for_another_name_or_authority_is_refused(void **state) {
        struct ca *other = NULL;
        struct crew_err err = CREW_ERR_NULL;
        size_t n;
        int rc, rs;

        assert_int_equal(ca_new(&other, &err), 0);
        const char *other_pem = ca_pem(other, &n);
        const struct {
                const char *asked, *shown, *trust;
                size_t n;
                const char *say;
        } rows[] = {
                {"api.test", "evil.test", pem, pem_n, "unrecognized name"},
                {"192.0.2.7", "192.0.2.8", pem, pem_n, "IP address mismatch"},
                {"192.0.2.7", "evil.test", pem, pem_n, "IP address mismatch"},
                {"api.test", "api.test", other_pem, n, "certificate"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct tls *c = client(rows[i].asked, rows[i].trust, rows[i].n), *s = server(rows[i].shown);
                shake(c, s, &rc, &rs);
                assert_int_equal(rc, -EPROTO);
                if (!strstr(tls_error(c), rows[i].say))
                        fail_msg("row %zu: %s", i, tls_error(c));
                assert_int_equal(tls_write(c, "x", 1), -EPROTO);
                tls_free(c);
                tls_free(s);
        }
        ca_free(other);
}

static void no_certificates_is_no_trust(void **state) {
        struct tls *t = NULL;
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(tls_connect(context, "api.test", "not a certificate", 17, &t, &err), -ENOENT);
        assert_null(t);
}

/* A raw client of this version and these protocols, against our server. */
static int raw_client(int version, const char *alpn, size_t alpn_n, char chosen[32]) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        SSL *ssl = SSL_new(ctx);
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        struct tls *s = server("api.test");
        int r = -EAGAIN;

        SSL_CTX_set_security_level(ctx, 0);
        SSL_set_security_level(ssl, 0);
        SSL_set_min_proto_version(ssl, TLS1_VERSION);
        SSL_set_max_proto_version(ssl, version);
        if (alpn)
                SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)alpn_n);
        SSL_set_bio(ssl, in, out);
        SSL_set_connect_state(ssl);
        for (int i = 0; i < 5 && r == -EAGAIN; i++) {
                char buf[16384];
                size_t n;
                int k;
                SSL_do_handshake(ssl);
                while ((k = BIO_read(out, buf, sizeof(buf))) > 0)
                        tls_feed(s, buf, (size_t)k);
                r = tls_handshake(s);
                const void *p = tls_out(s, &n);
                if (n)
                        BIO_write(in, p, (int)n);
                tls_sent(s, n);
        }
        const unsigned char *p;
        unsigned n;
        SSL_get0_alpn_selected(ssl, &p, &n);
        snprintf(chosen, 32, "%.*s", (int)n, n ? (const char *)p : "");
        ERR_clear_error();
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        tls_free(s);
        return r;
}

static void only_http_1_1_over_tls_1_2_or_newer(void **state) {
        char chosen[32];

        assert_int_equal(raw_client(TLS1_3_VERSION, NULL, 0, chosen), 0);
        assert_string_equal(chosen, "");
        assert_int_equal(raw_client(TLS1_2_VERSION, "\x02h2\x08http/1.1", 12, chosen), 0);
        assert_string_equal(chosen, "http/1.1");
        assert_int_equal(raw_client(TLS1_3_VERSION, "\x02h2", 3, chosen), -EPROTO);
        assert_int_equal(raw_client(TLS1_1_VERSION, NULL, 0, chosen), -EPROTO);
}

/* --- certificates of others --- */

/* What a server shows: a key of so many bits, signed with this digest by the test's own authority. */
struct shown {
        const char *names; /* subjectAltName */
        int bits;
        const EVP_MD *digest;
        long from_s, until_s; /* seconds from now */
        bool by_itself;
};

static EVP_PKEY *authority_key;
static X509 *authority;
static char *authority_pem;
static size_t authority_n;

static void extend(X509 *x, int nid, const char *value) {
        X509V3_CTX ctx;

        X509V3_set_ctx_nodb(&ctx);
        X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
        assert_non_null(e);
        assert_int_equal(X509_add_ext(x, e, -1), 1);
        X509_EXTENSION_free(e);
}

static X509 *make(const char *subject, EVP_PKEY *key, long from_s, long until_s) {
        X509 *x = X509_new();

        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
        X509_gmtime_adj(X509_getm_notBefore(x), from_s);
        X509_gmtime_adj(X509_getm_notAfter(x), until_s);
        X509_set_pubkey(x, key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const void *)subject, -1, -1, 0);
        X509_set_issuer_name(x, X509_get_subject_name(authority ? authority : x));
        return x;
}

static void make_authority(void) {
        char *text;

        authority_key = EVP_RSA_gen(2048);
        authority = make("authority of the test", authority_key, -60, 3600);
        extend(authority, NID_basic_constraints, "critical,CA:TRUE");
        assert_true(X509_sign(authority, authority_key, EVP_sha256()) > 0);
        BIO *b = BIO_new(BIO_s_mem());
        PEM_write_bio_X509(b, authority);
        authority_n = (size_t)BIO_get_mem_data(b, &text);
        authority_pem = malloc(authority_n);
        memcpy(authority_pem, text, authority_n);
        BIO_free(b);
}

/* Our client, asked for this name, with a plain OpenSSL server that shows that.  "": they understand each other. */
static void meet(const char *name, const struct shown *w, const char *trust, size_t trust_n, char error[160]) {
        EVP_PKEY *key = EVP_RSA_gen((unsigned)w->bits);
        X509 *x = make("server", key, w->from_s, w->until_s ? w->until_s : 3600);
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        struct tls *c = client(name, trust, trust_n);
        int r = -EAGAIN;

        extend(x, NID_subject_alt_name, w->names);
        if (w->by_itself)
                X509_set_issuer_name(x, X509_get_subject_name(x));
        assert_true(X509_sign(x, w->by_itself ? key : authority_key, w->digest ? w->digest : EVP_sha256()) > 0);
        SSL_CTX_set_security_level(ctx, 0);
        assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
        SSL *ssl = SSL_new(ctx);
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl, in, out);
        SSL_set_accept_state(ssl);
        for (int i = 0; i < 6 && r == -EAGAIN; i++) {
                char buf[16384];
                size_t n;
                int k;
                r = tls_handshake(c);
                const void *p = tls_out(c, &n);
                if (n)
                        BIO_write(in, p, (int)n);
                tls_sent(c, n);
                SSL_do_handshake(ssl);
                while ((k = BIO_read(out, buf, sizeof(buf))) > 0)
                        tls_feed(c, buf, (size_t)k);
        }
        assert_int_equal(r, *tls_error(c) ? -EPROTO : 0);
        snprintf(error, 160, "%s", tls_error(c));
        ERR_clear_error();
        tls_free(c);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        X509_free(x);
        EVP_PKEY_free(key);
}

static void a_server_is_believed_by_a_good_certificate_for_its_name_only(void **state) {
        static const struct {
                const char *asked;
                struct shown shown;
                const char *say; /* NULL: believed */
        } rows[] = {
                {"api.test", {"DNS:api.test", 2048}, NULL},
                {"api.test", {"DNS:other.test,DNS:api.test", 2048}, NULL},
                {"api.more.test", {"DNS:*.more.test", 2048}, NULL},
                {"192.0.2.7", {"IP:192.0.2.7", 2048}, NULL},
                {"api.test", {"DNS:evil.test", 2048}, "hostname mismatch"},
                {"api.test", {"DNS:api.test.evil.test", 2048}, "hostname mismatch"},
                {"a.b.more.test", {"DNS:*.more.test", 2048}, "hostname mismatch"},
                {"api.more.test", {"DNS:a*.more.test", 2048}, "hostname mismatch"},
                {"192.0.2.7", {"DNS:192.0.2.7", 2048}, "IP address mismatch"},
                {"192.0.2.7", {"IP:192.0.2.8", 2048}, "IP address mismatch"},
                {"api.test", {"DNS:api.test", 2048, .until_s = -1}, "certificate has expired"},
                {"api.test", {"DNS:api.test", 2048, .from_s = 600}, "certificate is not yet valid"},
                {"api.test", {"DNS:api.test", 2048, .by_itself = true}, "self-signed certificate"},
                {"api.test", {"DNS:api.test", 1024}, "key too weak"},
        };
        char error[160];

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct shown w = rows[i].shown;
                w.from_s = w.from_s ? w.from_s : -60;
                meet(rows[i].asked, &w, authority_pem, authority_n, error);
                if (rows[i].say ? !strstr(error, rows[i].say) : error[0] != 0)
                        fail_msg("row %zu: \"%s\"", i, error);
        }
        const struct shown sha1 = {"DNS:api.test", 2048, EVP_sha1(), -60};
        meet("api.test", &sha1, authority_pem, authority_n, error);
        assert_non_null(strstr(error, "too weak"));
}

/* The rule's ca is instead of the system's, not beside it. */
static void the_rules_own_authority_is_the_only_one(void **state) {
        const struct shown w = {"DNS:api.test", 2048, .from_s = -60};
        struct crew_err err = CREW_ERR_NULL;
        struct tls *t = NULL;
        char error[160];

        int r = tls_connect(context, "api.test", NULL, 0, &t, &err); /* from now on the system's are there */
        tls_free(t);
        if (r == -ENOENT)
                skip_because("this system has no certificates of its own");
        meet("api.test", &w, authority_pem, authority_n, error);
        assert_string_equal(error, "");
        meet("api.test", &w, NULL, 0, error);
        assert_non_null(strstr(error, "certificate"));
        meet("api.test", &w, pem, pem_n, error);
        assert_non_null(strstr(error, "certificate"));
        assert_int_equal(tls_connect(context, "api.test", "not a certificate", 17, &t, &err), -ENOENT);
}

static void garbage_is_an_error_and_no_more(void **state) {
        struct tls *s = server("api.test"), *c = client("api.test", pem, pem_n);
        char garbage[1024], buf[16];

        memset(garbage, 0x16, sizeof(garbage));
        assert_int_equal(tls_feed(s, garbage, sizeof(garbage)), 0);
        assert_int_equal(tls_read(s, buf, sizeof(buf)), -EPROTO);
        assert_true(strlen(tls_error(s)) > 0);
        assert_int_equal(tls_feed(c, garbage, sizeof(garbage)), 0);
        assert_int_equal(tls_read(c, buf, sizeof(buf)), -EPROTO);
        tls_free(s);
        tls_free(c);
}

static void leaves_are_cached_and_bounded(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        X509 *first, *x;
        EVP_PKEY *key;
        char name[32];

        assert_int_equal(ca_leaf(ca, "first.test", &first, &key, &err), 0);
        X509_up_ref(first);
        assert_int_equal(ca_leaf(ca, "first.test", &x, &key, &err), 0);
        assert_ptr_equal(x, first);
        for (int i = 0; i < CA_LEAVES_MAX; i++) {
                snprintf(name, sizeof(name), "n%d.test", i);
                assert_int_equal(ca_leaf(ca, name, &x, &key, &err), 0);
        }
        assert_int_equal(ca_leaf(ca, "first.test", &x, &key, &err), 0);
        assert_ptr_not_equal(x, first);
        X509_free(first);
        assert_true(ca_leaf(ca, "a.test,IP:10.0.0.1", &x, &key, &err) < 0);
        assert_true(ca_leaf(ca, "A.test", &x, &key, &err) < 0);
        assert_true(ca_leaf(ca, "", &x, &key, &err) < 0);
}

static void the_authority_may_sign_leaves_only(void **state) {
        BIO *b = BIO_new_mem_buf(pem, (int)pem_n);
        X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);

        assert_non_null(x);
        assert_true(X509_get_extension_flags(x) & EXFLAG_CA);
        assert_int_equal(X509_get_pathlen(x), 0);
        assert_int_equal(X509_get_key_usage(x), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
        assert_null(memmem(pem, pem_n, "PRIVATE", 7));
        X509_free(x);
        BIO_free(b);
}

/* Good for one host as a server, and for nothing else; renewed in time in a crew that runs for long. */
static void a_leaf_is_for_one_host_and_renewed_before_its_end(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        X509 *x, *later;
        EVP_PKEY *key;

        assert_int_equal(ca_leaf(ca, "leaf.test", &x, &key, &err), 0);
        assert_false(X509_get_extension_flags(x) & EXFLAG_CA);
        assert_int_equal(X509_get_key_usage(x), KU_DIGITAL_SIGNATURE);
        assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_SERVER);
        assert_int_equal(X509_check_host(x, "leaf.test", 0, 0, NULL), 1);
        assert_int_equal(X509_check_host(x, "other.test", 0, 0, NULL), 0);
        X509_up_ref(x);
        passed_s = (CA_LEAF_DAYS - 1) * 86400 - 60;
        assert_int_equal(ca_leaf(ca, "leaf.test", &later, &key, &err), 0);
        assert_ptr_equal(later, x);
        passed_s += 120; /* less than a day is left */
        assert_int_equal(ca_leaf(ca, "leaf.test", &later, &key, &err), 0);
        assert_ptr_not_equal(later, x);
        passed_s = 0;
        X509_free(x);
}

/* Of the operator's environment, for other programs: TLS 1.3 would be off with it. */
static void point_at_a_configuration(void) {
        static const char text[] =
                "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n";
        static char path[64];
        int fd = memfd_create("openssl.cnf", 0);

        assert_int_equal(crew_write_full(fd, text, sizeof(text) - 1), 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        setenv("OPENSSL_CONF", path, 1);
}

static void no_configuration_weakens_it(void **state) {
        struct tls *c = client("api.test", pem, pem_n), *s = server("api.test");
        const void *p;
        int rc, rs;
        size_t n;

        assert_int_equal(tls_handshake(c), -EAGAIN);
        p = tls_out(c, &n);
        assert_non_null(memmem(p, n, "\x00\x2b\x00\x05\x04\x03\x04\x03\x03", 9)); /* 1.3 and 1.2 are offered */
        shake(c, s, &rc, &rs);
        assert_int_equal(rc | rs, 0);
        tls_free(c);
        tls_free(s);
}

static int set_up(void **state) {
        struct crew_err err = CREW_ERR_NULL;

        point_at_a_configuration();

        if (ca_new(&ca, &err) < 0 || tls_context_new(ca, &context, &err) < 0)
                return -1;
        pem = ca_pem(ca, &pem_n);
        make_authority();
        return 0;
}

static int tear_down(void **state) {
        tls_context_free(context);
        ca_free(ca);
        X509_free(authority);
        EVP_PKEY_free(authority_key);
        free(authority_pem);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(both_sides_understand_each_other),
                cmocka_unit_test(a_certificate_for_another_name_or_authority_is_refused),
                cmocka_unit_test(no_certificates_is_no_trust),
                cmocka_unit_test(only_http_1_1_over_tls_1_2_or_newer),
                cmocka_unit_test(a_server_is_believed_by_a_good_certificate_for_its_name_only),
                cmocka_unit_test(the_rules_own_authority_is_the_only_one),
                cmocka_unit_test(garbage_is_an_error_and_no_more),
                cmocka_unit_test(leaves_are_cached_and_bounded),
                cmocka_unit_test(the_authority_may_sign_leaves_only),
                cmocka_unit_test(no_configuration_weakens_it),
                cmocka_unit_test(a_leaf_is_for_one_host_and_renewed_before_its_end),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
