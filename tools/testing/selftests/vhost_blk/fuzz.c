// SPDX-License-Identifier: GPL-2.0
/* Episodes, their seeds, and what must hold after each; see fuzz.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blkdev.h"
#include "fuzz.h"

/* Every so many episodes, and at the end, pinned pages are counted. */
#define PINS_EVERY 64

/* Written by the episode's process, read by the campaign's. */
static struct {
	uint64_t executions;
	char at[64];
	char why[256];
} *record;

struct campaign {
	const char *suite;
	fuzz_episode episode;
	uint64_t seed;
	unsigned long done, killed;
	int log;		/* the kernel's */
	int refs;
	long long pinned;
	char why[512];
	struct blkdev disk;	/* the neighbour's */
	struct vdev d;
	struct witness neighbour;
};

void fuzz_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(record->why, sizeof(record->why), fmt, ap);
	va_end(ap);
	_exit(1);
}

void fuzz_at(const char *what)
{
	snprintf(record->at, sizeof(record->at), "%s", what);
}

void fuzz_count(unsigned int n)
{
	__atomic_fetch_add(&record->executions, n, __ATOMIC_RELAXED);
}

static int witness_step(struct witness *w, struct prng *rnd, char *sent,
			char *got)
{
	int r;

	prng_fill(rnd, sent, w->len);
	w->write.sector = prng_below(rnd, 1024) * 8;
	w->read.sector = w->write.sector;
	req_put_data(&w->write, sent);
	r = req_add(w->q, &w->write);
	if (r < 0)
		return r;
	vq_kick(w->q);
	r = req_wait_n(w->q, 1, FUZZ_PATIENCE_MS);
	if (r)
		return r;
	r = req_add(w->q, &w->read);
	if (r < 0)
		return r;
	vq_kick(w->q);
	r = req_wait_n(w->q, 1, FUZZ_PATIENCE_MS);
	if (r)
		return r;
	req_get_data(&w->read, got);
	if (w->write.status || w->read.status || !req_guards_intact(&w->read))
		return -EIO;
	return memcmp(sent, got, w->len) ? -EILSEQ : 0;
}

static void *witness_run(void *arg)
{
	struct witness *w = arg;
	char *buf = malloc(2 * w->len);
	struct prng rnd = { .state = w->len };

	while (buf && !READ_ONCE(w->stop)) {
		WRITE_ONCE(w->paused, w->pause);
		if (!w->paused) {
			w->error = witness_step(w, &rnd, buf, buf + w->len);
			if (w->error)
				break;
			__atomic_fetch_add(&w->done, 1, __ATOMIC_RELEASE);
		}
		/* There is little of the CPU, and others need it, too. */
		sleep_ms(1);
	}
	free(buf);
	return NULL;
}

int witness_start(struct witness *w, struct vq *q, uint32_t len)
{
	int r;

	memset(w, 0, sizeof(*w));
	w->q = q;
	w->len = len;
	req_init(&w->write, VIRTIO_BLK_T_OUT, 0, len);
	req_init(&w->read, VIRTIO_BLK_T_IN, 0, len);
	r = req_build(&q->dev->mem, &w->write);
	if (!r)
		r = req_build(&q->dev->mem, &w->read);
	return r ? r : -pthread_create(&w->thread, NULL, witness_run, w);
}

int witness_served(struct witness *w)
{
	unsigned long first = __atomic_load_n(&w->done, __ATOMIC_ACQUIRE);
	uint64_t end = now_ns() + FUZZ_PATIENCE_MS * 1000000ULL;

	/* The second that ends from now on has begun after now. */
	while (__atomic_load_n(&w->done, __ATOMIC_ACQUIRE) < first + 2) {
		if (READ_ONCE(w->error))
			return w->error;
		if (now_ns() > end)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	return 0;
}

void witness_pause(struct witness *w, bool pause)
{
	WRITE_ONCE(w->pause, pause);
	while (READ_ONCE(w->paused) != pause && !READ_ONCE(w->error))
		sleep_ms(1);
}

int witness_stop(struct witness *w)
{
	WRITE_ONCE(w->stop, true);
	pthread_join(w->thread, NULL);
	req_free(&w->write);
	req_free(&w->read);
	return w->error;
}

static int campaign_failed(struct campaign *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int campaign_failed(struct campaign *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	return -1;
}

/* New lines of the kernel's log. */
static int check_log(struct campaign *c)
{
	char line[8192];
	ssize_t n;

	for (;;) {
		n = read(c->log, line, sizeof(line) - 1);
		if (n < 0 && errno == EPIPE)
			continue;	/* some are lost */
		if (n <= 0)
			return 0;
		line[n] = '\0';
		if (is_splat(line))
			return campaign_failed(c, "the kernel said: %.300s",
					       line);
	}
}

static void show_stacks(pid_t pid)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd),
		 "for t in /proc/%d/task/*; do echo \"# ${t##*/} $(cat $t/comm)\"; "
		 "sed 's/^/#   /' $t/stack; done 2>/dev/null", pid);
	if (system(cmd))
		printf("# no stacks of %d\n", pid);
}

