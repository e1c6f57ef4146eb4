/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL behind memory BIOs.  Everything that reads files happens in tls_context_new(), before the gateway confines
 * itself; OpenSSL's configuration file is not read at all, so that it cannot weaken what is set here.
 */
#include "tls.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#define BUNDLE_MAX (8u << 20)
#define WRITE_MAX 16384           /* plain bytes a call: one record */
#define OUT_HIGH_WATER (32 << 10) /* no more plain text is taken while that much waits to be sent */

struct tls_context {
        struct ca *ca;
        SSL_CTX *server, *client;
        X509_STORE *system; /* parsed when it is first needed */
        char *bundle;
        size_t bundle_n;
};

struct tls {
        SSL *ssl;
        BIO *in, *out; /* the SSL's */
        bool accept;
        char name[256];
        char error[160];
};

/* Only names that are host names: for addresses there is no SNI, and none is asked for. */
static bool is_address(const char *name, bool *v6) {
        uint8_t a[16];

        *v6 = inet_pton(AF_INET6, name, a) == 1;
        return *v6 || inet_pton(AF_INET, name, a) == 1;
}

static int on_server_name(SSL *ssl, int *alert, void *arg) {
        const struct tls *t = SSL_get_app_data(ssl);
        const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

        if (!sni || strcasecmp(sni, t->name) == 0)
                return SSL_TLSEXT_ERR_OK;
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n,
                   void *arg) {
        static const unsigned char ours[] = "\x08http/1.1";

        if (SSL_select_next_proto((unsigned char **)out, out_n, ours, sizeof(ours) - 1, in, in_n) == OPENSSL_NPN_NEGOTIATED)
                return SSL_TLSEXT_ERR_OK;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *make_ctx(const SSL_METHOD *method) {
        SSL_CTX *c = SSL_CTX_new(method);

        if (!c || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1 || SSL_CTX_set_num_tickets(c, 0) != 1) {
                SSL_CTX_free(c);
                return NULL;
        }
        SSL_CTX_set_security_level(c, 2); /* 112 bits: no SHA-1, no RSA below 2048 */
        SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
        SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        return c;
}

static void read_bundle(struct tls_context *c) {
        static const char *const paths[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                            "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                if (crew_read_file(paths[i], BUNDLE_MAX, &c->bundle, &c->bundle_n, NULL) == 0)
                        return;
        }
}

int tls_context_new(struct ca *ca, struct tls_context **out, struct crew_err *err) {
        struct tls_context *c = calloc(1, sizeof(*c));

        if (!c)
                return crew_fail(err, ENOMEM, "out of memory");
        OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
        c->ca = ca;
        c->server = make_ctx(TLS_server_method());
        c->client = make_ctx(TLS_client_method());
        if (!c->server || !c->client || SSL_CTX_set_alpn_protos(c->client, (const unsigned char *)"\x08http/1.1", 9) != 0) {
                tls_context_free(c);
                return crew_fail(err, EIO, "cannot set TLS up");
        }
        SSL_CTX_set_tlsext_servername_callback(c->server, on_server_name);
        SSL_CTX_set_alpn_select_cb(c->server, on_alpn, NULL);
        SSL_CTX_set_verify(c->client, SSL_VERIFY_PEER, NULL);
        read_bundle(c);
        *out = c;
        return 0;
}

struct tls_context *tls_context_free(struct tls_context *c) {
        if (!c)
                return NULL;
        SSL_CTX_free(c->server);
        SSL_CTX_free(c->client);
        X509_STORE_free(c->system);
        free(c->bundle);
        free(c);
        return NULL;
}

static X509_STORE *parse_store(const char *pem, size_t n) {
        X509_STORE *s = X509_STORE_new();
        BIO *b = BIO_new_mem_buf(pem, (int)n);
        unsigned count = 0;

        while (s && b) {
                X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
                if (!x)
                        break;
                count += X509_STORE_add_cert(s, x) == 1;
                X509_free(x);
        }
        ERR_clear_error();
        BIO_free(b);
        if (count == 0) {
                X509_STORE_free(s);
                return NULL;
        }
        return s;
}

static struct tls *make(SSL_CTX *ctx, const char *name) {
        struct tls *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        snprintf(t->name, sizeof(t->name), "%s", name);
        t->ssl = SSL_new(ctx);
        t->in = BIO_new(BIO_s_mem());
        t->out = BIO_new(BIO_s_mem());
        if (!t->ssl || !t->in || !t->out) {
                BIO_free(t->in);
                BIO_free(t->out);
                SSL_free(t->ssl);
                free(t);
                return NULL;
        }
        BIO_set_mem_eof_return(t->in, -1);
        SSL_set_bio(t->ssl, t->in, t->out);
        SSL_set_app_data(t->ssl, t);
        return t;
}

int tls_accept(struct tls_context *c, const char *name, struct tls **out, struct crew_err *err) {
        X509 *cert;
        EVP_PKEY *key;
        int r = ca_leaf(c->ca, name, &cert, &key, err);

        if (r < 0)
                return r;
        struct tls *t = make(c->server, name);
        if (!t || SSL_use_certificate(t->ssl, cert) != 1 || SSL_use_PrivateKey(t->ssl, key) != 1) {
                tls_free(t);
                return crew_fail(err, ENOMEM, "cannot set TLS up towards the agent");
        }
        t->accept = true;
        SSL_set_accept_state(t->ssl);
        *out = t;
        return 0;
}

/* Whom to trust, and as whom. */
static int set_trust(struct tls_context *c, struct tls *t, const char *ca_pem, size_t ca_n, struct crew_err *err) {
        X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
        X509_STORE *own = ca_pem ? parse_store(ca_pem, ca_n) : NULL;
        bool v6, address = is_address(t->name, &v6);
        int ok;

        if (!ca_pem && !c->system && c->bundle)
                c->system = parse_store(c->bundle, c->bundle_n);
        if (ca_pem ? !own : !c->system)
                return crew_fail(err, ENOENT, "%s",
                                 ca_pem ? "the rule's ca holds no certificate" : "no system certificates");
        ok = SSL_set1_verify_cert_store(t->ssl, own ? own : c->system);
        X509_STORE_free(own);
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (address)
                ok = ok && X509_VERIFY_PARAM_set1_ip_asc(param, t->name);
        else
                ok = ok && X509_VERIFY_PARAM_set1_host(param, t->name, 0) && SSL_set_tlsext_host_name(t->ssl, t->name);
        return ok ? 0 : crew_fail(err, ENOMEM, "cannot set TLS up towards the server");
}

int tls_connect(struct tls_context *c, const char *name, const char *ca_pem, size_t ca_n, struct tls **out,
                struct crew_err *err) {
        struct tls *t = make(c->client, name);
        int r = t ? set_trust(c, t, ca_pem, ca_n, err) : crew_fail(err, ENOMEM, "out of memory");

        if (r < 0) {
                tls_free(t);
                return r;
        }
        SSL_set_connect_state(t->ssl);
        *out = t;
        return 0;
}

struct tls *tls_free(struct tls *t) {
        if (!t)
                return NULL;
        SSL_free(t->ssl);
        free(t);
        return NULL;
}

int tls_feed(struct tls *t, const void *bytes, size_t n) {
        return BIO_write(t->in, bytes, (int)n) == (int)n ? 0 : -ENOMEM;
}

const void *tls_out(struct tls *t, size_t *n) {
        char *p = NULL;
        long have = BIO_get_mem_data(t->out, &p);

        *n = have > 0 ? (size_t)have : 0;
        return p;
}

/* Reading from a memory BIO only moves its start. */
void tls_sent(struct tls *t, size_t n) {
        char sink[4096];

        while (n > 0) {
                int got = BIO_read(t->out, sink, (int)MIN_OF(n, sizeof(sink)));
                if (got <= 0)
                        return;
                n -= (size_t)got;
        }
}

static void note_error(struct tls *t) {
        const long verify = SSL_get_verify_result(t->ssl);
        const unsigned long code = ERR_peek_last_error();
        const char *reason = code ? ERR_reason_error_string(code) : NULL;

        if (t->error[0])
                return;
        if (!t->accept && verify != X509_V_OK)
                snprintf(t->error, sizeof(t->error), "the server's certificate: %s", X509_verify_cert_error_string(verify));
        else
                snprintf(t->error, sizeof(t->error), "TLS with the %s: %s", t->accept ? "agent" : "server",
                         reason ? reason : "protocol error");
}

/* The outcome of an SSL_*() call that did not succeed. */
static int outcome(struct tls *t, int ret) {
        switch (SSL_get_error(t->ssl, ret)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
                return -EAGAIN;
        case SSL_ERROR_ZERO_RETURN:
                return 0;
        default:
                note_error(t);
                ERR_clear_error();
                return -EPROTO;
        }
}

int tls_handshake(struct tls *t) {
        if (t->error[0])
                return -EPROTO;
        if (SSL_is_init_finished(t->ssl))
                return 0;
        ERR_clear_error();
        int r = SSL_do_handshake(t->ssl);
        if (r == 1)
                return 0;
        r = outcome(t, r);
        return r == 0 ? -EPROTO : r;
}

ssize_t tls_read(struct tls *t, void *buf, size_t n) {
        int r = tls_handshake(t);

        if (r < 0)
                return r;
        ERR_clear_error();
        r = SSL_read(t->ssl, buf, (int)MIN_OF(n, (size_t)1 << 20));
        return r > 0 ? r : outcome(t, r);
}

ssize_t tls_write(struct tls *t, const void *buf, size_t n) {
        size_t waiting;
        int r = tls_handshake(t);

        if (r < 0)
                return r;
        tls_out(t, &waiting);
        if (waiting >= OUT_HIGH_WATER)
                return -EAGAIN;
        ERR_clear_error();
        r = SSL_write(t->ssl, buf, (int)MIN_OF(n, (size_t)WRITE_MAX));
        if (r > 0)
                return r;
        r = outcome(t, r);
        return r == 0 ? -EPROTO : r;
}

void tls_close(struct tls *t) {
        if (!t->error[0] && SSL_is_init_finished(t->ssl))
                SSL_shutdown(t->ssl);
        ERR_clear_error();
}

const char *tls_error(const struct tls *t) {
        return t->error;
}
