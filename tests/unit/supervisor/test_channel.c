/* SPDX-License-Identifier: Apache-2.0 */
/* A helper's last words are heard before its end, however it ends, and its end is told once. */
#include "test.h"

#include "supervisor/channel.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORDS (3 * CHANNEL_BUDGET / 2) /* more than are taken per wake-up */

struct word {
        uint32_t number;
        char rest[60];
};

static uv_loop_t loop;
static struct channel *channel;
static unsigned heard, hangups;
static unsigned close_at; /* 0: never */

static void on_message(const void *msg, int *fds, size_t n_fds, void *user) {
        const struct word *w = msg;

        assert_int_equal(hangups, 0);
        assert_int_equal(w->number, heard);
        if (++heard == close_at)
                channel_close(channel);
}

static void on_hangup(void *user) {
        hangups++;
}

static int open_it(unsigned gather_ms) {
        static struct channel_callbacks cb;
        int pair[2];

        cb = (struct channel_callbacks){.on_message = on_message, .on_hangup = on_hangup, .gather_ms = gather_ms};
        heard = hangups = close_at = 0;
        assert_int_equal(channel_pair(pair), 0);
        assert_int_equal(channel_open(&loop, pair[0], sizeof(struct word), &cb, NULL, &channel, NULL), 0);
        return pair[1];
}

static void say(int fd) {
        for (uint32_t i = 0; i < WORDS; i++) {
                const struct word w = {.number = i};
                assert_int_equal(send(fd, &w, sizeof(w), MSG_NOSIGNAL), sizeof(w));
        }
}

static void tell(unsigned n) {
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(channel_send(channel, &(struct word){0}, NULL, 0), 0);
}

static void turn_until(const unsigned *counter, unsigned n) {
        for (int i = 0; i < 1000 && *counter < n; i++) {
                uv_run(&loop, UV_RUN_NOWAIT);
                usleep(1000);
        }
        assert_int_equal(*counter, n);
}

static void end_it(void) {
        channel_close(channel);
        assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static void last_words_are_heard_before_the_end(void **state) {
        for (unsigned gather_ms = 0; gather_ms < 3; gather_ms += 2) {
                int fd = open_it(gather_ms);
                say(fd);
                close(fd);
                turn_until(&hangups, 1);
                assert_int_equal(heard, WORDS);
                end_it();
                assert_int_equal(hangups, 1);
        }
}

/* The kernel calls that an error, and so does libuv. */
static unsigned turns, in_turn;

static void on_turn(bool begins, void *user) {
        turns += begins;
        in_turn = begins;
}

static void on_part(const void *msg, int *fds, size_t n_fds, void *user) {
        const struct word *w = msg;

        assert_true(in_turn);
        assert_int_equal(w->number, 7);
        for (size_t i = 0; i < sizeof(w->rest); i++)
                assert_int_equal(w->rest[i], i < heard ? 'x' : 0);
        heard++;
}

/* What is missing is zeros, whatever came before; and those of one turn are told as such. */
static void messages_may_end_with_their_text(void **state) {
        static const struct channel_callbacks cb = {.on_message = on_part,
                                                    .on_hangup = on_hangup,
                                                    .on_turn = on_turn,
                                                    .head_bytes = offsetof(struct word, rest)};
        struct word w = {.number = 7};
        int pair[2];
        (void)state;
        memset(w.rest, 'x', sizeof(w.rest));
        heard = hangups = turns = 0;
        assert_int_equal(channel_pair(pair), 0);
        assert_int_equal(channel_open(&loop, pair[0], sizeof(w), &cb, NULL, &channel, NULL), 0);
        for (size_t n = 0; n < 3; n++)
                assert_int_equal(send(pair[1], &w, offsetof(struct word, rest) + n, 0), offsetof(struct word, rest) + n);
        turn_until(&heard, 3);
        assert_int_equal(turns, 1);
        assert_int_equal(channel_send_part(channel, &w, sizeof(w.number) + 2), 0);
        assert_int_equal(recv(pair[1], &w, sizeof(w), 0), sizeof(w.number) + 2);
        assert_int_equal(send(pair[1], &w, sizeof(w.number) - 1, 0), sizeof(w.number) - 1);
        turn_until(&hangups, 1);
        assert_int_equal(heard, 3);
        close(pair[1]);
        end_it();
}

static void last_words_of_one_that_did_not_read_are_heard_too(void **state) {
        for (unsigned gather_ms = 0; gather_ms < 3; gather_ms += 2) {
                int fd = open_it(gather_ms);
                tell(1);
                say(fd);
                close(fd);
                turn_until(&hangups, 1);
                assert_int_equal(heard, WORDS);
                end_it();
        }
}

static void last_words_are_heard_though_others_wait_to_be_sent(void **state) {
        int fd = open_it(0);

        tell(CHANNEL_QUEUE_MAX);
        say(fd);
        close(fd);
        turn_until(&hangups, 1);
        assert_int_equal(heard, WORDS);
        assert_int_equal(channel_send(channel, &(struct word){0}, NULL, 0), -EPIPE);
        end_it();
}

static void one_that_is_closed_over_it_hears_no_more(void **state) {
        int fd = open_it(0);

        tell(1);
        say(fd);
        close(fd);
        close_at = CHANNEL_BUDGET + 3;
        turn_until(&heard, close_at);
        assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(heard, close_at);
        assert_int_equal(hangups, 0);
}

static int setup(void **state) {
        signal(SIGPIPE, SIG_IGN);
        return uv_loop_init(&loop);
}

static int teardown(void **state) {
        return uv_loop_close(&loop);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(last_words_are_heard_before_the_end),
                cmocka_unit_test(messages_may_end_with_their_text),
                cmocka_unit_test(last_words_of_one_that_did_not_read_are_heard_too),
                cmocka_unit_test(last_words_are_heard_though_others_wait_to_be_sent),
                cmocka_unit_test(one_that_is_closed_over_it_hears_no_more),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
