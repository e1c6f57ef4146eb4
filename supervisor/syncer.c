/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two lists under one lock: what is to do, and what is done.  The thread takes jobs one at a time, so that one that waits
 * behind a slow disk is seen by syncer_close() after one fdatasync at most.
 */
#include "syncer.h"

#include "common/util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <uv.h>

struct job_list {
        struct sync_job *head, **tail;
};

struct syncer {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t more;
        uv_async_t wake;
        void (*on_done)(struct sync_job *job);
        struct job_list todo, done; /* under the lock, as is quit */
        bool quit;
};

static void list_put(struct job_list *l, struct sync_job *job) {
        job->next = NULL;
        *l->tail = job;
        l->tail = &job->next;
}

static struct sync_job *list_take(struct job_list *l) {
        struct sync_job *job = l->head;

        if (!job)
                return NULL;
        l->head = job->next;
        if (!l->head)
                l->tail = &l->head;
        return job;
}

static void *run(void *user) {
        struct syncer *s = user;

        pthread_mutex_lock(&s->lock);
        while (!s->quit) {
                struct sync_job *job = list_take(&s->todo);
                if (!job) {
                        pthread_cond_wait(&s->more, &s->lock);
                        continue;
                }
                pthread_mutex_unlock(&s->lock);
                job->error = fdatasync(job->fd) < 0 ? errno : 0;
                pthread_mutex_lock(&s->lock);
                list_put(&s->done, job);
                uv_async_send(&s->wake);
        }
        pthread_mutex_unlock(&s->lock);
        return NULL;
}

static void on_wake(uv_async_t *h) {
        struct syncer *s = h->data;

        for (;;) {
                pthread_mutex_lock(&s->lock);
                struct sync_job *job = list_take(&s->done);
                pthread_mutex_unlock(&s->lock);
                if (!job)
                        return;
                s->on_done(job);
        }
}

static void on_closed(uv_handle_t *h) {
        struct syncer *s = h->data;

        pthread_cond_destroy(&s->more);
        pthread_mutex_destroy(&s->lock);
        free(s);
}

/* Signals are the loop thread's. */
static int start_thread(struct syncer *s) {
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&s->thread, NULL, run, s);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return r;
}

int syncer_open(struct uv_loop_s *loop, void (*on_done)(struct sync_job *job), struct syncer **out, struct crew_err *err) {
        struct syncer *s = calloc(1, sizeof(*s));

        if (!s)
                return crew_fail(err, ENOMEM, "out of memory");
        s->todo.tail = &s->todo.head;
        s->done.tail = &s->done.head;
        s->on_done = on_done;
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->more, NULL);
        int r = uv_async_init(loop, &s->wake, on_wake);
        if (r < 0) {
                pthread_cond_destroy(&s->more);
                pthread_mutex_destroy(&s->lock);
                free(s);
                return crew_fail(err, -r, "cannot set up the loop: %s", uv_strerror(r));
        }
        s->wake.data = s;
        uv_unref((uv_handle_t *)&s->wake);
        if ((r = start_thread(s)) != 0) {
                uv_close((uv_handle_t *)&s->wake, on_closed);
                return crew_fail(err, r, "cannot start a thread that waits for the disk: %s", strerror(r));
        }
        *out = s;
        return 0;
}

void syncer_add(struct syncer *s, struct sync_job *job) {
        pthread_mutex_lock(&s->lock);
        list_put(&s->todo, job);
        pthread_cond_signal(&s->more);
        pthread_mutex_unlock(&s->lock);
}

void syncer_close(struct syncer *s) {
        if (!s)
                return;
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        pthread_cond_signal(&s->more);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        uv_close((uv_handle_t *)&s->wake, on_closed);
}
