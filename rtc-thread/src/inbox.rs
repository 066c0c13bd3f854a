//! What others put in front of a thread, and the agreement about who wakes whom.
//!
//! One mutex guards the FIFO, the delayed tasks and one bit, `asleep`. The owner sets the bit in
//! the same critical section in which it found nothing to do; whoever then gives it something to
//! do clears the bit in the critical section that adds it, and owes the owner a wake-up. So:
//!
//! | `asleep` | owner | a post |
//! |---|---|---|
//! | `false` | is running, or has been promised a wake-up: it will look again | adds, does not signal |
//! | `true` | found nothing, and waits or is about to | adds, clears the bit, signals once |
//!
//! A wake-up that arrives before the wait begins is kept by the socket server (wake-ups are
//! sticky), so there is no window in which it can be lost; and however many posts, there is one
//! wake-up for one sleep. Delayed tasks wake the owner only when they are the new earliest.
//!
//! No I/O happens here, and nothing of a user's runs or is dropped under the lock.

use std::time::{Duration, Instant};

use crate::delayed::{DelayedId, DelayedTasks, Precision};
use crate::sync::{AtomicBool, ContendedMutex, Ordering};
use crate::task::Task;
use crate::task_buffer::TaskBuffer;

/// A poster that lets the FIFO grow by so many is faster than the owner. If it is because the owner
/// has no core, it gives way to it: a queue that outgrows the caches costs everybody more.
const FLOOD: usize = 4096;

#[cold]
fn give_way() {
    std::thread::yield_now();
}

/// The queues of one thread.
///
/// Between two cores that are awake, a post costs as many trips of a cache line as it touches. All
/// that a post touches, but the task itself and the news, is on the first line, the lock included.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Inbox {
    state: ContendedMutex<State>,
    /// Whether something has changed since the owner last looked: what a spinning owner watches
    /// instead of taking the lock. Set in the same critical section as the change, or after it; so a
    /// change is seen, and now and then there is nothing to be seen, when the owner was faster.
    news: AtomicBool,
}

#[derive(Debug)]
#[repr(C)]
struct State {
    fifo: TaskBuffer,
    asleep: bool,
    closed: bool,
    wants_sample: bool,
    /// When the oldest task of the FIFO was posted, if the owner has asked to know.
    sampled_at: Option<Instant>,
    delayed: DelayedTasks,
}

/// Whether the caller owes the owner a wake-up.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Owed,
    NotNeeded,
}

/// What the owner finds when it looks for work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The batch has tasks.
    Work {
        /// So many of them had been delayed.
        promoted: usize,
        /// When the first was posted, if a sample was asked for.
        posted_at: Option<Instant>,
    },
    /// Nothing until then.
    Nothing(Option<Instant>),
    /// Nothing, and nothing can come any more.
    Closed,
}

/// What an owner that finds nothing does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfEmpty {
    /// It watches for news, and need not be woken.
    Spin,
    /// It waits, and counts as asleep from now on.
    Sleep,
}

impl State {
    fn take_wake(&mut self) -> Wake {
        if std::mem::take(&mut self.asleep) {
            Wake::Owed
        } else {
            Wake::NotNeeded
        }
    }

    /// Moves due delayed tasks behind the FIFO's tail, and tells how many. Once closed, what was not
    /// due by then does not run any more.
    fn promote_due(&mut self, now: impl FnOnce() -> Instant) -> usize {
        if self.closed || self.delayed.is_empty() {
            return 0;
        }
        let now = now();
        let before = self.fifo.len();
        while let Some(task) = self.delayed.pop_due(now) {
            self.fifo.push(task);
        }
        self.fifo.len() - before
    }
}

impl Inbox {
    pub(crate) fn new(epoch: Instant, leeway: Duration) -> Self {
        Self {
            state: ContendedMutex::new(State {
                fifo: TaskBuffer::new(),
                asleep: false,
                closed: false,
                wants_sample: false,
                sampled_at: None,
                delayed: DelayedTasks::new(epoch, leeway),
            }),
            news: AtomicBool::new(false),
        }
    }

