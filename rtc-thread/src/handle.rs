//! A thread as others see it: a place to post to.

use std::fmt;
use std::num::NonZeroU64;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use socket_server::WakeHandle;

use crate::clock::Clock;
use crate::current;
use crate::delayed::{DelayedId, Precision, due_after};
use crate::error::PostError;
use crate::inbox::{Inbox, Wake};
use crate::permissions::BlockingCallPolicy;
use crate::registry;
use crate::stats::{Counters, ThreadStats};
use crate::task::Task;
use crate::trace;

/// Tells the threads of this process apart; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(NonZeroU64);

impl ThreadId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(id).expect("2^64 threads"))
    }

    /// The number, for logs.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// A way to give a [`Thread`](crate::Thread) work. Cheap to clone; usable from any thread.
///
/// A handle does not keep its thread running, and outlives it harmlessly: posts are handed back,
/// calls fail with [`CallError::Quit`](crate::CallError::Quit).
///
/// libwebrtc: `webrtc::Thread*` as everyone but its owner holds it, and `TaskQueueBase*`.
#[derive(Clone)]
pub struct ThreadHandle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    id: ThreadId,
    name: String,
    inbox: Inbox,
    wake: WakeHandle,
    clock: Clock,
    counters: Counters,
    /// Read on every blocking call of the thread; whether there is a policy at all is cheaper to
    /// know.
    is_restricted: AtomicBool,
    policy: RwLock<BlockingCallPolicy>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        registry::remove(self.id);
    }
}

