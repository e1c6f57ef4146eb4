/* SPDX-License-Identifier: Apache-2.0 */
/* What a link costs, and what it leaves behind: descriptors, threads and their wake-ups, memory. */
#include "link_peer.h"

#include "common/spwire.h"
#include "common/util.h"

#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned open_descriptors(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static void links_leave_no_descriptors_behind(void **state) {
        uint8_t *frame = calloc(1, MAX_FRAME);
        unsigned before = 0;

        for (unsigned i = 0; i < 20; i++) {
                if (i == 2) {
                        settle(20); /* nng's reaper */
                        before = open_descriptors();
                }
                listen_here();
                int fd = connect_and_greet();
                while (link_send(seen.link, frame, MAX_FRAME) == 0) /* so that the send descriptor exists too */
                        ;
                close(fd);
                close_here();
        }
        for (unsigned i = 0; i < 3000 && open_descriptors() > before; i++) /* its turn may come late */
                settle(20);
        assert_in_range(open_descriptors(), 0, before); /* less: of the first two it had not all yet */
        free(frame);
}

static bool blocks_all_signals(const char *tid) {
        char path[64], line[256];
        unsigned long long mask = 0;

        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", tid);
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                if (sscanf(line, "SigBlk: %llx", &mask) == 1)
                        break;
        }
        fclose(f);
        /* all but KILL, STOP and the two that belong to the C library */
        return (mask | 1ull << 8 | 1ull << 18 | 3ull << 31) == ~0ull;
}

static void nngs_threads_take_no_signals(void **state) {
        unsigned others = 0;
        char self[16];
        DIR *d;
        struct dirent *e;

        listen_here();
        snprintf(self, sizeof(self), "%d", gettid());
        d = opendir("/proc/self/task");
        assert_non_null(d);
        while ((e = readdir(d))) {
                if (e->d_name[0] == '.' || strcmp(e->d_name, self) == 0)
                        continue;
                others++;
                assert_true(blocks_all_signals(e->d_name));
        }
        closedir(d);
        assert_true(others > 0);
        assert_false(blocks_all_signals(self));
        close_here();
}

/* nng does not tell which descriptor it is: with room for it below and behind others, it must be found all the same. */
static void connection_is_found_among_many_descriptors(void **state) {
        int below[64], above[64];

        for (size_t i = 0; i < ELEMENTSOF(below); i++)
                assert_true((below[i] = dup(STDERR_FILENO)) >= 0);
        listen_here();
        int fd = connect_raw();
        usleep(20000); /* accepted by nng's thread; the loop does not know yet */
        for (size_t i = 0; i < ELEMENTSOF(above); i++)
                assert_true((above[i] = dup(STDERR_FILENO)) >= 0);
        for (size_t i = 0; i < ELEMENTSOF(below); i++)
                close(below[i]);
        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        write_frame(fd, "here", 4);
        wait_for(&seen.frames, 1);
        assert_memory_equal(seen.last, "here", 4);
        close(fd);
        wait_for(&seen.downs, 1);
        for (size_t i = 0; i < ELEMENTSOF(above); i++)
                close(above[i]);
        close_here();
}

/* How often the threads other than this one have gone to sleep, which is how often they were woken. */
static unsigned long wakeups_of_others(void) {
        unsigned long sum = 0, n;
        char path[300], line[256], self[16];
        DIR *d = opendir("/proc/self/task");
        struct dirent *e;

        assert_non_null(d);
        snprintf(self, sizeof(self), "%d", gettid());
        while ((e = readdir(d))) {
                snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
                FILE *f = e->d_name[0] == '.' || strcmp(e->d_name, self) == 0 ? NULL : fopen(path, "re");
                while (f && fgets(line, sizeof(line), f)) {
                        if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
                                sum += n;
                }
                if (f)
                        fclose(f);
        }
        closedir(d);
        return sum;
}

static bool others_sleep(void) {
        char path[300], state, self[16];
        DIR *d = opendir("/proc/self/task");
        struct dirent *e;
        bool sleep = true;

        assert_non_null(d);
        snprintf(self, sizeof(self), "%d", gettid());
        while ((e = readdir(d))) {
                snprintf(path, sizeof(path), "/proc/self/task/%s/stat", e->d_name);
                FILE *f = e->d_name[0] == '.' || strcmp(e->d_name, self) == 0 ? NULL : fopen(path, "re");
                if (f) {
                        sleep = sleep && fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && state == 'S';
                        fclose(f);
                }
        }
        closedir(d);
        return sleep;
}

