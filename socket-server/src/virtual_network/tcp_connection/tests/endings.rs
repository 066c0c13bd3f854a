use super::*;

fn shut_down(pair: &mut Pair, side: Side) {
    pair.with(side, |now, connection| connection.shutdown_write(now));
}

fn close(pair: &mut Pair, side: Side) {
    pair.with(side, |now, connection| connection.close(now));
}

fn resets(pair: &Pair) -> usize {
    pair.sent.iter().filter(|(_, _, s)| s.rst).count()
}

#[test]
fn half_closed_either_way_the_other_half_goes_on() {
    for (first, second) in [(A, B), (B, A)] {
        let mut pair = connected(&Limits::default(), &Limits::default());
        pair.send(first, b"request").unwrap();
        shut_down(&mut pair, first);
        assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(first, b"x")));
        pair.run_for(seconds(100));
        assert_eq!(
            vec![Event::Readable, Event::PeerFinished],
            pair.events(second)
        );
        assert_eq!(b"request".to_vec(), pair.recv(second, 100).unwrap());
        assert!(pair.recv(second, 100).unwrap().is_empty());
        pair.send(second, b"answer").unwrap();
        pair.run_for(seconds(1));
        assert_eq!(b"answer".to_vec(), pair.recv(first, 100).unwrap());
        assert_eq!(ErrorKind::WouldBlock, kind(pair.recv(first, 100)));
        shut_down(&mut pair, second);
        pair.run_for(seconds(1));
        assert_eq!(vec![Event::Closed(None)], pair.events(second));
        assert!(!pair.has(second));
        // Readable twice: the answer, and the end.
        let events = [Event::Readable, Event::Readable, Event::PeerFinished];
        let told = pair.events(first);
        assert_eq!(events, told[..3]);
        assert_eq!([Event::Closed(None)], told[3..]);
        assert!(pair.recv(first, 100).unwrap().is_empty());
        // It stays for a while.
        assert!(pair.has(first));
        pair.run_for(TIME_WAIT);
        assert!(!pair.has(first));
        assert_eq!(0, resets(&pair));
    }
}

#[test]
fn both_close_at_once() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    shut_down(&mut pair, A);
    shut_down(&mut pair, B);
    pair.run_for(seconds(1));
    for side in [A, B] {
        let events = vec![Event::Readable, Event::PeerFinished, Event::Closed(None)];
        assert_eq!(events, pair.events(side));
        assert!(pair.recv(side, 1).unwrap().is_empty());
    }
    pair.run_for(TIME_WAIT);
    assert!(!pair.has(A) && !pair.has(B));
    assert_eq!(0, resets(&pair));
}

#[test]
fn a_lost_last_acknowledgement_is_sent_again() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    shut_down(&mut pair, A);
    pair.run_for(seconds(1));
    shut_down(&mut pair, B);
    pair.filter = Some(|side, _| side == A);
    pair.run_for(Duration::from_millis(500));
    assert!(pair.has(B));
    pair.filter = None;
    pair.run_for(seconds(2));
    assert!(!pair.has(B));
    assert_eq!(Some(&Event::Closed(None)), pair.events(B).last());
    assert_eq!(0, resets(&pair));
}

#[test]
fn a_peer_that_forgot_after_the_last_finish_closed_cleanly() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    shut_down(&mut pair, A);
    pair.run_for(seconds(1));
    shut_down(&mut pair, B);
    pair.crash(A);
    pair.run_for(seconds(1));
    assert_eq!(Some(&Event::Closed(None)), pair.events(B).last());
}

#[test]
fn closing_delivers_what_was_sent_and_tells_the_closer_nothing() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.send(A, &[7; 100_000]).unwrap();
    close(&mut pair, A);
    assert_eq!(ErrorKind::NotConnected, kind(pair.recv(A, 1)));
    assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(A, b"x")));
    pair.run_for(seconds(5));
    assert_eq!(100_000, pair.recv(B, 200_000).unwrap().len());
    assert!(pair.recv(B, 1).unwrap().is_empty());
    close(&mut pair, B);
    pair.run_for(TIME_WAIT + seconds(1));
    assert!(!pair.has(A) && !pair.has(B));
    assert!(pair.events(A).is_empty());
    assert_eq!(vec![Event::Readable, Event::PeerFinished], pair.events(B));
    assert_eq!(0, resets(&pair));
}

