//! Every network that a test of sockets should run in.

#![allow(dead_code, reason = "no test uses all of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket_server::{
    HostOptions, MaxWait, PhysicalSocketServer, ProcessIo, SocketServer, VirtualHost,
    VirtualNetwork, VirtualSocketServer,
};

/// How long something may take that does happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing happens in a physical network that has come to rest.
const QUIET: Duration = Duration::from_millis(30);
/// How long a virtual network is given to come to rest: some of its timers never do.
const VIRTUAL_REST: Duration = Duration::from_secs(60);
/// How long something may take in a virtual network, which takes no real time.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// More than anything here needs.
const MAX_ROUNDS: usize = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The operating system's loopback, with one server.
    Physical,
    /// The loopback of a virtual host, with two servers.
    OneHost,
    /// Two virtual hosts, with a server each.
    TwoHosts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A network in which a test has two servers: the one here, and the other one.
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) family: Family,
    pub(crate) seed: u64,
    ends: Ends,
}

enum Ends {
    Physical(Rc<PhysicalSocketServer>),
    Virtual(VirtualNetwork, [Rc<VirtualSocketServer>; 2]),
}

/// Runs a test in each kind of network, over both families.
pub(crate) fn in_every_world(test: impl Fn(&World)) {
    in_physical_worlds(&test);
    in_virtual_worlds(&test);
}

pub(crate) fn in_physical_worlds(test: impl Fn(&World)) {
    for family in [Family::V4, Family::V6] {
        run(Kind::Physical, family, &test);
    }
}

pub(crate) fn in_virtual_worlds(test: impl Fn(&World)) {
    for family in [Family::V4, Family::V6] {
        run(Kind::OneHost, family, &test);
        run(Kind::TwoHosts, family, &test);
    }
}

/// Runs a test on two virtual hosts, over both families.
pub(crate) fn between_virtual_hosts(test: impl Fn(&World)) {
    for family in [Family::V4, Family::V6] {
        run(Kind::TwoHosts, family, &test);
    }
}

