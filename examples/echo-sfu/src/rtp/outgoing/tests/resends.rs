use super::*;

fn resent(bench: &mut Bench, lost: &[u16]) -> Vec<Resend> {
    bench.stream.resend(bench.now, lost).collect()
}

#[test]
fn what_is_lost_is_sent_again_as_it_was() {
    let mut bench = Bench::video();
    let first = bench.key(0, 70_000, 5).unwrap();
    let last = bench.delta(0, 70_002, 6).unwrap();
    let resends = resent(&mut bench, &[102, 101, 100, 103, 99, 40_000]);
    let header = |sequence| {
        Some(RtxHeader {
            ssrc: RTX_SSRC,
            payload_type: 121,
            sequence,
        })
    };
    let expected = [(70_002, last, header(100)), (70_000, first, header(101))].map(
        |(source_sequence, original, rtx)| Resend {
            layer: 0,
            source_sequence,
            original,
            rtx,
        },
    );
    assert_eq!(expected.to_vec(), resends);
    let counts = bench.counts();
    assert_eq!((6, 4), (counts.nacked, counts.nacked_unknown));
    assert_eq!((2, 16), (counts.resent_packets, counts.resent_bytes));
    // They are another stream's.
    assert_eq!(2, bench.stream.sender_info(bench.now).unwrap().packets);
}

#[test]
fn without_rtx_it_is_the_same_packet() {
    let mut bench = Bench::audio();
    let sent = bench.key(0, 10, 0).unwrap();
    let resends = resent(&mut bench, &[100]);
    assert_eq!(None, resends[0].rtx);
    assert_eq!(sent, resends[0].original);
    assert_eq!(2, bench.stream.sender_info(bench.now).unwrap().packets);
}

#[test]
fn the_patch_is_remembered() {
    let mut bench = Bench::video();
    for (sequence, payload) in [
        (0, &[0x90, 0xc0, 0xff, 0xff, 200, 0][..]),
        (1, &[0x90, 0xc0, 0x85, 0x01, 7, 0][..]),
        (2, &[0x90, 0x80, 0x05, 0][..]),
        (3, &[0x90, 0x40, 0x05, 0][..]),
    ] {
        bench.stream.set_active(false);
        bench.stream.set_active(true);
        let packet = bench.packet(0, sequence, 0, payload);
        let sent = bench.stream.rewrite(bench.now, &packet).unwrap();
        assert_eq!(sequence > 0, sent.vp8.is_some());
        let again = resent(&mut bench, &[100 + sequence as u16]);
        assert_eq!(sent, again[0].original);
    }
}

#[test]
fn not_within_half_a_round_trip() {
    let mut bench = Bench::video();
    bench.key(0, 10, 0);
    bench.wait(20);
    bench.delta(0, 11, 0);
    bench.delta(0, 12, 0);
    assert_eq!(1, resent(&mut bench, &[100, 100]).len());
    bench.wait(19);
    assert!(resent(&mut bench, &[100]).is_empty());
    bench.wait(10);
    assert_eq!(1, resent(&mut bench, &[100]).len());
    bench.stream.on_report_block(ReportBlockView {
        fraction_lost: 0,
        cumulative_lost: 0,
        jitter: 0,
        round_trip: Some(milliseconds(300)),
    });
    bench.wait(149);
    assert!(resent(&mut bench, &[100]).is_empty());
    bench.wait(10);
    assert_eq!(1, resent(&mut bench, &[100]).len());
    assert_eq!(3, bench.counts().nacked_refused);
}

#[test]
fn not_more_than_ten_times() {
    let mut bench = Bench::video();
    for sequence in 0..100 {
        bench.key(0, sequence, 0);
    }
    let mut times = 0;
    for _ in 0..100 {
        bench.wait(700);
        times += resent(&mut bench, &[100]).len();
    }
    assert_eq!(10, times);
}

#[test]
fn who_asks_for_everything_gets_twice_the_stream_and_no_more() {
    let mut bench = Bench::video();
    let everything: Vec<u16> = (0..=u16::MAX).collect();
    let payload = [&[0x10, 0][..], &[0; 998]].concat();
    let mut bytes = 0;
    for sequence in 0..2000 {
        let packet = bench.packet(0, sequence, 0, &payload);
        bench.stream.rewrite(bench.now, &packet).unwrap();
        bench.wait(10);
        if sequence % 10 == 9 {
            bytes += resent(&mut bench, &everything).len() * 1000;
        }
    }
    assert!((1_500_000..=2_000_000).contains(&bytes), "{bytes}");
    assert_eq!(bytes as u64, bench.counts().resent_bytes);
}

#[test]
fn what_was_sent_before_memory_is_not_known() {
    let mut bench = Bench::audio();
    for sequence in 0..=AUDIO_PACKETS as u64 {
        bench.key(0, sequence, 0);
    }
    assert!(resent(&mut bench, &[100]).is_empty());
    assert_eq!(1, resent(&mut bench, &[101]).len());
}

#[test]
fn nothing_of_a_former_source_or_while_inactive() {
    let mut bench = Bench::video();
    bench.key(0, 10, 0);
    bench.stream.set_active(false);
    assert!(resent(&mut bench, &[100]).is_empty());
    bench.stream.set_active(true);
    assert_eq!(1, resent(&mut bench, &[100]).len());
    bench.wait(100);
    bench.stream.switch_source();
    assert!(resent(&mut bench, &[100]).is_empty());
}

#[test]
fn of_the_layer_it_was_of() {
    let mut bench = Bench::video();
    bench.key(0, 5_000_000_000, 0);
    bench.key(1, 10_000_000_000, 0);
    // It goes on, unforwarded.
    bench.delta(0, 5_000_000_009, 0);
    let resends = resent(&mut bench, &[100, 101]);
    let found: Vec<_> = resends
        .iter()
        .map(|resend| (resend.layer, resend.source_sequence))
        .collect();
    assert_eq!(vec![(0, 5_000_000_000), (1, 10_000_000_000)], found);
}

#[test]
fn a_stream_is_small() {
    let mut bench = Bench::video();
    let idle = size_of::<OutgoingStream>();
    bench.key(0, 0, 0);
    let busy = idle + VIDEO_PACKETS * 16 + 2 * size_of::<CodecMapping>();
    println!("{idle} bytes, {busy} with video");
    assert!(busy < 10_000);
}