#[test]
fn closing_with_unread_data_resets_and_the_peer_reads_what_it_has() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.send(A, b"request").unwrap();
    pair.run_for(seconds(1));
    pair.send(B, b"answer").unwrap();
    close(&mut pair, B);
    assert!(!pair.has(B));
    pair.run_for(seconds(1));
    let reset = ErrorKind::ConnectionReset;
    assert_eq!(
        vec![Event::Readable, Event::Closed(Some(reset))],
        pair.events(A)
    );
    assert_eq!(b"answer".to_vec(), pair.recv(A, 100).unwrap());
    assert_eq!(reset, kind(pair.recv(A, 100)));
    assert!(pair.recv(A, 100).unwrap().is_empty());
    assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(A, b"x")));
    assert!(!pair.has(A));
}

#[test]
fn a_writer_may_be_told_of_the_reset_first() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.send(B, b"answer").unwrap();
    pair.with(B, |_, connection| connection.abort());
    pair.run_for(seconds(1));
    assert_eq!(ErrorKind::ConnectionReset, kind(pair.send(A, b"x")));
    assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(A, b"x")));
    assert_eq!(b"answer".to_vec(), pair.recv(A, 100).unwrap());
    assert!(pair.recv(A, 100).unwrap().is_empty());
    assert!(pair.events(B).is_empty());
}

#[test]
fn the_end_stays_the_end_whatever_comes_after() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    shut_down(&mut pair, B);
    pair.run_for(seconds(1));
    pair.with(B, |_, connection| connection.abort());
    pair.run_for(seconds(1));
    let reset = ErrorKind::ConnectionReset;
    assert_eq!(Some(&Event::Closed(Some(reset))), pair.events(A).last());
    assert!(pair.recv(A, 1).unwrap().is_empty());
    assert_eq!(ErrorKind::BrokenPipe, kind(pair.send(A, b"x")));
}

#[test]
fn data_after_closing_are_answered_by_a_reset() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    close(&mut pair, A);
    pair.run_for(seconds(1));
    assert_eq!(vec![Event::Readable, Event::PeerFinished], pair.events(B));
    pair.send(B, b"late").unwrap();
    pair.run_for(seconds(1));
    assert_eq!(
        vec![Event::Closed(Some(ErrorKind::ConnectionReset))],
        pair.events(B)
    );
    assert!(!pair.has(A) && !pair.has(B));
}

#[test]
fn a_reset_that_overtakes_data_waits_for_them() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.filter = Some(|side, segment| side == B && !segment.rst);
    pair.send(B, b"answer").unwrap();
    pair.filter = None;
    let reset = Segment {
        rst: true,
        sequence: 7,
        ..Segment::default()
    };
    pair.inject(A, &reset);
    pair.run_for(seconds(3));
    // B still has the connection: so it was a stranger's.
    assert_eq!(vec![Event::Readable], pair.events(A));
    pair.crash(B);
    pair.inject(
        A,
        &Segment {
            sequence: 8,
            ..reset
        },
    );
    pair.run_for(seconds(3));
    assert_eq!(
        vec![Event::Closed(Some(ErrorKind::ConnectionReset))],
        pair.events(A)
    );
}

#[test]
fn closing_before_the_handshake_is_silent() {
    let mut pair = Pair::new(&Limits::default(), &Limits::default(), Link::perfect(DELAY));
    close(&mut pair, A);
    assert!(!pair.has(A));
    pair.run_for(seconds(5));
    assert!(pair.events(A).is_empty());
    // The SYN had been sent: the other side learns that nobody is there.
    assert_eq!(
        vec![Event::Closed(Some(ErrorKind::ConnectionReset))],
        pair.events(B)
    );
}

#[test]
fn an_orphan_is_not_kept_for_ever() {
    // The peer never finishes.
    let mut pair = connected(&Limits::default(), &Limits::default());
    close(&mut pair, A);
    pair.run_for(seconds(50));
    assert!(pair.has(A));
    pair.run_for(seconds(20));
    assert!(!pair.has(A));

    // The peer never reads.
    let mut pair = connected(&small(20_000), &small(5000));
    pair.send(A, &[7; 12_000]).unwrap();
    pair.run_for(seconds(1));
    close(&mut pair, A);
    pair.run_for(seconds(600));
    assert!(!pair.has(A));

    // The peer is gone.
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.filter = Some(|_, _| true);
    close(&mut pair, A);
    pair.run_for(seconds(600));
    assert!(!pair.has(A));
    assert!(pair.events(A).is_empty());
}
