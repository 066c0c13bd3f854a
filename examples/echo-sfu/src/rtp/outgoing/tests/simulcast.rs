use super::*;

/// A packet of each layer, the lowest first.
fn deltas(bench: &mut Bench, sequence: u64) -> Vec<Option<u64>> {
    [0, 1, 2]
        .map(|layer| number(bench.delta(layer, sequence, 0)))
        .to_vec()
}

#[test]
fn the_highest_layer_is_forwarded_alone() {
    let mut bench = Bench::video();
    deltas(&mut bench, 1);
    assert_eq!(Some(2), bench.stream.wanted_key_frame());
    assert_eq!(Some(100), number(bench.key(2, 2, 0)));
    assert_eq!(None, bench.stream.wanted_key_frame());
    assert_eq!(vec![None, None, Some(101)], deltas(&mut bench, 3));
    assert_eq!(None, bench.key(1, 4, 0));
    assert_eq!(Some(2), bench.stream.current_layer());
}

#[test]
fn a_lower_layer_bridges_the_wait_for_the_first_key_frame() {
    let mut bench = Bench::video();
    deltas(&mut bench, 1);
    assert_eq!(Some(100), number(bench.key(0, 2, 0)));
    assert_eq!(Some(2), bench.stream.wanted_key_frame());
    // But only the target ends it.
    assert_eq!(None, bench.key(1, 2, 0));
    assert_eq!(Some(101), number(bench.delta(0, 3, 0)));
    assert_eq!(Some(102), number(bench.key(2, 4, 0)));
    assert_eq!(None, bench.delta(0, 4, 0));
    assert_eq!(1, bench.counts().layer_switches);
}

#[test]
fn a_switch_is_made_at_a_key_frame_and_continues() {
    let mut bench = Bench::video();
    deltas(&mut bench, 1);
    bench.key(2, 700, 1_000_000);
    bench.delta(2, 702, 1_000_000);
    bench.stream.set_preferred_layer(Some(1));
    assert_eq!(Some(1), bench.stream.target_layer());
    assert_eq!(Some(2), bench.stream.current_layer());
    assert_eq!(Some(1), bench.stream.wanted_key_frame());
    bench.wait(10);
    let switched = bench.key(1, 50, 7).unwrap();
    assert_eq!((103, 1_000_900), (switched.sequence, switched.timestamp));
    assert_eq!(
        None,
        bench.delta(2, 701, 1_000_000),
        "late, of the old layer"
    );
    assert_eq!(None, bench.delta(1, 49, 7), "late, from before the switch");
    assert_eq!(Some(105), number(bench.delta(1, 52, 7)));
    assert_eq!(Some(104), number(bench.delta(1, 51, 7)));
}

#[test]
fn picture_numbers_continue_over_a_switch() {
    let mut bench = Bench::video();
    let mut send = |layer, sequence, id: u8, tl0, tag| {
        let payload = [0x90, 0xc0, 0x80, id, tl0, tag];
        let packet = bench.packet(layer, sequence, 0, &payload);
        let rewritten = bench.stream.rewrite(bench.now, &packet);
        rewritten.map(|rewritten| {
            let mut payload = payload.to_vec();
            if let Some(patch) = rewritten.vp8 {
                patch.apply(&mut payload);
            }
            (payload[3], payload[4])
        })
    };
    assert_eq!(Some((10, 5)), send(0, 1, 10, 5, 0));
    assert_eq!(Some((11, 6)), send(0, 2, 11, 6, 1));
    assert_eq!(Some((12, 7)), send(1, 1, 200, 100, 0));
    assert_eq!(Some((12, 7)), send(1, 2, 200, 100, 1));
    assert_eq!(Some((13, 7)), send(1, 3, 201, 100, 1));
}

#[test]
fn a_silent_layer_is_left() {
    let mut bench = Bench::video();
    deltas(&mut bench, 1);
    bench.key(2, 2, 0);
    for sequence in 3..23 {
        bench.wait(33);
        bench.delta(0, sequence, 0);
        bench.delta(1, sequence, 0);
    }
    assert_eq!(Some(1), bench.stream.wanted_key_frame());
    assert_eq!(Some(2), bench.stream.current_layer());
    assert!(bench.key(1, 23, 0).is_some());
}

#[test]
fn a_budget_lowers_the_layer() {
    let mut bench = Bench::video();
    let mut sequence = 1;
    let mut second = |bench: &mut Bench| {
        for _ in 0..100 {
            bench.wait(10);
            sequence += 1;
            for (layer, bytes) in [(0, 100), (1, 1000)] {
                let mut payload = vec![0; bytes];
                payload[0] = 0x10;
                let packet = bench.packet(layer, sequence, sequence as u32, &payload);
                bench.stream.rewrite(bench.now, &packet);
            }
        }
    };
    bench.stream.set_bitrate_budget(Some(BitRate(200_000)));
    second(&mut bench);
    assert_eq!(Some(0), bench.stream.current_layer());
    bench.stream.set_bitrate_budget(Some(BitRate(1_200_000)));
    second(&mut bench);
    assert_eq!(Some(1), bench.stream.current_layer());
    let rate = bench.stream.bitrate(bench.now).0;
    assert!((700_000..900_000).contains(&rate), "{rate}");
    bench.stream.set_bitrate_budget(Some(BitRate(300_000)));
    second(&mut bench);
    assert_eq!(Some(0), bench.stream.current_layer());
    bench.stream.set_bitrate_budget(None);
    second(&mut bench);
    assert_eq!(Some(1), bench.stream.current_layer());
}

#[test]
fn expected_layers_are_asked_for_at_once() {
    let mut bench = Bench::video();
    bench.stream.set_available_layers(bench.now, &[0, 1]);
    assert_eq!(Some(1), bench.stream.wanted_key_frame());
}
