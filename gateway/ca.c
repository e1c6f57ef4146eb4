/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One key signs, one other key serves every leaf: a leaf costs one signature.  Host names come from the policy or from
 * what its wildcards let through, so the cache is bounded.
 */
#include "ca.h"

#include "common/netpolicy.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#define DAY 86400
#define BACKDATE 3600 /* for clocks that differ inside some runtime */

struct leaf {
        char host[NETPOLICY_NAME_MAX];
        X509 *cert;
        time_t until;
        uint64_t used;
};

struct ca {
        EVP_PKEY *key, *leaf_key;
        X509 *cert;
        char *pem;
        size_t pem_n;
        uint64_t clock; /* of uses */
        struct leaf leaves[CA_LEAVES_MAX];
};

static int fail(struct crew_err *err, const char *what) {
        return crew_fail(err, EIO, "inspection: cannot make %s", what);
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value) {
        X509V3_CTX ctx;

        X509V3_set_ctx_nodb(&ctx);
        X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
        const bool ok = e && X509_add_ext(x, e, -1) == 1;
        X509_EXTENSION_free(e);
        return ok;
}

static bool set_serial(X509 *x) {
        unsigned char bytes[16];
        BIGNUM *n = RAND_bytes(bytes, sizeof(bytes)) == 1 ? BN_bin2bn(bytes, sizeof(bytes), NULL) : NULL;
        const bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));

        BN_free(n);
        return ok;
}

/* What every certificate of ours has; extensions and the signature come after. */
static X509 *begin(const char *common_name, EVP_PKEY *key, long days) {
        X509 *x = X509_new();
        X509_NAME *name = x ? X509_get_subject_name(x) : NULL;

        if (!x || X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
            !X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATE) || !X509_gmtime_adj(X509_getm_notAfter(x), days * DAY) ||
            X509_set_pubkey(x, key) != 1 ||
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0) != 1) {
                X509_free(x);
                return NULL;
        }
        return x;
}

static X509 *make_authority(EVP_PKEY *key) {
        X509 *x = begin("crewd inspection CA of this crew", key, CA_DAYS);

        if (!x || X509_set_issuer_name(x, X509_get_subject_name(x)) != 1 ||
            !add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
            !add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
            !add_extension(x, x, NID_subject_key_identifier, "hash") || X509_sign(x, key, EVP_sha256()) == 0) {
                X509_free(x);
                return NULL;
        }
        return x;
}

static bool is_address(const char *host) {
        uint8_t a[16];

        return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

/* host was checked: a name of letters, digits, hyphens and dots, or an address; nothing in it means anything to the
 * extension's small language. */
static X509 *make_leaf(const struct ca *ca, const char *host) {
        char name[NETPOLICY_NAME_MAX + 8], subject[65];

        snprintf(name, sizeof(name), "%s:%s", is_address(host) ? "IP" : "DNS", host);
        snprintf(subject, sizeof(subject), "%.64s", host);
        X509 *x = begin(subject, ca->leaf_key, CA_LEAF_DAYS);
        if (!x || X509_set_issuer_name(x, X509_get_subject_name(ca->cert)) != 1 ||
            !add_extension(x, ca->cert, NID_basic_constraints, "critical,CA:FALSE") ||
            !add_extension(x, ca->cert, NID_key_usage, "critical,digitalSignature") ||
            !add_extension(x, ca->cert, NID_ext_key_usage, "serverAuth") ||
            !add_extension(x, ca->cert, NID_subject_alt_name, name) ||
            !add_extension(x, ca->cert, NID_subject_key_identifier, "hash") ||
            !add_extension(x, ca->cert, NID_authority_key_identifier, "keyid:always") ||
            X509_sign(x, ca->key, EVP_sha256()) == 0) {
                X509_free(x);
                return NULL;
        }
        return x;
}

static int write_pem(struct ca *ca) {
        BIO *b = BIO_new(BIO_s_mem());
        char *text;
        long n = b && PEM_write_bio_X509(b, ca->cert) == 1 ? BIO_get_mem_data(b, &text) : 0;

        ca->pem = n > 0 ? malloc((size_t)n) : NULL;
        if (ca->pem) {
                memcpy(ca->pem, text, (size_t)n);
                ca->pem_n = (size_t)n;
        }
        BIO_free(b);
        return ca->pem ? 0 : -ENOMEM;
}

int ca_new(struct ca **out, struct crew_err *err) {
        struct ca *ca = calloc(1, sizeof(*ca));

        if (!ca)
                return crew_fail(err, ENOMEM, "out of memory");
        /* Whoever needs OpenSSL first settles that for the process: its configuration file is not read (tls.c). */
        OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
        ca->key = EVP_EC_gen("P-256");
        ca->leaf_key = EVP_EC_gen("P-256");
        ca->cert = ca->key ? make_authority(ca->key) : NULL;
        if (!ca->leaf_key || !ca->cert || write_pem(ca) < 0) {
                ca_free(ca);
                return fail(err, "the crew's certificate authority");
        }
        *out = ca;
        return 0;
}

struct ca *ca_free(struct ca *ca) {
        if (!ca)
                return NULL;
        for (size_t i = 0; i < CA_LEAVES_MAX; i++)
                X509_free(ca->leaves[i].cert);
        X509_free(ca->cert);
        EVP_PKEY_free(ca->leaf_key); /* OpenSSL overwrites private keys when it frees them */
        EVP_PKEY_free(ca->key);
        free(ca->pem);
        free(ca);
        return NULL;
}

const char *ca_pem(const struct ca *ca, size_t *n) {
        *n = ca->pem_n;
        return ca->pem;
}

static struct leaf *find(struct ca *ca, const char *host, struct leaf **oldest) {
        *oldest = &ca->leaves[0];
        for (size_t i = 0; i < CA_LEAVES_MAX; i++) {
                struct leaf *l = &ca->leaves[i];
                if (l->cert && strcmp(l->host, host) == 0)
                        return l;
                if (l->used < (*oldest)->used)
                        *oldest = l;
        }
        return NULL;
}

int ca_leaf(struct ca *ca, const char *host, X509 **cert, EVP_PKEY **key, struct crew_err *err) {
        const time_t now = time(NULL);
        char canonical[NETPOLICY_NAME_MAX];
        struct leaf *l, *oldest;

        netpolicy_canonical(host, canonical);
        if ((!canonical[0] || strcmp(canonical, host) != 0) && !is_address(host))
                return crew_fail(err, EINVAL, "inspection: not a host name or address");
        l = find(ca, host, &oldest);
        if (!l || l->until - now < DAY) {
                l = l ? l : oldest;
                X509_free(l->cert);
                *l = (struct leaf){.cert = make_leaf(ca, host), .until = now + CA_LEAF_DAYS * DAY};
                if (!l->cert)
                        return fail(err, "a certificate");
                snprintf(l->host, sizeof(l->host), "%s", host);
        }
        l->used = ++ca->clock;
        *cert = l->cert;
        *key = ca->leaf_key;
        return 0;
}
