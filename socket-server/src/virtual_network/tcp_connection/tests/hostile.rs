//! A stranger may send anything.

use super::*;

const BUFFER: usize = 4000;

/// Numbers around those that matter, and anything else.
fn number(random: &mut Random, near: u64) -> u64 {
    match random.below(8) {
        0 => random.next(),
        1 => u64::MAX - random.below(3),
        2 => random.below(3),
        _ => near
            .wrapping_add(random.below(2 * BUFFER as u64))
            .wrapping_sub(BUFFER as u64 / 2),
    }
}

fn segment(random: &mut Random, sequence: u64, acknowledgement: u64) -> Segment {
    let exact = random.percent(30);
    Segment {
        syn: random.percent(5),
        fin: random.percent(5),
        rst: random.percent(3),
        sequence: if exact {
            sequence
        } else {
            number(random, sequence)
        },
        acknowledgement: match random.below(10) {
            0 => None,
            1..5 => Some(acknowledgement),
            _ => Some(number(random, acknowledgement)),
        },
        window: match random.below(3) {
            0 => 0,
            1 => random.below(10_000),
            _ => random.next(),
        },
        payload: vec![7; usize::try_from(random.below(3) * random.below(2000)).unwrap()],
    }
}

/// Feeds one connection; says whether the handshake came about.
fn torment(seed: u64) -> bool {
    let mut random = Random::new(seed);
    let mut now = Instant::now();
    let limits = Limits {
        user_timeout: random.percent(20).then(|| seconds(100)),
        keep_alive: random.percent(50).then(|| KeepAlive {
            idle: seconds(random.below(10)),
            interval: seconds(random.below(3)),
            count: u32::try_from(random.below(5)).unwrap(),
        }),
        nodelay: random.percent(50),
        ..small(BUFFER)
    };
    let mut initial = random.next() >> random.below(64);
    let syn = Segment {
        syn: true,
        sequence: initial,
        window: 10_000,
        ..Segment::default()
    };
    let mut connection = if random.percent(50) {
        Connection::accept(now, &limits, &syn)
    } else {
        let mut connection = Connection::connect(now, &limits);
        assert!(connection.poll_segment(now).unwrap().syn);
        if random.percent(80) {
            let syn_ack = Segment {
                acknowledgement: Some(1),
                ..syn
            };
            connection.on_segment(now, &syn_ack);
        } else {
            initial = 0;
        }
        connection
    };
    let (mut expected, mut sent) = (initial.wrapping_add(1), 0);
    let mut was_connected = false;
    let (mut closed, mut connects) = (0, 0);
    for _ in 0..300 {
        match random.below(12) {
            0 => drop(connection.send(now, &vec![1; 1 + random.below(5000) as usize])),
            1 => drop(connection.recv(&mut vec![0; random.below(5000) as usize])),
            2 => {
                now += Duration::from_millis(random.below(3000));
                connection.on_time(now);
            }
            3 => {
                now = connection.deadline().unwrap_or(now).max(now);
                connection.on_time(now);
            }
            4 if random.percent(5) => connection.shutdown_write(now),
            5 if random.percent(2) => connection.close(now),
            6 if random.percent(1) => connection.abort(),
            _ => {
                let segment = segment(&mut random, expected, sent);
                connection.on_segment(now, &segment);
            }
        }
        // More than can be right is a sign of a loop.
        let mut polled = 0;
        while let Some(segment) = connection.poll_segment(now) {
            polled += 1;
            assert!(polled < 10_000);
            assert!(segment.payload.len() <= limits.max_segment);
            assert!(segment.window <= BUFFER as u64);
            expected = segment.acknowledgement.unwrap_or(expected);
            sent = segment.sequence + segment.payload.len() as u64;
        }
        while let Some(event) = connection.poll_event() {
            closed += u32::from(matches!(event, Event::Closed(_)));
            connects += u32::from(event == Event::Connected);
        }
        assert!(closed <= 1 && connects <= 1);
        assert!(connection.receiver.held() <= BUFFER);
        was_connected |= connection.is_connected();
    }
    // Whatever it was told, it comes to an end once it is aborted.
    connection.abort();
    while connection.poll_segment(now).is_some() {}
    assert!(connection.is_over());
    was_connected
}

#[test]
fn random_segments_do_no_harm() {
    let connected = (0..3000).filter(|seed| torment(*seed)).count();
    assert!(connected > 1500, "{connected} connected");
}

#[test]
fn a_reset_is_not_answered() {
    let segment = Segment {
        rst: true,
        ..Segment::default()
    };
    assert_eq!(None, reset_for(&segment));
}

#[test]
fn a_reset_is_what_the_sender_will_believe() {
    let with = Segment {
        sequence: 5,
        acknowledgement: Some(9),
        payload: vec![0; 3],
        fin: true,
        ..Segment::default()
    };
    let reset = reset_for(&with).unwrap();
    assert!(reset.rst && reset.sequence == 9);
    let without = Segment {
        sequence: u64::MAX,
        acknowledgement: None,
        syn: true,
        ..Segment::default()
    };
    assert_eq!(Some(0), reset_for(&without).unwrap().acknowledgement);
}
