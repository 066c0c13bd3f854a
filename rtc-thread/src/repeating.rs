//! A task that runs again and again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::delayed::{Precision, due_after};
use crate::error::PostError;
use crate::handle::{DelayedTask, ThreadHandle};
use crate::task::Task;

/// What a [`RepeatingTask`] wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// To run again so long after the moment at which it was to run this time. The time that it ran,
    /// or came late, is made up for: the next delay is so much shorter, down to none.
    After(Duration),
    /// To run no more.
    Stop,
}

/// A closure that runs on a thread repeatedly, at intervals of its own choice.
///
/// This is the handle to stop it; dropping it stops nothing. The closure is dropped on its thread.
///
/// libwebrtc: `RepeatingTaskHandle`.
///
/// ```
/// use std::time::Duration;
/// use rtc_thread::{Precision, Repeat, RepeatingTask, Thread};
///
/// let thread = Thread::builder().spawn()?;
/// let (ticks, ticked) = std::sync::mpsc::channel();
/// let task = RepeatingTask::start(&thread, Precision::High, move || match ticks.send(()) {
///     Ok(()) => Repeat::After(Duration::from_millis(1)),
///     Err(_) => Repeat::Stop,
/// })?;
/// ticked.recv()?;
/// ticked.recv()?;
/// task.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RepeatingTask {
    shared: Arc<Shared>,
}

struct Shared {
    thread: ThreadHandle,
    precision: Precision,
    is_stopped: AtomicBool,
    pending: Mutex<Option<DelayedTask>>,
}

struct Runner<F> {
    closure: F,
    shared: Arc<Shared>,
    due: Instant,
}

impl RepeatingTask {
    /// Starts at once: as a posted task.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task, with the closure in it, is handed back.
    #[track_caller]
    pub fn start<F>(
        thread: &ThreadHandle,
        precision: Precision,
        closure: F,
    ) -> Result<Self, PostError>
    where
        F: FnMut() -> Repeat + Send + 'static,
    {
        let (this, runner) = Self::new(thread, precision, Duration::ZERO, closure);
        thread.post(move || runner.run())?;
        Ok(this)
    }

    /// Starts when `delay` has passed.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task, with the closure in it, is handed back.
    #[track_caller]
    pub fn start_delayed<F>(
        thread: &ThreadHandle,
        delay: Duration,
        precision: Precision,
        closure: F,
    ) -> Result<Self, PostError>
    where
        F: FnMut() -> Repeat + Send + 'static,
    {
        let (this, runner) = Self::new(thread, precision, delay, closure);
        let task = Task::new(move || runner.run());
        let pending = thread.post_delayed_task(delay, precision, task)?;
        this.shared.note_pending(pending);
        Ok(this)
    }

    fn new<F>(
        thread: &ThreadHandle,
        precision: Precision,
        delay: Duration,
        closure: F,
    ) -> (Self, Box<Runner<F>>) {
        let shared = Arc::new(Shared {
            thread: thread.clone(),
            precision,
            is_stopped: AtomicBool::new(false),
            pending: Mutex::new(None),
        });
        let runner = Runner {
            closure,
            shared: shared.clone(),
            due: due_after(thread.clock().now(), delay),
        };
        (Self { shared }, Box::new(runner))
    }

    /// The closure does not run again. On its own thread that is certain from here on; from another
    /// one, it may be running right now. Any number of times, also from within the closure, and
    /// after it or its thread has ended.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.cancel_pending();
    }

    /// Whether it has been stopped, or has stopped itself.
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }
}

impl fmt::Debug for RepeatingTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepeatingTask")
            .field("thread", &self.shared.thread.name())
            .field("is_stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn note_pending(&self, pending: DelayedTask) {
        *self.pending.lock() = Some(pending);
        // Whoever stopped it in between found nothing to cancel.
        if self.is_stopped.load(Ordering::Acquire) {
            self.cancel_pending();
        }
    }

    /// Takes the pending run back, on the thread, whose the closure is to drop. A thread that quits
    /// and refuses that drops it at its end.
    fn cancel_pending(&self) {
        let Some(pending) = self.pending.lock().take() else {
            return;
        };
        if self.thread.is_current() {
            drop(pending.cancel());
        } else {
            drop(self.thread.post(move || drop(pending.cancel())));
        }
    }
}

impl<F: FnMut() -> Repeat + Send + 'static> Runner<F> {
    fn run(mut self: Box<Self>) {
        let shared = self.shared.clone();
        if shared.is_stopped.load(Ordering::Acquire) {
            return;
        }
        let Repeat::After(delay) = (self.closure)() else {
            shared.is_stopped.store(true, Ordering::Release);
            return;
        };
        if shared.is_stopped.load(Ordering::Acquire) {
            return;
        }
        self.due = due_after(self.due, delay);
        let rest = self
            .due
            .saturating_duration_since(shared.thread.clock().now());
        let task = Task::new(move || self.run());
        // Refused only by a thread that quits.
        if rest.is_zero() {
            drop(shared.thread.post_task(task));
        } else if let Ok(pending) = shared
            .thread
            .post_delayed_task(rest, shared.precision, task)
        {
            shared.note_pending(pending);
        }
    }
}
