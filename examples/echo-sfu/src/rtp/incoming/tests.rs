use std::time::Duration;

use std::collections::{HashMap, HashSet};

use super::*;
use crate::rtp::random::{Random, seeds};

struct Bench {
    stream: IncomingStream,
    base: Instant,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let base = Instant::now();
        Self {
            stream: IncomingStream::new(IncomingOptions {
                ssrc: 7,
                clock_rate: 90_000,
                is_video: true,
                nack: true,
                now: base,
            }),
            base,
            now: 0,
        }
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_millis(self.now)
    }

    fn receive(&mut self, sequence: u16) -> Received {
        let timestamp = (self.now * 90) as u32;
        self.stream
            .receive(self.instant(), sequence, timestamp, 1000)
    }

    fn recover(&mut self, sequence: u16) -> bool {
        let received = self.stream.recover(self.instant(), sequence, 1000);
        received.is_some_and(|received| received.is_new)
    }

    fn asked_after(&mut self, time: u64) -> Vec<u16> {
        self.now += time;
        self.stream.lost_to_ask_for(self.instant())
    }

    fn report(&mut self) -> ReportBlock {
        self.stream.report_block(self.instant()).unwrap()
    }

    fn stats(&mut self) -> IncomingStats {
        self.stream.stats(self.instant())
    }
}

#[test]
fn what_does_not_come_is_asked_for() {
    let mut bench = Bench::new();
    bench.receive(10);
    assert!(!bench.stream.has_missing());
    bench.receive(14);
    assert!(bench.stream.has_missing());
    assert!(bench.asked_after(9).is_empty());
    bench.receive(12);
    assert_eq!(vec![11, 13], bench.asked_after(1));
    assert!(bench.recover(11));
    assert!(bench.asked_after(99).is_empty());
    assert_eq!(vec![13], bench.asked_after(1));
    assert_eq!(vec![13], bench.asked_after(100));
    assert!(bench.asked_after(99).is_empty());
    bench.receive(13);
    assert!(bench.asked_after(1000).is_empty());
    assert!(!bench.stream.has_missing());
}

#[test]
fn it_is_asked_for_ten_times() {
    let mut bench = Bench::new();
    bench.receive(10);
    bench.receive(12);
    let asked: usize = (0..100).map(|_| bench.asked_after(100).len()).sum();
    assert_eq!(10, asked);
    assert_eq!(10, bench.stats().counts.nacked);
    assert!(!bench.stream.has_missing());
}

#[test]
fn too_many_are_beyond_repair() {
    let mut bench = Bench::new();
    bench.receive(0);
    bench.receive(900);
    assert!(!bench.stream.needs_key_frame());
    bench.receive(1100);
    assert!(bench.stream.needs_key_frame());
    assert!(bench.asked_after(100).is_empty());
    let next = bench.receive(1103);
    assert_eq!(vec![1101, 1102], bench.asked_after(10));
    bench.stream.on_key_frame(next.sequence);
    assert!(!bench.stream.needs_key_frame());
    assert!(!bench.stream.has_missing());
}

#[test]
fn those_that_came_after_all_do_not_count_as_missing() {
    let mut bench = Bench::new();
    bench.receive(0);
    bench.receive(900);
    for sequence in 1..900 {
        bench.receive(sequence);
    }
    bench.receive(1100);
    assert!(!bench.stream.needs_key_frame());
    assert_eq!(199, bench.asked_after(10).len());
}

#[test]
fn what_is_too_old_is_given_up() {
    let mut bench = Bench::new();
    bench.receive(0);
    bench.receive(2);
    for sequence in 3..1010 {
        bench.receive(sequence);
    }
    assert!(bench.asked_after(10).is_empty());
    assert!(!bench.stream.has_missing());
}

