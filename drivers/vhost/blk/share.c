// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: one thread for several devices of a guest.
 *
 * A device has workers of its own. Those of several devices that are pinned to the
 * same CPU would take turns there: none could spin, as another wants the CPU, and
 * each would have its guest notify it instead. So the first of them that has
 * something to do leads: its poller serves the rings of the others that come, too,
 * and their workers sleep, until there is nothing to do for any of them.
 *
 * This is for devices with the same owner alone, as their guest's memory has to be
 * within reach, and for workers of the same priority that may run on no other CPU: to
 * all others the scheduler can give one. Who is led is decided anew after VHOST_BLK_SHARE_NS, as
 * affinities may have changed, and some may have nothing to do any more.
 *
 * Whoever is led is awake, as &vhost_blk_poller.awake has it. If it is let go of
 * while there may be something to do, it is queued on its own worker.
 *
 * The lock of a share is held while the rings of those who are led are served, and
 * so for as long as a submission to one of their disks takes. It is the owner's own
 * for each CPU: no other guest waits for it.
 */
#include <linux/list.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "vhost_blk.h"

#define VHOST_BLK_SHARE_NS	(100 * NSEC_PER_MSEC)

/* Others are expected to come for so long after the last. */
#define VHOST_BLK_SHARE_EXPECT_NS	NSEC_PER_SEC

/**
 * struct vhost_blk_vm - all devices of a process
 * @node:	in vhost_blk_vms
 * @mm:		its address space; the structure is held
 * @pid:	its own, held
 * @devices:	how many there are
 * @shares:	by CPU
 */
struct vhost_blk_vm {
	struct list_head node;
	struct mm_struct *mm;
	struct pid *pid;
	unsigned int devices;
	struct xarray shares;
};

/* Their lock is innermost, and nothing is allocated under it. */
static LIST_HEAD(vhost_blk_vms);
static DEFINE_MUTEX(vhost_blk_vms_lock);

static struct vhost_blk_vm *vhost_blk_vm_make(void)
{
	struct vhost_blk_vm *vm = kzalloc_obj(*vm, GFP_KERNEL_ACCOUNT);

	if (!vm)
		return NULL;
	vm->mm = current->mm;
	mmgrab(vm->mm);
	vm->pid = get_pid(task_tgid(current));
	xa_init(&vm->shares);
	return vm;
}

static void vhost_blk_vm_free(struct vhost_blk_vm *vm)
{
	struct vhost_blk_share *share;
	unsigned long cpu;

	xa_for_each(&vm->shares, cpu, share)
		kfree(share);
	xa_destroy(&vm->shares);
	put_pid(vm->pid);
	mmdrop(vm->mm);
	kfree(vm);
}

/* The caller's, which is @new if there is none yet. */
static struct vhost_blk_vm *vhost_blk_vm_get(struct vhost_blk_vm *new)
{
	struct vhost_blk_vm *vm;

	guard(mutex)(&vhost_blk_vms_lock);
	list_for_each_entry(vm, &vhost_blk_vms, node) {
		if (vm->mm == new->mm && vm->pid == new->pid) {
			WRITE_ONCE(vm->devices, vm->devices + 1);
			return vm;
		}
	}
	new->devices = 1;
	list_add(&new->node, &vhost_blk_vms);
	return new;
}

/* Return: true if that was the last device. */
static bool vhost_blk_vm_put(struct vhost_blk_vm *vm)
{
	guard(mutex)(&vhost_blk_vms_lock);
	WRITE_ONCE(vm->devices, vm->devices - 1);
	if (vm->devices)
		return false;
	list_del(&vm->node);
	return true;
}

/**
 * vhost_blk_share_open - make a device one of the caller's
 * @blk:	the device; it has no owner
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0 or -ENOMEM.
 */
int vhost_blk_share_open(struct vhost_blk *blk)
{
	struct vhost_blk_vm *new = vhost_blk_vm_make();

	if (!new)
		return -ENOMEM;
	blk->vm = vhost_blk_vm_get(new);
	if (blk->vm != new)
		vhost_blk_vm_free(new);
	return 0;
}

