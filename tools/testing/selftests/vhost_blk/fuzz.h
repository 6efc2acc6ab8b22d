/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzzers share. A campaign is a row of episodes; each has a seed, runs
 * in a process of its own and begins with a new file descriptor, so that its seed
 * is all that it depends on (and the moment when things happen, where several
 * threads take part). The seed of the first is VHOST_BLK_TEST_SEED.
 *
 * Next to all of them another device serves verified I/O: the neighbour. After
 * each episode it must go on, the process must be gone, and the device with it.
 */
#ifndef VHOST_BLK_TEST_FUZZ_H
#define VHOST_BLK_TEST_FUZZ_H

#include <pthread.h>

#include "request.h"
#include "util.h"
#include "vring.h"

/* No answer for so long is a hang, also on an emulated debug kernel. */
#define FUZZ_PATIENCE_MS	60000

typedef void (*fuzz_episode)(struct prng *rnd);

/*
 * Run @episodes of them (VHOST_BLK_TEST_EPISODES overrides), or as many as fit
 * into VHOST_BLK_TEST_SECONDS. Prints what was done, or what failed and how to
 * replay it; 0 or an error.
 */
int fuzz_campaign(const char *suite, fuzz_episode episode,
		  unsigned long episodes);

/* Within an episode: it has failed. */
void fuzz_fail(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));
#define FUZZ_CHECK(cond)						\
do {									\
	if (!(cond))							\
		fuzz_fail("%s:%d: %s", __func__, __LINE__, #cond);	\
} while (0)
/* The same for what returns 0 or an error. */
#define FUZZ_OK(call)							\
do {									\
	int _r = (call);						\
	if (_r)								\
		fuzz_fail("%s:%d: %s: %d", __func__, __LINE__, #call, _r); \
} while (0)
/* What it is doing now: said if it never ends. */
void fuzz_at(const char *what);
/* So many executions more. */
void fuzz_count(unsigned int n);

/* One in @n. */
static inline bool one_in(struct prng *p, uint32_t n)
{
	return !prng_below(p, n);
}

/* One of an array. */
#define PICK(p, a) ((a)[prng_below(p, ARRAY_SIZE(a))])

/* Verified I/O on a ring that nobody disturbs, in a thread. */
struct witness {
	struct vq *q;
	struct req write, read;
	uint32_t len;
	unsigned long done;
	int error;
	bool stop, pause, paused;
	pthread_t thread;
};

int witness_start(struct witness *w, struct vq *q, uint32_t len);
/* Wait until a request that is sent from now on has come back: 0 or an error. */
int witness_served(struct witness *w);
void witness_pause(struct witness *w, bool pause);
int witness_stop(struct witness *w);

#endif
