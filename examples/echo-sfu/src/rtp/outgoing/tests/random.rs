//! Random producers, networks, owners and receivers.

use std::collections::HashMap;

use super::checker::Checker;
use super::source::{Source, Way};
use super::*;
use crate::rtp::random::{Random, seeds};

struct World {
    random: Random,
    base: Instant,
    now: u64,
    stream: OutgoingStream,
    source: Source,
    checker: Checker,
    way: Way,
    is_video: bool,
    /// How often each number was sent again, and when last.
    resends: HashMap<u64, (u32, u64)>,
    rtx_next: u64,
    sent_bytes: usize,
    resent_bytes: usize,
    last_sent_at: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let is_video = random.chance(75);
        let base = Instant::now();
        Self {
            base,
            now: 0,
            stream: OutgoingStream::new(OutgoingOptions {
                active: random.chance(50),
                ..options(is_video, base)
            }),
            source: Source::new(&mut random, is_video),
            checker: Checker::new(is_video),
            way: Way {
                lost: random.below(12),
                doubled: random.below(10),
                delayed: random.below(20),
            },
            is_video,
            resends: HashMap::new(),
            rtx_next: 100,
            sent_bytes: 0,
            resent_bytes: 0,
            last_sent_at: 0,
            random,
        }
    }

    fn instant(&self) -> Instant {
        self.base + milliseconds(self.now)
    }

    /// As long as a frame takes.
    fn frame(&mut self) {
        let interval = if self.is_video { 33 } else { 20 };
        let (random, source) = (&mut self.random, &mut self.source);
        source.capture(random, self.now, self.base, self.way);
        for _ in 0..interval {
            self.now += 1;
            self.deliver();
        }
        if let Some(layer) = self.stream.wanted_key_frame() {
            assert!(self.is_video);
            self.source.ask_for_key_frame(layer, self.now + 50);
        }
    }

    fn deliver(&mut self) {
        let now = self.instant();
        for arrival in self.source.arrived(self.now) {
            let was_active = self.stream.is_active();
            let result = self.stream.rewrite(now, &arrival.packet);
            assert!(was_active || result.is_none());
            self.checker.check(now, &arrival, result);
            if let Some(rewritten) = result {
                assert_eq!(arrival.packet.marker, rewritten.marker);
                self.sent_bytes += arrival.packet.payload.len().next_multiple_of(8);
                self.last_sent_at = self.now;
            }
        }
    }

    fn something_happens(&mut self) {
        match self.random.below(8) {
            0 | 1 => {
                self.stream.set_active(!self.stream.is_active());
                self.checker.cut();
            }
            2 => {
                self.source = Source::new(&mut self.random, self.is_video);
                self.stream.switch_source();
                self.checker.cut_to_another_source();
            }
            3 => {
                let preferred = self.random.chance(70).then(|| self.random.below(4) as u8);
                self.stream.set_preferred_layer(preferred);
            }
            4 => {
                let budget = self.random.chance(70).then(|| self.random.below(200_000));
                self.stream.set_bitrate_budget(budget.map(BitRate));
            }
            5 => {
                let layer = self.random.below(3) as u8;
                let until = self.now + self.random.below(2000);
                self.source.silence(layer, until);
            }
            6 => self.now += self.random.below(5000),
            _ => self.source.skip(),
        }
    }

    fn receiver_asks(&mut self) {
        let Some(highest) = self.checker.highest() else {
            return;
        };
        let lost: Vec<u16> = (0..self.random.below(30))
            .map(|_| highest.wrapping_sub(self.random.below(600)) as u16)
            .collect();
        let now = self.instant();
        let resends: Vec<Resend> = self.stream.resend(now, &lost).collect();
        for resend in resends {
            let sequence = resend.original.sequence;
            assert!(lost.contains(&(sequence as u16)));
            let sent = self.checker.sent(sequence).expect("it was sent");
            assert_eq!(sent.rewritten, resend.original);
            let source = (sent.truth.layer, sent.truth.sequence);
            assert_eq!(source, (resend.layer, resend.source_sequence));
            self.resent_bytes += sent.bytes.next_multiple_of(8);
            let (times, last) = self.resends.entry(sequence).or_insert((0, 0));
            assert!(*times == 0 || *last + 20 <= self.now);
            *times += 1;
            *last = self.now;
            assert!(*times <= 10);
            if let Some(rtx) = resend.rtx {
                assert_eq!(self.rtx_next, rtx.sequence);
                self.rtx_next += 1;
            }
        }
        assert!(self.resent_bytes <= self.sent_bytes);
    }

    /// With nothing in the way any more, it sends what is best.
    fn settle(&mut self) {
        self.way = Way {
            lost: 0,
            doubled: 0,
            delayed: 0,
        };
        self.stream.set_preferred_layer(None);
        self.stream.set_bitrate_budget(None);
        if !self.stream.is_active() {
            self.stream.set_active(true);
            self.checker.cut();
        }
        let mut best = self.source.highest_layer();
        if best > 0 && self.random.chance(50) {
            self.source.silence(best, u64::MAX);
            best -= 1;
        }
        for _ in 0..120 {
            self.frame();
        }
        assert!(self.now - self.last_sent_at < 100);
        assert!(!self.stream.is_waiting_for_key_frame());
        assert_eq!(None, self.stream.wanted_key_frame());
        assert_eq!(Some(best), self.stream.current_layer());
    }
}

#[test]
fn whatever_happens_the_receiver_gets_a_sound_stream() {
    let mut stretches = 0;
    let mut switches = 0;
    let mut resends = 0;
    for seed in seeds(150) {
        println!("STREAM_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.frame();
            if world.random.chance(3) {
                world.something_happens();
            }
            if world.random.chance(10) {
                world.receiver_asks();
            }
        }
        world.settle();
        stretches += world.checker.stretches;
        let counts = world.stream.stats(world.instant()).counts;
        switches += counts.layer_switches;
        resends += counts.resent_packets;
    }
    println!("{stretches} stretches, {switches} switches of layers, {resends} resends");
}
