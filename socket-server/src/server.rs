//! What a thread waits in.

use std::fmt::Debug;
use std::io;
use std::time::Instant;

use crate::udp::{UdpOptions, UdpSocket};
use crate::wake::WakeHandle;

/// How long a wait may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxWait {
    /// Not at all: what is ready is served, and that is it.
    Poll,
    /// Until this moment.
    Until(Instant),
    /// Until something happens.
    Forever,
}

/// Whether a wait serves sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessIo {
    /// Handlers of ready sockets are called.
    Yes,
    /// Sockets that become ready stay so, for the next wait that serves them. They do not end this
    /// one.
    No,
}

/// The one place in which a thread waits: for a wake-up, for a moment, and for its sockets.
///
/// A server belongs to the thread that made it, and so do its sockets; none of them is `Send`. Only
/// the [`WakeHandle`] is for others.
///
/// The trait does not say how sockets get ready or who does their I/O, so that a server may simulate
/// a network, or be built on completion instead of readiness.
///
/// libwebrtc: `SocketServer`.
pub trait SocketServer: Debug {
    /// Sleeps until there is a wake-up, or the time has come, or handlers of sockets have been
    /// called.
    ///
    /// - Wake-ups are sticky: one that comes while nobody waits ends the next wait at once. Any
    ///   number of them that no wait has seen yet count as one.
    /// - It never returns because of the time before that time. How soon after is the server's.
    /// - With [`ProcessIo::Yes`] it returns after one bounded, fair round of handlers, also if there
    ///   is more to do; the next wait then does not sleep.
    /// - Signals do not end it.
    ///
    /// libwebrtc: `Wait`, which goes on serving sockets until it is woken or the time has come.
    ///
    /// # Errors
    ///
    /// The operating system's; the server can be used again. And
    /// [`ErrorKind::ResourceBusy`](io::ErrorKind::ResourceBusy) if called from within a handler.
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()>;

    /// The means of ending a wait from another thread.
    fn wake_handle(&self) -> WakeHandle;

    /// Opens a UDP socket that this server serves.
    ///
    /// libwebrtc: `CreateSocket(SOCK_DGRAM)` and `Bind`.
    ///
    /// # Errors
    ///
    /// The operating system's; [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) if the server
    /// has no sockets.
    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket>;
}
