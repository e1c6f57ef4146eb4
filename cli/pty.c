/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pty and its relay: one ppoll loop over the operator's terminal, the master end, a signalfd and the jail's pidfd.
 *
 * Trusts nothing that comes from the jail beyond passing its bytes on to a terminal, as any terminal program does; what
 * is still unread when the relay ends (answers to terminal queries among it) is thrown away, not left for the shell.
 */
#include "pty.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define CHUNK 16384

/* Passed on to the jailed command. */
static const int passed_on[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
/* Would end us without a chance to restore the terminal: they restore it, then take their course. */
static const int fatal[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT,  SIGSYS,
                            SIGTRAP, SIGALRM, SIGXCPU, SIGXFSZ, SIGVTALRM};

/* One relay at a time; here because a signal handler has to find it. */
static struct {
        volatile sig_atomic_t raw;
        int fd;
        struct termios before;
} saved = {.fd = -1};

static void restore_terminal(void) {
        if (saved.raw) {
                saved.raw = 0;
                tcsetattr(saved.fd, TCSAFLUSH, &saved.before);
        }
}

static void on_fatal(int sig) {
        int e = errno;

        restore_terminal();
        signal(sig, SIG_DFL);
        raise(sig);
        errno = e;
}

static int make_raw(int fd) {
        struct sigaction action = {.sa_handler = on_fatal, .sa_flags = SA_RESETHAND | SA_NODEFER};
        struct termios raw;

        if (tcgetattr(fd, &saved.before) < 0)
                return -errno;
        saved.fd = fd;
        raw = saved.before;
        cfmakeraw(&raw);
        for (size_t i = 0; i < ELEMENTSOF(fatal); i++)
                sigaction(fatal[i], &action, NULL);
        atexit(restore_terminal);
        saved.raw = 1;
        return tcsetattr(fd, TCSAFLUSH, &raw) < 0 ? -errno : 0;
}

/* --- opening --- */

static void copy_size(const struct pty *p) {
        struct winsize size;

        if (ioctl(p->terminal, TIOCGWINSZ, &size) == 0)
                ioctl(p->master, TIOCSWINSZ, &size);
}

/* The jail's end starts as the operator's terminal is set.  If ours stays cooked, it does the output processing. */
static void copy_settings(const struct pty *p) {
        struct termios t;

        if (tcgetattr(p->terminal, &t) < 0)
                return;
        if (!p->input)
                t.c_oflag &= ~(tcflag_t)OPOST;
        tcsetattr(p->slave, TCSANOW, &t);
}

static int open_pair(struct pty *p, struct crew_err *err) {
        p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (p->master < 0)
                return crew_fail_errno(err, "cannot make a pty");
        if (grantpt(p->master) < 0 || unlockpt(p->master) < 0)
                return crew_fail_errno(err, "cannot unlock the pty");
        p->slave = ioctl(p->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (p->slave < 0)
                return crew_fail_errno(err, "cannot open the pty");
        return 0;
}

int pty_open(struct pty *p, int stdio[3], struct crew_err *err) {
        /* Where output goes decides; a terminal that is only read from comes last. */
        static const int order[] = {STDOUT_FILENO, STDERR_FILENO, STDIN_FILENO};

        *p = PTY_NULL;
        for (int i = 0; i < 3; i++)
                stdio[i] = i;
        for (size_t i = 0; i < ELEMENTSOF(order) && p->terminal < 0; i++)
                if (isatty(order[i]))
                        p->terminal = order[i];
        if (p->terminal < 0)
                return 0;
        p->input = isatty(STDIN_FILENO);
        int r = open_pair(p, err);
        if (r < 0) {
                pty_close(p);
                return r;
        }
        copy_settings(p);
        copy_size(p);
        for (int i = 0; i < 3; i++)
                if (isatty(i))
                        stdio[i] = p->slave;
        return 0;
}

void pty_close(struct pty *p) {
        restore_terminal();
        crew_close(&p->master);
        crew_close(&p->slave);
        p->terminal = -1;
}

/* --- relay --- */

struct relay {
        struct pty *p;
        const struct pty_watch *also;
        int pidfd, end_fd, signals;
        bool input_open, output_open;
        char to_jail[CHUNK]; /* typed, not yet taken by the pty */
        size_t n_to_jail;
};

static void relay_fini(struct relay *r) {
        crew_close(&r->signals);
}

int pty_block_signals(void *old) {
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(passed_on); i++)
                sigaddset(&set, passed_on[i]);
        sigaddset(&set, SIGWINCH);
        sigaddset(&set, SIGCHLD);
        sigaddset(&set, SIGPIPE);
        return sigprocmask(SIG_BLOCK, &set, old) < 0 ? -errno : 0;
}

static int open_signals(struct relay *r) {
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(passed_on); i++)
                sigaddset(&set, passed_on[i]);
        sigaddset(&set, SIGWINCH);
        r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return r->signals < 0 ? -errno : 0;
}