    /// Appends to the FIFO what `make` makes, right where it will lie; or hands `make` back if the
    /// inbox is closed. `make` runs under the lock: it must not run or drop anything of a user's, nor
    /// allocate.
    #[inline]
    pub(crate) fn push_with<M>(&self, make: M, now: impl FnOnce() -> Instant) -> Result<Wake, M>
    where
        M: FnOnce() -> Task,
    {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return Err(make);
        }
        if state.fifo.is_empty() {
            if std::mem::take(&mut state.wants_sample) {
                state.sampled_at = Some(now());
            }
            // Under the lock, and before the task is written: a release of the lock waits for all
            // stores before it, and this one and the task's travel at the same time.
            self.news.store(true, Ordering::Release);
        }
        state.fifo.push(make());
        let is_flooded = state.fifo.len().is_multiple_of(FLOOD);
        let wake = state.take_wake();
        drop(state);
        if is_flooded {
            give_way();
        }
        Ok(wake)
    }

    /// Appends to the FIFO, or hands the task back if the inbox is closed.
    pub(crate) fn push(&self, task: Task, now: impl FnOnce() -> Instant) -> Result<Wake, Task> {
        self.push_with(|| task, now).map_err(|make| make())
    }

    /// Adds a delayed task, or hands it back if the inbox is closed.
    pub(crate) fn push_delayed(
        &self,
        due: Instant,
        precision: Precision,
        task: Task,
    ) -> Result<(DelayedId, Wake), Task> {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return Err(task);
        }
        let (id, earlier) = state.delayed.push(due, precision, task);
        let wake = if earlier {
            state.take_wake()
        } else {
            Wake::NotNeeded
        };
        drop(state);
        if earlier {
            self.news.store(true, Ordering::Release);
        }
        Ok((id, wake))
    }

    /// Takes back a delayed task that has not become due.
    pub(crate) fn cancel_delayed(&self, id: DelayedId) -> Option<Task> {
        self.state.lock().delayed.remove(id)
    }

    /// Refuses posts from here on. Delayed tasks due by now join the FIFO; the rest will not run.
    pub(crate) fn close(&self, now: impl FnOnce() -> Instant) -> Wake {
        let mut state = self.state.lock();
        state.promote_due(now);
        state.closed = true;
        let wake = state.take_wake();
        drop(state);
        self.news.store(true, Ordering::Release);
        wake
    }

    /// Accepts posts again.
    pub(crate) fn reopen(&self) {
        self.state.lock().closed = false;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many tasks wait: those for their turn, and those for their time. Those that the owner has
    /// taken out already are not among them.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.fifo.len(), state.delayed.len())
    }

    /// Whether there may be something new. For an owner that spins.
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// For the owner, when its batch is empty: moves due delayed tasks behind the FIFO's tail and
    /// swaps the FIFO against the batch, whose storage is thereby reused. With `wants_sample`, the
    /// next batch tells when its first task was posted.
    pub(crate) fn take(
        &self,
        batch: &mut TaskBuffer,
        if_empty: IfEmpty,
        wants_sample: bool,
        now: impl FnOnce() -> Instant,
    ) -> Found {
        debug_assert!(batch.is_empty());
        let mut state = self.state.lock();
        self.news.store(false, Ordering::Relaxed);
        state.asleep = false;
        let promoted = state.promote_due(now);
        if !state.fifo.is_empty() {
            batch.reset();
            std::mem::swap(&mut state.fifo, batch);
            let posted_at = state.sampled_at.take();
            state.wants_sample = wants_sample;
            Found::Work {
                promoted,
                posted_at,
            }
        } else if state.closed {
            Found::Closed
        } else {
            state.asleep = if_empty == IfEmpty::Sleep;
            Found::Nothing(state.delayed.wake_at())
        }
    }

    /// For the owner, when a turn ends with its batch unfinished: due delayed tasks take their
    /// place behind what is queued now, and ahead of what is posted later. Tells how many.
    pub(crate) fn promote_due(&self, now: impl FnOnce() -> Instant) -> usize {
        self.state.lock().promote_due(now)
    }

    /// For a simulation, which runs one task at a time: the next task, if there is one by now.
    pub(crate) fn take_one(&self, now: Instant) -> Option<Task> {
        let mut state = self.state.lock();
        state.promote_due(|| now);
        state.fifo.pop()
    }

    /// For a simulation: whether [`take_one`](Self::take_one) would find a task.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let is_due = || state.delayed.next_due().is_some_and(|due| due <= now);
        !state.fifo.is_empty() || (!state.closed && is_due())
    }

    /// For a simulation: when the thread has to be awake.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let state = self.state.lock();
        if state.closed {
            None
        } else {
            state.delayed.wake_at()
        }
    }

    /// For the owner, at its end: everything that will not run, to be dropped outside the lock.
    pub(crate) fn take_rest(&self) -> Vec<Task> {
        let mut state = self.state.lock();
        let mut rest: Vec<Task> = std::iter::from_fn(|| state.fifo.pop()).collect();
        rest.extend(state.delayed.drain());
        rest
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(Instant::now(), Duration::ZERO)
    }

    fn task() -> Task {
        Task::new(|| {})
    }

    #[test]
    fn only_the_first_post_to_a_sleeper_owes_a_wake() {
        let inbox = inbox();
        let mut batch = TaskBuffer::new();
        assert_eq!(Wake::NotNeeded, inbox.push(task(), Instant::now).unwrap());
        assert_eq!(
            Found::Work {
                promoted: 0,
                posted_at: None
            },
            inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now)
        );
        while batch.pop().is_some() {}
        assert_eq!(
            Found::Nothing(None),
            inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now)
        );
        assert_eq!(Wake::Owed, inbox.push(task(), Instant::now).unwrap());
        assert_eq!(Wake::NotNeeded, inbox.push(task(), Instant::now).unwrap());
        assert_eq!(
            Found::Work {
                promoted: 0,
                posted_at: None
            },
            inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now)
        );
        assert_eq!(2, batch.len());
    }

    #[test]
    fn a_delayed_post_owes_a_wake_only_as_the_new_earliest() {
        let inbox = inbox();
        let mut batch = TaskBuffer::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            Found::Nothing(None),
            inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now)
        );
        assert_eq!(
            Wake::Owed,
            inbox
                .push_delayed(at(100), Precision::High, task())
                .unwrap()
                .1
        );
        assert!(
            matches!(inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now), Found::Nothing(Some(due)) if due == at(100))
        );
        assert_eq!(
            Wake::NotNeeded,
            inbox
                .push_delayed(at(200), Precision::High, task())
                .unwrap()
                .1
        );
        assert_eq!(
            Wake::NotNeeded,
            inbox
                .push_delayed(at(100), Precision::High, task())
                .unwrap()
                .1
        );
        assert_eq!(
            Wake::Owed,
            inbox
                .push_delayed(at(50), Precision::High, task())
                .unwrap()
                .1
        );
    }

    #[test]
    fn closing_hands_posts_back_and_keeps_what_was_ready() {
        let inbox = inbox();
        let mut batch = TaskBuffer::new();
        let _ = inbox.push(task(), Instant::now).unwrap();
        let _ = inbox
            .push_delayed(Instant::now(), Precision::High, task())
            .unwrap();
        let _ = inbox
            .push_delayed(
                Instant::now() + Duration::from_secs(1000),
                Precision::High,
                task(),
            )
            .unwrap();
        let _ = inbox.close(Instant::now);
        assert!(inbox.push(task(), Instant::now).is_err());
        assert!(
            inbox
                .push_delayed(Instant::now(), Precision::High, task())
                .is_err()
        );
        assert_eq!(
            Found::Work {
                promoted: 0,
                posted_at: None
            },
            inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now)
        );
        assert_eq!(2, batch.len());
        while batch.pop().is_some() {}
        assert_eq!(
            Found::Closed,
            inbox.take(&mut batch, IfEmpty::Sleep, false, Instant::now)
        );
        assert_eq!(1, inbox.take_rest().len());
    }
}

