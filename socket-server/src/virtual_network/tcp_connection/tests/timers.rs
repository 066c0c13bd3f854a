use super::*;

fn timed_out() -> Vec<Event> {
    vec![Event::Closed(Some(ErrorKind::TimedOut))]
}

fn impatient() -> Limits {
    Limits {
        user_timeout: Some(seconds(5)),
        ..small(5000)
    }
}

fn with_keep_alive() -> Limits {
    Limits {
        keep_alive: Some(KeepAlive {
            idle: seconds(60),
            interval: seconds(10),
            count: 3,
        }),
        ..Limits::default()
    }
}

#[test]
fn keep_alive_notices_a_peer_that_is_gone() {
    let mut pair = connected(&with_keep_alive(), &Limits::default());
    pair.filter = Some(|side, _| side == B);
    let before = pair.sent.len();
    pair.run_for(seconds(88));
    assert!(pair.events(A).is_empty());
    let probes = pair.sent[before..].iter().filter(|(_, side, _)| *side == A);
    assert_eq!(3, probes.count());
    pair.run_for(seconds(3));
    assert_eq!(timed_out(), pair.events(A));
    assert_eq!(ErrorKind::TimedOut, kind(pair.recv(A, 1)));
    // The path is open in the other direction.
    assert_eq!(
        vec![Event::Closed(Some(ErrorKind::ConnectionReset))],
        pair.events(B)
    );
}

#[test]
fn keep_alive_is_content_with_answers() {
    let mut pair = connected(&with_keep_alive(), &Limits::default());
    let before = pair.sent.len();
    pair.run_for(seconds(3600));
    assert!(pair.events(A).is_empty());
    let segments = pair.sent.len() - before;
    assert!((110..=120).contains(&segments), "{segments} segments");
}

#[test]
fn keep_alive_finds_out_that_the_peer_started_anew() {
    let mut pair = connected(&with_keep_alive(), &Limits::default());
    pair.crash(B);
    pair.run_for(seconds(61));
    assert_eq!(
        vec![Event::Closed(Some(ErrorKind::ConnectionReset))],
        pair.events(A)
    );
}

#[test]
fn the_user_timeout_ends_waiting_for_an_acknowledgement() {
    let mut pair = connected(&impatient(), &Limits::default());
    pair.run_for(seconds(100));
    pair.filter = Some(|_, _| true);
    pair.send(A, b"x").unwrap();
    pair.run_for(Duration::from_millis(4999));
    assert!(pair.events(A).is_empty());
    pair.run_for(Duration::from_millis(1));
    assert_eq!(timed_out(), pair.events(A));
}

#[test]
fn the_user_timeout_ends_waiting_for_a_reader() {
    let mut pair = connected(&impatient(), &small(2000));
    pair.send(A, &[7; 5000]).unwrap();
    pair.run_for(seconds(6));
    assert_eq!(timed_out(), pair.events(A));
}

#[test]
fn the_user_timeout_begins_anew_with_progress() {
    let mut pair = connected(&impatient(), &small(2000));
    pair.send(A, &[7; 5000]).unwrap();
    for _ in 0..3 {
        pair.run_for(seconds(4));
        pair.recv(B, 2000).unwrap();
    }
    pair.run_for(seconds(100));
    assert!(pair.events(A).is_empty());
}

#[test]
fn the_user_timeout_holds_for_the_handshake() {
    let mut pair = Pair::new(&impatient(), &Limits::default(), Link::perfect(DELAY));
    pair.filter = Some(|_, _| true);
    pair.run_for(seconds(5));
    assert_eq!(timed_out(), pair.events(A));
}

#[test]
fn without_a_user_timeout_it_still_ends() {
    let mut pair = connected(&Limits::default(), &Limits::default());
    pair.filter = Some(|_, _| true);
    let before = pair.sent.len();
    pair.send(A, b"x").unwrap();
    pair.run_for(seconds(300));
    assert!(pair.events(A).is_empty());
    pair.run_for(seconds(900));
    assert_eq!(timed_out(), pair.events(A));
    assert_eq!(before + 16, pair.sent.len());
}

#[test]
fn moments_beyond_the_clock_never_come() {
    let limits = Limits {
        user_timeout: Some(Duration::MAX),
        keep_alive: Some(KeepAlive {
            idle: Duration::MAX,
            interval: Duration::MAX,
            count: u32::MAX,
        }),
        send_buffer: usize::MAX,
        receive_buffer: usize::MAX,
        max_segment: usize::MAX,
        nodelay: true,
    };
    let mut pair = connected(&limits, &limits);
    pair.send(A, &[7; 200_000]).unwrap();
    pair.run_for(seconds(3600));
    assert_eq!(200_000, pair.recv(B, 300_000).unwrap().len());
}
