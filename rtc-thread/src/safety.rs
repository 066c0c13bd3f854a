//! Tasks that are of no use once their owner is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether tasks that were wrapped with it are still wanted. Clones are the same flag.
///
/// If it is set not alive on the thread that runs the tasks, none of them runs after that. From
/// another thread it stops those that have not begun; who needs to know that none is running waits
/// for the thread as well, with a [`blocking_call`](crate::ThreadHandle::blocking_call).
///
/// The state of a [`ThreadBound`](crate::ThreadBound) needs no flag: tasks reach it through the
/// handle, or not at all.
///
/// libwebrtc: `PendingTaskSafetyFlag`.
///
/// ```
/// use rtc_thread::{SafetyFlag, Thread};
///
/// let thread = Thread::builder().spawn()?;
/// let flag = SafetyFlag::new();
/// flag.set_not_alive();
/// thread.post(flag.wrap(|| panic!("not wanted any more")))?;
/// thread.blocking_call(|| ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SafetyFlag {
    alive: Arc<AtomicBool>,
}

impl SafetyFlag {
    /// A flag that is alive.
    ///
    /// libwebrtc: `Create()`.
    pub fn new() -> Self {
        Self::starting(true)
    }

    /// A flag that is not alive yet: for an owner that is still being set up, maybe for another
    /// thread than the one it is made on.
    ///
    /// libwebrtc: `CreateDetachedInactive()`.
    pub fn not_alive() -> Self {
        Self::starting(false)
    }

    fn starting(alive: bool) -> Self {
        Self {
            alive: Arc::new(AtomicBool::new(alive)),
        }
    }

    /// Whether tasks are wanted.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// From here on, tasks run.
    pub fn set_alive(&self) {
        self.alive.store(true, Ordering::Release);
    }

    /// From here on, tasks are skipped.
    pub fn set_not_alive(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// A closure that does nothing if the flag is not alive when it is called.
    ///
    /// libwebrtc: `SafeTask`.
    pub fn wrap<F: FnOnce()>(&self, closure: F) -> impl FnOnce() + use<F> {
        let flag = self.clone();
        move || {
            if flag.is_alive() {
                closure();
            }
        }
    }
}

impl Default for SafetyFlag {
    fn default() -> Self {
        Self::new()
    }
}

/// A [`SafetyFlag`] that ends with its owner: a field of it.
///
/// libwebrtc: `ScopedTaskSafety`.
#[derive(Debug, Default)]
pub struct ScopedSafety {
    flag: SafetyFlag,
}

impl ScopedSafety {
    /// A flag that is alive until this is dropped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the life of this flag when dropped, whatever it is now.
    ///
    /// libwebrtc: `ScopedTaskSafetyDetached`.
    pub fn with(flag: SafetyFlag) -> Self {
        Self { flag }
    }

    /// The flag, to be given away.
    pub fn flag(&self) -> SafetyFlag {
        self.flag.clone()
    }

    /// See [`SafetyFlag::wrap`].
    pub fn wrap<F: FnOnce()>(&self, closure: F) -> impl FnOnce() + use<F> {
        self.flag.wrap(closure)
    }
}

impl Drop for ScopedSafety {
    fn drop(&mut self) {
        self.flag.set_not_alive();
    }
}
