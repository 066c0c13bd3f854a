//! What one can post to.

use std::fmt::Debug;
use std::time::Duration;

use crate::delayed::Precision;
use crate::error::PostError;
use crate::handle::{DelayedTask, ThreadHandle};
use crate::task::Task;

/// A place that runs tasks one after the other, in the order in which they were posted.
///
/// For code that needs no more than that, and is to be tested with something else than a thread.
/// [`ThreadHandle`] implements it, for real and for simulated threads, and promises more. The
/// methods with closures are in [`TaskQueueExt`].
///
/// libwebrtc: `TaskQueueBase`.
pub trait TaskQueue: Send + Sync + Debug {
    /// Appends a task.
    ///
    /// # Errors
    ///
    /// The queue has shut down: the task is handed back.
    fn post_task(&self, task: Task) -> Result<(), PostError>;

    /// Appends a task when `delay` has passed; never earlier.
    ///
    /// # Errors
    ///
    /// The queue has shut down: the task is handed back.
    fn post_delayed_task(
        &self,
        delay: Duration,
        precision: Precision,
        task: Task,
    ) -> Result<DelayedTask, PostError>;

    /// Whether the caller is a task of this queue.
    fn is_current(&self) -> bool;

    /// The queue's name.
    fn name(&self) -> &str;
}

impl TaskQueue for ThreadHandle {
    fn post_task(&self, task: Task) -> Result<(), PostError> {
        Self::post_task(self, task)
    }

    fn post_delayed_task(
        &self,
        delay: Duration,
        precision: Precision,
        task: Task,
    ) -> Result<DelayedTask, PostError> {
        Self::post_delayed_task(self, delay, precision, task)
    }

    fn is_current(&self) -> bool {
        Self::is_current(self)
    }

    fn name(&self) -> &str {
        Self::name(self)
    }
}

/// [`TaskQueue`] with closures.
pub trait TaskQueueExt: TaskQueue {
    /// See [`ThreadHandle::post`].
    ///
    /// # Errors
    ///
    /// The queue has shut down: the task is handed back.
    #[track_caller]
    fn post(&self, task: impl FnOnce() + Send + 'static) -> Result<(), PostError> {
        self.post_task(Task::new(task))
    }

    /// See [`ThreadHandle::post_delayed`].
    ///
    /// # Errors
    ///
    /// The queue has shut down: the task is handed back.
    #[track_caller]
    fn post_delayed(
        &self,
        delay: Duration,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<DelayedTask, PostError> {
        self.post_delayed_task(delay, Precision::High, Task::new(task))
    }
}

impl<Q: TaskQueue + ?Sized> TaskQueueExt for Q {}
