//! Delayed tasks: in the order of due time, then of posting, with removal from the middle.
//!
//! [`DelayedQueue`] orders small keys over a slab of tasks: what moves is 24 bytes, not a task. The
//! next few thousand are in a 4-ary heap; what is due later than those lies in a heap only in the
//! word's other sense, unsorted, until its time comes near. So a timer among a million costs no more
//! cache misses than one among a hundred. A cancelled task leaves the slab at once, and its captures
//! with it; its key stays until it comes to the top, or until there are more such keys than live
//! ones, when all of them are swept out. [`DelayedTasks`] is two queues, one for each precision.

use std::time::{Duration, Instant};

use crate::task::Task;

const ARITY: usize = 4;

/// When the heap has more keys, the later half goes to the far ones.
const NEAR_MAX: usize = if cfg!(test) { 32 } else { 8192 };

/// So many slots and keys may be kept for later.
const KEPT: usize = 1024;

/// A due time beyond a century is as good as never, and keeps all sums in range.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How exactly a delayed task is to be on time. Neither is ever early.
///
/// libwebrtc: `TaskQueueBase::DelayPrecision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As soon after its due time as the operating system and the tasks before it allow.
    #[default]
    High,
    /// Later by up to the thread's [leeway](crate::Builder::leeway): the thread does not wake up for
    /// it before that, but runs it when it is awake anyway. A thousand timers that nobody hurries
    /// for cost a few wake-ups, not a thousand.
    Low,
}

/// Names one delayed task of one thread, for ever: sequence numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DelayedId {
    precision: Precision,
    slot: u32,
    sequence: u64,
}

/// All the delayed tasks of one thread.
#[derive(Debug)]
pub(crate) struct DelayedTasks {
    high: DelayedQueue,
    low: DelayedQueue,
    leeway_nanos: u64,
    next_sequence: u64,
}

impl DelayedTasks {
    pub(crate) fn new(epoch: Instant, leeway: Duration) -> Self {
        Self {
            high: DelayedQueue::new(epoch),
            low: DelayedQueue::new(epoch),
            leeway_nanos: u64::try_from(leeway.as_nanos()).unwrap_or(u64::MAX),
            next_sequence: 0,
        }
    }

    fn of(&mut self, precision: Precision) -> &mut DelayedQueue {
        match precision {
            Precision::High => &mut self.high,
            Precision::Low => &mut self.low,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.high.is_empty() && self.low.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.high.len() + self.low.len()
    }

    /// When the owner must be awake. Low-precision tasks are all given the same leeway, so the first
    /// to become due is also the first that cannot be put off any longer.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let nanos = self.wake_nanos();
        (nanos != u64::MAX).then(|| self.high.epoch + Duration::from_nanos(nanos))
    }

    /// The same since the epoch, or the largest number if there is no task.
    fn wake_nanos(&self) -> u64 {
        let low = self.low.next_nanos().saturating_add(self.leeway_nanos);
        self.high.next_nanos().min(low)
    }

    /// When the earliest task is due, whatever its precision.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let nanos = self.high.next_nanos().min(self.low.next_nanos());
        (nanos != u64::MAX).then(|| self.high.epoch + Duration::from_nanos(nanos))
    }

    /// Adds a task. The flag tells whether the owner must be awake earlier because of it.
    pub(crate) fn push(
        &mut self,
        due: Instant,
        precision: Precision,
        task: Task,
    ) -> (DelayedId, bool) {
        let before = self.wake_nanos();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = self.of(precision).push(due, sequence, task);
        let id = DelayedId {
            precision,
            slot,
            sequence,
        };
        (id, self.wake_nanos() < before)
    }

    /// Takes out a task that has not become due yet.
    pub(crate) fn remove(&mut self, id: DelayedId) -> Option<Task> {
        self.of(id.precision).remove(id)
    }

    /// Takes out the earliest task if it is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Task> {
        let precision = match (self.high.heap.first(), self.low.heap.first()) {
            (Some(high), Some(low)) if low < high => Precision::Low,
            (None, Some(_)) => Precision::Low,
            _ => Precision::High,
        };
        self.of(precision).pop_due(now)
    }

    /// Takes out everything, in no order.
    pub(crate) fn drain(&mut self) -> Vec<Task> {
        let mut all = self.high.drain();
        all.append(&mut self.low.drain());
        all
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Nanoseconds since the queue's epoch; one word compares faster than an `Instant`.
    due: u64,
    sequence: u64,
    slot: u32,
}

