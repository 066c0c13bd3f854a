//! Routers with network threads, on real threads and on simulated ones.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use echo_sfu::objects::{DirectTransport, Router, Worker};
use echo_sfu::{NetworkOptions, NetworkThreads};
use rtc_thread::{Simulation, Thread, process_all_queued};
use socket_server::HostOptions;

/// Where the threads of a test are.
pub(crate) enum World {
    Real,
    Simulated(Simulation),
}

pub(crate) fn in_every_world(test: impl Fn(&World)) {
    test(&World::Real);
    in_simulations(test);
}

/// Where time passes only when it is told to.
pub(crate) fn in_simulations(test: impl Fn(&World)) {
    for _ in 0..10 {
        test(&World::Simulated(Simulation::from_env("RTC_SEED")));
    }
}

/// Two network threads, and a worker on which they move what there is to be moved.
pub(crate) struct Here {
    pub(crate) worker: Worker,
    pub(crate) networks: NetworkThreads,
    pub(crate) router: Router,
    threads: Vec<Thread>,
}

impl World {
    pub(crate) fn here(&self) -> Here {
        let network_threads: Vec<(Thread, SocketAddr)> = match self {
            Self::Real => (0..2)
                .map(|n| {
                    let thread = Thread::builder().name(format!("network {n}"));
                    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                    (thread.with_sockets().spawn().unwrap(), any)
                })
                .collect(),
            Self::Simulated(simulation) => {
                let host = simulation.network().add_host(HostOptions::new("sfu"));
                let host = host.unwrap();
                (0..2)
                    .map(|n| {
                        let name = format!("network {n}");
                        let thread = simulation.thread_on(&host, &name).unwrap();
                        (thread, SocketAddr::new(host.v4(), 5000 + n))
                    })
                    .collect()
            }
        };
        let handles: Vec<_> = network_threads
            .iter()
            .map(|(thread, bind)| {
                let options = NetworkOptions {
                    bind: *bind,
                    announced: vec![bind.ip()],
                };
                (thread.handle(), options)
            })
            .collect();
        let pairs = handles.iter().map(|(own, options)| (own, options.clone()));
        let networks = NetworkThreads::new(pairs).unwrap();
        let mut threads: Vec<_> = network_threads.into_iter().map(|(own, _)| own).collect();
        let thread = self.thread("worker");
        let worker = Worker::with_networks(&thread, networks.clone()).unwrap();
        let router = worker.create_router().wait().unwrap();
        // The workers end first, as the fields of the vector are dropped.
        threads.insert(0, thread);
        Here {
            worker,
            networks,
            router,
            threads,
        }
    }

    pub(crate) fn thread(&self, name: &str) -> Thread {
        let builder = Thread::builder().name(name);
        match self {
            Self::Real => builder.spawn(),
            Self::Simulated(simulation) => builder.simulate(simulation),
        }
        .unwrap()
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        match self {
            Self::Real => std::thread::sleep(time),
            Self::Simulated(simulation) => simulation.run_for(time),
        }
    }

    /// Lets everything happen that is under way.
    pub(crate) fn settle(&self) {
        match self {
            // What is under way may have to go to and fro.
            Self::Real => (0..4).for_each(|_| process_all_queued().unwrap()),
            Self::Simulated(simulation) => simulation.run_for(Duration::from_millis(10)),
        }
    }
}

impl Here {
    pub(crate) fn direct(&self) -> DirectTransport {
        self.router.create_direct_transport().wait().unwrap()
    }

    pub(crate) fn stop(self) {
        self.networks.close_all();
        for thread in self.threads {
            thread.stop().unwrap();
        }
    }
}
