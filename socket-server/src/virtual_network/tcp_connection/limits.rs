//! What a connection may use, and how patient it is.

use std::time::Duration;

/// Like Ethernet's, less the headers and something for tunnels.
const DEFAULT_MAX_SEGMENT: usize = 1400;
const DEFAULT_BUFFER: usize = 256 << 10;

/// The largest window that TCP itself can express.
const MAX_BUFFER: usize = 1 << 30;
/// What an IPv4 packet holds.
const MAX_SEGMENT: usize = 65_495;

/// What a connection may use, and how patient it is.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How many bytes may wait to be sent or acknowledged.
    pub(crate) send_buffer: usize,
    /// How many bytes may wait to be read, or for what is missing before them.
    pub(crate) receive_buffer: usize,
    /// How many bytes a segment carries at most.
    pub(crate) max_segment: usize,
    /// How long the peer may acknowledge nothing of what is to be sent, even if it says that it has
    /// no room.
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) keep_alive: Option<KeepAlive>,
    /// Whether small segments are sent although others have not been acknowledged.
    pub(crate) nodelay: bool,
}

impl Limits {
    /// Within what the arithmetic is sure to bear.
    pub(super) fn clamped(&self) -> Self {
        Self {
            send_buffer: self.send_buffer.clamp(1, MAX_BUFFER),
            receive_buffer: self.receive_buffer.clamp(1, MAX_BUFFER),
            max_segment: self.max_segment.clamp(1, MAX_SEGMENT),
            ..self.clone()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            send_buffer: DEFAULT_BUFFER,
            receive_buffer: DEFAULT_BUFFER,
            max_segment: DEFAULT_MAX_SEGMENT,
            user_timeout: None,
            keep_alive: None,
            nodelay: false,
        }
    }
}

/// How a peer that is silent is asked whether it is still there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    /// After so much silence.
    pub(crate) idle: Duration,
    /// Again after so much more.
    pub(crate) interval: Duration,
    /// So many times.
    pub(crate) count: u32,
}
