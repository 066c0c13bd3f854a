//! Time and amounts, as those who follow a stream measure them.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Since a stream's epoch. Cheap to subtract, unlike an [`Instant`], and half as large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    pub(crate) const fn from_duration(duration: Duration) -> Self {
        let whole = duration.as_secs().saturating_mul(1000);
        Self(whole.saturating_add(duration.subsec_millis() as u64))
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// When a stream began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch(Instant);

impl Epoch {
    pub(crate) fn new(now: Instant) -> Self {
        Self(now)
    }

    pub(crate) fn millis(self, now: Instant) -> Millis {
        Millis::from_duration(self.elapsed(now))
    }

    pub(crate) fn elapsed(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0)
    }
}

/// How many ticks of an RTP clock pass in that time; it wraps as timestamps do.
pub(crate) fn rtp_ticks(duration: Duration, clock_rate: u32) -> u32 {
    let whole = duration.as_secs().wrapping_mul(u64::from(clock_rate));
    let part = u64::from(duration.subsec_nanos()) * u64::from(clock_rate) / 1_000_000_000;
    whole.wrapping_add(part) as u32
}

/// In bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct BitRate(pub u64);

/// Bytes over a sliding second, or the part of it since the first of them.
#[derive(Debug, Clone)]
pub(crate) struct RateMeter {
    slots: [u32; SLOTS as usize],
    total: u64,
    /// The slot of the newest bytes, counted since the epoch.
    newest: u64,
    /// When there began to be bytes, after there were none for a whole window.
    began: Millis,
}

/// A power of two, as their length, so that neither is divided by.
const SLOTS: u64 = 8;
const SLOT_MILLIS_LOG2: u32 = 7;
const SLOT_MILLIS: u64 = 1 << SLOT_MILLIS_LOG2;
/// Bytes that came at once are no bitrate yet: they are taken for what came within this time.
const SHORTEST_WINDOW_MILLIS: u64 = 2 * SLOT_MILLIS;

impl RateMeter {
    pub(crate) fn new() -> Self {
        Self {
            slots: [0; SLOTS as usize],
            total: 0,
            newest: 0,
            began: Millis(0),
        }
    }

