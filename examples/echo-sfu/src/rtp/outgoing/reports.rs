//! What is said about a stream, by us and by its receiver.

use std::time::Duration;

use serde::Serialize;

use crate::rtp::rate::{BitRate, score};

/// What a sender report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderInfo {
    pub(crate) ssrc: u32,
    /// It wraps.
    pub(crate) packets: u32,
    /// Of payload; it wraps.
    pub(crate) octets: u32,
    /// Of the moment for which it was asked.
    pub(crate) rtp_timestamp: u32,
}

/// What a receiver's report says of a stream, and what is concluded from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportBlockView {
    /// In 256ths, since the last report.
    pub(crate) fraction_lost: u8,
    pub(crate) cumulative_lost: i32,
    /// In ticks of the stream's clock.
    pub(crate) jitter: u32,
    /// `None` if the receiver has not seen a sender report yet.
    pub(crate) round_trip: Option<Duration>,
}

/// How a stream fares, as its receiver says.
#[derive(Debug, Default)]
pub(super) struct Reception {
    last: Option<ReportBlockView>,
    /// The share that is lost, smoothed over reports.
    lost: f64,
}

impl Reception {
    pub(super) fn report(&mut self, block: ReportBlockView) {
        const WEIGHT_OF_NEW: f64 = 0.5;
        let lost = f64::from(block.fraction_lost) / 256.0;
        self.lost += (lost - self.lost) * WEIGHT_OF_NEW;
        let round_trip = block
            .round_trip
            .or_else(|| self.last.and_then(|last| last.round_trip));
        self.last = Some(ReportBlockView {
            round_trip,
            ..block
        });
    }

    pub(super) fn last(&self) -> Option<ReportBlockView> {
        self.last
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.last?.round_trip
    }

    pub(super) fn score(&self) -> u8 {
        score(self.lost, self.round_trip())
    }
}

/// What has happened to a stream so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutgoingCounts {
    /// Sent, those sent again apart.
    pub packets: u64,
    /// Of payload.
    pub bytes: u64,
    /// Sent again.
    pub resent_packets: u64,
    /// Of payload, rounded up.
    pub resent_bytes: u64,
    /// Packets that the receiver asked for again, however often.
    pub nacked: u64,
    /// Of those, how many are not remembered, or were never sent.
    pub nacked_unknown: u64,
    /// Of those, how many were asked for too often, or were too much.
    pub nacked_refused: u64,
    /// How often nothing could be sent for want of a key frame.
    pub key_frame_waits: u64,
    /// From one layer to another.
    pub layer_switches: u64,
    /// Packets of a codec that the receiver does not know.
    pub untranslatable: u64,
    /// Packets that came too late, or twice.
    pub late: u64,
}

/// How a stream is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OutgoingStats {
    /// Of what is sent.
    pub ssrc: u32,
    /// Of what is sent again, if that has one of its own.
    pub rtx_ssrc: Option<u32>,
    /// What has happened so far.
    #[serde(flatten)]
    pub counts: OutgoingCounts,
    /// Of payload, in bits per second.
    pub bitrate: BitRate,
    /// Whether it is to be sent anything.
    pub active: bool,
    /// Whether it is, as soon as there is a key frame.
    pub waiting_for_key_frame: bool,
    /// The best layer it is to be sent.
    pub preferred_layer: Option<u8>,
    /// The layer it is to be sent as things are.
    pub target_layer: Option<u8>,
    /// The layer it is sent.
    pub current_layer: Option<u8>,
    /// Of the latest packets, from 0 to 1, as the receiver says; `None` until it says something. So are
    /// the next.
    pub fraction_lost: Option<f64>,
    /// Of all packets.
    pub packets_lost: Option<i32>,
    /// In ticks of the stream's clock.
    pub jitter: Option<u32>,
    /// To the receiver and back.
    pub round_trip_ms: Option<f64>,
    /// From 0 to 10.
    pub score: u8,
}
