// SPDX-License-Identifier: GPL-2.0
/* Odds and ends of the vhost-blk tests: random data, time, /proc and /sys. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

uint64_t test_seed(void)
{
	static uint64_t seed;
	const char *env = getenv("VHOST_BLK_TEST_SEED");

	if (seed)
		return seed;
	if (env)
		seed = strtoull(env, NULL, 0);
	if (!seed)
		seed = (now_ns() ^ ((uint64_t)getpid() << 40)) | 1;
	return seed;
}

unsigned long test_scale(unsigned long n)
{
	const char *env = getenv("VHOST_BLK_TEST_SCALE");
	double factor = env ? atof(env) : 1.0;

	if (factor <= 0)
		factor = 1.0;
	n *= factor;
	return n ? n : 1;
}

/* splitmix64: any state is a good one, also zero */
uint64_t prng_next(struct prng *p)
{
	uint64_t z = p->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

void prng_init(struct prng *p, uint64_t salt)
{
	p->state = test_seed() + salt * 0xd1342543de82ef95ULL;
	prng_next(p);
}

uint32_t prng_below(struct prng *p, uint32_t limit)
{
	return (prng_next(p) >> 32) * limit >> 32;
}

void prng_fill(struct prng *p, void *buf, size_t len)
{
	unsigned char *to = buf;
	uint64_t v;
	size_t n;

	while (len) {
		v = prng_next(p);
		n = len < sizeof(v) ? len : sizeof(v);
		memcpy(to, &v, n);
		to += n;
		len -= n;
	}
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000L,
	};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

bool mem_is(const void *buf, uint8_t byte, size_t len)
{
	const uint8_t *p = buf;

	return !len || (*p == byte && !memcmp(p, p + 1, len - 1));
}

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

long long kernel_memory(void)
{
	static const char * const keys[] = {
		"SUnreclaim:", "VmallocUsed:", "PageTables:", "Percpu:",
	};
	long long sum = 0, n;
	char line[128], key[64];
	unsigned int i;
	FILE *f;

	run("sync; echo 3 >/proc/sys/vm/drop_caches");
	f = fopen("/proc/meminfo", "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		for (i = 0; i < ARRAY_SIZE(keys); i++)
			if (sscanf(line, "%63s %lld", key, &n) == 2 &&
			    !strcmp(key, keys[i]))
				sum += n;
	fclose(f);
	return sum;
}

int trace_start(void)
{
	run("mountpoint -q " TRACEFS " || mount -t tracefs t " TRACEFS);
	run("rmdir " TRACE_DIR);
	return run("mkdir " TRACE_DIR);
}

void trace_end(void)
{
	run("rmdir " TRACE_DIR);
}

int traced(const char *words, pid_t tid)
{
	FILE *f = fopen(TRACE_DIR "/trace", "re");
	char line[512], who[32];
	int n = 0;

	if (!f)
		return -errno;
	snprintf(who, sizeof(who), "-%d ", tid);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, words) && (!tid || strstr(line, who));
	fclose(f);
	return n;
}

int64_t thread_cpu_ns(pid_t tid)
{
	char path[64], buf[128];
	long long ns;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", tid);
	if (read_file(path, buf, sizeof(buf)) <= 0 ||
	    sscanf(buf, "%lld", &ns) != 1)
		return -1;
	return ns;
}

long long file_number(const char *fmt, ...)
{
	char path[256], buf[64];
	long long n;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (read_file(path, buf, sizeof(buf)) <= 0 ||
	    sscanf(buf, "%lld", &n) != 1)
		return -1;
	return n;
}

int module_refs(const char *name)
{
	return file_number("/sys/module/%s/refcnt", name);
}

int module_refs_settle(const char *name, int want, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ULL;
	int refs;

	while ((refs = module_refs(name)) != want && now_ns() < end)
		sleep_ms(5);
	return refs;
}

bool is_splat(const char *line)
{
	static const char * const sign[] = {
		"WARNING: ", "BUG: ", "kernel BUG at", "Oops:", "INFO: task ",
		"UBSAN:", "general protection fault", "possible circular",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sign); i++)
		if (strstr(line, sign[i]))
			return true;
	return false;
}

int kernel_splats(void)
{
	int size = klogctl(10, NULL, 0), found = 0, n;
	char *buf, *line, *save = NULL;

	buf = size > 0 ? malloc(size + 1) : NULL;
	if (!buf)
		return -1;
	n = klogctl(3, buf, size);
	if (n < 0) {
		free(buf);
		return -1;
	}
	buf[n] = '\0';
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		found += is_splat(line);
	free(buf);
	return found;
}

long long pages_pinned(void)
{
	int fd = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
	long long got = 0, back = 0, n;
	char key[64];
	FILE *f;

	/* Every CPU counts by itself for a while: have it summed up now. */
	if (fd >= 0) {
		n = write(fd, "1", 1);
		close(fd);
	}
	f = fopen("/proc/vmstat", "re");
	if (!f)
		return 0;
	while (fscanf(f, "%63s %lld", key, &n) == 2) {
		if (!strcmp(key, "nr_foll_pin_acquired"))
			got = n;
		else if (!strcmp(key, "nr_foll_pin_released"))
			back = n;
	}
	fclose(f);
	return got - back;
}

int run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int n;

	n = sprintf(cmd, "{ ");
	va_start(ap, fmt);
	n += vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	if ((size_t)n > sizeof(cmd) - 32)
		return -1;
	strcat(cmd, "; } >/dev/null 2>&1");
	return system(cmd) ? -1 : 0;
}

int split_cpus(pid_t tid, cpu_set_t *one)
{
	cpu_set_t rest;
	int cpu;

	cpu = sched_getcpu();
	if (cpu < 0 || sched_getaffinity(0, sizeof(rest), &rest))
		return -errno;
	CPU_ZERO(one);
	CPU_SET(cpu, one);
	CPU_CLR(cpu, &rest);
	if (sched_setaffinity(0, sizeof(rest), &rest) ||
	    sched_setaffinity(tid, sizeof(*one), one))
		return -errno;
	return 0;
}

bool machine_slow(void)
{
	const char *slow = getenv("KSFT_MACHINE_SLOW");

	return slow && *slow;
}

pid_t victim_fork(struct victim *v)
{
	if (pipe(v->ready))
		return -1;
	v->pid = fork();
	close(v->ready[!!v->pid]);
	return v->pid;
}

void victim_at_work(struct victim *v)
{
	if (write(v->ready[1], "r", 1) != 1)
		_exit(1);
}

int victim_kill(struct victim *v, unsigned int ms)
{
	int status;
	char c;

	if (read(v->ready[0], &c, 1) == 1)
		sleep_ms(ms);
	close(v->ready[0]);
	kill(v->pid, SIGKILL);
	if (waitpid(v->pid, &status, 0) != v->pid)
		return -errno;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : -ECHILD;
}

static void *burn(void *arg)
{
	struct burner *b = arg;

	while (__atomic_load_n(&b->on, __ATOMIC_RELAXED))
		;
	return NULL;
}

int burner_start(struct burner *b, const cpu_set_t *cpu)
{
	int err;

	b->on = true;
	err = pthread_create(&b->thread, NULL, burn, b);
	if (err) {
		b->on = false;
		return err;
	}
	err = pthread_setaffinity_np(b->thread, sizeof(*cpu), cpu);
	if (err)
		burner_stop(b);
	return err;
}

void burner_stop(struct burner *b)
{
	if (!b->on)
		return;
	__atomic_store_n(&b->on, false, __ATOMIC_RELAXED);
	pthread_join(b->thread, NULL);
}
