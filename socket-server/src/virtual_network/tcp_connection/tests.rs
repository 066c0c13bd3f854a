//! Two connections and what lies between them, in virtual time.

mod channel;
mod endings;
mod handshake;
mod hostile;
mod stream;
mod timers;
mod transfer;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::{Connection, Event, KeepAlive, Limits, Segment, TIME_WAIT, reset_for};
use crate::virtual_network::random::Random;
use channel::{Draw, Link, Pair, Side};

const A: Side = Side::A;
const B: Side = Side::B;
const DELAY: Duration = Duration::from_millis(10);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Connected over a link that only delays, with the events of that taken.
fn connected(a: &Limits, b: &Limits) -> Pair {
    let mut pair = Pair::new(a, b, Link::perfect(DELAY));
    pair.run_for(seconds(1));
    assert_eq!(vec![Event::Connected], pair.events(A));
    assert_eq!(vec![Event::Connected], pair.events(B));
    pair
}

fn small(buffer: usize) -> Limits {
    Limits {
        send_buffer: buffer,
        receive_buffer: buffer,
        ..Limits::default()
    }
}

fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}