fn run(kind: Kind, family: Family, test: &impl Fn(&World)) {
    let seed = std::env::var("SOCKET_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("{kind:?} {family:?} SOCKET_SEED={seed}");
    test(&World::new(kind, family, seed));
}

impl World {
    pub(crate) fn new(kind: Kind, family: Family, seed: u64) -> Self {
        let network = VirtualNetwork::new(seed);
        let host = |name| network.add_host(HostOptions::new(name)).unwrap();
        let ends = match kind {
            Kind::Physical => Ends::Physical(Rc::new(PhysicalSocketServer::new().unwrap())),
            Kind::OneHost => {
                let host = host("here");
                let servers = [Rc::new(host.server()), Rc::new(host.server())];
                Ends::Virtual(network, servers)
            }
            Kind::TwoHosts => {
                let servers = ["here", "there"].map(|name| Rc::new(host(name).server()));
                Ends::Virtual(network, servers)
            }
        };
        Self {
            kind,
            family,
            seed,
            ends,
        }
    }

    pub(crate) fn is_physical(&self) -> bool {
        self.kind == Kind::Physical
    }

    /// The server here.
    pub(crate) fn server(&self) -> Rc<dyn SocketServer> {
        match &self.ends {
            Ends::Physical(server) => server.clone(),
            Ends::Virtual(_, [server, _]) => server.clone(),
        }
    }

    /// The other one; in a physical world it is the same.
    pub(crate) fn other_server(&self) -> Rc<dyn SocketServer> {
        match &self.ends {
            Ends::Physical(server) => server.clone(),
            Ends::Virtual(_, [_, server]) => server.clone(),
        }
    }

    /// An address of the server here, with any port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_at(0)
    }

    /// An address of the other server, with any port.
    pub(crate) fn other_address(&self) -> SocketAddr {
        self.address_at(1)
    }

    fn address_at(&self, end: usize) -> SocketAddr {
        let ip = match (&self.ends, self.kind, self.family) {
            (Ends::Virtual(_, servers), Kind::TwoHosts, Family::V4) => servers[end].host().v4(),
            (Ends::Virtual(_, servers), Kind::TwoHosts, Family::V6) => servers[end].host().v6(),
            (_, _, Family::V4) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            (_, _, Family::V6) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        SocketAddr::new(ip, 0)
    }

    /// The network of a virtual world.
    #[track_caller]
    pub(crate) fn network(&self) -> &VirtualNetwork {
        match &self.ends {
            Ends::Physical(_) => panic!("a physical world"),
            Ends::Virtual(network, _) => network,
        }
    }

    /// The hosts of a virtual world: here, and the other one, which may be the same.
    #[track_caller]
    pub(crate) fn hosts(&self) -> [VirtualHost; 2] {
        match &self.ends {
            Ends::Physical(_) => panic!("a physical world"),
            Ends::Virtual(_, servers) => servers.each_ref().map(|server| server.host().clone()),
        }
    }

    /// What time it is here.
    pub(crate) fn now(&self) -> Instant {
        match &self.ends {
            Ends::Physical(_) => Instant::now(),
            Ends::Virtual(network, _) => network.time().now(),
        }
    }

    /// Chance for the test itself.
    pub(crate) fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// Serves all servers until something is so.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        match &self.ends {
            Ends::Physical(server) => {
                let deadline = Instant::now() + PATIENCE;
                while !is_so() {
                    let now = Instant::now();
                    assert!(now < deadline, "{:?}: waited in vain: {what}", self.kind);
                    server
                        .wait(MaxWait::Until(deadline), ProcessIo::Yes)
                        .unwrap();
                }
            }
            Ends::Virtual(network, servers) => {
                let deadline = self.now() + VIRTUAL_PATIENCE;
                let mut rounds = 0;
                while !is_so() {
                    rounds += 1;
                    assert!(rounds < MAX_ROUNDS, "never at rest, and still not: {what}");
                    assert!(self.now() < deadline, "waited in vain: {what}");
                    let served = serve(servers);
                    let comes = served || network.advance();
                    assert!(comes || is_so(), "nothing will happen, but not: {what}");
                }
            }
        }
    }

    /// Lets everything happen that is under way. What never comes to rest, fails.
    #[track_caller]
    pub(crate) fn settle(&self) {
        let mut rounds = 0;
        let mut count = || {
            rounds += 1;
            assert!(rounds < MAX_ROUNDS, "{:?}: it is never quiet", self.kind);
        };
        match &self.ends {
            Ends::Physical(server) => loop {
                count();
                let quiet = Instant::now() + QUIET;
                server.wait(MaxWait::Until(quiet), ProcessIo::Yes).unwrap();
                if Instant::now() >= quiet {
                    // It may have been woken late, with something to serve.
                    server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
                    if !server.has_ready_sockets() {
                        return;
                    }
                }
            },
            Ends::Virtual(network, servers) => {
                let end = self.now() + VIRTUAL_REST;
                loop {
                    count();
                    if !serve(servers) {
                        match network.next_event() {
                            Some(next) if next <= end => network.advance(),
                            _ => return,
                        };
                    }
                }
            }
        }
    }

    /// Lets virtual time pass, and everything happen in it.
    pub(crate) fn pass(&self, duration: Duration) {
        let Ends::Virtual(network, servers) = &self.ends else {
            panic!("a physical world");
        };
        let end = self.now() + duration;
        loop {
            if !serve(servers) {
                match network.next_event() {
                    Some(next) if next <= end => network.advance(),
                    _ => break,
                };
            }
        }
        network.time().advance_to(end);
    }
}

/// One round of all servers. False if nothing was ready.
fn serve(servers: &[Rc<VirtualSocketServer>]) -> bool {
    let mut served = false;
    for server in servers {
        if server.has_ready_sockets() {
            server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
            served = true;
        }
    }
    served
}

/// A sequence of numbers that looks like chance (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 1 to `most`.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        1 + (self.next() % most as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
