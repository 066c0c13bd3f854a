//! The SFU in virtual time: its threads, its clients and the network between them under one seeded
//! scheduler.

pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod random;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use echo_sfu::{Answer, ApiError, Operation, RoomName, Sfu, SfuOptions, SfuStats, ThreadRole};
use rtc_thread::{Builder, Simulation, SpawnError, Thread, ThreadHandle};
use socket_server::{Delay, HostOptions, LinkOptions, Loss, VirtualHost, VirtualNetwork};
use str0m::media::Direction;

use client::Client;

thread_local! {
    /// What makes threads is to be `Send`, and a simulation is not; but all happens on this thread.
    static STAGE: RefCell<Option<Backstage>> = const { RefCell::new(None) };
}

struct Backstage {
    simulation: Rc<Simulation>,
    server: VirtualHost,
    made: Vec<(ThreadRole, ThreadHandle)>,
}

/// A simulation with a network, and a machine in it for an SFU.
pub(crate) struct Stage {
    // In the order in which they are to be dropped.
    pub(crate) simulation: Rc<Simulation>,
    pub(crate) network: VirtualNetwork,
    pub(crate) server: VirtualHost,
}

impl Stage {
    pub(crate) fn new(simulation: Simulation) -> Self {
        let simulation = Rc::new(simulation);
        let network = simulation.network();
        let server = network.add_host(HostOptions::new("server")).unwrap();
        STAGE.set(Some(Backstage {
            simulation: simulation.clone(),
            server: server.clone(),
            made: Vec::new(),
        }));
        Self {
            simulation,
            network,
            server,
        }
    }

    /// Starts an SFU on simulated threads.
    pub(crate) fn sfu(&self, adjust: impl FnOnce(&mut SfuOptions)) -> Sfu {
        let mut options = SfuOptions {
            udp_bind: self.ip(),
            udp_port: 5_000,
            ..SfuOptions::default()
        };
        adjust(&mut options);
        Sfu::start_on(options, simulated_thread).unwrap()
    }

    /// The SFU's threads of this role, in the order in which they were made.
    pub(crate) fn threads(&self, role: ThreadRole) -> Vec<ThreadHandle> {
        STAGE.with_borrow(|stage| {
            let made = stage.iter().flat_map(|stage| &stage.made);
            let of_role = made.filter(|(other, _)| *other == role);
            of_role.map(|(_, handle)| handle.clone()).collect()
        })
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.server.v4()
    }

    /// The thread of a person, on a machine of his own.
    pub(crate) fn person(&self, name: &str, links: LinkOptions) -> Person {
        let host = HostOptions::new(name).links(links);
        let host = self.network.add_host(host).unwrap();
        Person {
            thread: self.simulation.thread_on(&host, name).unwrap(),
            ip: host.v4(),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        STAGE.take();
    }
}

/// A person, with a machine of his own.
pub(crate) struct Person {
    pub(crate) thread: Thread,
    pub(crate) ip: IpAddr,
}

/// Makes a thread of the current simulation, on the SFU's machine.
pub(crate) fn simulated_thread(role: ThreadRole, builder: Builder) -> Result<Thread, SpawnError> {
    STAGE.with_borrow_mut(|stage| {
        let stage = stage.as_mut().expect("there is a stage");
        let thread = match role {
            ThreadRole::Network => builder.simulate_with(&stage.simulation, stage.server.server()),
            _ => builder.simulate(&stage.simulation),
        }?;
        stage.made.push((role, thread.handle()));
        Ok(thread)
    })
}

/// A link that loses nothing and keeps the order, and takes its time.
pub(crate) fn good_link() -> LinkOptions {
    let ms = Duration::from_millis;
    LinkOptions::new()
        .delay(Delay::Uniform(ms(5), ms(60)))
        .keep_order()
}

/// A link that loses, delays, doubles and reorders packets.
pub(crate) fn bad_link() -> LinkOptions {
    let ms = Duration::from_millis;
    LinkOptions::new()
        .delay(Delay::Normal {
            mean: ms(40),
            deviation: ms(15),
        })
        .loss(Loss::Bursty {
            to_bad: 0.01,
            to_good: 0.3,
            good: 0.002,
            bad: 0.5,
        })
        .duplicate(0.002)
        .reorder(0.01, ms(50))
}

pub(crate) fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// A client whose offer has been answered, with the answer.
pub(crate) fn connect(
    person: &Person,
    direction: Direction,
    open: impl FnOnce(String) -> Operation<Answer>,
) -> Result<(Client, Answer), ApiError> {
    let (client, offer) = Client::offer(person, direction);
    let answer = open(offer).wait()?;
    client.accept(&answer.sdp);
    Ok((client, answer))
}

/// Whether nothing is left that a session has: the routers for echoes always are.
pub(crate) fn is_empty(stats: &SfuStats) -> bool {
    let is_idle = |worker: &echo_sfu::objects::WorkerStatus| {
        worker.routers <= 1 && worker.transports + worker.producers + worker.consumers == 0
    };
    let networks = stats.network.iter();
    let on_networks = networks.map(|n| n.transports + n.producers + n.consumers + n.fan_outs);
    stats.sessions == 0
        && stats.rooms == 0
        && stats.workers.iter().map(|own| &own.totals).all(is_idle)
        && on_networks.sum::<usize>() == 0
}
