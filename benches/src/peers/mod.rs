//! The systems to compare: each is a thread that closures can be posted to.

pub(crate) mod channel;
#[cfg(any(feature = "libuv", feature = "libwebrtc"))]
mod foreign;
#[cfg(feature = "libuv")]
pub(crate) mod libuv;
#[cfg(feature = "libwebrtc")]
pub(crate) mod libwebrtc;
pub(crate) mod mio_queue;
pub(crate) mod rtc_thread;
pub(crate) mod tokio;

use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// A running thread of the system. It ends when this is dropped.
pub(crate) trait Peer: Sized + 'static {
    /// What others reach it by.
    type Handle: Handle;

    fn handle(&self) -> Self::Handle;
}

/// Where a system's timers can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timers {
    /// It has none.
    No,
    /// On any thread.
    Anywhere,
    /// Only on the thread on which they will run.
    OwnThread,
}

/// A way to give a peer work.
///
/// Closures are passed as what they are, not boxed: boxing them, where a system needs that, is part
/// of its cost.
pub(crate) trait Handle: Clone + Send + Sync + 'static {
    /// Names a timer, to cancel it.
    type Timer: Send + 'static;

    const TIMERS: Timers = Timers::No;
    /// Whether a timer can be taken back.
    const CANCELS: bool = false;
    /// Whether the system itself has a blocking call. If not, it is a post and a reply.
    const HAS_BLOCKING_CALL: bool = false;

    fn post(&self, task: impl FnOnce() + Send + 'static);

    /// Waits until everything posted before has run.
    fn blocking_call(&self) {
        let (done, wait) = sync_channel(1);
        self.post(move || done.send(()).expect("the caller waits"));
        wait.recv().expect("the task ran");
    }

    /// Only for systems that have timers.
    fn post_delayed(&self, delay: Duration, task: impl FnOnce() + Send + 'static) -> Self::Timer;

    /// Only for systems that can cancel.
    fn cancel(_timer: Self::Timer) {
        unreachable!("only called for systems that can cancel");
    }
}

/// What a queue of boxed closures holds.
pub(crate) type BoxedTask = Box<dyn FnOnce() + Send>;

/// Runs it there, and waits for what it returns.
pub(crate) fn on_thread<H: Handle, R: Send + 'static>(
    handle: &H,
    f: impl FnOnce(&H) -> R + Send + 'static,
) -> R {
    let (done, wait) = sync_channel(1);
    let there = handle.clone();
    handle.post(move || done.send(f(&there)).expect("the caller waits"));
    wait.recv().expect("the task ran")
}
