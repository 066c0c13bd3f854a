//! What a client's connection carries towards it, as far as the client tells.

use std::time::{Duration, Instant};

use crate::objects::BitrateBounds;
use crate::rtp::rate::BitRate;

/// Below this, loss is taken for chance; above the other, for too much being sent. The figures are
/// those of Google congestion control (draft-ietf-rmcat-gcc-02, section 6).
const LITTLE_LOSS: f64 = 0.02;
const MUCH_LOSS: f64 = 0.10;
const GROWTH_PER_SECOND: f64 = 1.08;
/// One loss is reported several times; it counts once.
const BETWEEN_CUTS: Duration = Duration::from_millis(500);
/// A client's own estimate does not go beyond one and a half times what it receives: so one that is this
/// much more than what it is sent knows of no limit, and one that is less does.
const NO_LIMIT_SEEN: f64 = 1.2;
/// To send more than a limit that is gone is an experiment. If it fails, the next one has to wait, the
/// longer the more often it has failed.
const FIRST_HOLD: Duration = Duration::from_secs(5);
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// A client that has not repeated its own estimate for so long has none.
const REMB_LASTS: Duration = Duration::from_secs(10);
/// It is not cut below what speech needs.
const LEAST: BitRate = BitRate(50_000);
/// A connection that carries so much is no limit to anyone.
const ENOUGH: BitRate = BitRate(20_000_000);

/// An estimate, from what the client says it can take and from what it says is lost.
#[derive(Debug, Default)]
pub(super) struct Downlink {
    remb: Option<(BitRate, Instant)>,
    /// From when on the client's estimate may be forgotten again, and how long that took.
    held: Option<(Instant, Duration)>,
    by_loss: Option<BitRate>,
    cut_at: Option<Instant>,
    grown_at: Option<Instant>,
    bounds: BitrateBounds,
}

impl Downlink {
    /// The client has estimated it itself, while it was sent so much.
    pub(super) fn client_says(&mut self, now: Instant, estimate: BitRate, sent: BitRate) {
        let is_limit = (estimate.0 as f64) < sent.0 as f64 * NO_LIMIT_SEEN;
        let was_limit = self.limit_said(now).is_some();
        let is_held = |held: &(Instant, Duration)| now < held.0;
        if is_limit {
            self.remb = Some((estimate, now));
            if !was_limit {
                // What has gone well for long enough is forgiven.
                let again = self
                    .held
                    .filter(|(until, _)| now.saturating_duration_since(*until) < LONGEST_HOLD);
                let hold = again.map_or(FIRST_HOLD, |(_, hold)| (hold * 2).min(LONGEST_HOLD));
                self.held = Some((now + hold, hold));
            }
        } else if was_limit && self.held.as_ref().is_some_and(is_held) {
            let lesser = |(before, _): (BitRate, Instant)| before.min(estimate);
            self.remb = self.remb.map(lesser).map(|rate| (rate, now));
        } else {
            self.remb = None;
        }
    }

    fn limit_said(&self, now: Instant) -> Option<BitRate> {
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < REMB_LASTS;
        self.remb
            .filter(|(_, at)| is_fresh(at))
            .map(|(rate, _)| rate)
    }

    /// The client has told of the loss, from 0 to 1, of what is sent at this rate.
    pub(super) fn loss_reported(&mut self, now: Instant, loss: f64, sent: BitRate) {
        if loss > MUCH_LOSS {
            let cut_at = self.cut_at.get_or_insert(now);
            let is_again = *cut_at != now;
            if is_again && now.saturating_duration_since(*cut_at) < BETWEEN_CUTS {
                return;
            }
            *cut_at = now;
            self.grown_at = Some(now);
            // What is not sent cannot have been too much.
            let used = self
                .by_loss
                .map_or(sent, |rate| BitRate(rate.0.min(sent.0)));
            let kept = used.0 as f64 * (1.0 - 0.5 * loss);
            self.by_loss = Some(BitRate(kept as u64).max(LEAST));
        } else if let Some(rate) = self.by_loss
            && loss < LITTLE_LOSS
        {
            let since = self.grown_at.replace(now).unwrap_or(now);
            let seconds = now.saturating_duration_since(since).as_secs_f64().min(1.0);
            let grown = BitRate((rate.0 as f64 * GROWTH_PER_SECOND.powf(seconds)) as u64);
            self.by_loss = (grown < ENOUGH).then_some(grown);
        }
    }

