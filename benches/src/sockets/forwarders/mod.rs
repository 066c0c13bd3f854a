//! The systems to compare: each sends every datagram that it gets to some destinations.
//!
//! Each runs on one thread, on the second core, with one socket, and leaves the sizes of its buffers
//! to the kernel.

pub(crate) mod floor;
#[cfg(feature = "libuv")]
pub(crate) mod libuv;
#[cfg(feature = "libwebrtc")]
pub(crate) mod libwebrtc;
pub(crate) mod socket_server;
pub(crate) mod tokio;

use std::any::Any;
use std::net::SocketAddr;

use crate::cpu_clock::CpuClock;
use crate::pin;

/// A running forwarder. It ends when this is dropped.
pub(crate) struct Forwarder {
    /// Where it receives.
    pub(crate) address: SocketAddr,
    pub(crate) thread: ThreadInfo,
    _running: Box<dyn Any>,
}

/// What tells the forwarder's thread from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadInfo {
    pub(crate) id: i32,
    pub(crate) clock: CpuClock,
}

impl ThreadInfo {
    /// To be called on the forwarder's thread; pins it.
    fn of_this_thread() -> Result<Self, String> {
        pin::to(1);
        Ok(Self {
            id: rustix::thread::gettid().as_raw_pid(),
            clock: CpuClock::of_this_thread()?,
        })
    }
}
