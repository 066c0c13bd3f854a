//! Links: what happens to packets on their way.

use std::time::{Duration, Instant};

use super::random::Random;
use super::time::after;

/// How long a packet travels.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Delay {
    /// Always as long.
    Constant(Duration),
    /// Anything between the two, equally likely.
    Uniform(Duration, Duration),
    /// Normally distributed, but never less than nothing.
    Normal {
        /// The mean.
        mean: Duration,
        /// The standard deviation: the jitter.
        deviation: Duration,
    },
}

impl Delay {
    fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Constant(delay) => delay,
            Self::Uniform(least, most) => {
                let range = most.saturating_sub(least);
                least + range.mul_f64(random.unit())
            }
            Self::Normal { mean, deviation } => {
                let seconds = mean.as_secs_f64() + deviation.as_secs_f64() * random.normal();
                Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(mean)
            }
        }
    }
}

/// Which packets are lost by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// None.
    None,
    /// Each with this probability, whatever happens to the others.
    Random(f64),
    /// In bursts (Gilbert and Elliott): the link is good or bad, and changes with each packet.
    Bursty {
        /// How likely a good link becomes bad.
        to_bad: f64,
        /// How likely a bad link becomes good: one over the mean length of a burst.
        to_good: f64,
        /// The probability of loss on a good link.
        good: f64,
        /// The probability of loss on a bad link.
        bad: f64,
    },
}

/// The properties of one direction of a link. By default it is perfect.
///
/// Probabilities are from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "options do nothing by themselves"]
pub struct LinkOptions {
    delay: Delay,
    keeps_order: bool,
    loss: Loss,
    duplicated: f64,
    reordered: f64,
    reordered_by: Duration,
    bytes_per_second: Option<u64>,
    queue_bytes: usize,
    mark_above_bytes: Option<usize>,
    pub(crate) mtu: Option<usize>,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            delay: Delay::Constant(Duration::ZERO),
            keeps_order: false,
            loss: Loss::None,
            duplicated: 0.0,
            reordered: 0.0,
            reordered_by: Duration::ZERO,
            bytes_per_second: None,
            queue_bytes: 256 * 1024,
            mark_above_bytes: None,
            mtu: None,
        }
    }
}

impl LinkOptions {
    /// A perfect link.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long packets travel. Where that varies, they may overtake each other.
    pub fn delay(mut self, delay: Delay) -> Self {
        self.delay = delay;
        self
    }

    /// Packets do not overtake each other, however their delays vary: who comes early, waits.
    pub fn keep_order(mut self) -> Self {
        self.keeps_order = true;
        self
    }

    /// Which packets are lost by chance.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Packets arrive twice with this probability.
    pub fn duplicate(mut self, probability: f64) -> Self {
        self.duplicated = probability;
        self
    }

    /// With this probability, packets are held back by so much more, and overtaken.
    pub fn reorder(mut self, probability: f64, by: Duration) -> Self {
        self.reordered = probability;
        self.reordered_by = by;
        self
    }

    /// How many bytes pass in a second, headers included. The others queue.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second.max(1));
        self
    }

    /// How many bytes may queue where the bandwidth is limited; what is beyond, is lost. By default
    /// 256 KiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Packets that can be marked are marked (ECN), when more than so many bytes queue.
    pub fn mark_above_bytes(mut self, bytes: usize) -> Self {
        self.mark_above_bytes = Some(bytes);
        self
    }

    /// How long packets may be, headers included. Longer ones are lost, unless they may be
    /// fragmented.
    pub fn mtu(mut self, bytes: usize) -> Self {
        self.mtu = Some(bytes);
        self
    }
}

/// What a link has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkStats {
    /// Packets that were to pass.
    pub packets: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets lost because the queue was full.
    pub overflowed: u64,
    /// Packets lost during a black-out.
    pub blacked_out: u64,
    /// Packets lost because they were too long.
    pub too_long: u64,
    /// Packets that arrived twice.
    pub duplicated: u64,
    /// Packets that were held back.
    pub reordered: u64,
    /// Packets that met so much congestion that they are marked, if they can be.
    pub marked: u64,
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(crate) struct Link {
    options: LinkOptions,
    stats: LinkStats,
    /// When the packets that queue will have left.
    busy_until: Option<Instant>,
    latest_arrival: Option<Instant>,
    is_bad: bool,
    is_down: bool,
    black_outs: Vec<(Instant, Instant)>,
}

/// Why a packet was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// By chance.
    Chance,
    /// A queue was full.
    Overflow,
    /// The link was down.
    BlackOut,
    /// It was longer than the link takes.
    TooLong,
    /// Nobody has the address.
    NoRoute,
    /// A NAT did not let it in, or had no port left.
    Nat,
    /// No socket is bound to the port.
    NoSocket,
    /// The receiving socket had no room.
    SocketFull,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    /// When it has left the sender.
    pub(crate) left: Instant,
    pub(crate) arrives: Instant,
    /// When a second copy of it arrives.
    pub(crate) again: Option<Instant>,
    /// Congestion is to be marked.
    pub(crate) marked: bool,
}