/// Every interleaving of posters with an owner that falls asleep, spins, and wakes.
#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::sync::{Condvar, Mutex};

    /// What a socket server's wake-up is: sticky, and counted as one until it is seen.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            *self.rung.lock() = true;
            self.changed.notify_one();
        }

        fn wait(&self) {
            let mut rung = self.rung.lock();
            while !*rung {
                self.changed.wait(&mut rung);
            }
            *rung = false;
        }
    }

    #[derive(Default)]
    struct Shared {
        bell: Bell,
        rings: loom::sync::atomic::AtomicUsize,
    }

    impl Shared {
        fn settle(&self, wake: Wake) {
            if wake == Wake::Owed {
                self.rings.fetch_add(1, Ordering::Relaxed);
                self.bell.ring();
            }
        }
    }

    fn model(posters: usize, posts: usize, first: IfEmpty) {
        let mut builder = loom::model::Builder::new();
        // Every interleaving in which no thread is interrupted more often than that; all of them
        // take minutes, and have been run.
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.check(move || {
            let now = Instant::now;
            let inbox = Arc::new(Inbox::new(now(), Duration::ZERO));
            let shared = Arc::new(Shared::default());
            let threads: Vec<_> = (0..posters)
                .map(|_| {
                    let (inbox, shared) = (inbox.clone(), shared.clone());
                    thread::spawn(move || {
                        for _ in 0..posts {
                            shared.settle(inbox.push(Task::new(|| {}), now).unwrap());
                        }
                    })
                })
                .collect();
            let mut batch = TaskBuffer::new();
            let (mut ran, mut sleeps, mut if_empty) = (0, 0, first);
            // If a wake-up were lost, the owner would wait for ever, and loom would say so.
            while ran < posters * posts {
                match inbox.take(&mut batch, if_empty, false, now) {
                    Found::Work { .. } => {
                        while let Some(task) = batch.pop() {
                            task.run();
                            ran += 1;
                        }
                        if_empty = first;
                    }
                    Found::Nothing(_) if if_empty == IfEmpty::Spin => {
                        if !inbox.has_news() {
                            if_empty = IfEmpty::Sleep;
                        }
                    }
                    Found::Nothing(_) => {
                        sleeps += 1;
                        shared.bell.wait();
                        if_empty = first;
                    }
                    Found::Closed => unreachable!("nobody closes it"),
                }
            }
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(
                shared.rings.load(Ordering::Relaxed) <= sleeps,
                "more wake-ups than sleeps"
            );
        });
    }

    #[test]
    fn no_wake_up_is_lost_and_there_is_at_most_one_for_a_sleep() {
        model(2, 1, IfEmpty::Sleep);
        model(1, 2, IfEmpty::Sleep);
    }

    #[test]
    fn an_owner_that_spins_before_it_sleeps_misses_nothing() {
        model(2, 1, IfEmpty::Spin);
        model(1, 2, IfEmpty::Spin);
    }

    #[test]
    fn a_post_that_races_with_closing_is_run_or_comes_back() {
        loom::model(|| {
            let now = Instant::now;
            let inbox = Arc::new(Inbox::new(now(), Duration::ZERO));
            let shared = Arc::new(Shared::default());
            let (theirs, bell) = (inbox.clone(), shared.clone());
            let poster = thread::spawn(move || match theirs.push(Task::new(|| {}), now) {
                Ok(wake) => {
                    bell.settle(wake);
                    0
                }
                Err(_) => 1,
            });
            let (theirs, bell) = (inbox.clone(), shared.clone());
            let closer = thread::spawn(move || bell.settle(theirs.close(now)));
            let (mut batch, mut ran) = (TaskBuffer::new(), 0);
            loop {
                match inbox.take(&mut batch, IfEmpty::Sleep, false, now) {
                    Found::Work { .. } => {
                        while let Some(task) = batch.pop() {
                            task.run();
                            ran += 1;
                        }
                    }
                    Found::Nothing(_) => shared.bell.wait(),
                    Found::Closed => break,
                }
            }
            closer.join().unwrap();
            assert_eq!(1, ran + poster.join().unwrap());
        });
    }
}
