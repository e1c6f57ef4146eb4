/* SPDX-License-Identifier: Apache-2.0 */
#include "http_setup.h"

#include "common/util.h"

#include <errno.h>

static struct {
        struct creds *creds;
        struct ca *ca;
        struct tls_context *tls;
} http;

int http_open(const struct http_options *o, struct crew_err *err) {
        int r = 0;

        if (o->credentials)
                r = creds_load(o->credentials, &http.creds, err);
        if (r == 0 && o->inspect)
                r = ca_new(&http.ca, err);
        if (r == 0 && o->inspect)
                r = tls_context_new(http.ca, &http.tls, err);
        if (r < 0)
                http_close();
        return r;
}

void http_close(void) {
        http.tls = tls_context_free(http.tls);
        http.ca = ca_free(http.ca);
        http.creds = creds_free(http.creds);
}

int http_ca_memfd(struct crew_err *err) {
        const char *pem;
        size_t n;

        if (!http.ca)
                return -1;
        pem = ca_pem(http.ca, &n);
        return crew_sealed_memfd("crew-ca", pem, n, err);
}

const struct creds *http_creds(void) {
        return http.creds;
}

struct tls_context *http_tls(void) {
        return http.tls;
}