#[derive(Debug)]
enum Slot {
    Free { next: Option<u32> },
    Used { task: Task, sequence: u64 },
}

/// `now + delay`, or a century from now where the sum has no meaning.
pub(crate) fn due_after(now: Instant, delay: Duration) -> Instant {
    now + delay.min(CENTURY)
}

/// The delayed tasks of one thread and one precision. The key at the top is always that of a task
/// that is there.
#[derive(Debug)]
struct DelayedQueue {
    epoch: Instant,
    /// The earliest keys.
    heap: Vec<Key>,
    /// The rest, in no order. There are some only while the heap has some.
    far: Vec<Key>,
    /// Where the far ones begin, if there are any.
    horizon: Option<Key>,
    slots: Vec<Slot>,
    first_free: Option<u32>,
    /// Keys whose tasks have been cancelled.
    stale: usize,
}

impl DelayedQueue {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            heap: Vec::new(),
            far: Vec::new(),
            horizon: None,
            slots: Vec::new(),
            first_free: None,
            stale: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn len(&self) -> usize {
        self.heap.len() + self.far.len() - self.stale
    }

    /// When the earliest task is due, since the epoch, or the largest number if there is none.
    fn next_nanos(&self) -> u64 {
        self.heap.first().map_or(u64::MAX, |key| key.due)
    }

    /// Adds a task, and says in which slot.
    ///
    /// A due time more than a century after the queue was made is moved there.
    fn push(&mut self, due: Instant, sequence: u64, task: Task) -> u32 {
        let since_epoch = due
            .saturating_duration_since(self.epoch)
            .min(CENTURY)
            .as_nanos();
        let slot = self.fill_slot(Slot::Used { task, sequence });
        let key = Key {
            due: u64::try_from(since_epoch).expect("a century fits 64 bits of nanoseconds"),
            sequence,
            slot,
        };
        if self.horizon.is_some_and(|horizon| key >= horizon) {
            self.far.push(key);
        } else {
            self.heap.push(key);
            self.sift_up(self.heap.len() - 1);
            if self.heap.len() > NEAR_MAX {
                self.send_half_away();
            }
        }
        slot
    }

    /// Takes out a task that has not become due yet.
    fn remove(&mut self, id: DelayedId) -> Option<Task> {
        let task = self.empty_slot(id.slot, id.sequence)?;
        self.stale += 1;
        self.drop_stale_top();
        if self.stale > self.len() + KEPT {
            self.sweep();
        }
        Some(task)
    }

    /// Takes out the earliest task if it is due at `now`.
    fn pop_due(&mut self, now: Instant) -> Option<Task> {
        let earliest = *self.heap.first()?;
        let since_epoch = now.saturating_duration_since(self.epoch).as_nanos();
        if u128::from(earliest.due) > since_epoch {
            return None;
        }
        self.drop_top();
        let task = self.empty_slot(earliest.slot, earliest.sequence);
        self.drop_stale_top();
        task
    }

    /// Takes out everything, in no order.
    fn drain(&mut self) -> Vec<Task> {
        self.heap = Vec::new();
        self.far = Vec::new();
        self.horizon = None;
        self.stale = 0;
        self.first_free = None;
        std::mem::take(&mut self.slots)
            .into_iter()
            .filter_map(|slot| match slot {
                Slot::Used { task, .. } => Some(task),
                Slot::Free { .. } => None,
            })
            .collect()
    }

    fn fill_slot(&mut self, content: Slot) -> u32 {
        if let Some(free) = self.first_free {
            let slot = &mut self.slots[free as usize];
            if let Slot::Free { next } = slot {
                self.first_free = *next;
            }
            *slot = content;
            free
        } else {
            self.slots.push(content);
            index(self.slots.len() - 1)
        }
    }

    /// Takes a task out of its slot, if it is still that one.
    fn empty_slot(&mut self, slot: u32, sequence: u64) -> Option<Task> {
        let content = self.slots.get_mut(slot as usize)?;
        if !content.holds(sequence) {
            return None;
        }
        let freed = Slot::Free {
            next: self.first_free,
        };
        self.first_free = Some(slot);
        match std::mem::replace(content, freed) {
            Slot::Used { task, .. } => Some(task),
            Slot::Free { .. } => None,
        }
    }