/**
 * vhost_blk_share_close - undo vhost_blk_share_open(), if that was done
 * @blk:	the device; none of its pollers has rings, or ever runs again
 *
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_share_close(struct vhost_blk *blk)
{
	if (blk->vm && vhost_blk_vm_put(blk->vm))
		vhost_blk_vm_free(blk->vm);
	blk->vm = NULL;
}

/* The owner's share of a CPU; NULL without memory. */
static struct vhost_blk_share *vhost_blk_share_of(struct vhost_blk_vm *vm,
						  int cpu)
{
	struct vhost_blk_share *share = xa_load(&vm->shares, cpu);

	if (share)
		return share;
	share = kzalloc_obj(*share, GFP_KERNEL_ACCOUNT);
	if (!share)
		return NULL;
	mutex_init(&share->lock);
	INIT_LIST_HEAD(&share->others);
	if (!xa_insert(&vm->shares, cpu, share, GFP_KERNEL_ACCOUNT))
		return share;
	/* Another device's worker was faster, as a rule. */
	kfree(share);
	return xa_load(&vm->shares, cpu);
}

/* The end of @poller's stay. From now on its device may be gone any time. */
static void vhost_blk_share_forget(struct vhost_blk_poller *poller)
{
	list_del_init(&poller->led);
	/* Pairs with the first look in vhost_blk_share_leave(). */
	smp_store_release(&poller->share, NULL);
}

static void vhost_blk_share_drop(struct vhost_blk_poller *poller)
{
	vhost_blk_poll_queue(poller);
	vhost_blk_share_forget(poller);
}

/**
 * vhost_blk_share_leave - let a poller be served by nobody else, nor serve others
 * @poller:	the poller
 *
 * If it was in a share, it is queued, as are all that it led.
 * Context: process, neither a share's lock nor a ring's mutex held.
 */
void vhost_blk_share_leave(struct vhost_blk_poller *poller)
{
	struct vhost_blk_poller *other, *next;
	struct vhost_blk_share *share;

	/* Pairs with the end of vhost_blk_share_forget(). */
	share = smp_load_acquire(&poller->share);
	if (!share)
		return;
	guard(mutex)(&share->lock);
	/* The lead has gone to sleep; or it has left by itself. */
	if (poller->share != share)
		return;
	if (share->lead == poller) {
		WRITE_ONCE(share->lead, NULL);
		list_for_each_entry_safe(other, next, &share->others, led)
			vhost_blk_share_drop(other);
	}
	vhost_blk_share_drop(poller);
}

/*
 * The others decide anew whether they are led. The lead goes on, unless it worked
 * for them alone.
 *
 * Return: true if any of them wants to run.
 */
static bool vhost_blk_share_renew(struct vhost_blk_share *share,
				  struct vhost_blk_poller *lead, u64 now)
{
	struct vhost_blk_poller *other, *next;
	bool busy = false;

	guard(mutex)(&share->lock);
	if (share->lead != lead)
		return false;
	list_for_each_entry_safe(other, next, &share->others, led) {
		busy |= vhost_blk_poll_release(other);
		vhost_blk_share_forget(other);
	}
	share->since = now;
	share->prio = current->normal_prio;
	if (busy && vhost_blk_poll_quiet(lead)) {
		WRITE_ONCE(share->lead, NULL);
		vhost_blk_share_forget(lead);
	}
	return busy;
}

/* Nobody leads: do it. */
static void vhost_blk_share_lead(struct vhost_blk_share *share,
				 struct vhost_blk_poller *poller, u64 now)
{
	WRITE_ONCE(share->lead, poller);
	share->since = now;
	share->prio = current->normal_prio;
	/* They come by turns. */
	if (share->latest != poller && now - share->seen < VHOST_BLK_SHARE_NS)
		share->met = now;
	share->latest = poller;
	share->seen = now;
}