/* -EIO: the terminal is gone and with it the reason to go on. */
static int on_signal(struct relay *r) {
        struct signalfd_siginfo info;

        while (read(r->signals, &info, sizeof(info)) == sizeof(info)) {
                if (info.ssi_signo == SIGWINCH) {
                        if (r->p->master >= 0)
                                copy_size(r->p);
                        continue;
                }
                syscall(SYS_pidfd_send_signal, r->pidfd, (int)info.ssi_signo, NULL, 0);
                if (info.ssi_signo == SIGHUP && r->p->terminal >= 0)
                        return -EIO;
        }
        return 0;
}

static int on_typed(struct relay *r) {
        ssize_t n = read(STDIN_FILENO, r->to_jail + r->n_to_jail, sizeof(r->to_jail) - r->n_to_jail);

        if (n > 0)
                r->n_to_jail += (size_t)n;
        else if (n == 0 || (errno != EINTR && errno != EAGAIN))
                r->input_open = false;
        return 0;
}

static void on_taken(struct relay *r) {
        ssize_t n = write(r->p->master, r->to_jail, r->n_to_jail);

        if (n <= 0)
                return;
        r->n_to_jail -= (size_t)n;
        memmove(r->to_jail, r->to_jail + n, r->n_to_jail);
}

/* Something the jail printed.  EIO: nobody has the other end open any more. */
static int on_output(struct relay *r) {
        char buf[CHUNK];
        ssize_t n = read(r->p->master, buf, sizeof(buf));

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n <= 0) {
                r->output_open = false;
                return 0;
        }
        int w = crew_write_full(r->p->terminal, buf, (size_t)n);
        return w < 0 ? -EIO : 0;
}

/* After the end of the process: what is in the pty's buffer. */
static void drain(struct relay *r) {
        struct pollfd fd = {.fd = r->p->master, .events = POLLIN};

        while (r->output_open && poll(&fd, 1, 0) > 0 && (fd.revents & POLLIN) && on_output(r) == 0)
                ;
}

static int relay_once(struct relay *r, bool *ended) {
        const struct pty *p = r->p;
        bool room = r->input_open && p->input && r->n_to_jail < sizeof(r->to_jail);
        struct pollfd fds[] = {
                {.fd = r->end_fd, .events = POLLIN},
                {.fd = r->signals, .events = POLLIN},
                {.fd = room ? STDIN_FILENO : -1, .events = POLLIN},
                {.fd = r->output_open ? p->master : -1, .events = (short)(POLLIN | (r->n_to_jail > 0 ? POLLOUT : 0))},
                {.fd = r->also ? *r->also->fd : -1, .events = POLLIN},
        };
        int e = 0;

        if (poll(fds, ELEMENTSOF(fds), r->also ? r->also->on_turn(r->also->user) : -1) < 0)
                return errno == EINTR ? 0 : -errno;
        if (fds[1].revents)
                e = on_signal(r);
        if (e == 0 && fds[2].revents)
                e = on_typed(r);
        if (e == 0 && (fds[3].revents & POLLOUT))
                on_taken(r);
        if (e == 0 && (fds[3].revents & (POLLIN | POLLHUP | POLLERR)))
                e = on_output(r);
        if (r->also && fds[4].revents)
                r->also->on_ready(r->also->user);
        *ended = fds[0].revents != 0;
        return e;
}

int pty_run(struct pty *p, int pidfd, int end_fd, const struct pty_watch *also, struct crew_err *err) {
        struct relay r _cleanup_(relay_fini) = {.p = p, .also = also, .pidfd = pidfd, .end_fd = end_fd, .signals = -1};
        bool ended = false;
        int e = open_signals(&r);

        if (e < 0)
                return crew_fail(err, -e, "cannot watch signals: %s", strerror(-e));
        crew_close(&p->slave);
        if (p->master >= 0) {
                r.input_open = r.output_open = true;
                fcntl(p->master, F_SETFL, O_NONBLOCK); /* our own end: nobody shares it */
        }
        if (p->input && (e = make_raw(STDIN_FILENO)) < 0) {
                restore_terminal();
                return crew_fail(err, -e, "cannot set the terminal: %s", strerror(-e));
        }
        while (!ended && e == 0)
                e = relay_once(&r, &ended);
        if (e == 0 && p->master >= 0)
                drain(&r);
        restore_terminal();
        return e < 0 ? crew_fail(err, -e, "terminal lost: %s", strerror(-e)) : 0;
}
