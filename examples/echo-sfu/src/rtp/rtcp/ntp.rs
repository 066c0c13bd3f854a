//! Time as RTCP tells it.

use std::time::Duration;

use super::ReportBlock;

/// From 1900, when NTP begins, to 1970.
const UNIX_EPOCH_SECONDS: u64 = 2_208_988_800;
/// Nobody talks to whom they reach in a minute.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(60);
/// How far clocks and rounding may take a very short round trip below nothing.
const ROUND_TRIP_ERROR: u32 = UNITS_PER_SECOND / 1_000;
/// Of the middle of an NTP time.
const UNITS_PER_SECOND: u32 = 1 << 16;

/// Seconds since 1900, with 32 bits behind the point. Wraps in 2036.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NtpTime(pub(crate) u64);

impl NtpTime {
    pub(crate) fn since_unix_epoch(time: Duration) -> Self {
        let seconds = time.as_secs().wrapping_add(UNIX_EPOCH_SECONDS);
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        Self((seconds << 32) | fraction)
    }

    /// What report blocks repeat of it, in 65,536ths of a second.
    pub(crate) const fn middle32(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// How long it takes to the other end and back, by a report block that has just come from there (RFC
/// 3550, section 6.4.1). `None` if it answers no sender report, or what it says cannot be.
pub(crate) fn round_trip_time(block: &ReportBlock, now: NtpTime) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let units = now
        .middle32()
        .wrapping_sub(block.last_sr)
        .wrapping_sub(block.delay_since_last_sr);
    if units >= ROUND_TRIP_ERROR.wrapping_neg() {
        return Some(Duration::ZERO);
    }
    let nanos = u64::from(units) * 1_000_000_000 / u64::from(UNITS_PER_SECOND);
    Some(Duration::from_nanos(nanos)).filter(|time| *time <= ROUND_TRIP_MAX)
}
