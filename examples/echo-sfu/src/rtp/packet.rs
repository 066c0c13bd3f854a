//! A packet between its producer and its consumers.

use std::sync::Arc;
use std::time::Instant;

/// An RTP packet as it came from a producer. Cheap to clone: the payload is shared.
#[derive(Debug, Clone)]
pub(crate) struct MediaPacket {
    /// As its producer numbers codecs.
    pub(crate) payload_type: u8,
    /// Which of the producer's encodings it belongs to, the smallest being 0.
    pub(crate) layer: u8,
    /// Extended beyond 16 bits, so that it does not wrap; of its encoding.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) extensions: Extensions,
    pub(crate) payload: Arc<[u8]>,
    pub(crate) arrived_at: Instant,
}

/// Header extensions that are for whoever receives the media in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// RFC 6464.
    pub(crate) audio_level: Option<AudioLevel>,
    /// `urn:3gpp:video-orientation`: the byte as it is sent.
    pub(crate) video_orientation: Option<u8>,
    /// `abs-capture-time`: when it was captured, in NTP format; the offset of clocks after it.
    pub(crate) absolute_capture_time: Option<(u64, Option<i64>)>,
}

/// How loud a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AudioLevel {
    /// Below the loudest there can be, in decibels: 0 to 127.
    pub(crate) below_full_db: u8,
    /// Whether the sender takes it for speech.
    pub(crate) is_speech: bool,
}
