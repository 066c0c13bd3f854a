//! What a connection tells the application.

use std::io;
use std::mem::take;

/// What the application should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The handshake is over: once, before all others but `Closed`.
    Connected,
    /// There is something to read, or the end of the peer's stream, where there was neither.
    Readable,
    /// There is room again, after `send` could not take everything.
    Writable,
    /// The peer's stream has arrived to its end, though perhaps not been read: once.
    PeerFinished,
    /// Both directions are over, cleanly or not: once, and the last. What has arrived may still be
    /// read. The side that called `close` or `abort` is not told.
    Closed(Option<io::ErrorKind>),
}

/// Events that have not been polled. Each is pending or not, so that they need no bound.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) connected: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) peer_finished: bool,
    pub(super) closed: Option<Option<io::ErrorKind>>,
}

impl Events {
    /// The next one, in the order in which they make sense.
    pub(super) fn poll(&mut self, is_readable: bool) -> Option<Event> {
        if take(&mut self.connected) {
            Some(Event::Connected)
        } else if take(&mut self.readable) && is_readable {
            // Else it has been read meanwhile, and need not be told.
            Some(Event::Readable)
        } else if take(&mut self.writable) {
            Some(Event::Writable)
        } else if take(&mut self.peer_finished) {
            Some(Event::PeerFinished)
        } else {
            self.closed.take().map(Event::Closed)
        }
    }
}
