use super::*;

#[test]
fn data_go_both_ways() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    assert_eq!(5, pair.send(A, b"hello").unwrap());
    assert_eq!(6, pair.send(B, b"world!").unwrap());
    pair.run_for(seconds(1));
    assert_eq!(vec![Event::Readable], pair.events(A));
    assert_eq!(vec![Event::Readable], pair.events(B));
    assert_eq!(b"world!".to_vec(), pair.recv(A, 100).unwrap());
    assert_eq!(b"hel".to_vec(), pair.recv(B, 3).unwrap());
    assert_eq!(b"lo".to_vec(), pair.recv(B, 3).unwrap());
    assert_eq!(ErrorKind::WouldBlock, kind(pair.recv(B, 3)));
}

#[test]
fn readable_is_told_when_there_was_nothing() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    for _ in 0..3 {
        pair.send(A, b"x").unwrap();
        pair.run_for(seconds(1));
    }
    assert_eq!(vec![Event::Readable], pair.events(B));
    pair.recv(B, 100).unwrap();
    pair.send(A, b"x").unwrap();
    pair.run_for(seconds(1));
    assert_eq!(vec![Event::Readable], pair.events(B));
}

#[test]
fn pure_acknowledgements_are_not_answered() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    let before = pair.sent.len();
    pair.send(A, b"hello").unwrap();
    pair.run_for(seconds(100));
    assert_eq!(before + 2, pair.sent.len());
}

#[test]
fn small_segments_wait_unless_that_is_unwanted() {
    for (nodelay, expected) in [(false, vec![1, 2]), (true, vec![1, 1, 1])] {
        let limits = Limits {
            nodelay,
            ..Limits::default()
        };
        let mut pair = connected(&limits, &limits);
        for _ in 0..3 {
            pair.send(A, b"x").unwrap();
        }
        pair.run_for(seconds(1));
        let sizes: Vec<_> = pair
            .sent
            .iter()
            .map(|(_, _, segment)| segment.payload.len())
            .filter(|length| *length > 0)
            .collect();
        assert_eq!(expected, sizes);
    }
}

#[test]
fn writable_is_told_exactly_once_when_a_third_is_free() {
    let mut pair = connected(&small(9000), &small(9000));
    assert_eq!(9000, pair.send(A, &[0; 10_000]).unwrap());
    assert_eq!(ErrorKind::WouldBlock, kind(pair.send(A, b"x")));
    assert_eq!(ErrorKind::WouldBlock, kind(pair.send(A, b"x")));
    let mut told = 0;
    for _ in 0..100 {
        let end = pair.now + seconds(1);
        if !pair.step(end) {
            break;
        }
        let is_ample = pair.with(A, |_, connection| connection.sender.has_ample_room());
        told += pair.events(A).len();
        assert_eq!(usize::from(is_ample), told);
    }
    assert_eq!(1, told);
    // Nobody has been refused since: so nobody is told.
    assert_eq!(9000, pair.send(A, &[0; 9000]).unwrap());
    pair.run_for(seconds(1));
    pair.recv(B, 10_000).unwrap();
    pair.run_for(seconds(5));
    assert!(pair.events(A).is_empty());
}

#[test]
fn a_full_reader_stops_the_writer_until_it_reads() {
    let mut pair = connected(&small(20_000), &small(5000));
    assert_eq!(12_000, pair.send(A, &[7; 12_000]).unwrap());
    pair.run_for(seconds(20));
    assert_eq!(5000, pair.recv(B, 20_000).unwrap().len());
    pair.run_for(seconds(1));
    // The window update was enough.
    assert_eq!(5000, pair.recv(B, 20_000).unwrap().len());
    pair.run_for(seconds(1));
    assert_eq!(2000, pair.recv(B, 20_000).unwrap().len());
}

#[test]
fn a_lost_window_update_is_asked_for() {
    let mut pair = connected(&small(20_000), &small(5000));
    pair.send(A, &[7; 12_000]).unwrap();
    // However long it takes, a reader that answers is not given up.
    pair.run_for(seconds(3600));
    let probes = pair
        .sent
        .iter()
        .filter(|(at, side, segment)| *side == A && at.as_secs() > 5 && segment.payload.is_empty());
    assert!((50..100).contains(&probes.count()));
    pair.filter = Some(|side, _| side == B);
    pair.recv(B, 20_000).unwrap();
    pair.filter = None;
    pair.run_for(seconds(61));
    assert_eq!(5000, pair.recv(B, 20_000).unwrap().len());
    assert!(pair.events(A).is_empty());
}

#[test]
fn a_finish_needs_no_window() {
    let mut pair = connected(&small(5000), &small(5000));
    pair.send(A, &[7; 5000]).unwrap();
    pair.run_for(seconds(1));
    pair.with(A, |now, connection| connection.shutdown_write(now));
    pair.run_for(seconds(1));
    assert_eq!(vec![Event::Readable, Event::PeerFinished], pair.events(B));
    // Nor does what is acknowledged while it is in the way.
    pair.send(B, b"answer").unwrap();
    pair.run_for(seconds(1));
    assert_eq!(b"answer".to_vec(), pair.recv(A, 10).unwrap());
    assert_eq!(1, times_sent(&pair, B, 1));
    assert_eq!(5000, pair.recv(B, 10_000).unwrap().len());
    assert!(pair.recv(B, 10_000).unwrap().is_empty());
}

#[test]
fn one_loss_is_repaired_without_a_timeout() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.filter = Some(|side, segment| side == A && segment.sequence == 1);
    pair.send(A, &[7; 1400]).unwrap();
    pair.filter = None;
    pair.send(A, &[7; 20 * 1400]).unwrap();
    // Less than the shortest timeout.
    pair.run_for(Duration::from_millis(190));
    assert_eq!(21 * 1400, pair.recv(B, 100_000).unwrap().len());
}

#[test]
fn a_lost_flight_is_repaired_after_one_timeout() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.filter = Some(|side, _| side == A);
    pair.send(A, &[7; 10 * 1400]).unwrap();
    pair.filter = None;
    pair.run_for(Duration::from_millis(500));
    assert_eq!(10 * 1400, pair.recv(B, 100_000).unwrap().len());
}

#[test]
fn a_gap_is_told_apart_from_data() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    let beyond = Segment {
        sequence: 100,
        acknowledgement: Some(1),
        payload: vec![7; 10],
        ..Segment::default()
    };
    let before = pair.sent.len();
    pair.with(B, |now, connection| {
        connection.on_segment(now, &beyond);
        connection.send(now, b"hello").unwrap();
    });
    let lengths: Vec<_> = pair.sent[before..]
        .iter()
        .map(|(_, _, segment)| segment.payload.len())
        .collect();
    assert_eq!(vec![0, 5], lengths);
}

#[test]
fn data_are_not_mistaken_for_duplicate_acknowledgements() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.send(A, b"hello").unwrap();
    pair.send(B, &[7; 10 * 1400]).unwrap();
    pair.run_for(seconds(1));
    assert_eq!(1, times_sent(&pair, A, 1));
}

/// How often the data with that number have been sent.
fn times_sent(pair: &Pair, from: Side, sequence: u64) -> usize {
    let is_it = |segment: &Segment| segment.sequence == sequence && !segment.payload.is_empty();
    pair.sent
        .iter()
        .filter(|(_, side, segment)| *side == from && is_it(segment))
        .count()
}
