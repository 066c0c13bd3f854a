use super::*;

#[test]
fn a_packet_becomes_the_receivers() {
    let mut bench = Bench::video();
    let packet = MediaPacket {
        marker: true,
        ..bench.packet(0, 70_000, 5, &[0x10, 0])
    };
    let expected = Rewritten {
        payload_type: 120,
        marker: true,
        sequence: 100,
        timestamp: 5,
        ssrc: SSRC,
        vp8: None,
    };
    assert_eq!(Some(expected), bench.stream.rewrite(bench.now, &packet));
}

#[test]
fn gaps_of_the_source_stay() {
    let mut bench = Bench::video();
    assert_eq!(Some(100), number(bench.key(0, 70_000, 5)));
    assert_eq!(Some(103), number(bench.delta(0, 70_003, 5)));
    assert_eq!(Some(101), number(bench.delta(0, 70_001, 5)));
}

#[test]
fn what_is_not_for_the_receiver_leaves_no_gap() {
    let mut bench = Bench::audio();
    assert_eq!(Some(100), number(bench.key(0, 10, 0)));
    assert_eq!(None, bench.unknown(11));
    assert_eq!(None, bench.empty(12));
    assert_eq!(Some(101), number(bench.key(0, 13, 0)));
    assert_eq!(1, bench.counts().untranslatable);
}

#[test]
fn nothing_is_sent_twice() {
    let mut bench = Bench::video();
    bench.key(0, 10, 0);
    bench.delta(0, 12, 0);
    assert_eq!(None, bench.delta(0, 12, 0));
    assert_eq!(None, bench.key(0, 10, 0));
    assert_eq!(Some(101), number(bench.delta(0, 11, 0)));
    assert_eq!(None, bench.delta(0, 11, 0));
    assert_eq!(3, bench.counts().late);
}

#[test]
fn what_came_before_the_start_is_dropped() {
    let mut bench = Bench::video();
    bench.key(0, 10, 0);
    assert_eq!(None, bench.delta(0, 9, 0));
}

#[test]
fn what_is_late_beyond_memory_is_dropped() {
    let mut bench = Bench::audio();
    bench.key(0, 0, 0);
    for sequence in 2..AUDIO_PACKETS as u64 {
        bench.key(0, sequence, 0);
    }
    bench.key(0, AUDIO_PACKETS as u64 + 1, 0);
    assert_eq!(None, bench.key(0, 1, 0));
    let kept = Some(100 + AUDIO_PACKETS as u64);
    assert_eq!(kept, number(bench.key(0, AUDIO_PACKETS as u64, 0)));
}

#[test]
fn video_waits_for_a_key_frame() {
    let mut bench = Bench::video();
    assert!(bench.stream.is_waiting_for_key_frame());
    assert_eq!(None, bench.stream.wanted_key_frame());
    assert_eq!(None, bench.delta(0, 10, 0));
    assert_eq!(Some(0), bench.stream.wanted_key_frame());
    assert!(bench.key(0, 11, 0).is_some());
    assert!(!bench.stream.is_waiting_for_key_frame());
    assert_eq!(None, bench.stream.wanted_key_frame());
    assert_eq!(1, bench.counts().key_frame_waits);
}

#[test]
fn a_late_key_frame_starts_nothing() {
    let mut bench = Bench::video();
    assert_eq!(None, bench.delta(0, 11, 0));
    assert_eq!(None, bench.key(0, 10, 0));
    assert!(bench.stream.is_waiting_for_key_frame());
}

#[test]
fn inactive_it_sends_and_wants_nothing() {
    let mut bench = Bench::video();
    bench.stream.set_active(false);
    assert!(!bench.stream.is_active());
    assert_eq!(None, bench.key(0, 10, 0));
    assert!(!bench.stream.is_waiting_for_key_frame());
    assert_eq!(None, bench.stream.wanted_key_frame());
    assert_eq!(None, bench.stream.sender_info(bench.now));
}