    fn drop_stale_top(&mut self) {
        while let Some(top) = self.heap.first()
            && !self.slots[top.slot as usize].holds(top.sequence)
        {
            self.stale -= 1;
            self.drop_top();
        }
        if self.heap.is_empty() {
            self.sweep();
        }
    }

    fn drop_top(&mut self) {
        self.heap.swap_remove(0);
        if self.heap.is_empty() {
            self.bring_near();
        } else {
            self.sift_down(0);
        }
    }

    fn send_half_away(&mut self) {
        let (_, middle, _) = self.heap.select_nth_unstable(NEAR_MAX / 2);
        self.horizon = Some(*middle);
        self.far.extend(self.heap.drain(NEAR_MAX / 2..));
        self.make_heap();
    }

    /// When the heap is empty: takes the earliest of the far ones. An eighth of them, so that each
    /// is looked at some eight times in all, however many there are.
    fn bring_near(&mut self) {
        let count = (self.far.len() / 8).max(NEAR_MAX / 2);
        if count < self.far.len() {
            let (_, horizon, _) = self.far.select_nth_unstable(count);
            self.horizon = Some(*horizon);
            let later = self.far.split_off(count);
            self.heap = std::mem::replace(&mut self.far, later);
        } else {
            self.horizon = None;
            self.heap.append(&mut self.far);
        }
        self.make_heap();
    }

    fn make_heap(&mut self) {
        for at in (0..self.heap.len().div_ceil(ARITY)).rev() {
            self.sift_down(at);
        }
    }

