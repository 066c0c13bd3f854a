//! Ending a wait from elsewhere.

use std::fmt;
use std::sync::Arc;

/// What wakes the thread of one server. Implemented by servers.
pub trait Wake: Send + Sync {
    /// Ends the current wait of the server, or the next one. Callable from any thread, also when the
    /// server is gone. Does not block, and does not panic: threads of `rtc-thread` end the process
    /// then, where they cannot go on.
    fn wake(&self);
}

/// Ends waits of a [`SocketServer`](crate::SocketServer) from any thread. Cheap to clone; outlives
/// the server harmlessly.
///
/// Every call of [`wake`](Self::wake) may cost a system call. Whoever wakes often should know whether
/// the other side sleeps.
///
/// libwebrtc: `SocketServer::WakeUp`.
#[derive(Clone)]
pub struct WakeHandle(Arc<dyn Wake>);

impl WakeHandle {
    /// For implementations of [`SocketServer`](crate::SocketServer).
    pub fn new(wake: Arc<dyn Wake>) -> Self {
        Self(wake)
    }

    /// Ends the current wait, or the next one.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for WakeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WakeHandle")
    }
}