/* Wait until @pid has ended: 0, or -ETIMEDOUT. */
static int ended(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	do {
		n = poll(&p, 1, ms);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : -ETIMEDOUT;
}

/* Let the process go on, to its end or to one that comes before. */
static int attend(struct campaign *c, struct prng *rnd, pid_t pid, int pidfd)
{
	bool kill_it = one_in(rnd, 5);
	int status, ms = prng_below(rnd, 60);

	if (kill_it && ended(pidfd, ms)) {
		kill(pid, SIGKILL);
		c->killed++;
	} else {
		kill_it = false;
	}
	if (ended(pidfd, kill_it ? FUZZ_PATIENCE_MS : 3 * FUZZ_PATIENCE_MS)) {
		show_stacks(pid);
		campaign_failed(c, "%s hangs in %s",
				kill_it ? "the killed process" : "the process",
				record->at);
		kill(pid, SIGKILL);
		return -1;
	}
	if (waitpid(pid, &status, 0) != pid)
		return campaign_failed(c, "waitpid: %s", strerror(errno));
	if (!status || (kill_it && WIFSIGNALED(status) &&
			WTERMSIG(status) == SIGKILL))
		return 0;
	if (WIFSIGNALED(status))
		return campaign_failed(c, "signal %d in %s", WTERMSIG(status),
				       record->at);
	return campaign_failed(c, "%s (last was %s)", record->why, record->at);
}

static int run_episode(struct campaign *c)
{
	struct prng rnd = { .state = c->seed };
	struct prng killer = { .state = ~c->seed };
	int pidfd, r;
	pid_t pid;

	record->at[0] = '\0';
	snprintf(record->why, sizeof(record->why), "it said nothing");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return campaign_failed(c, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c->episode(&rnd);
		_exit(0);
	}
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		return campaign_failed(c, "pidfd_open: %s", strerror(errno));
	r = attend(c, &killer, pid, pidfd);
	close(pidfd);
	return r;
}

static int check_pins(struct campaign *c)
{
	int tries = 100;

	witness_pause(&c->neighbour, true);
	while (pages_pinned() != c->pinned && tries--)
		sleep_ms(20);
	witness_pause(&c->neighbour, false);
	return tries < 0 ? campaign_failed(c, "%lld pages stay pinned",
					   pages_pinned() - c->pinned) : 0;
}

static int check_host(struct campaign *c)
{
	int r;

	r = module_refs_settle("vhost_blk", c->refs, FUZZ_PATIENCE_MS);
	if (r != c->refs)
		return campaign_failed(c, "references to the module: %d, not %d",
				       r, c->refs);
	r = witness_served(&c->neighbour);
	if (r)
		return campaign_failed(c, "I/O on another device: %d", r);
	if (!gmem_guards_intact(&c->d.mem))
		return campaign_failed(c, "another process's memory was written");
	if (c->done % PINS_EVERY == 0 && check_pins(c))
		return -1;
	return check_log(c);
}

static int start_neighbour(struct campaign *c)
{
	struct vq *q;
	int r;

	r = blkdev_open(&c->disk, BLKDEV_NULL_SOFTIRQ);
	if (!r)
		r = vdev_open(&c->d, DRIVER_FEATURES, 1 << 20);
	if (!r)
		r = vq_setup(&c->d, 0, 16, &q);
	if (!r)
		r = vq_start(q, c->disk.fd);
	return r ? r : witness_start(&c->neighbour, q, 4096);
}

static int start(struct campaign *c)
{
	int r;

	record = mmap(NULL, sizeof(*record), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	c->log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (record == MAP_FAILED || c->log < 0)
		return -errno;
	lseek(c->log, 0, SEEK_END);
	c->pinned = pages_pinned();
	r = start_neighbour(c);
	c->refs = module_refs("vhost_blk");
	return r;
}

static void finish(struct campaign *c)
{
	witness_stop(&c->neighbour);
	vdev_close(&c->d);
	blkdev_close(&c->disk);
	close(c->log);
}

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *env = getenv(name);

	return env ? strtoul(env, NULL, 0) : otherwise;
}

/* Progress is shown on the way: a long campaign is not a silent one. */
static void say(const struct campaign *c, uint64_t since)
{
	printf("# %s: %lu episodes (%lu killed), %llu executions in %llu s\n",
	       c->suite, c->done, c->killed,
	       (unsigned long long)record->executions,
	       (unsigned long long)((now_ns() - since) / 1000000000));
	fflush(stdout);
}

int fuzz_campaign(const char *suite, fuzz_episode episode,
		  unsigned long episodes)
{
	struct campaign c = { .suite = suite, .episode = episode };
	uint64_t begin = now_ns(), told = begin, seconds;
	struct prng seeds = { .state = test_seed() };
	int r;

	seconds = number("VHOST_BLK_TEST_SECONDS", 0);
	episodes = number("VHOST_BLK_TEST_EPISODES", test_scale(episodes));
	c.seed = seeds.state;
	r = start(&c);
	if (r) {
		printf("# the neighbour did not start: %d %s\n", r, blkdev_why());
		return r;
	}
	do {
		r = run_episode(&c);
		c.done++;
		if (!r)
			r = check_host(&c);
		if (r)
			break;
		c.seed = prng_next(&seeds);
		if (now_ns() - told > 60000000000ULL) {
			say(&c, begin);
			told = now_ns();
		}
	} while (seconds ? now_ns() - begin < seconds * 1000000000 :
			   c.done < episodes);
	if (!r)
		r = check_pins(&c);
	say(&c, begin);
	if (r)
		printf("# %s\n# replay: VHOST_BLK_TEST_SEED=0x%llx %s %s\n",
		       c.why, (unsigned long long)c.seed,
		       "tools/testing/run-selftests", suite);
	finish(&c);
	return r;
}
