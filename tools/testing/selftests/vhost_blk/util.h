/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VHOST_BLK_TEST_UTIL_H
#define VHOST_BLK_TEST_UTIL_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif

/* Other threads look at it, too. */
#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v)	(*(volatile __typeof__(x) *)&(x) = (v))

/* VHOST_BLK_TEST_SEED, or a new seed; the same in all children of main(). */
uint64_t test_seed(void);

/* VHOST_BLK_TEST_SCALE: multiplies how often the long loops run; default 1. */
unsigned long test_scale(unsigned long n);

/* A pseudo-random stream: the same seed gives the same bytes. */
struct prng {
	uint64_t state;
};

void prng_init(struct prng *p, uint64_t salt);
uint64_t prng_next(struct prng *p);
uint32_t prng_below(struct prng *p, uint32_t limit);
void prng_fill(struct prng *p, void *buf, size_t len);

uint64_t now_ns(void);
void sleep_ms(unsigned int ms);

/* True if all @len bytes at @buf are @byte. */
bool mem_is(const void *buf, uint8_t byte, size_t len);

/* CPU time used by thread @tid of this process (or kthread), in ns; -1: gone. */
int64_t thread_cpu_ns(pid_t tid);

/* Kernel memory that is not a cache, in KiB; -1: unknown. */
long long kernel_memory(void);

#define TRACEFS		"/sys/kernel/tracing"
#define TRACE_DIR	TRACEFS "/instances/vhost-blk-test"

/* A trace of our own, in TRACE_DIR; nothing is traced yet. 0, or it cannot be had. */
int trace_start(void);
void trace_end(void);

/* Its lines with @words, of thread @tid (0: all). */
int traced(const char *words, pid_t tid);

/* Give @tid the CPU that this thread is on, and this thread the others. */
int split_cpus(pid_t tid, cpu_set_t *one);

/* A thread that wants a CPU, for nothing. Stopping one that is not on is fine. */
struct burner {
	pthread_t thread;
	bool on;
};

int burner_start(struct burner *b, const cpu_set_t *cpu);
void burner_stop(struct burner *b);

/* Does the kernel check itself so much that what takes long elsewhere does not here? */
bool machine_slow(void);

/*
 * A process that is killed at work. In the child victim_fork() returns 0; the child
 * says when it is at work, and does not return.
 */
struct victim {
	pid_t pid;
	int ready[2];
};

pid_t victim_fork(struct victim *v);
void victim_at_work(struct victim *v);

/* Kill it @ms after it began to work. Return: 0; -ECHILD if it had ended by itself. */
int victim_kill(struct victim *v, unsigned int ms);

/* References to a module; -1 if it is built in or not loaded. */
int module_refs(const char *name);

/* Wait up to @ms until module_refs(name) is @want; returns the last count. */
int module_refs_settle(const char *name, int want, unsigned int ms);

/* Does a line of the kernel log report a bug of the kernel? */
bool is_splat(const char *line);

/* Number of such lines. */
int kernel_splats(void);

/*
 * Pages that are pinned for I/O now, in all of the system; 0 where the kernel
 * does not count.
 */
long long pages_pinned(void);

/* A number in a file; -1 if it cannot be read. */
long long file_number(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Run a shell command quietly; 0 if it succeeded. */
int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
