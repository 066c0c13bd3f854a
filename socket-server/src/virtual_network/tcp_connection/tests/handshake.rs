use super::*;

#[test]
fn three_segments_connect() {
    let pair = connected(&Limits::default(), &Limits::default());
    let flags: Vec<_> = pair
        .sent
        .iter()
        .map(|(at, side, s)| (*at, *side, s.syn, s.acknowledgement))
        .collect();
    assert_eq!(
        vec![
            (Duration::ZERO, A, true, None),
            (DELAY, B, true, Some(1)),
            (2 * DELAY, A, false, Some(1)),
        ],
        flags
    );
}

#[test]
fn before_it_nothing_can_be_sent_or_read() {
    let mut pair = Pair::new(&Limits::default(), &Limits::default(), Link::perfect(DELAY));
    assert_eq!(ErrorKind::NotConnected, kind(pair.send(A, b"x")));
    assert_eq!(ErrorKind::WouldBlock, kind(pair.recv(A, 1)));
    pair.with(A, |now, connection| connection.shutdown_write(now));
    assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(A, b"x")));
    pair.run_for(seconds(1));
    assert_eq!(vec![Event::Connected], pair.events(A));
    assert!(pair.events(B).contains(&Event::PeerFinished));
}

#[test]
fn a_refusal_is_told_once() {
    let mut pair = Pair::new(&Limits::default(), &Limits::default(), Link::perfect(DELAY));
    pair.listen = None;
    pair.run_for(seconds(1));
    let refused = ErrorKind::ConnectionRefused;
    assert_eq!(vec![Event::Closed(Some(refused))], pair.events(A));
    assert_eq!(refused, kind(pair.recv(A, 1)));
    assert_eq!(0, pair.recv(A, 1).unwrap().len());
    assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(A, b"x")));
    assert!(!pair.has(A));
}

#[test]
fn the_syn_is_sent_six_times() {
    let mut pair = Pair::new(&Limits::default(), &Limits::default(), Link::perfect(DELAY));
    pair.filter = Some(|_, _| true);
    pair.flying_clear();
    pair.run_for(seconds(62));
    let times: Vec<_> = pair.sent.iter().map(|(at, ..)| at.as_secs()).collect();
    assert_eq!(vec![0, 1, 3, 7, 15, 31], times);
    assert!(pair.events(A).is_empty());
    pair.run_for(seconds(1));
    assert_eq!(
        vec![Event::Closed(Some(ErrorKind::TimedOut))],
        pair.events(A)
    );
}

#[test]
fn a_lost_syn_ack_is_sent_again() {
    let mut pair = Pair::new(&Limits::default(), &Limits::default(), Link::perfect(DELAY));
    pair.filter = Some(|side, _| side == B);
    pair.run_for(Duration::from_millis(500));
    pair.filter = None;
    pair.run_for(seconds(3));
    assert_eq!(vec![Event::Connected], pair.events(A));
    assert_eq!(vec![Event::Connected], pair.events(B));
}

#[test]
fn data_complete_it_if_the_acknowledgement_is_lost() {
    let mut pair = Pair::new(&Limits::default(), &Limits::default(), Link::perfect(DELAY));
    pair.filter = Some(|side, segment| side == A && segment.payload.is_empty());
    pair.run_for(Duration::from_millis(50));
    assert!(pair.events(B).is_empty());
    pair.send(A, b"hello").unwrap();
    pair.run_for(Duration::from_millis(50));
    assert_eq!(vec![Event::Connected, Event::Readable], pair.events(B));
    assert_eq!(b"hello".to_vec(), pair.recv(B, 10).unwrap());
}

#[test]
fn a_stranger_may_begin_at_any_number() {
    let now = Instant::now();
    for initial in [1, u64::MAX - 1, u64::MAX] {
        let syn = Segment {
            syn: true,
            sequence: initial,
            ..Segment::default()
        };
        let mut connection = Connection::accept(now, &Limits::default(), &syn);
        let answer = connection.poll_segment(now).unwrap();
        assert_eq!(Some(initial.wrapping_add(1)), answer.acknowledgement);
        let data = Segment {
            sequence: initial.wrapping_add(1),
            acknowledgement: Some(1),
            payload: b"hello".to_vec(),
            ..Segment::default()
        };
        connection.on_segment(now, &data);
        let mut buffer = [0; 10];
        assert_eq!(5, connection.recv(&mut buffer).unwrap());
        let answer = connection.poll_segment(now).unwrap();
        assert_eq!(Some(initial.wrapping_add(6)), answer.acknowledgement);
    }
}

#[test]
fn who_has_another_connection_in_mind_is_reset() {
    let now = Instant::now();
    let mut connection = Connection::connect(now, &Limits::default());
    assert!(connection.poll_segment(now).unwrap().syn);
    let stale = Segment {
        sequence: 500,
        acknowledgement: Some(700),
        ..Segment::default()
    };
    connection.on_segment(now, &stale);
    assert_eq!(reset_for(&stale), connection.poll_segment(now));
    // It still waits for the answer to its SYN.
    assert_eq!(None, connection.poll_event());
    assert_eq!(Some(now + seconds(1)), connection.deadline());
}