static void vhost_blk_share_follow(struct vhost_blk_share *share,
				   struct vhost_blk_poller *poller, u64 now)
{
	list_add_tail(&poller->led, &share->others);
	WRITE_ONCE(poller->awake, true);
	poller->times_led++;
	share->latest = poller;
	share->seen = now;
	share->met = now;
}

/* Lead, or be led, which is what this returns, or neither. */
static bool vhost_blk_share_enter(struct vhost_blk_share *share,
				  struct vhost_blk_poller *poller, u64 now)
{
	guard(mutex)(&share->lock);
	if (poller->share)
		return share->lead != poller;
	if (share->lead && share->prio != current->normal_prio)
		return false;
	WRITE_ONCE(poller->share, share);
	/*
	 * Pairs with the barrier in vhost_blk_poll_remove(): whoever takes the last
	 * ring away has @poller leave, or is seen here.
	 */
	smp_mb();
	if (!READ_ONCE(poller->rings)) {
		vhost_blk_share_forget(poller);
		return false;
	}
	if (share->lead) {
		vhost_blk_share_follow(share, poller, now);
		return true;
	}
	vhost_blk_share_lead(share, poller, now);
	return false;
}

/**
 * vhost_blk_share_join - does another poller serve the rings of this one?
 * @poller:	about to run
 * @now:	local_clock()
 *
 * Context: the poller's worker, no lock held.
 * Return: true if another one does, from now on or already; false if @poller has
 * to. Then it leads as a rule, if its worker is pinned and there are other devices.
 */
bool vhost_blk_share_join(struct vhost_blk_poller *poller, u64 now)
{
	struct vhost_blk_share *old = READ_ONCE(poller->share), *share = NULL;
	struct vhost_blk_vm *vm = vhost_blk_vq(poller->vq)->blk->vm;

	/* A device that is alone is not to pay for this. */
	if (READ_ONCE(poller->rings) && READ_ONCE(vm->devices) > 1 &&
	    current->nr_cpus_allowed == 1)
		share = vhost_blk_share_of(vm, raw_smp_processor_id());
	if (old && old == share && READ_ONCE(old->lead) == poller) {
		/* Nobody else serves them until they have come back. */
		if (now - old->since >= VHOST_BLK_SHARE_NS &&
		    vhost_blk_share_renew(old, poller, now))
			vhost_blk_share_give_way();
		return false;
	}
	if (old && old != share)
		vhost_blk_share_leave(poller);
	if (!share || !vhost_blk_share_enter(share, poller, now))
		return false;
	vhost_blk_nap_leave(poller);
	return true;
}

/**
 * vhost_blk_share_lock_slow - see vhost_blk_share_lock()
 * @poller:	it runs, and was in a share a moment ago
 */
struct vhost_blk_share *vhost_blk_share_lock_slow(struct vhost_blk_poller *poller)
{
	struct vhost_blk_share *share = READ_ONCE(poller->share);

	if (!share)
		return NULL;
	mutex_lock(&share->lock);
	if (share->lead == poller)
		return share;
	mutex_unlock(&share->lock);
	return NULL;
}

/**
 * vhost_blk_share_expects - may others come to be led?
 * @share:	locked by its lead; NULL: there is none
 * @now:	local_clock()
 */
bool vhost_blk_share_expects(const struct vhost_blk_share *share, u64 now)
{
	return share && now - share->met < VHOST_BLK_SHARE_EXPECT_NS;
}

/**
 * vhost_blk_share_end - the lead goes to sleep, and all the others with it
 * @share:	locked by its lead; NULL: there is none
 *
 * They are not awake any more.
 */
void vhost_blk_share_end(struct vhost_blk_share *share)
{
	struct vhost_blk_poller *other, *next;

	if (!share)
		return;
	list_for_each_entry_safe(other, next, &share->others, led)
		vhost_blk_share_forget(other);
	vhost_blk_share_forget(share->lead);
	WRITE_ONCE(share->lead, NULL);
}