#[test]
fn without_nack_nothing_is_asked_for() {
    let base = Instant::now();
    let mut stream = IncomingStream::new(IncomingOptions {
        ssrc: 7,
        clock_rate: 48_000,
        is_video: false,
        nack: false,
        now: base,
    });
    stream.receive(base, 1, 0, 100);
    stream.receive(base, 2500, 0, 100);
    assert!(
        stream
            .lost_to_ask_for(base + Duration::from_secs(1))
            .is_empty()
    );
    assert!(!stream.needs_key_frame());
}

#[test]
fn a_source_that_starts_anew_is_a_new_stream() {
    let mut bench = Bench::new();
    let before = bench.receive(100);
    bench.receive(150);
    assert!(!bench.receive(40_000).is_new);
    let after = bench.receive(40_001);
    assert!(after.is_new);
    assert!(after.sequence > before.sequence + 3000);
    assert!(bench.asked_after(100).is_empty());
    let report = bench.report();
    assert_eq!((0, 0), (report.fraction_lost, report.cumulative_lost));
    let counts = bench.stats().counts;
    assert_eq!((2, 1), (counts.starts, counts.strays));
}

#[test]
fn reports_tell_loss_since_the_last_and_in_total() {
    let mut bench = Bench::new();
    assert_eq!(None, bench.stream.report_block(bench.instant()));
    for sequence in 65_530..=65_533 {
        bench.receive(sequence);
    }
    assert_eq!(65_533, bench.report().highest_sequence);
    for sequence in [0, 1, 3, 5] {
        bench.receive(sequence);
    }
    let report = bench.report();
    assert_eq!(65_536 + 5, report.highest_sequence);
    assert_eq!((128, 4), (report.fraction_lost, report.cumulative_lost));
    bench.receive(4);
    let report = bench.report();
    assert_eq!((0, 3), (report.fraction_lost, report.cumulative_lost));
    for _ in 0..5 {
        bench.receive(5);
    }
    assert_eq!(5, bench.stats().counts.duplicates);
    assert_eq!(3, bench.report().cumulative_lost);
}

#[test]
fn what_is_repaired_is_lost_but_does_not_lower_the_score() {
    let mut bench = Bench::new();
    bench.receive(0);
    bench.report();
    for sequence in (2..400).step_by(2) {
        bench.receive(sequence);
        bench.recover(sequence - 1);
    }
    assert_eq!(128, bench.report().fraction_lost);
    assert_eq!(10, bench.stream.score());
    assert_eq!(199, bench.stats().counts.recovered);
    for sequence in (400..800).step_by(2) {
        bench.receive(sequence);
    }
    bench.report();
    assert_eq!(3, bench.stream.score());
}

#[test]
fn a_report_refers_to_the_senders() {
    let mut bench = Bench::new();
    bench.receive(0);
    assert_eq!(0, bench.report().last_sr);
    bench.stream.on_sender_report(bench.instant(), 0xdead_beef);
    bench.now += 1500;
    let report = bench.report();
    assert_eq!(0xdead_beef, report.last_sr);
    assert_eq!(65_536 * 3 / 2, report.delay_since_last_sr);
    bench.now += 1 << 40;
    assert_eq!(u32::MAX, bench.report().delay_since_last_sr);
}

#[test]
fn jitter_is_as_the_rfc_has_it() {
    let mut random = Random::new(3);
    let mut bench = Bench::new();
    let mut expected = 0.0_f64;
    let mut last_delay = None;
    for sequence in 0..2000_u16 {
        let sent = u64::from(sequence) * 20;
        let delay = random.below(15);
        bench.now = sent + delay;
        let timestamp = (sent as u32 * 90).wrapping_add(u32::MAX - 5000);
        bench
            .stream
            .receive(bench.instant(), sequence, timestamp, 100);
        if let Some(last) = last_delay.replace(delay as f64) {
            let difference: f64 = (delay as f64 - last) * 90.0;
            expected += (difference.abs() - expected) / 16.0;
        }
    }
    let jitter = f64::from(bench.report().jitter);
    assert!((jitter - expected).abs() < 2.0, "{jitter}, not {expected}");
}