    /// The application knows better.
    pub(super) const fn set_bounds(&mut self, bounds: BitrateBounds) {
        self.bounds = bounds;
    }

    /// The lesser of the two, within the bounds; `None` if nothing is known to limit anything.
    pub(super) fn estimate(&self, now: Instant) -> Option<BitRate> {
        let said = self.limit_said(now);
        let lesser = [said, self.by_loss].into_iter().flatten().min();
        self.bounds.bound(lesser)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: BitRate = BitRate(1_000_000);

    #[test]
    fn without_loss_nothing_is_limited() {
        let mut downlink = Downlink::default();
        let now = Instant::now();
        downlink.loss_reported(now, 0.0, SENT);
        downlink.loss_reported(now, 0.05, SENT);
        assert_eq!(None, downlink.estimate(now));
    }

    #[test]
    fn much_loss_cuts_once_and_time_without_gives_back() {
        let mut downlink = Downlink::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        downlink.loss_reported(at(0), 0.2, SENT);
        assert_eq!(Some(BitRate(900_000)), downlink.estimate(at(0)));
        downlink.loss_reported(at(100), 0.2, SENT);
        assert_eq!(Some(BitRate(900_000)), downlink.estimate(at(100)));
        downlink.loss_reported(at(600), 0.2, BitRate(800_000));
        assert_eq!(Some(BitRate(720_000)), downlink.estimate(at(600)));
        downlink.loss_reported(at(1_600), 0.0, SENT);
        assert_eq!(Some(BitRate(777_600)), downlink.estimate(at(1_600)));
        for second in 3..100 {
            downlink.loss_reported(at(second * 1_000), 0.0, SENT);
        }
        assert_eq!(None, downlink.estimate(at(100_000)));
    }

    #[test]
    fn what_the_client_says_counts_while_it_says_it() {
        let mut downlink = Downlink::default();
        let now = Instant::now();
        downlink.client_says(now, BitRate(300_000), SENT);
        assert_eq!(Some(BitRate(300_000)), downlink.estimate(now));
        assert_eq!(None, downlink.estimate(now + REMB_LASTS));
    }

    #[test]
    fn an_estimate_that_only_echoes_what_is_sent_is_no_limit() {
        let mut downlink = Downlink::default();
        let now = Instant::now();
        downlink.client_says(now, BitRate(1_500_000), SENT);
        assert_eq!(None, downlink.estimate(now));
    }

    #[test]
    fn experiments_that_fail_are_repeated_ever_more_rarely() {
        let mut downlink = Downlink::default();
        let start = Instant::now();
        let mut at = start;
        for hold in [5, 10, 20, 40, 60, 60] {
            downlink.client_says(at, BitRate(300_000), SENT);
            let limited_since = at;
            // Sent less, the client sees no limit any more.
            while downlink.estimate(at).is_some() {
                at += Duration::from_secs(1);
                downlink.client_says(at, BitRate(300_000), BitRate(200_000));
            }
            assert_eq!(Duration::from_secs(hold), at - limited_since);
        }
    }

    #[test]
    fn it_keeps_to_its_bounds_and_goes_on_estimating_meanwhile() {
        let mut downlink = Downlink::default();
        let now = Instant::now();
        let rate = |rate| Some(BitRate(rate));
        downlink.set_bounds(BitrateBounds::new(rate(400_000), rate(700_000)).unwrap());
        assert_eq!(rate(700_000), downlink.estimate(now));
        downlink.client_says(now, BitRate(300_000), SENT);
        assert_eq!(rate(400_000), downlink.estimate(now));
        downlink.set_bounds(BitrateBounds::default());
        assert_eq!(rate(300_000), downlink.estimate(now));
    }

    #[test]
    fn it_is_never_cut_to_nothing() {
        let mut downlink = Downlink::default();
        let start = Instant::now();
        for second in 0..100 {
            downlink.loss_reported(start + Duration::from_secs(second), 1.0, SENT);
        }
        assert_eq!(Some(LEAST), downlink.estimate(start));
    }
}