impl ThreadHandle {
    pub(crate) fn new(
        id: ThreadId,
        name: String,
        wake: WakeHandle,
        clock: Clock,
        leeway: Duration,
    ) -> Self {
        let handle = Self {
            shared: Arc::new(Shared {
                id,
                name,
                inbox: Inbox::new(clock.now(), leeway),
                wake,
                clock,
                counters: Counters::default(),
                is_restricted: AtomicBool::new(false),
                policy: RwLock::default(),
            }),
        };
        registry::add(&handle);
        handle
    }

    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle(Arc::downgrade(&self.shared))
    }

    /// Identifies the thread within this process.
    pub fn id(&self) -> ThreadId {
        self.shared.id
    }

    /// The thread's whole name. The operating system may show only the first 15 bytes.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether the caller runs on this thread.
    pub fn is_current(&self) -> bool {
        current::id() == Some(self.shared.id)
    }

    /// Whether the thread has been told to quit: posts are refused.
    ///
    /// libwebrtc: `IsQuitting()`.
    pub fn is_quitting(&self) -> bool {
        self.shared.inbox.is_closed()
    }

    /// Appends a closure to the thread's FIFO. Never runs it here, also not when called on the
    /// thread itself.
    ///
    /// Tasks of one poster run in the order in which they were posted. Whatever the poster wrote
    /// before it posted is visible to the task. Captures of up to
    /// [`INLINE_CAPTURE_BYTES`](crate::INLINE_CAPTURE_BYTES) are not allocated for. Makes a system
    /// call only if the thread sleeps and nobody has woken it yet. Blocks for no longer than
    /// another post or the owner's swap of the queue takes; but a poster that outruns the thread gives
    /// way to others once in 4,096 posts. Not for signal handlers.
    ///
    /// The closure is dropped on the thread, right after it ran, or unrun if the thread drops it
    /// while quitting.
    ///
    /// libwebrtc: `PostTask`.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    #[track_caller]
    #[inline]
    pub fn post<F>(&self, task: F) -> Result<(), PostError>
    where
        F: FnOnce() + Send + 'static,
    {
        let location = Location::caller();
        if const { !Task::is_inline::<F>() } || trace::is_on() {
            return self.post_task(Task::at(task, location));
        }
        let make = move || Task::at(task, location);
        match self.shared.inbox.push_with(make, Instant::now) {
            Ok(Wake::NotNeeded) => Ok(()),
            Ok(Wake::Owed) => {
                self.wake();
                Ok(())
            }
            Err(make) => Err(PostError { task: make() }),
        }
    }

    /// As [`post`](Self::post), for a task that exists already.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    pub fn post_task(&self, task: Task) -> Result<(), PostError> {
        let task = trace::posted(task);
        match self.shared.inbox.push(task, Instant::now) {
            Ok(wake) => {
                self.settle(wake);
                Ok(())
            }
            Err(task) => Err(PostError { task }),
        }
    }

    /// Runs a closure on the thread when `delay` has passed: never earlier, and as little later as
    /// the operating system and the tasks before it allow.
    ///
    /// When it is due, it joins the end of the FIFO at the loop's next turn. Closures run in the
    /// order of their due times; equal due times run in posting order. A delay of more than a
    /// century is shortened to one.
    ///
    /// Dropping the returned handle cancels nothing. A task that is not yet due when the thread
    /// quits is dropped there, unrun.
    ///
    /// libwebrtc: `PostDelayedHighPrecisionTask`, which is exact to a millisecond and can be early
    /// by one.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    #[track_caller]
    pub fn post_delayed(
        &self,
        delay: Duration,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<DelayedTask, PostError> {
        self.post_delayed_task(delay, Precision::High, Task::new(task))
    }

    /// As [`post_delayed`](Self::post_delayed), but it may be late by the thread's
    /// [leeway](crate::Builder::leeway): for timers that nobody hurries for, so that many of them
    /// need few wake-ups.
    ///
    /// libwebrtc: `PostDelayedTask`.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    #[track_caller]
    pub fn post_delayed_low_precision(
        &self,
        delay: Duration,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<DelayedTask, PostError> {
        self.post_delayed_task(delay, Precision::Low, Task::new(task))
    }

    /// As [`post_delayed`](Self::post_delayed), for a task that exists already, and either precision.
    ///
    /// libwebrtc: `PostDelayedTaskWithPrecision`.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    pub fn post_delayed_task(
        &self,
        delay: Duration,
        precision: Precision,
        task: Task,
    ) -> Result<DelayedTask, PostError> {
        let task = trace::posted(task);
        let due = due_after(self.shared.clock.now(), delay);
        match self.shared.inbox.push_delayed(due, precision, task) {
            Ok((id, wake)) => {
                self.settle(wake);
                Ok(DelayedTask {
                    thread: self.clone(),
                    id,
                })
            }
            Err(task) => Err(PostError { task }),
        }
    }

    /// Tells the thread to end. Returns at once; may be called from anywhere, any number of times.
    ///
    /// Tasks that are ready at this moment, delayed tasks that are due included, still run. Delayed
    /// tasks that are not due are dropped unrun on the thread, posts from now on are refused, and
    /// [`ThreadBound`](crate::ThreadBound) values are dropped on the thread at its end.
    ///
    /// libwebrtc: `Quit()`.
    pub fn quit(&self) {
        let wake = self.shared.inbox.close(|| self.shared.clock.now());
        self.settle(wake);
    }

    /// The clock that the thread's delays are measured by.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// What the thread has done so far. May be asked from any thread while it runs, and after it has
    /// ended.
    pub fn stats(&self) -> ThreadStats {
        let (queued, delayed) = self.shared.inbox.lengths();
        self.shared.counters.snapshot(queued, delayed)
    }

    /// Lays down which threads this one may wait for, from now on. By default all.
    ///
    /// Calls against it fail with [`CallError::Forbidden`](crate::CallError::Forbidden).
    ///
    /// libwebrtc: `AllowInvokesToThread()`, `DisallowAllInvokes()`.
    pub fn set_blocking_call_policy(&self, policy: BlockingCallPolicy) {
        let is_restricted = policy != BlockingCallPolicy::Any;
        *self.shared.policy.write() = policy;
        self.shared
            .is_restricted
            .store(is_restricted, Ordering::Release);
    }

    /// Whether the thread's policy lets it wait for another.
    ///
    /// libwebrtc: `IsInvokeToThreadAllowed()`.
    pub fn may_block_on(&self, target: &Self) -> bool {
        !self.shared.is_restricted.load(Ordering::Acquire)
            || self.id() == target.id()
            || self.shared.policy.read().allows(target.id())
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.shared.inbox
    }

    /// The owner looks at its inbox again before it sleeps, so that it need not signal itself; not
    /// even from within a socket handler, while it counts as asleep.
    fn settle(&self, wake: Wake) {
        if wake == Wake::Owed {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if !self.is_current() {
            self.shared.wake.wake();
        }
    }
}

impl fmt::Debug for ThreadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadHandle")
            .field("id", &self.shared.id.get())
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// A handle that does not keep the shared part of a thread alive.
#[derive(Clone)]
pub(crate) struct WeakHandle(Weak<Shared>);

impl WeakHandle {
    pub(crate) fn upgrade(&self) -> Option<ThreadHandle> {
        self.0.upgrade().map(|shared| ThreadHandle { shared })
    }
}

/// Names a delayed task, to cancel it.
#[derive(Debug, Clone)]
pub struct DelayedTask {
    thread: ThreadHandle,
    id: DelayedId,
}

impl DelayedTask {
    /// Takes the task back, if it is not due yet: it will not run, its memory is freed, and its
    /// captures are the caller's to drop. `None` if it is due, has run or has been cancelled.
    ///
    /// May be called from any thread. O(log n) in the number of delayed tasks.
    pub fn cancel(&self) -> Option<Task> {
        self.thread.shared.inbox.cancel_delayed(self.id)
    }
}