/* Until all threads have done what they were woken for, however late they got a processor. */
static void settle_others(void) {
        unsigned long before, now = wakeups_of_others();

        for (unsigned i = 0; i < 3000; i++) {
                before = now;
                settle(20);
                now = wakeups_of_others();
                if (now == before && others_sleep())
                        return;
        }
        fail_msg("nng's threads do not come to rest");
}

static void frames_wake_no_thread_of_nngs(void **state) {
        enum { FRAMES = 500 };
        uint8_t back[SPWIRE_HEADER_BYTES + 4];

        listen_here();
        int fd = connect_and_greet();
        seen.echo = true;
        settle_others();
        unsigned long before = wakeups_of_others();
        for (unsigned i = 1; i <= FRAMES; i++) {
                write_frame(fd, "ping", 4);
                wait_for(&seen.frames, i);
                assert_int_equal(crew_read_full(fd, back, sizeof(back)), 0);
        }
        assert_in_range(wakeups_of_others() - before, 0, FRAMES / 10);
        close(fd);
        close_here();
}

static uint64_t cpu_ns(clockid_t clock) {
        struct timespec t;

        assert_int_equal(clock_gettime(clock, &t), 0);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_of_others_ns(void) {
        return cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* As at a kill: whoever dies closes its end when others have better things to do.  nng's poller, if it hears of it, goes
 * round and round until the link is closed. */
static void end_of_a_deafened_link_wakes_nobody(void **state) {
        uint8_t back[SPWIRE_HEADER_BYTES + 3];

        listen_here();
        int fd = connect_and_greet();
        write_frame(fd, "heard", 5);
        wait_for(&seen.frames, 1);
        settle(20);
        link_deafen(seen.link);
        write_frame(fd, "lost", 4);
        assert_int_equal(link_send(seen.link, (const uint8_t *)"bye", 3), 0);
        settle_others();
        assert_int_equal(crew_read_full(fd, back, sizeof(back)), 0);
        unsigned long before = wakeups_of_others();
        uint64_t cpu = cpu_of_others_ns();
        close(fd);
        link_pause(seen.link, true);
        link_pause(seen.link, false);
        settle(50);
        assert_int_equal(wakeups_of_others(), before);
        assert_true(cpu_of_others_ns() < cpu + 10000000);
        assert_int_equal(seen.frames, 1);
        assert_int_equal(seen.downs, 0);
        close_here();
}

static void link_costs_little_memory(void **state) {
        enum { LINKS = 50 };
        struct seen many[LINKS] = {0};
        struct crew_err err = CREW_ERR_NULL;
        int fds[LINKS];
        long pages, before = 0;

        for (unsigned i = 0; i < LINKS; i++) {
                FILE *f = fopen("/proc/self/statm", "re");
                assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
                fclose(f);
                if (i == 10)
                        before = pages;
                next_socket_path(many[i].path);
                assert_int_equal(link_listen(&loop, many[i].path, 4u << 20, &callbacks, &many[i], &many[i].link, &err), 0);
                memcpy(seen.path, many[i].path, sizeof(seen.path));
                fds[i] = connect_raw();
                assert_int_equal(crew_write_full(fds[i], spwire_hello, sizeof(spwire_hello)), 0);
                wait_for(&many[i].ups, 1);
        }
        long each = (pages - before) * sysconf(_SC_PAGESIZE) / (LINKS - 11);
        print_message("# %ld bytes a link\n", each);
        assert_in_range(each, 0, 100 * 1024);
        for (unsigned i = 0; i < LINKS; i++) {
                close(fds[i]);
                link_close(many[i].link, on_closed, &many[i]);
                wait_for(&many[i].closed, 1);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(links_leave_no_descriptors_behind),
                cmocka_unit_test(nngs_threads_take_no_signals),
                cmocka_unit_test(connection_is_found_among_many_descriptors),
                cmocka_unit_test(frames_wake_no_thread_of_nngs),
                cmocka_unit_test(end_of_a_deafened_link_wakes_nobody),
                cmocka_unit_test(link_costs_little_memory),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, link_setup, link_teardown);
}
