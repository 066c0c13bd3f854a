//! Every kind of thread that a conformance test should run on.

use std::time::{Duration, Instant};

use rtc_thread::{Builder, Clock, Simulation, Thread, WaitStrategy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Parking,
    Spinning,
    WithSockets,
    Simulated,
}

/// A place in which threads of one kind live.
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) simulation: Option<Simulation>,
}

/// Runs a test with threads of each kind.
pub(crate) fn in_every_world(test: impl Fn(&World)) {
    in_real_worlds(&test);
    in_simulation(&test);
}

/// Runs a test with real threads of each kind.
pub(crate) fn in_real_worlds(test: impl Fn(&World)) {
    for kind in [Kind::Parking, Kind::Spinning, Kind::WithSockets] {
        test(&World {
            kind,
            simulation: None,
        });
    }
}

/// Runs a test in a few simulations.
pub(crate) fn in_simulation(test: impl Fn(&World)) {
    for _ in 0..20 {
        test(&World {
            kind: Kind::Simulated,
            simulation: Some(Simulation::from_env("RTC_SEED")),
        });
    }
}

/// A delayed post: when it is due, as far as that can be known from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) earliest: Instant,
    pub(crate) latest: Instant,
}

impl Due {
    /// Of what `post` posts with this delay. It reads the clock at some moment while it runs, which
    /// takes as long as the machine likes.
    pub(crate) fn of(clock: &Clock, delay: Duration, post: impl FnOnce()) -> Self {
        let earliest = clock.now() + delay;
        post();
        Self {
            earliest,
            latest: clock.now() + delay,
        }
    }

    pub(crate) fn is_certainly_before(&self, other: &Self) -> bool {
        self.latest < other.earliest
    }
}

/// Runs something that shows what it is to show only if the machine did not keep it from going on for
/// as long as `delay`; it says whether that was so. It is run again, with twice the delay each time,
/// until none was in its way.
#[track_caller]
pub(crate) fn with_delays_that_suffice(shortest: Duration, mut run: impl FnMut(Duration) -> bool) {
    let mut delay = shortest;
    while !run(delay) {
        delay *= 2;
        assert!(delay < Duration::from_secs(60), "it never gets on");
    }
}

impl World {
    pub(crate) fn thread(&self, name: &str) -> Thread {
        self.start(Thread::builder().name(name))
    }

    pub(crate) fn start(&self, builder: Builder) -> Thread {
        match (self.kind, &self.simulation) {
            (Kind::Simulated, Some(simulation)) => builder.simulate(simulation),
            (Kind::WithSockets, _) => builder.with_sockets().spawn(),
            (Kind::Spinning, _) => {
                let strategy = WaitStrategy::SpinThenPark(Duration::from_micros(100));
                builder.wait_strategy(strategy).spawn()
            }
            _ => builder.spawn(),
        }
        .unwrap()
    }

    pub(crate) fn now(&self) -> Instant {
        let simulated = self
            .simulation
            .as_ref()
            .map(|simulation| simulation.clock().now());
        simulated.unwrap_or_else(|| Clock::system().now())
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        match &self.simulation {
            Some(simulation) => simulation.run_for(duration),
            None => std::thread::sleep(duration),
        }
    }

    /// Waits until something is the case.
    #[track_caller]
    pub(crate) fn wait_until(&self, mut is_so: impl FnMut() -> bool) {
        match &self.simulation {
            Some(simulation) => assert!(simulation.run_until(is_so), "it never happened"),
            None => {
                let start = Instant::now();
                while !is_so() {
                    assert!(
                        start.elapsed() < Duration::from_secs(60),
                        "it did not happen"
                    );
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}
