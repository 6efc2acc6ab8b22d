// SPDX-License-Identifier: GPL-2.0
/*
 * Sleeping and waking: whatever the disk and the spin, no wake-up is lost
 * between a driver and a worker that are about to sleep.
 */
#include "suite.h"
#include "traffic.h"

#define RING_SIZE 64

FIXTURE(wake) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
};

FIXTURE_VARIANT(wake) {
	bool event_idx;
	unsigned int poll_us;
	enum blkdev_kind kind;
};

#define WAKE_VARIANT(us)							\
	FIXTURE_VARIANT_ADD(wake, event_idx_poll_##us) { true, us, BLKDEV_NULL_512 }; \
	FIXTURE_VARIANT_ADD(wake, flags_poll_##us) { false, us, BLKDEV_NULL_512 }

WAKE_VARIANT(0);
WAKE_VARIANT(50);
WAKE_VARIANT(1000);
FIXTURE_VARIANT_ADD(wake, softirq_poll_0) { true, 0, BLKDEV_NULL_SOFTIRQ };
FIXTURE_VARIANT_ADD(wake, softirq_poll_50) { true, 50, BLKDEV_NULL_SOFTIRQ };
/* completions that meet the worker on its way to sleep */
FIXTURE_VARIANT_ADD(wake, timer_30us_poll_0) { true, 0, BLKDEV_NULL_30US };
FIXTURE_VARIANT_ADD(wake, timer_60us_poll_0) { true, 0, BLKDEV_NULL_60US };
FIXTURE_VARIANT_ADD(wake, timer_60us_poll_50) { true, 50, BLKDEV_NULL_60US };

FIXTURE_SETUP(wake)
{
	uint64_t features = DRIVER_FEATURES;

	if (!variant->event_idx)
		features &= ~BIT64(VIRTIO_RING_F_EVENT_IDX);
	OPEN_DISK(&self->disk, variant->kind);
	open_ring(_metadata, &self->d, &self->q, 1, RING_SIZE, self->disk.fd,
		  features);
	ASSERT_EQ(0, vdev_set_poll(&self->d, 0, variant->poll_us));
}

FIXTURE_TEARDOWN(wake)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
}

/* How often, given that some disks and spins take long. */
static unsigned long wakeups(const FIXTURE_VARIANT(wake) *variant,
			     unsigned long n)
{
	if (variant->poll_us == 1000 || variant->kind != BLKDEV_NULL_512)
		n /= 3;
	return test_scale(n);
}

/*
 * One request at a time, both sides asleep in between as often as can be. The
 * pause drifts over the spin, so that requests meet the worker while it is
 * about to sleep.
 */
TEST_F_TIMEOUT(wake, no_wakeup_is_lost_at_depth_one, 120)
{
	unsigned long i, total = wakeups(variant, 3000);
	uint64_t until;
	struct prng rnd;
	struct req r;

	prng_init(&rnd, 2);
	req_init(&r, VIRTIO_BLK_T_IN, 0, 512);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	for (i = 0; i < total; i++) {
		self->q->spin = i % 4 == 3;
		ASSERT_LE(0, req_add(self->q, &r));
		vq_kick(self->q);
		ASSERT_EQ(0, req_wait_n(self->q, 1, 1000)) {
			TH_LOG("request %lu of %lu", i, total);
		}
		ASSERT_EQ(VIRTIO_BLK_S_OK, r.status);
		if (variant->poll_us == 50 || i % 16 == 0) {
			until = now_ns() + 20000 + prng_below(&rnd, 60000);
			while (now_ns() < until)
				;
		}
	}
	req_free(&r);
}

TEST_F_TIMEOUT(wake, no_wakeup_is_lost_at_any_depth, 120)
{
	struct load *l = malloc(sizeof(*l));
	unsigned long total = wakeups(variant, 3000);
	struct prng rnd;
	struct req *r, *idle[RING_SIZE];
	unsigned int nidle = 0, n;
	int err;

	prng_init(&rnd, 3);
	ASSERT_EQ(0, load_start(l, self->q, 16, 512, VQ_DIRECT));
	while (l->done < total) {
		if (nidle < l->n)
			ASSERT_EQ(0, vq_wait(self->q, 1000));
		while ((r = req_reap(self->q, &err))) {
			idle[nidle++] = r;
			l->done++;
		}
		ASSERT_EQ(0, err);
		/* one, some or all of them again; a kick for all together */
		n = prng_below(&rnd, nidle + 1);
		if (nidle == l->n && !n)
			n = 1;
		while (n--)
			ASSERT_LE(0, req_add(self->q, idle[--nidle]));
		vq_kick(self->q);
	}
	ASSERT_EQ(0, req_wait_n(self->q, l->n - nidle, 1000));
	load_free(l);
	free(l);
}

SUITE_MAIN
