/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of gateway/tls.c against each other and against plain OpenSSL, in memory. */
#include "test.h"

#include "gateway/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

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

static int set_up(void **state) {
        struct crew_err err = CREW_ERR_NULL;

        if (ca_new(&ca, &err) < 0 || tls_context_new(ca, &context, &err) < 0)
                return -1;
        pem = ca_pem(ca, &pem_n);
        return 0;
}

static int tear_down(void **state) {
        tls_context_free(context);
        ca_free(ca);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(both_sides_understand_each_other),
                cmocka_unit_test(a_certificate_for_another_name_or_authority_is_refused),
                cmocka_unit_test(no_certificates_is_no_trust),
                cmocka_unit_test(only_http_1_1_over_tls_1_2_or_newer),
                cmocka_unit_test(garbage_is_an_error_and_no_more),
                cmocka_unit_test(leaves_are_cached_and_bounded),
                cmocka_unit_test(the_authority_may_sign_leaves_only),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