    /// Drops all stale keys, and what memory is not needed: a burst of a million timers must not hold
    /// its memory for ever. A handful may. O(n), after as many cancellations.
    fn sweep(&mut self) {
        let slots = &self.slots;
        let is_live = |key: &Key| slots[key.slot as usize].holds(key.sequence);
        self.heap.retain(is_live);
        self.far.retain(is_live);
        self.stale = 0;
        if self.heap.is_empty() {
            self.bring_near();
        } else {
            self.make_heap();
        }
        let used = |slot: &Slot| matches!(slot, Slot::Used { .. });
        let end = self.slots.iter().rposition(used).map_or(0, |last| last + 1);
        self.slots.truncate(end);
        self.first_free = None;
        for at in (0..end).rev() {
            if let Slot::Free { next } = &mut self.slots[at] {
                *next = self.first_free;
                self.first_free = Some(index(at));
            }
        }
        self.slots.shrink_to(KEPT.max(2 * end));
        self.heap.shrink_to(KEPT.max(2 * self.heap.len()));
        self.far.shrink_to(2 * self.far.len());
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.heap[parent] <= self.heap[at] {
                break;
            }
            self.heap.swap(parent, at);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let first_child = at * ARITY + 1;
            let past_children = (first_child + ARITY).min(self.heap.len());
            let Some(least) = (first_child..past_children).min_by_key(|child| self.heap[*child])
            else {
                return;
            };
            if self.heap[at] <= self.heap[least] {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

impl Slot {
    fn holds(&self, wanted: u64) -> bool {
        matches!(self, Self::Used { sequence, .. } if *sequence == wanted)
    }
}

/// Four billion pending tasks of 64 bytes do not fit in memory that we will see.
fn index(position: usize) -> u32 {
    u32::try_from(position).expect("fewer than 2^32 delayed tasks")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A small generator of our own, so that a failing run is replayed from the seed it prints.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    #[test]
    fn order_and_removal_agree_with_a_sorted_map() {
        let seed = std::env::var("DELAYED_SEED").map_or_else(
            |_| u64::from(std::process::id()) << 20 | 1,
            |seed| seed.parse().expect("DELAYED_SEED is a number"),
        );
        println!("replay with DELAYED_SEED={seed}");
        let mut random = Random(seed);
        let epoch = Instant::now();
        let mut queue = DelayedTasks::new(epoch, Duration::ZERO);
        let mut model: BTreeMap<(u64, u64), DelayedId> = BTreeMap::new();
        let ran = Arc::new(AtomicU64::new(u64::MAX));
        let mut now = 0;
        for label in 0..20_000u64 {
            match random.below(10) {
                0..=5 => {
                    // Few distinct due times, so that ties are common.
                    let span = [64, 4096][random.below(2) as usize];
                    let due = now + random.below(span);
                    let ran = ran.clone();
                    let task = Task::new(move || ran.store(label, Ordering::Relaxed));
                    let precision = match random.below(2) {
                        0 => Precision::High,
                        _ => Precision::Low,
                    };
                    let due_at = epoch + Duration::from_micros(due);
                    let (id, earliest) = queue.push(due_at, precision, task);
                    let expected = model
                        .first_key_value()
                        .is_none_or(|(first, _)| due < first.0);
                    assert_eq!(expected, earliest);
                    model.insert((due, label), id);
                }
                6 if !model.is_empty() => {
                    let victim = random.below(model.len() as u64) as usize;
                    let key = *model.keys().nth(victim).expect("in range");
                    let id = model.remove(&key).expect("just seen");
                    assert!(queue.remove(id).is_some());
                    assert!(queue.remove(id).is_none(), "removed twice");
                }
                _ => {
                    now += random.below(8);
                    while let Some(task) = queue.pop_due(epoch + Duration::from_micros(now)) {
                        task.run();
                        let ((due, label), id) = model.pop_first().expect("the model is behind");
                        assert!(due <= now, "early");
                        assert_eq!(label, ran.load(Ordering::Relaxed));
                        assert!(queue.remove(id).is_none(), "removed after it was due");
                    }
                    assert!(model.first_key_value().is_none_or(|(key, _)| key.0 > now));
                }
            }
            assert_eq!(model.is_empty(), queue.is_empty());
            let next = model
                .first_key_value()
                .map(|(key, _)| epoch + Duration::from_micros(key.0));
            assert_eq!(next, queue.next_due());
        }
    }

    #[test]
    fn cancelling_everything_gives_the_memory_back() {
        let epoch = Instant::now();
        let mut queue = DelayedTasks::new(epoch, Duration::ZERO);
        let ids: Vec<_> = (0..100_000)
            .map(|n| {
                let due = epoch + Duration::from_millis(n);
                queue.push(due, Precision::High, Task::new(|| {})).0
            })
            .collect();
        for id in ids {
            assert!(queue.remove(id).is_some());
        }
        assert!(queue.high.slots.capacity() <= KEPT && queue.high.heap.capacity() <= KEPT);
    }

    #[test]
    fn what_is_cancelled_leaves_no_garbage_in_proportion() {
        let epoch = Instant::now();
        let mut queue = DelayedTasks::new(epoch, Duration::ZERO);
        // A timer that stays, and many that are set and cancelled in turn, as timeouts are.
        queue.push(epoch, Precision::High, Task::new(|| {}));
        for n in 0..100_000 {
            let due = epoch + Duration::from_secs(3600) - Duration::from_millis(n);
            let (id, _) = queue.push(due, Precision::High, Task::new(|| {}));
            assert!(queue.remove(id).is_some());
            assert_eq!(1, queue.len());
        }
        assert!(
            queue.high.heap.len() <= KEPT + 2,
            "{}",
            queue.high.heap.len()
        );
        assert!(queue.high.slots.capacity() <= KEPT);
    }

    #[test]
    fn low_precision_is_put_off_by_the_leeway_but_keeps_its_place() {
        let epoch = Instant::now();
        let at = |millis| epoch + Duration::from_millis(millis);
        let mut queue = DelayedTasks::new(epoch, Duration::from_millis(10));
        let ran = Arc::new(AtomicU64::new(0));
        let mut push = |millis, precision| {
            let ran = ran.clone();
            let task = Task::new(move || ran.store(millis, Ordering::Relaxed));
            queue.push(at(millis), precision, task).1
        };
        assert!(push(20, Precision::Low));
        assert!(!push(31, Precision::High), "30 is early enough for it");
        assert!(push(25, Precision::High));
        assert!(!push(16, Precision::Low), "26 is not earlier than 25");
        assert_eq!(Some(at(25)), queue.wake_at());
        assert_eq!(Some(at(16)), queue.next_due());
        let mut order = Vec::new();
        while let Some(task) = queue.pop_due(at(25)) {
            task.run();
            order.push(ran.load(Ordering::Relaxed));
        }
        assert_eq!(vec![16, 20, 25], order);
        assert_eq!(Some(at(31)), queue.wake_at());
    }
}
