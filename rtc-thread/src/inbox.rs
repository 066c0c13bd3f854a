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

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use crate::delayed::{DelayedId, DelayedQueue};
use crate::task::Task;

/// The queues of one thread.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fifo: VecDeque<Task>,
    delayed: DelayedQueue,
    asleep: bool,
    closed: bool,
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
    Work,
    /// Nothing, and the owner is now marked asleep: it must wait, until then at the latest.
    Nothing(Option<Instant>),
    /// Nothing, and nothing can come any more.
    Closed,
}

impl State {
    fn take_wake(&mut self) -> Wake {
        if std::mem::take(&mut self.asleep) {
            Wake::Owed
        } else {
            Wake::NotNeeded
        }
    }

    fn promote_due(&mut self, now: impl FnOnce() -> Instant) {
        if self.delayed.is_empty() {
            return;
        }
        let now = now();
        while let Some(task) = self.delayed.pop_due(now) {
            self.fifo.push_back(task);
        }
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                fifo: VecDeque::new(),
                delayed: DelayedQueue::new(Instant::now()),
                asleep: false,
                closed: false,
            }),
        }
    }

    /// Appends to the FIFO, or hands the task back if the inbox is closed.
    pub(crate) fn push(&self, task: Task) -> Result<Wake, Task> {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return Err(task);
        }
        state.fifo.push_back(task);
        Ok(state.take_wake())
    }

    /// Adds a delayed task, or hands it back if the inbox is closed.
    pub(crate) fn push_delayed(&self, due: Instant, task: Task) -> Result<(DelayedId, Wake), Task> {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return Err(task);
        }
        let (id, earliest) = state.delayed.push(due, task);
        let wake = if earliest {
            state.take_wake()
        } else {
            Wake::NotNeeded
        };
        Ok((id, wake))
    }

    /// Takes back a delayed task that has not become due.
    pub(crate) fn cancel_delayed(&self, id: DelayedId) -> Option<Task> {
        self.state.lock().delayed.remove(id)
    }

    /// Refuses posts from here on. Delayed tasks due by now join the FIFO; the rest will not run.
    pub(crate) fn close(&self) -> Wake {
        let mut state = self.state.lock();
        if !state.closed {
            state.promote_due(Instant::now);
            state.closed = true;
        }
        state.take_wake()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// For the owner, when its batch is empty: moves due delayed tasks behind the FIFO's tail and
    /// swaps the FIFO against the batch, whose storage is thereby reused. If there is nothing,
    /// marks the owner asleep.
    pub(crate) fn take(&self, batch: &mut VecDeque<Task>) -> Found {
        debug_assert!(batch.is_empty());
        let mut state = self.state.lock();
        state.asleep = false;
        if !state.closed {
            state.promote_due(Instant::now);
        }
        if !state.fifo.is_empty() {
            std::mem::swap(&mut state.fifo, batch);
            Found::Work
        } else if state.closed {
            Found::Closed
        } else {
            state.asleep = true;
            Found::Nothing(state.delayed.next_due())
        }
    }

    /// For the owner, when a turn ends with its batch unfinished: due delayed tasks take their
    /// place behind what is queued now, and ahead of what is posted later.
    pub(crate) fn promote_due(&self) {
        self.state.lock().promote_due(Instant::now);
    }

    /// For the owner, at its end: everything that will not run, to be dropped outside the lock.
    pub(crate) fn take_rest(&self) -> Vec<Task> {
        let mut state = self.state.lock();
        let mut rest: Vec<Task> = state.fifo.drain(..).collect();
        rest.extend(state.delayed.drain());
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn task() -> Task {
        Task::new(|| {})
    }

    #[test]
    fn only_the_first_post_to_a_sleeper_owes_a_wake() {
        let inbox = Inbox::new();
        let mut batch = VecDeque::new();
        assert_eq!(Wake::NotNeeded, inbox.push(task()).unwrap());
        assert_eq!(Found::Work, inbox.take(&mut batch));
        batch.clear();
        assert_eq!(Found::Nothing(None), inbox.take(&mut batch));
        assert_eq!(Wake::Owed, inbox.push(task()).unwrap());
        assert_eq!(Wake::NotNeeded, inbox.push(task()).unwrap());
        assert_eq!(Found::Work, inbox.take(&mut batch));
        assert_eq!(2, batch.len());
    }

    #[test]
    fn a_delayed_post_owes_a_wake_only_as_the_new_earliest() {
        let inbox = Inbox::new();
        let mut batch = VecDeque::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(Found::Nothing(None), inbox.take(&mut batch));
        assert_eq!(Wake::Owed, inbox.push_delayed(at(100), task()).unwrap().1);
        assert!(matches!(inbox.take(&mut batch), Found::Nothing(Some(due)) if due == at(100)));
        assert_eq!(
            Wake::NotNeeded,
            inbox.push_delayed(at(200), task()).unwrap().1
        );
        assert_eq!(
            Wake::NotNeeded,
            inbox.push_delayed(at(100), task()).unwrap().1
        );
        assert_eq!(Wake::Owed, inbox.push_delayed(at(50), task()).unwrap().1);
    }

    #[test]
    fn closing_hands_posts_back_and_keeps_what_was_ready() {
        let inbox = Inbox::new();
        let mut batch = VecDeque::new();
        let _ = inbox.push(task()).unwrap();
        let _ = inbox.push_delayed(Instant::now(), task()).unwrap();
        let _ = inbox
            .push_delayed(Instant::now() + Duration::from_secs(1000), task())
            .unwrap();
        let _ = inbox.close();
        assert!(inbox.push(task()).is_err());
        assert!(inbox.push_delayed(Instant::now(), task()).is_err());
        assert_eq!(Found::Work, inbox.take(&mut batch));
        assert_eq!(2, batch.len());
        batch.clear();
        assert_eq!(Found::Closed, inbox.take(&mut batch));
        assert_eq!(1, inbox.take_rest().len());
    }
}