    pub(crate) fn add(&mut self, now: Millis, bytes: usize) {
        self.slide_to(now);
        if self.total == 0 {
            self.began = now;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let slot = &mut self.slots[(self.newest % SLOTS) as usize];
        let grown = slot.saturating_add(bytes);
        self.total += u64::from(grown - *slot);
        *slot = grown;
    }

    pub(crate) fn rate(&mut self, now: Millis) -> BitRate {
        self.slide_to(now);
        let window = ((SLOTS - 1) * SLOT_MILLIS + now.0 % SLOT_MILLIS)
            .min(now.since(self.began).0)
            .max(SHORTEST_WINDOW_MILLIS);
        BitRate(self.total * 8 * 1000 / window)
    }

    /// Since when there have been bytes without a second's pause; `None` if there are none.
    pub(crate) fn measured_since(&mut self, now: Millis) -> Option<Millis> {
        self.slide_to(now);
        (self.total > 0).then_some(self.began)
    }

    fn slide_to(&mut self, now: Millis) {
        let slot = now.0 >> SLOT_MILLIS_LOG2;
        if slot <= self.newest {
            return;
        }
        for passed in (self.newest + 1..=slot).take(SLOTS as usize) {
            let slot = &mut self.slots[(passed % SLOTS) as usize];
            self.total -= u64::from(*slot);
            *slot = 0;
        }
        self.newest = slot;
    }
}

/// The score of a stream of which nothing bad is known.
pub(crate) const BEST_SCORE: u8 = 10;

/// How well a stream arrives, from 0 to 10.
///
/// It is ten times the fourth power of the share of packets that arrive: 10 without loss, 8 with 5%,
/// 7 with 10%, 4 with 20% of them missing. From there, every 100 ms of round trip beyond the first
/// 200 cost one, at most three together; what arrives at all is worth 1.
pub(crate) fn score(lost: f64, round_trip: Option<Duration>) -> u8 {
    const FREE_ROUND_TRIP_MILLIS: u64 = 200;
    const MILLIS_PER_POINT: u64 = 100;
    const MOST_FOR_ROUND_TRIP: u64 = 3;

    let delivered = 1.0 - lost.clamp(0.0, 1.0);
    if delivered == 0.0 {
        return 0;
    }
    let for_loss = (delivered.powi(4) * 10.0).round() as u8;
    let slow = round_trip.map_or(0, |time| {
        let beyond = Millis::from_duration(time)
            .0
            .saturating_sub(FREE_ROUND_TRIP_MILLIS);
        (beyond / MILLIS_PER_POINT).min(MOST_FOR_ROUND_TRIP)
    });
    for_loss.saturating_sub(slow as u8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::random::Random;

    #[test]
    fn a_steady_stream_has_its_rate() {
        let mut meter = RateMeter::new();
        for millis in (0..5000).step_by(10) {
            meter.add(Millis(millis), 1250);
            if millis >= 400 {
                let rate = meter.rate(Millis(millis)).0;
                assert!((960_000..1_060_000).contains(&rate), "{rate} at {millis}");
            }
        }
    }

    #[test]
    fn what_is_a_second_old_no_longer_counts() {
        let mut meter = RateMeter::new();
        meter.add(Millis(5), 1000);
        assert_eq!(Some(Millis(5)), meter.measured_since(Millis(800)));
        assert_eq!(BitRate(0), meter.rate(Millis(1100)));
        assert_eq!(None, meter.measured_since(Millis(1100)));
        meter.add(Millis(u64::MAX / 2), 1000);
        assert_eq!(BitRate(0), meter.rate(Millis(u64::MAX)));
    }

    #[test]
    fn it_equals_what_a_list_of_all_packets_says() {
        let mut random = Random::new(7);
        let mut meter = RateMeter::new();
        let mut packets: Vec<(u64, u64)> = Vec::new();
        let mut now = 0;
        for _ in 0..20_000 {
            let longest = if random.chance(1) { 3000 } else { 20 };
            now += random.below(longest);
            let bytes = random.below(1500);
            meter.add(Millis(now), bytes as usize);
            packets.push((now, bytes));
            let oldest_slot = (now / SLOT_MILLIS).saturating_sub(SLOTS - 1);
            packets.retain(|(time, _)| time / SLOT_MILLIS >= oldest_slot);
            let expected: u64 = packets.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(expected, meter.total);
        }
    }

    #[test]
    fn a_clock_that_steps_back_is_survived() {
        let mut meter = RateMeter::new();
        meter.add(Millis(10_000), 1000);
        meter.add(Millis(0), 1000);
        assert_eq!(
            BitRate(2000 * 8 * 1000 / SHORTEST_WINDOW_MILLIS),
            meter.rate(Millis(1))
        );
    }

    #[test]
    fn ticks_of_a_clock_wrap_as_timestamps_do() {
        assert_eq!(3000, rtp_ticks(Duration::from_nanos(33_333_334), 90_000));
        assert_eq!(960, rtp_ticks(Duration::from_millis(20), 48_000));
        let days = Duration::from_secs(86_400 * 365);
        assert_eq!((86_400_u64 * 365 * 90_000) as u32, rtp_ticks(days, 90_000));
        rtp_ticks(Duration::MAX, u32::MAX);
    }

    #[test]
    fn scores_are_as_documented() {
        let shares = [0.0, 0.05, 0.1, 0.2, 1.0];
        assert_eq!([10, 8, 7, 4, 0], shares.map(|lost| score(lost, None)));
        let milliseconds = [100, 300, 450, 5000];
        let of_slow = milliseconds.map(|time| score(0.0, Some(Duration::from_millis(time))));
        assert_eq!([10, 9, 8, 7], of_slow);
        assert_eq!(1, score(0.9, Some(Duration::from_secs(1))));
        assert_eq!(0, score(f64::INFINITY, None));
    }
}
