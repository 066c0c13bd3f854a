//! How a world goes on: for real, or by letting happen what is to happen next.

use std::time::{Duration, Instant};

use socket_server::{MaxWait, ProcessIo};

use super::{PATIENCE, World};

/// A physical network has come to rest when nothing happens for so many turns of this thread, of so
/// long each. Turns, because the clock goes on while a busy machine has no time for the thread.
const QUIET_TURNS: usize = 10;
const QUIET_TURN: Duration = Duration::from_millis(3);
/// How long a virtual network is given to come to rest: some of its timers never do.
const VIRTUAL_REST: Duration = Duration::from_secs(60);
/// How long something may take in a virtual network, which takes no real time.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// More than anything here needs.
const MAX_ROUNDS: usize = 1_000_000;

impl World {
    /// What time it is here.
    pub(crate) fn now(&self) -> Instant {
        match &self.network {
            Some(network) => network.time().now(),
            None => Instant::now(),
        }
    }

    /// Serves all servers until something is so.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let kind = self.kind;
        let patience = match &self.network {
            Some(_) => VIRTUAL_PATIENCE,
            None => PATIENCE,
        };
        let deadline = self.now() + patience;
        let mut rounds = 0;
        while !is_so() {
            rounds += 1;
            assert!(rounds < MAX_ROUNDS, "never at rest, and still not: {what}");
            assert!(self.now() < deadline, "{kind:?}: waited in vain: {what}");
            if self.serve_ready() {
                continue;
            }
            match &self.network {
                Some(network) => {
                    let comes = network.advance();
                    assert!(comes || is_so(), "nothing will happen, but not: {what}");
                }
                None if is_so() => return,
                None => self.doze(),
            }
        }
    }

    /// Lets everything happen that is under way. What never comes to rest, fails.
    #[track_caller]
    pub(crate) fn settle(&self) {
        let virtual_end = self.now() + VIRTUAL_REST;
        for _ in 0..MAX_ROUNDS {
            if self.serve_ready() {
                continue;
            }
            match &self.network {
                Some(network) => match network.next_event() {
                    Some(next) if next <= virtual_end => drop(network.advance()),
                    _ => return,
                },
                None if (0..QUIET_TURNS).all(|_| self.is_quiet()) => return,
                None => {}
            }
        }
        panic!("{:?}: it is never quiet", self.kind);
    }

    /// Whether nothing happens for a turn.
    fn is_quiet(&self) -> bool {
        let end = Instant::now() + QUIET_TURN;
        self.wait(end);
        // It may have been woken late, with something to serve.
        Instant::now() >= end && !self.serve_ready()
    }

    /// Has [`settle_soon`](Self::settle_soon) take as much time as [`settle`](Self::settle).
    pub(crate) fn be_patient(&self) {
        self.is_patient.set(true);
    }

    /// As [`settle`](Self::settle), but in the real world only until something is the case: where it
    /// never will be, over loopback, a moment is enough to know. The moment is so many turns of this
    /// thread, and not so long by the clock, which goes on while a busy machine has no time for it.
    pub(crate) fn settle_soon(&self, mut is_so: impl FnMut() -> bool) {
        if !self.is_physical() || self.is_patient.get() {
            return self.settle();
        }
        for _ in 0..4 {
            while self.serve_ready() {}
            if is_so() {
                return;
            }
            self.doze();
        }
    }

    /// Lets time pass, and everything happen in it.
    pub(crate) fn pass(&self, duration: Duration) {
        let until = self.now() + duration;
        loop {
            if self.serve_ready() {
                continue;
            }
            match &self.network {
                Some(network) => {
                    let next = network.next_event().filter(|next| *next <= until);
                    network.time().advance_to(next.unwrap_or(until));
                    network.run_due();
                    if next.is_none() {
                        return;
                    }
                }
                None if Instant::now() >= until => return,
                None => self.doze(),
            }
        }
    }

    /// One round of all servers. False if there is nothing for another one.
    fn serve_ready(&self) -> bool {
        let servers = self.servers.borrow().clone();
        let mut served = false;
        for server in servers {
            let was_ready = server.has_ready_sockets();
            // What the operating system has, is known only when it was asked for.
            if was_ready || self.is_physical() {
                server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
            }
            served |= match self.is_physical() {
                true => server.has_ready_sockets(),
                false => was_ready,
            };
        }
        served
    }

    /// Sleeps until something comes, or for a moment: what a test waits for may be no event of a
    /// server.
    fn doze(&self) {
        self.wait(Instant::now() + Duration::from_millis(1));
    }

    fn wait(&self, until: Instant) {
        let server = self.servers.borrow().last().cloned().unwrap();
        server.wait(MaxWait::Until(until), ProcessIo::Yes).unwrap();
    }
}
