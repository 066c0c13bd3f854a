//! How well packets arrive, as reports say it (RFC 3550, section 6.4.1 and appendix A).

use std::time::{Duration, Instant};

use super::sequence::FIRST_CYCLE;
use crate::rtp::rate::rtp_ticks;

/// Counts packets since the source started.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The number before the first.
    base: u64,
    newest: u64,
    received: u64,
    recovered: u64,
    at_last_report: (u64, u64, u64),
}

/// What was lost since the last report, as shares of what was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RecentLoss {
    pub(super) share: f64,
    /// Less what was sent again in time.
    pub(super) share_unrepaired: f64,
}

impl Losses {
    pub(super) fn start(&mut self, sequence: u64) {
        *self = Self {
            base: sequence - 1,
            newest: sequence,
            ..Self::default()
        };
        self.at_last_report = (self.base, 0, 0);
    }

    /// Numbers from before the first count as nothing expected: they show as received too many.
    pub(super) fn receive(&mut self, sequence: u64) {
        self.received += 1;
        self.newest = self.newest.max(sequence);
    }

    pub(super) fn recover(&mut self) {
        self.recovered += 1;
    }

    pub(super) fn cumulative(&self) -> i32 {
        const MOST: i64 = 0x7f_ffff;
        let expected = self.newest - self.base;
        let lost = expected as i64 - self.received as i64;
        lost.clamp(-MOST - 1, MOST) as i32
    }

    /// `None` if nothing was expected.
    pub(super) fn since_last_report(&mut self) -> Option<RecentLoss> {
        let (newest, received, recovered) = self.at_last_report;
        self.at_last_report = (self.newest, self.received, self.recovered);
        let expected = (self.newest - newest) as f64;
        if expected == 0.0 {
            return None;
        }
        let share = |received: u64| (1.0 - received as f64 / expected).max(0.0);
        let received = self.received - received;
        Some(RecentLoss {
            share: share(received),
            share_unrepaired: share(received + (self.recovered - recovered)),
        })
    }

    pub(super) fn highest_sequence(&self) -> u32 {
        // It wraps.
        self.newest.wrapping_sub(FIRST_CYCLE) as u32
    }
}

/// Interarrival jitter.
#[derive(Debug, Default)]
pub(super) struct Jitter {
    last: Option<(u32, u32)>,
    /// In 16ths of a tick.
    scaled: u32,
}

impl Jitter {
    /// Packets of one frame are sent over some time on purpose: only the first of each timestamp
    /// counts.
    pub(super) fn receive(&mut self, since_epoch: Duration, timestamp: u32, clock_rate: u32) {
        let arrival = rtp_ticks(since_epoch, clock_rate);
        let Some((last_arrival, last_timestamp)) = self.last else {
            self.last = Some((arrival, timestamp));
            return;
        };
        if timestamp == last_timestamp {
            return;
        }
        self.last = Some((arrival, timestamp));
        let passed = arrival.wrapping_sub(last_arrival);
        let difference = passed.wrapping_sub(timestamp.wrapping_sub(last_timestamp)) as i32;
        let difference = difference.unsigned_abs();
        // A source that changed its clock; not the network's doing.
        if difference / 5 >= clock_rate {
            return;
        }
        self.scaled = self
            .scaled
            .saturating_add(difference)
            .saturating_sub((self.scaled + 8) >> 4);
    }

    pub(super) fn ticks(&self) -> u32 {
        self.scaled >> 4
    }
}

/// The last sender report, which ours refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSenderReport {
    pub(super) ntp_middle: u32,
    pub(super) arrived_at: Instant,
}

impl LastSenderReport {
    pub(super) fn delay(self, now: Instant) -> u32 {
        let delay = now.saturating_duration_since(self.arrived_at);
        u32::try_from(delay.as_nanos() * 65_536 / 1_000_000_000).unwrap_or(u32::MAX)
    }
}
