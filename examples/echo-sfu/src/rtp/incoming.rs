//! What arrives on an RTP stream that no WebRTC library looks after.

mod missing;
mod reception;
mod sequence;
#[cfg(test)]
mod tests;

use std::time::Instant;

use serde::Serialize;

use crate::rtp::rate::{BitRate, Epoch, RateMeter, score};
use crate::rtp::rtcp::ReportBlock;
use missing::MissingPackets;
use reception::{Jitter, LastSenderReport, Losses, RecentLoss};
use sequence::{Seen, SequenceTracker};

/// What a stream is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IncomingOptions {
    pub(crate) ssrc: u32,
    pub(crate) clock_rate: u32,
    pub(crate) is_video: bool,
    /// Whether its sender sends lost packets again.
    pub(crate) nack: bool,
    pub(crate) now: Instant,
}

/// What a packet turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Extended. It grows even if the source starts anew.
    pub(crate) sequence: u64,
    /// Whether to make use of it. Not of duplicates, nor of strays far from all others.
    pub(crate) is_new: bool,
}

/// An RTP stream that arrives.
///
/// # Guarantees
///
/// - The extended number of a packet is its source's, however packets are reordered: within 1,000 of
///   the newest back, and 3,000 ahead. No number is new twice.
/// - A packet from elsewhere is not new, and changes nothing; if its successor comes next, the
///   source has started anew, above all its numbers before.
/// - At most 1,000 packets are missed at a time, and each is asked for at most ten times: first
///   10 ms after it was missed, then once per round trip.
#[derive(Debug)]
pub(crate) struct IncomingStream {
    ssrc: u32,
    clock_rate: u32,
    is_video: bool,
    nack: bool,
    epoch: Epoch,
    sequence: SequenceTracker,
    missing: MissingPackets,
    losses: Losses,
    jitter: Jitter,
    last_sender_report: Option<LastSenderReport>,
    /// As of the last report; the second is smoothed over reports.
    recent_loss: f64,
    unrepaired_loss: f64,
    rate: RateMeter,
    counts: IncomingCounts,
}

impl IncomingStream {
    pub(crate) fn new(options: IncomingOptions) -> Self {
        Self {
            ssrc: options.ssrc,
            clock_rate: options.clock_rate,
            is_video: options.is_video,
            nack: options.nack,
            epoch: Epoch::new(options.now),
            sequence: SequenceTracker::new(),
            missing: MissingPackets::new(),
            losses: Losses::default(),
            jitter: Jitter::default(),
            last_sender_report: None,
            recent_loss: 0.0,
            unrepaired_loss: 0.0,
            rate: RateMeter::new(),
            counts: IncomingCounts::default(),
        }
    }

    pub(crate) fn receive(
        &mut self,
        now: Instant,
        sequence: u16,
        timestamp: u32,
        bytes: usize,
    ) -> Received {
        let millis = self.epoch.millis(now);
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        self.rate.add(millis, bytes);
        let (sequence, is_new) = match self.sequence.see(sequence) {
            Seen::First(sequence) => {
                self.start(sequence);
                (sequence, true)
            }
            Seen::Ahead { sequence, by } => {
                if self.nack && by > 1 {
                    self.missing.add(millis, by - 1, sequence, &self.sequence);
                }
                (sequence, true)
            }
            Seen::Late(sequence) => {
                self.losses.receive(sequence);
                return Received {
                    sequence,
                    is_new: true,
                };
            }
            Seen::Duplicate(sequence) => {
                self.counts.duplicates += 1;
                (sequence, false)
            }
            Seen::Jump(sequence) => {
                self.counts.strays += 1;
                (sequence, false)
            }
        };
        if is_new {
            self.losses.receive(sequence);
            let since_epoch = self.epoch.elapsed(now);
            self.jitter.receive(since_epoch, timestamp, self.clock_rate);
        }
        Received { sequence, is_new }
    }

    /// A packet that came by RTX. It is lost as far as reports go, but not for us.
    pub(crate) fn recover(
        &mut self,
        now: Instant,
        sequence: u16,
        bytes: usize,
    ) -> Option<Received> {
        self.rate.add(self.epoch.millis(now), bytes);
        let (sequence, is_new) = match self.sequence.recover(sequence)? {
            Seen::Late(sequence) => (sequence, true),
            Seen::First(sequence)
            | Seen::Ahead { sequence, .. }
            | Seen::Duplicate(sequence)
            | Seen::Jump(sequence) => (sequence, false),
        };
        if is_new {
            self.counts.recovered += 1;
            self.losses.recover();
        } else {
            self.counts.duplicates += 1;
        }
        Some(Received { sequence, is_new })
    }

