//! The simulated path, and the hosts at its ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Connection, Event, Limits, Segment, reset_for};
use crate::virtual_network::random::Random;

/// What these tests ask of the network's generator.
pub(super) trait Draw {
    fn below(&mut self, limit: u64) -> u64;
    fn percent(&mut self, percent: u64) -> bool;
}

impl Draw for Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What happens to segments, the same in both directions.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) delay: Duration,
    /// Added to the delay, differently for each segment: so they overtake each other.
    pub(super) jitter: Duration,
    pub(super) loss_percent: u64,
    pub(super) duplicate_percent: u64,
    /// In bytes per second, with room for so many bytes to wait.
    pub(super) bandwidth: Option<(u64, u64)>,
    pub(super) random: Random,
}

impl Link {
    pub(super) fn perfect(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss_percent: 0,
            duplicate_percent: 0,
            bandwidth: None,
            random: Random::new(0),
        }
    }
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) link: Link,
    /// `None` when there is none yet, or none any more.
    connections: [Option<Connection>; 2],
    /// What B uses when a SYN arrives; without it, B does not listen.
    pub(super) listen: Option<Limits>,
    events: [Vec<Event>; 2],
    /// By arrival, and in the order of sending among those that arrive together.
    flying: BTreeMap<(Instant, u64), (Side, Segment)>,
    /// When the last byte that waits for the link will have left.
    busy_until: [Instant; 2],
    /// What was sent so far, lost or not.
    pub(super) sent: Vec<(Duration, Side, Segment)>,
    start: Instant,
    /// Segments that are to be lost are chosen by this, if anything is.
    pub(super) filter: Option<fn(Side, &Segment) -> bool>,
}

impl Pair {
    pub(super) fn new(a: &Limits, b: &Limits, link: Link) -> Self {
        // The only clock that is read, as there is no other way to make an `Instant`.
        let now = Instant::now();
        let mut pair = Self {
            now,
            link,
            connections: [Some(Connection::connect(now, a)), None],
            listen: Some(b.clone()),
            events: [Vec::new(), Vec::new()],
            flying: BTreeMap::new(),
            busy_until: [now; 2],
            sent: Vec::new(),
            start: now,
            filter: None,
        };
        pair.drain();
        pair
    }

    pub(super) fn has(&self, side: Side) -> bool {
        self.connections[side as usize]
            .as_ref()
            .is_some_and(|connection| !connection.is_over())
    }

    /// Whether there is one, be it over.
    pub(super) fn exists(&self, side: Side) -> bool {
        self.connections[side as usize].is_some()
    }

    /// Does something with a connection, and sends what comes of it.
    pub(super) fn with<T>(
        &mut self,
        side: Side,
        action: impl FnOnce(Instant, &mut Connection) -> T,
    ) -> T {
        let connection = self.connections[side as usize]
            .as_mut()
            .expect("a connection");
        let result = action(self.now, connection);
        self.drain();
        result
    }

    pub(super) fn send(&mut self, side: Side, data: &[u8]) -> std::io::Result<usize> {
        self.with(side, |now, connection| connection.send(now, data))
    }

    pub(super) fn recv(&mut self, side: Side, limit: usize) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; limit];
        let length = self.with(side, |_, connection| connection.recv(&mut buffer))?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// What has been told since the last time.
    pub(super) fn events(&mut self, side: Side) -> Vec<Event> {
        std::mem::take(&mut self.events[side as usize])
    }

    /// Forgets a connection, as a host does that starts anew.
    pub(super) fn crash(&mut self, side: Side) {
        self.connections[side as usize] = None;
        self.listen = None;
    }

    /// Loses what is on its way.
    pub(super) fn flying_clear(&mut self) {
        self.flying.clear();
    }

    fn drain(&mut self) {
        for side in [Side::A, Side::B] {
            let Some(mut connection) = self.connections[side as usize].take() else {
                continue;
            };
            while let Some(segment) = connection.poll_segment(self.now) {
                self.put(side, segment);
            }
            while let Some(event) = connection.poll_event() {
                self.events[side as usize].push(event);
            }
            // Even if it is over: what has arrived may be read.
            self.connections[side as usize] = Some(connection);
        }
    }

    fn put(&mut self, from: Side, segment: Segment) {
        self.sent
            .push((self.now - self.start, from, segment.clone()));
        if self.filter.is_some_and(|is_lost| is_lost(from, &segment)) {
            return;
        }
        let copies = 1 + u64::from(self.link.random.percent(self.link.duplicate_percent));
        for _ in 0..copies {
            if self.link.random.percent(self.link.loss_percent) {
                continue;
            }
            let mut leaves = self.now;
            if let Some((rate, queue)) = self.link.bandwidth {
                let busy = &mut self.busy_until[from as usize];
                let begins = (*busy).max(self.now);
                let bytes = segment.wire_bytes() as u64;
                let transmission = |bytes| Duration::from_nanos(bytes * 1_000_000_000 / rate);
                if begins - self.now > transmission(queue) {
                    continue;
                }
                leaves = begins + transmission(bytes);
                *busy = leaves;
            }
            let jitter = u64::try_from(self.link.jitter.as_nanos()).unwrap();
            let jitter = Duration::from_nanos(self.link.random.below(jitter + 1));
            let arrival = leaves + self.link.delay + jitter;
            let number = (self.sent.len() as u64) << 1;
            let key = if self.flying.contains_key(&(arrival, number)) {
                (arrival, number + 1)
            } else {
                (arrival, number)
            };
            self.flying.insert(key, (from.other(), segment.clone()));
        }
    }

    fn deliver(&mut self, to: Side, segment: &Segment) {
        let slot = &mut self.connections[to as usize];
        match slot {
            Some(connection) if !connection.is_over() => connection.on_segment(self.now, segment),
            None if to == Side::B
                && self.listen.is_some()
                && segment.syn
                && segment.acknowledgement.is_none() =>
            {
                let limits = self.listen.take().unwrap();
                *slot = Some(Connection::accept(self.now, &limits, segment));
            }
            _ => {
                if let Some(reset) = reset_for(segment) {
                    self.put(to, reset);
                }
            }
        }
        self.drain();
    }

    /// Lets a segment arrive that nobody has sent.
    pub(super) fn inject(&mut self, to: Side, segment: &Segment) {
        self.deliver(to, segment);
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let deadlines = self.connections.iter().flatten();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        deadlines
            .filter_map(Connection::deadline)
            .chain(arrival)
            .min()
    }

    /// Lets the next thing happen, unless it is after `end`; says whether there was one.
    pub(super) fn step(&mut self, end: Instant) -> bool {
        let Some(next) = self.next().filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        let arrival = self.flying.first_entry();
        if let Some(entry) = arrival.filter(|entry| entry.key().0 <= self.now) {
            let (to, segment) = entry.remove();
            self.deliver(to, &segment);
        } else {
            for connection in self.connections.iter_mut().flatten() {
                if connection.deadline().is_some_and(|at| at <= self.now) {
                    connection.on_time(self.now);
                }
            }
            self.drain();
        }
        true
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }
}