#[test]
fn jitter_is_not_of_packets_of_one_frame_nor_of_jumps() {
    let mut bench = Bench::new();
    for sequence in 0..10 {
        bench.now += 5;
        bench.stream.receive(bench.instant(), sequence, 9000, 100);
    }
    bench.stream.receive(bench.instant(), 10, 1 << 31, 100);
    assert_eq!(0, bench.report().jitter);
}

#[test]
fn stats_have_plain_names() {
    let mut bench = Bench::new();
    for sequence in 0..100 {
        bench.now += 10;
        bench.receive(sequence);
    }
    let shown = serde_json::to_value(bench.stats()).unwrap();
    assert_eq!(100, shown["packets"]);
    assert_eq!(10, shown["score"]);
    let bitrate = shown["bitrate"].as_u64().unwrap();
    assert!((790_000..860_000).contains(&bitrate), "{bitrate}");
}

#[test]
fn any_numbers_are_survived() {
    for seed in seeds(20) {
        println!("STREAM_SEED={seed}");
        let mut random = Random::new(seed);
        let mut bench = Bench::new();
        let mut newest = 0;
        for _ in 0..20_000 {
            bench.now += random.below(3);
            let now = bench.instant();
            let sequence = random.next() as u16 >> random.below(16);
            let received = bench.stream.receive(
                now,
                sequence,
                random.next() as u32,
                random.below(65_536) as usize,
            );
            assert_eq!(sequence, received.sequence as u16);
            bench.stream.recover(now, random.next() as u16, 0);
            assert!(bench.stream.lost_to_ask_for(now).len() <= 1000);
            if received.is_new {
                newest = newest.max(received.sequence);
            }
            if random.chance(5) {
                bench.report();
                bench.stream.on_key_frame(newest);
            }
        }
        bench.stats();
    }
}

/// A lossy, reordering network whose sender answers when asked.
#[test]
fn what_the_sender_still_has_arrives_once() {
    for seed in seeds(40) {
        println!("STREAM_SEED={seed}");
        let mut random = Random::new(seed);
        let mut bench = Bench::new();
        let first = 60_000 + random.below(5000);
        let lost = random.below(30);
        let mut on_the_way: Vec<(u64, u64, bool)> = Vec::new();
        let mut arrived = HashSet::new();
        let mut asked: HashMap<u64, u64> = HashMap::new();
        bench.receive(first as u16);
        let offset = bench.receive(first as u16).sequence - first;
        for sequence in first + 1..first + 8000 {
            bench.now += 5;
            let now = bench.now;
            if !random.chance(lost) || sequence + 1 == first + 8000 {
                let delay = if random.chance(10) {
                    random.below(30)
                } else {
                    0
                };
                on_the_way.push((now + delay, sequence, false));
            }
            let (ready, later) = on_the_way.into_iter().partition(|(at, ..)| *at <= now);
            on_the_way = later;
            for (_, sequence, is_resent) in ready {
                let is_new = if is_resent {
                    bench.recover(sequence as u16)
                } else {
                    let received = bench.receive(sequence as u16);
                    assert_eq!(sequence + offset, received.sequence);
                    received.is_new
                };
                assert_eq!(arrived.insert(sequence), is_new, "{sequence}");
            }
            for number in bench.asked_after(0) {
                let behind = (sequence as u16).wrapping_sub(number);
                let wanted = sequence - u64::from(behind);
                assert!(!arrived.contains(&wanted), "{wanted} has come");
                let last = asked.insert(wanted, now);
                assert!(last.is_none_or(|last| last + 100 <= now));
                if !random.chance(lost) {
                    on_the_way.push((now + 40, wanted, true));
                }
            }
        }
        let (sure, end) = (first + 1, first + 7700);
        let missing = (sure..end).filter(|sequence| !arrived.contains(sequence));
        assert_eq!(0, missing.count());
        assert!(!bench.stream.needs_key_frame());
    }
}