#[test]
fn resumed_it_continues_as_if_nothing_had_been() {
    let mut bench = Bench::video();
    bench.key(0, 10, 1000);
    bench.delta(0, 12, 1000);
    bench.stream.set_active(false);
    bench.wait(100);
    assert_eq!(None, bench.delta(0, 50, 9000));
    bench.stream.set_active(true);
    assert_eq!(None, bench.delta(0, 51, 9000));
    bench.wait(900);
    let resumed = bench.key(0, 60, 500_000).unwrap();
    assert_eq!(103, resumed.sequence);
    assert_eq!(1000 + 90_000, resumed.timestamp);
    // The one that was kept a number for before is of no use any more.
    assert_eq!(None, bench.delta(0, 11, 1000));
    let next = bench.delta(0, 61, 503_000).unwrap();
    assert_eq!((104, 1000 + 93_000), (next.sequence, next.timestamp));
}

#[test]
fn audio_resumes_at_once() {
    let mut bench = Bench::audio();
    bench.key(0, 10, 1000);
    bench.stream.set_active(false);
    bench.stream.set_active(true);
    assert!(!bench.stream.is_waiting_for_key_frame());
    bench.wait(20);
    let resumed = bench.delta(0, 11, 1960).unwrap();
    assert_eq!((101, 1960), (resumed.sequence, resumed.timestamp));
    assert_eq!(None, bench.stream.wanted_key_frame());
    assert_eq!(None, bench.stream.target_layer());
}

#[test]
fn another_source_continues_the_stream() {
    let mut bench = Bench::video();
    bench.key(0, 1_000_000, 4_000_000_000);
    bench.stream.switch_source();
    assert!(bench.stream.is_waiting_for_key_frame());
    assert_eq!(None, bench.delta(0, 5, 7));
    let first = bench.key(0, 6, 7).unwrap();
    assert_eq!((101, 4_000_000_001), (first.sequence, first.timestamp));
}

#[test]
fn a_loss_too_large_to_be_repaired_is_a_new_start() {
    let mut bench = Bench::video();
    bench.key(0, 10, 0);
    assert_eq!(None, bench.delta(0, 10_000, 0));
    assert!(bench.stream.is_waiting_for_key_frame());
    assert_eq!(Some(101), number(bench.key(0, 10_001, 0)));

    let mut bench = Bench::audio();
    bench.key(0, 10, 0);
    assert_eq!(Some(101), number(bench.key(0, 10_000, 0)));
}

#[test]
fn numbers_do_not_wrap() {
    let mut bench = Bench::audio();
    let mut last = None;
    for sequence in 0..70_000 {
        last = number(bench.key(0, sequence, 0));
    }
    assert_eq!(Some(100 + 69_999), last);
}

#[test]
fn extreme_numbers_are_survived() {
    let mut bench = Bench::video();
    for sequence in [u64::MAX - 1, u64::MAX, 0, 1 << 63, u64::MAX] {
        for layer in [0, 3, 4, 255] {
            bench.key(layer, sequence, u32::MAX);
        }
        bench.unknown(sequence);
        bench.empty(sequence);
        bench.stream.switch_source();
    }
}

#[test]
fn a_sender_report_tells_the_present() {
    let mut bench = Bench::video();
    assert_eq!(None, bench.stream.sender_info(bench.now));
    bench.key(0, 10, 1000);
    bench.delta(0, 11, 1000);
    bench.wait(200);
    let expected = SenderInfo {
        ssrc: SSRC,
        packets: 2,
        octets: 8,
        rtp_timestamp: 1000 + 18_000,
    };
    assert_eq!(Some(expected), bench.stream.sender_info(bench.now));
}

#[test]
fn reports_make_the_score() {
    let mut bench = Bench::video();
    assert_eq!(10, bench.stream.score());
    let block = ReportBlockView {
        fraction_lost: 128,
        cumulative_lost: 7,
        jitter: 90,
        round_trip: Some(milliseconds(50)),
    };
    for _ in 0..8 {
        bench.stream.on_report_block(block);
    }
    assert_eq!(1, bench.stream.score());
    let better = ReportBlockView {
        fraction_lost: 0,
        round_trip: None,
        ..block
    };
    for _ in 0..8 {
        bench.stream.on_report_block(better);
    }
    assert_eq!(10, bench.stream.score());
    let stats = bench.stream.stats(bench.now);
    assert_eq!(Some(50.0), stats.round_trip_ms);
    assert_eq!(Some(7), stats.packets_lost);
    let shown = serde_json::to_value(stats).unwrap();
    assert_eq!(0, shown["packets"]);
    assert_eq!(10, shown["score"]);
}
