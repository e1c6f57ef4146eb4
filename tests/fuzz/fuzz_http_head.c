/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte says what the rest is: a request or an answer.  What is accepted is written anew, and must then be read
 * as the same message again, with its body ending in the same place. */
#include "common/err.h"
#include "gateway/http_body.h"
#include "gateway/http_forward.h"
#include "gateway/http_path.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char out[HTTP_HEAD_MAX + HTTP_FORWARD_EXTRA];
static struct http_target target;

static size_t find(const char *p, size_t n) {
        size_t scanned = 0, end = 0, step = 0, again = 0;
        const char *why = NULL;
        enum http_parse all = http_head_find(p, n, &step, &end, &why), r = HTTP_MORE;

        crew_assert(all != HTTP_BAD || why);
        for (size_t i = 0; i <= n && r == HTTP_MORE; i += 1 + i / 8)
                r = http_head_find(p, i, &scanned, &again, &why);
        crew_assert(r == HTTP_MORE || (r == all && again == (all == HTTP_OK ? end : again)));
        crew_assert(end <= n && end <= HTTP_HEAD_MAX);
        return all == HTTP_OK ? end : 0;
}

static size_t body_end(const struct http_head *h, bool request, const char *p, size_t n, size_t step) {
        struct http_body b;
        size_t at = 0;

        http_body_init(&b, h, request);
        while (at < n && !http_body_done(&b)) {
                bool data;
                const char *why = NULL;
                ssize_t k = http_body_take(&b, p + at, n - at < step ? n - at : step, &data, &why);
                if (k < 0) {
                        crew_assert(why);
                        return SIZE_MAX;
                }
                crew_assert(k > 0);
                at += (size_t)k;
        }
        return at;
}

static void check_request(const char *p, size_t n, size_t end) {
        struct http_head h, again;
        const char *why = NULL;

        if (http_parse_request(p, end, &h, &why) != HTTP_OK) {
                crew_assert(why);
                return;
        }
        crew_assert(body_end(&h, true, p + end, n - end, 1) == body_end(&h, true, p + end, n - end, SIZE_MAX));
        if (!http_target_parse(p + h.target.at, h.target.n, h.method, &target, &why))
                return;
        const struct http_request_out o = {.wire = target.wire};
        const size_t k = http_forward_request(&h, &o, out, sizeof(out));
        crew_assert(k > 0);
        if (find(out, k) == 0)
                return; /* grown beyond the limit by what is added */
        crew_assert(http_parse_request(out, k, &again, &why) == HTTP_OK);
        crew_assert(again.framing == h.framing && again.length == h.length && strcmp(again.method, h.method) == 0);
        crew_assert(again.close == h.close && again.n_fields <= h.n_fields + 3);
}

static void check_answer(const char *p, size_t n, size_t end) {
        struct http_head h, again;
        const char *why = NULL;

        if (http_parse_response(p, end, false, &h, &why) != HTTP_OK) {
                crew_assert(why);
                return;
        }
        crew_assert(body_end(&h, false, p + end, n - end, 1) == body_end(&h, false, p + end, n - end, SIZE_MAX));
        const size_t k = http_forward_response(&h, h.close, out, sizeof(out));
        crew_assert(k > 0);
        if (find(out, k) == 0)
                return;
        crew_assert(http_parse_response(out, k, false, &again, &why) == HTTP_OK);
        crew_assert(again.framing == h.framing && again.length == h.length && again.status == h.status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const char *p = (const char *)data + 1;
        size_t end;

        if (n < 2 || (end = find(p, n - 1)) == 0)
                return 0;
        if (data[0] & 1)
                check_request(p, n - 1, end);
        else
                check_answer(p, n - 1, end);
        return 0;
}
