//! What a stream guarantees: case by case, and on random sources.

mod checker;
mod numbers;
mod random;
mod resends;
mod simulcast;
mod source;

use std::time::{Duration, Instant};

use super::*;
use crate::rtp::packet::Extensions;

const SSRC: u32 = 0x1234;
const RTX_SSRC: u32 = 0x5678;
const VIDEO: u8 = 96;
const AUDIO: u8 = 111;
/// What no receiver here knows.
const UNKNOWN: u8 = 13;

fn options(is_video: bool, now: Instant) -> OutgoingOptions {
    let video = CodecMapping {
        from: VIDEO,
        to: 120,
        rtx: Some(121),
        kind: CodecKind::Vp8,
        clock_rate: 90_000,
    };
    let audio = CodecMapping {
        from: AUDIO,
        to: 109,
        rtx: None,
        kind: CodecKind::Opus,
        clock_rate: 48_000,
    };
    OutgoingOptions {
        ssrc: SSRC,
        rtx: Some(RtxOptions { ssrc: RTX_SSRC }),
        codecs: vec![audio, video],
        is_video,
        active: true,
        first_sequence: 100,
        now,
    }
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A stream, what it is sent, and a clock.
struct Bench {
    stream: OutgoingStream,
    now: Instant,
    is_video: bool,
}

impl Bench {
    fn video() -> Self {
        Self::new(true)
    }

    fn audio() -> Self {
        Self::new(false)
    }

    fn new(is_video: bool) -> Self {
        let now = Instant::now();
        Self {
            stream: OutgoingStream::new(options(is_video, now)),
            now,
            is_video,
        }
    }

    fn wait(&mut self, time: u64) {
        self.now += milliseconds(time);
    }

    fn packet(&self, layer: u8, sequence: u64, timestamp: u32, payload: &[u8]) -> MediaPacket {
        MediaPacket {
            payload_type: if self.is_video { VIDEO } else { AUDIO },
            layer,
            sequence,
            timestamp,
            marker: false,
            extensions: Extensions::default(),
            payload: payload.into(),
            arrived_at: self.now,
        }
    }

    /// The first packet of a key frame.
    fn key(&mut self, layer: u8, sequence: u64, timestamp: u32) -> Option<Rewritten> {
        let packet = self.packet(layer, sequence, timestamp, &[0x10, 0, 0, 0]);
        self.stream.rewrite(self.now, &packet)
    }

    /// A packet that starts no key frame.
    fn delta(&mut self, layer: u8, sequence: u64, timestamp: u32) -> Option<Rewritten> {
        let packet = self.packet(layer, sequence, timestamp, &[0x10, 1, 0, 0]);
        self.stream.rewrite(self.now, &packet)
    }

    fn unknown(&mut self, sequence: u64) -> Option<Rewritten> {
        let packet = MediaPacket {
            payload_type: UNKNOWN,
            ..self.packet(0, sequence, 0, &[1])
        };
        self.stream.rewrite(self.now, &packet)
    }

    fn empty(&mut self, sequence: u64) -> Option<Rewritten> {
        let packet = self.packet(0, sequence, 0, &[]);
        self.stream.rewrite(self.now, &packet)
    }

    fn counts(&mut self) -> OutgoingCounts {
        self.stream.stats(self.now).counts
    }
}

fn number(rewritten: Option<Rewritten>) -> Option<u64> {
    rewritten.map(|rewritten| rewritten.sequence)
}
