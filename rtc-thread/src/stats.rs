//! What a thread has done so far, readable from any thread while it runs.
//!
//! Each figure has one writer, the thread itself, so that counting is a plain load, add and store.
//! What would cost is reading the clock, more than a small task does. So a poster reads it for one
//! batch in [`SAMPLED_ONE_IN`]; and the owner after each of the first tasks of a batch, which is all
//! of them where the thread is not flooded, and after every sixteenth of the rest.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// One batch in so many is measured.
pub(crate) const SAMPLED_ONE_IN: u64 = 16;

/// A look at one thread's figures.
///
/// Taken without stopping the thread: the figures are each exact, but may be of slightly different
/// moments.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ThreadStats {
    /// Tasks that have run. The latest sixteen may be missing.
    pub tasks: u64,
    /// Tasks among them that had been delayed.
    pub delayed_tasks: u64,
    /// Times that the thread took over what had been posted.
    pub batches: u64,
    /// Tasks of the largest batch: how long the queue has been at most.
    pub largest_batch: u64,
    /// Times that the thread waited, and was woken or served a socket.
    pub waits: u64,
    /// Times that it looked at its sockets without waiting, because it had tasks left.
    pub polls: u64,
    /// Blocking calls that it made to other threads.
    pub blocking_calls_made: u64,
    /// Blocking calls of others that it ran.
    pub blocking_calls_received: u64,
    /// Tasks that wait for their turn now.
    pub queue_length: usize,
    /// Tasks that wait for their time now.
    pub delayed_length: usize,
    /// From post to run: samples of the oldest task of a batch.
    pub queue_delay: Histogram,
    /// How long tasks run: all but those of long batches, which are timed together.
    pub run_time: Histogram,
    /// Tasks that took longer than the thread's
    /// [threshold](crate::Builder::slow_task_threshold), by where they were posted, worst first.
    pub slow_tasks: Vec<SlowTask>,
}

/// Tasks from one place in the source that took too long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowTask {
    /// Where they were posted.
    pub location: &'static Location<'static>,
    /// How many.
    pub count: u64,
    /// The longest.
    pub longest: Duration,
    /// Whether any of them was timed alone. Otherwise they ran in a long batch, between others that
    /// are listed as well; when such a thing happens, the thread times the next ten thousand alone.
    pub is_certain: bool,
}

/// Written by the thread, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tasks: Counter,
    pub(crate) delayed_tasks: Counter,
    pub(crate) batches: Counter,
    pub(crate) largest_batch: Counter,
    pub(crate) waits: Counter,
    pub(crate) polls: Counter,
    pub(crate) blocking_calls_made: Counter,
    pub(crate) blocking_calls_received: Counter,
    pub(crate) queue_delay: LiveHistogram,
    pub(crate) run_time: LiveHistogram,
    slow_tasks: Mutex<HashMap<&'static Location<'static>, SlowTask>>,
}

impl Counters {
    pub(crate) fn note_slow(
        &self,
        location: &'static Location<'static>,
        took: Duration,
        is_certain: bool,
    ) {
        let mut slow_tasks = self.slow_tasks.lock();
        let slow = slow_tasks.entry(location).or_insert(SlowTask {
            location,
            count: 0,
            longest: Duration::ZERO,
            is_certain: false,
        });
        slow.count += 1;
        slow.longest = took.max(slow.longest);
        slow.is_certain |= is_certain;
    }

    pub(crate) fn snapshot(&self, queue_length: usize, delayed_length: usize) -> ThreadStats {
        let mut slow_tasks: Vec<_> = self.slow_tasks.lock().values().cloned().collect();
        slow_tasks.sort_by_key(|slow| std::cmp::Reverse(slow.longest));
        ThreadStats {
            tasks: self.tasks.get(),
            delayed_tasks: self.delayed_tasks.get(),
            batches: self.batches.get(),
            largest_batch: self.largest_batch.get(),
            waits: self.waits.get(),
            polls: self.polls.get(),
            blocking_calls_made: self.blocking_calls_made.get(),
            blocking_calls_received: self.blocking_calls_received.get(),
            queue_length,
            delayed_length,
            queue_delay: self.queue_delay.snapshot(),
            run_time: self.run_time.snapshot(),
            slow_tasks,
        }
    }
}

/// A number that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.get() + more, Ordering::Relaxed);
    }

    pub(crate) fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Parts that each power of two is divided into: a value is known to within a sixteenth.
const PARTS: u64 = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();
const BUCKETS: usize = ((64 - PART_BITS + 1) as usize) << PART_BITS;

fn bucket_of(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    if power < PART_BITS {
        return nanos as usize;
    }
    let part = (nanos >> (power - PART_BITS)) & (PARTS - 1);
    (((power - PART_BITS + 1) << PART_BITS) as usize) + part as usize
}

/// The largest value that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    let (row, part) = (bucket as u64 >> PART_BITS, bucket as u64 & (PARTS - 1));
    match row {
        0 => part,
        row => {
            let lower = u128::from(PARTS + part) << (row - 1);
            let upper = lower + (1u128 << (row - 1)) - 1;
            u64::try_from(upper).unwrap_or(u64::MAX)
        }
    }
}

/// A histogram that one thread writes.
pub(crate) struct LiveHistogram(Box<[Counter]>);

impl Default for LiveHistogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| Counter::default()).collect())
    }
}

impl LiveHistogram {
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0[bucket_of(nanos)].add(1);
    }

    fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: self.0.iter().map(Counter::get).collect(),
        }
    }
}

impl fmt::Debug for LiveHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// How durations are distributed, each known to within a sixteenth.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
}

impl Histogram {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that this part of all (0.5 for the median) does not exceed. Zero if there is
    /// none at all; a part beyond 0 to 1 counts as its nearer end.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = (part.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_end(bucket));
            }
        }
        Duration::ZERO
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_a_sixteenth_wide() {
        let mut last = None;
        for power in 0..64 {
            for step in 0..32u64 {
                let value = (1u64 << power) + (step << power >> 5);
                let bucket = bucket_of(value);
                assert!(value <= upper_end(bucket), "{value}");
                assert!(upper_end(bucket) - value <= value / PARTS, "{value}");
                assert!(bucket < BUCKETS);
                if let Some((last_value, last_bucket)) = last {
                    assert!(value < last_value || bucket >= last_bucket);
                }
                last = Some((value, bucket));
            }
        }
        assert_eq!(BUCKETS - 1, bucket_of(u64::MAX));
        assert_eq!(u64::MAX, upper_end(BUCKETS - 1));
        assert_eq!(0, bucket_of(0));
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let live = LiveHistogram::default();
        assert_eq!(Duration::ZERO, live.snapshot().quantile(0.5));
        for micros in 1..=1000 {
            live.record(Duration::from_micros(micros));
        }
        let histogram = live.snapshot();
        assert_eq!(1000, histogram.count());
        for (part, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part).as_secs_f64() * 1e6;
            assert!((micros..micros * 1.07).contains(&found), "{part}: {found}");
        }
    }
}
