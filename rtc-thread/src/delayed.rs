//! Delayed tasks: in the order of due time, then of posting, with removal from the middle.
//!
//! [`DelayedQueue`] is a 4-ary heap of small keys over a slab of tasks: sifting moves 24 bytes, not a
//! task, and each slot knows where its key is, so that a cancelled task leaves at once, in
//! O(log n), and its captures with it. [`DelayedTasks`] is two of them, one for each precision.

use std::time::{Duration, Instant};

use crate::task::Task;

const ARITY: usize = 4;

/// No queue lives for so many nanoseconds.
const LAST: u64 = u64::MAX - 1;

/// A delay of more than a century is as good as never, and keeps all sums in range.
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
        self.high.heap.len() + self.low.heap.len()
    }

    /// When the owner must be awake. Low-precision tasks are all given the same leeway, so the first
    /// to become due is also the first that cannot be put off any longer.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.instant(self.wake_nanos())
    }

    /// The same since the epoch, or the largest number if there is no task.
    fn wake_nanos(&self) -> u64 {
        let low = self.low.next_nanos().saturating_add(self.leeway_nanos);
        self.high.next_nanos().min(low)
    }

    fn instant(&self, nanos: u64) -> Option<Instant> {
        (nanos != u64::MAX).then(|| self.high.epoch + Duration::from_nanos(nanos))
    }

    /// When the earliest task is due, whatever its precision.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.instant(self.high.next_nanos().min(self.low.next_nanos()))
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
    Free {
        next: Option<u32>,
    },
    Used {
        task: Task,
        sequence: u64,
        heap_index: u32,
    },
}

/// `now + delay`, or a century from now where the sum has no meaning.
pub(crate) fn due_after(now: Instant, delay: Duration) -> Instant {
    now + delay.min(CENTURY)
}

/// The delayed tasks of one thread and one precision.
#[derive(Debug)]
struct DelayedQueue {
    epoch: Instant,
    heap: Vec<Key>,
    slots: Vec<Slot>,
    first_free: Option<u32>,
}

impl DelayedQueue {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            heap: Vec::new(),
            slots: Vec::new(),
            first_free: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// When the earliest task is due, since the epoch, or the largest number if there is none.
    fn next_nanos(&self) -> u64 {
        self.heap.first().map_or(u64::MAX, |key| key.due)
    }

    /// Adds a task, and says in which slot.
    ///
    /// A due time more than five centuries after the queue was made is moved there.
    fn push(&mut self, due: Instant, sequence: u64, task: Task) -> u32 {
        let since_epoch = due.saturating_duration_since(self.epoch).as_nanos();
        let due = u64::try_from(since_epoch).unwrap_or(LAST).min(LAST);
        let heap_index = self.heap.len();
        let slot = self.fill_slot(Slot::Used {
            task,
            sequence,
            heap_index: index(heap_index),
        });
        self.heap.push(Key {
            due,
            sequence,
            slot,
        });
        self.sift_up(heap_index);
        slot
    }

    /// Takes out a task that has not become due yet.
    fn remove(&mut self, id: DelayedId) -> Option<Task> {
        let heap_index = match self.slots.get(id.slot as usize)? {
            Slot::Used {
                sequence,
                heap_index,
                ..
            } if *sequence == id.sequence => *heap_index as usize,
            _ => return None,
        };
        Some(self.remove_at(heap_index))
    }

    /// Takes out the earliest task if it is due at `now`.
    fn pop_due(&mut self, now: Instant) -> Option<Task> {
        let earliest = self.heap.first()?;
        let since_epoch = now.saturating_duration_since(self.epoch).as_nanos();
        (u128::from(earliest.due) <= since_epoch).then(|| self.remove_at(0))
    }

    /// Takes out everything, in no order.
    fn drain(&mut self) -> Vec<Task> {
        self.heap = Vec::new();
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

    fn remove_at(&mut self, heap_index: usize) -> Task {
        let key = self.heap.swap_remove(heap_index);
        if heap_index < self.heap.len() {
            self.note_position(heap_index);
            let settled = self.sift_down(heap_index);
            self.sift_up(settled);
        }
        let freed = Slot::Free {
            next: self.first_free,
        };
        let slot = std::mem::replace(&mut self.slots[key.slot as usize], freed);
        self.first_free = Some(key.slot);
        if self.heap.is_empty() {
            self.release_memory();
        }
        match slot {
            Slot::Used { task, .. } => task,
            Slot::Free { .. } => unreachable!("a key of the heap points at a free slot"),
        }
    }

    /// A burst of a million timers must not hold its memory for ever; a handful may.
    fn release_memory(&mut self) {
        const KEPT: usize = 1024;
        self.slots.clear();
        self.first_free = None;
        self.slots.shrink_to(KEPT);
        self.heap.shrink_to(KEPT);
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.heap[parent] <= self.heap[at] {
                break;
            }
            self.swap(parent, at);
            at = parent;
        }
        at
    }

    fn sift_down(&mut self, mut at: usize) -> usize {
        loop {
            let first_child = at * ARITY + 1;
            let past_children = (first_child + ARITY).min(self.heap.len());
            let Some(least) = (first_child..past_children).min_by_key(|child| self.heap[*child])
            else {
                return at;
            };
            if self.heap[at] <= self.heap[least] {
                return at;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note_position(a);
        self.note_position(b);
    }

    fn note_position(&mut self, at: usize) {
        let slot = self.heap[at].slot;
        if let Slot::Used { heap_index, .. } = &mut self.slots[slot as usize] {
            *heap_index = index(at);
        }
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
                0..=4 => {
                    // Few distinct due times, so that ties are common.
                    let due = now + random.below(64);
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
                5 if !model.is_empty() => {
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
        assert!(queue.high.slots.capacity() <= 1024 && queue.high.heap.capacity() <= 1024);
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