    /// The packets that the sender should be asked to send again, each once per round trip. To be
    /// called every 20 ms or so while there are any.
    pub(crate) fn lost_to_ask_for(&mut self, now: Instant) -> Vec<u16> {
        let lost = self.missing.due(self.epoch.millis(now), &self.sequence);
        self.counts.nacked += lost.len() as u64;
        lost
    }

    /// Whether anything may have to be asked for.
    pub(crate) fn has_missing(&self) -> bool {
        self.missing.count() > 0
    }

    /// Whether so much of a video was lost that it cannot be repaired; until a key frame comes.
    pub(crate) fn needs_key_frame(&self) -> bool {
        self.is_video && self.missing.is_beyond_repair
    }

    /// A key frame begins with this packet: what was lost before it is not missed any more.
    pub(crate) fn on_key_frame(&mut self, sequence: u64) {
        self.missing.forget_before(sequence);
    }

    /// The middle 32 bits of its NTP timestamp.
    pub(crate) fn on_sender_report(&mut self, now: Instant, ntp_middle: u32) {
        self.last_sender_report = Some(LastSenderReport {
            ntp_middle,
            arrived_at: now,
        });
    }

    /// What to report of it now, since the last time this was asked. `None` before the first packet.
    pub(crate) fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        self.sequence.newest()?;
        if let Some(loss) = self.losses.since_last_report() {
            self.note_loss(loss);
        } else {
            self.recent_loss = 0.0;
        }
        let last = self.last_sender_report;
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (self.recent_loss * 256.0) as u8,
            cumulative_lost: self.losses.cumulative(),
            highest_sequence: self.losses.highest_sequence(),
            jitter: self.jitter.ticks(),
            last_sr: last.map_or(0, |last| last.ntp_middle),
            delay_since_last_sr: last.map_or(0, |last| last.delay(now)),
        })
    }

    /// From 0 to 10, as documented at [`score`]; loss is what could not be repaired by the time of
    /// the last report, averaged with those before.
    pub(crate) fn score(&self) -> u8 {
        score(self.unrepaired_loss, None)
    }

    pub(crate) fn bitrate(&mut self, now: Instant) -> BitRate {
        self.rate.rate(self.epoch.millis(now))
    }

    pub(crate) fn stats(&mut self, now: Instant) -> IncomingStats {
        IncomingStats {
            ssrc: self.ssrc,
            counts: self.counts,
            bitrate: self.bitrate(now),
            packets_lost: self.losses.cumulative(),
            packets_missing: self.missing.count(),
            fraction_lost: self.recent_loss,
            jitter: self.jitter.ticks(),
            needs_key_frame: self.needs_key_frame(),
            score: self.score(),
        }
    }

    fn start(&mut self, sequence: u64) {
        self.counts.starts += 1;
        self.losses.start(sequence);
        self.jitter = Jitter::default();
        self.missing.forget_all();
    }

    fn note_loss(&mut self, loss: RecentLoss) {
        const WEIGHT_OF_NEW: f64 = 0.5;
        self.recent_loss = loss.share;
        self.unrepaired_loss += (loss.share_unrepaired - self.unrepaired_loss) * WEIGHT_OF_NEW;
    }
}

/// What has happened to a stream so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IncomingCounts {
    /// Arrived, those sent again by RTX apart.
    pub packets: u64,
    /// Of payload.
    pub bytes: u64,
    /// Those that came by RTX, and were missing.
    pub recovered: u64,
    /// That came twice.
    pub duplicates: u64,
    /// Packets far from all others.
    pub strays: u64,
    /// Packets that were asked for, however often.
    pub nacked: u64,
    /// How often the source started, the first time included.
    pub starts: u64,
}

/// How a stream is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IncomingStats {
    /// Of what arrives.
    pub ssrc: u32,
    /// What has happened so far.
    #[serde(flatten)]
    pub counts: IncomingCounts,
    /// In bits per second.
    pub bitrate: BitRate,
    /// As reports count: those recovered are lost, and duplicates do not make up for it.
    pub packets_lost: i32,
    /// Those that are still asked for.
    pub packets_missing: usize,
    /// As of the last report.
    pub fraction_lost: f64,
    /// In ticks of the stream's clock.
    pub jitter: u32,
    /// Whether too much is lost to go on without one.
    pub needs_key_frame: bool,
    /// From 0 to 10.
    pub score: u8,
}