impl Link {
    pub(crate) fn new(options: LinkOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    pub(crate) fn options(&self) -> &LinkOptions {
        &self.options
    }

    /// When what has entered so far will have left the sender, if it had to queue.
    pub(crate) fn busy_until(&self) -> Option<Instant> {
        self.busy_until
    }

    pub(crate) fn set_options(&mut self, options: LinkOptions) {
        self.options = options;
    }

    pub(crate) fn stats(&self) -> LinkStats {
        self.stats
    }

    pub(crate) fn set_down(&mut self, is_down: bool) {
        self.is_down = is_down;
    }

    pub(crate) fn black_out(&mut self, from: Instant, until: Instant) {
        self.black_outs.push((from, until));
    }

    /// A packet enters the link.
    pub(crate) fn pass(
        &mut self,
        now: Instant,
        bytes: usize,
        may_fragment: bool,
        random: &mut Random,
    ) -> Result<Passage, LossReason> {
        self.stats.packets += 1;
        self.stats.bytes += bytes as u64;
        self.black_outs.retain(|(_, until)| *until > now);
        if self.is_down || self.black_outs.iter().any(|(from, _)| *from <= now) {
            self.stats.blacked_out += 1;
            return Err(LossReason::BlackOut);
        }
        if !may_fragment && self.options.mtu.is_some_and(|mtu| bytes > mtu) {
            self.stats.too_long += 1;
            return Err(LossReason::TooLong);
        }
        let begins = self.busy_until.map_or(now, |busy| busy.max(now));
        let mut left = begins;
        let mut marked = false;
        if let Some(rate) = self.options.bytes_per_second {
            let waiting = begins.saturating_duration_since(now).as_secs_f64() * rate as f64;
            if waiting as usize + bytes > self.options.queue_bytes {
                self.stats.overflowed += 1;
                return Err(LossReason::Overflow);
            }
            let mark_above = self.options.mark_above_bytes;
            marked = mark_above.is_some_and(|limit| waiting as usize > limit);
            left += Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.busy_until = Some(left);
        }
        // Lost behind the queue: it took its time there.
        if self.loses(random) {
            self.stats.lost += 1;
            return Err(LossReason::Chance);
        }
        self.stats.marked += u64::from(marked);
        let mut arrives = after(left, self.options.delay.draw(random));
        if random.chance(self.options.reordered) {
            self.stats.reordered += 1;
            arrives = after(arrives, self.options.reordered_by);
        } else {
            arrives = self.in_order(arrives);
        }
        let mut again = None;
        if random.chance(self.options.duplicated) {
            self.stats.duplicated += 1;
            let copy_arrives = after(left, self.options.delay.draw(random));
            again = Some(self.in_order(copy_arrives));
        }
        Ok(Passage {
            left,
            arrives,
            again,
            marked,
        })
    }

    /// When something arrives that would by itself arrive at this time.
    fn in_order(&mut self, arrives: Instant) -> Instant {
        if !self.options.keeps_order {
            return arrives;
        }
        let latest = self
            .latest_arrival
            .map_or(arrives, |last| last.max(arrives));
        self.latest_arrival = Some(latest);
        latest
    }

    fn loses(&mut self, random: &mut Random) -> bool {
        match self.options.loss {
            Loss::None => false,
            Loss::Random(probability) => random.chance(probability),
            Loss::Bursty {
                to_bad,
                to_good,
                good,
                bad,
            } => {
                let change = if self.is_bad { to_good } else { to_bad };
                if random.chance(change) {
                    self.is_bad = !self.is_bad;
                }
                random.chance(if self.is_bad { bad } else { good })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: u32 = 20_000;

    /// Sends packets, one each millisecond; returns how long each took.
    fn send(options: LinkOptions, bytes: usize) -> (Vec<Option<Duration>>, LinkStats) {
        let (mut link, mut random) = (Link::new(options), Random::new(1));
        let start = Instant::now();
        let delays = (0..PACKETS).map(|n| {
            let now = start + Duration::from_millis(n.into());
            let passage = link.pass(now, bytes, true, &mut random).ok()?;
            Some(passage.arrives - now)
        });
        (delays.collect(), link.stats())
    }

    fn mean_and_deviation(delays: &[Option<Duration>]) -> (f64, f64) {
        let millis: Vec<_> = delays
            .iter()
            .flatten()
            .map(|delay| delay.as_secs_f64() * 1000.0)
            .collect();
        let mean = millis.iter().sum::<f64>() / millis.len() as f64;
        let squares = millis.iter().map(|delay| (delay - mean).powi(2));
        (mean, (squares.sum::<f64>() / millis.len() as f64).sqrt())
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_are_distributed_as_asked_for() {
        let constant = Delay::Constant(ms(20));
        let (delays, _) = send(LinkOptions::new().delay(constant), 100);
        assert!(delays.iter().all(|delay| *delay == Some(ms(20))));
        let (delays, _) = send(
            LinkOptions::new().delay(Delay::Uniform(ms(10), ms(30))),
            100,
        );
        let (mean, deviation) = mean_and_deviation(&delays);
        assert!((mean - 20.0).abs() < 0.2 && (deviation - 5.77).abs() < 0.1);
        let normal = Delay::Normal {
            mean: ms(100),
            deviation: ms(10),
        };
        let (delays, _) = send(LinkOptions::new().delay(normal), 100);
        let (mean, deviation) = mean_and_deviation(&delays);
        assert!((mean - 100.0).abs() < 0.5 && (deviation - 10.0).abs() < 0.3);
    }

    #[test]
    fn losses_are_as_many_and_as_bursty_as_asked_for() {
        let (delays, stats) = send(LinkOptions::new().loss(Loss::Random(0.1)), 100);
        let lost = delays.iter().filter(|delay| delay.is_none()).count();
        assert_eq!(stats.lost, lost as u64);
        assert!((1_850..2_150).contains(&lost), "{lost}");
        let bursty = Loss::Bursty {
            to_bad: 0.01,
            to_good: 0.1,
            good: 0.0,
            bad: 1.0,
        };
        let (delays, _) = send(LinkOptions::new().loss(bursty), 100);
        let bursts = delays.split(|delay| delay.is_some());
        let bursts: Vec<_> = bursts.map(<[_]>::len).filter(|len| *len > 0).collect();
        let mean = bursts.iter().sum::<usize>() as f64 / bursts.len() as f64;
        assert!(
            (8.0..12.0).contains(&mean),
            "mean length of a burst: {mean}"
        );
    }

    #[test]
    fn bandwidth_holds_and_the_queue_has_an_end() {
        // 100 kB/s are offered, 50 kB/s pass.
        let options = LinkOptions::new().bandwidth(50_000).queue_bytes(5_000);
        let (delays, stats) = send(options, 100);
        let arrived = delays.iter().flatten().count();
        assert!((9_900..10_150).contains(&arrived), "{arrived}");
        assert_eq!(u64::from(PACKETS), arrived as u64 + stats.overflowed);
        let longest = delays.iter().flatten().max().unwrap();
        assert!(*longest <= ms(102), "{longest:?}");
    }

    #[test]
    fn duplicates_and_held_back_packets_are_as_many_as_asked_for() {
        let options = LinkOptions::new().duplicate(0.05).reorder(0.1, ms(5));
        let (delays, stats) = send(options, 100);
        assert!((900..1_100).contains(&stats.duplicated));
        assert!((1_850..2_150).contains(&stats.reordered));
        let late = delays.iter().filter(|delay| **delay == Some(ms(5)));
        assert_eq!(stats.reordered, late.count() as u64);
    }

    #[test]
    fn a_link_that_keeps_order_keeps_it() {
        let options = LinkOptions::new().delay(Delay::Uniform(ms(0), ms(50)));
        let arrivals = |options| {
            let (delays, _) = send(options, 100);
            let delays = delays.into_iter().flatten().zip(0..);
            delays.map(|(delay, n)| delay + ms(n)).collect::<Vec<_>>()
        };
        assert!(!arrivals(options.clone()).is_sorted());
        assert!(arrivals(options.keep_order()).is_sorted());
    }

    #[test]
    fn nothing_passes_during_a_black_out_and_nothing_too_long() {
        let (mut link, mut random) = (Link::new(LinkOptions::new().mtu(1500)), Random::new(1));
        let start = Instant::now();
        link.black_out(start + ms(10), start + ms(20));
        let mut passes = |at, bytes| {
            let passage = link.pass(start + ms(at), bytes, false, &mut random);
            passage.err()
        };
        assert_eq!(None, passes(9, 1500));
        assert_eq!(Some(LossReason::BlackOut), passes(10, 1500));
        assert_eq!(Some(LossReason::BlackOut), passes(19, 1500));
        assert_eq!(None, passes(20, 1500));
        assert_eq!(Some(LossReason::TooLong), passes(21, 1501));
    }

    #[test]
    fn congestion_is_marked() {
        let options = LinkOptions::new().bandwidth(50_000).mark_above_bytes(1_000);
        let (_, stats) = send(options, 100);
        assert!(stats.marked + stats.overflowed > 19_000, "{stats:?}");
    }
}
