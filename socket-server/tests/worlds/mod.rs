//! Every network that a test of sockets should run in: the operating system's, on loopback, and
//! virtual ones, of perfect links unless the test wants others; each over IPv4 and over IPv6.

#![allow(dead_code, reason = "no test uses all of it")]

pub(crate) mod ports;
pub(crate) mod random;
pub(crate) mod tcp;
mod time;
pub(crate) mod udp;

use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use random::Random;
use socket_server::{
    HostOptions, ListenOptions, PhysicalSocketServer, SocketServer, TcpListener, UdpOptions,
    UdpSocket, VirtualHost, VirtualNetwork,
};

/// How long something may take that does happen. Spent by failures only.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The operating system's loopback, with one server.
    Physical,
    /// The loopback of a virtual host, which all servers are on.
    OneHost,
    /// Virtual hosts, one for each server.
    Hosts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Where a test runs: servers of one kind, and addresses of one family.
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) family: Family,
    seed: u64,
    network: Option<VirtualNetwork>,
    /// All that are to be served; of wrapped ones, both the wrapper and what is in it.
    servers: RefCell<Vec<Rc<dyn SocketServer>>>,
    hosts: RefCell<Vec<VirtualHost>>,
    /// The two that most tests of connections are between: the one here, and the other one.
    ends: OnceCell<[Place; 2]>,
    is_patient: Cell<bool>,
}

/// A server, and the address that it is reached at: that of its host, or the loopback address where
/// there is but one.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) server: Rc<dyn SocketServer>,
    pub(crate) ip: IpAddr,
    pub(crate) host: Option<VirtualHost>,
}

/// Runs a test in each kind of network, over both families.
pub(crate) fn in_every_world(test: impl Fn(&World)) {
    in_physical_worlds(&test);
    in_virtual_worlds(&test);
}

pub(crate) fn in_physical_worlds(test: impl Fn(&World)) {
    in_worlds_of(Kind::Physical, test);
}

pub(crate) fn in_virtual_worlds(test: impl Fn(&World)) {
    in_worlds_of(Kind::OneHost, &test);
    in_worlds_of(Kind::Hosts, test);
}

/// Runs a test among virtual hosts, whose links it may choose, over both families.
pub(crate) fn between_virtual_hosts(test: impl Fn(&World)) {
    in_worlds_of(Kind::Hosts, test);
}

fn in_worlds_of(kind: Kind, test: impl Fn(&World)) {
    for family in [Family::V4, Family::V6] {
        println!("{kind:?} {family:?}");
        test(&World::new(kind, family));
    }
}

/// The seed of this run: from the environment, or another one each time. It is printed, so that a
/// run that failed can be had again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SOCKET_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("SOCKET_SEED is a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    println!("SOCKET_SEED={seed}");
    seed
}

impl Family {
    pub(crate) const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    pub(crate) const fn any(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

impl World {
    pub(crate) fn new(kind: Kind, family: Family) -> Self {
        Self::with_seed(kind, family, seed())
    }

    pub(crate) fn with_seed(kind: Kind, family: Family, seed: u64) -> Self {
        let world = Self {
            kind,
            family,
            seed,
            network: (kind != Kind::Physical).then(|| VirtualNetwork::new(seed)),
            servers: RefCell::default(),
            hosts: RefCell::default(),
            ends: OnceCell::new(),
            is_patient: Cell::new(false),
        };
        match kind {
            Kind::Physical => drop(world.serve(PhysicalSocketServer::new().unwrap())),
            Kind::OneHost => {
                let host = world.network().add_host(HostOptions::new("here"));
                world.hosts.borrow_mut().push(host.unwrap());
            }
            Kind::Hosts => {}
        }
        world
    }

    pub(crate) fn is_physical(&self) -> bool {
        self.kind == Kind::Physical
    }

    /// The network of a virtual world.
    #[track_caller]
    pub(crate) fn network(&self) -> &VirtualNetwork {
        self.network.as_ref().expect("this world is virtual")
    }

    /// Chance for the test itself.
    pub(crate) fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// The server, or another one; on a host of its own, where servers have that.
    pub(crate) fn place(&self) -> Place {
        let number = self.servers.borrow().len();
        self.place_named(&format!("host-{number}"))
    }

    fn place_named(&self, name: &str) -> Place {
        match self.kind {
            Kind::Physical => Place {
                server: self.servers.borrow()[0].clone(),
                ip: self.family.loopback(),
                host: None,
            },
            Kind::OneHost => {
                let host = self.hosts.borrow()[0].clone();
                Place {
                    ip: self.family.loopback(),
                    ..self.on(host)
                }
            }
            Kind::Hosts => self.host(HostOptions::new(name)),
        }
    }

    /// A server on a host with these properties, in a virtual world.
    pub(crate) fn host(&self, options: HostOptions) -> Place {
        self.on(self.network().add_host(options).unwrap())
    }

    /// A server on this host.
    pub(crate) fn on(&self, host: VirtualHost) -> Place {
        self.hosts.borrow_mut().push(host.clone());
        Place {
            server: self.serve(host.server()),
            ip: match self.family {
                Family::V4 => host.v4(),
                Family::V6 => host.v6(),
            },
            host: Some(host),
        }
    }

    /// Another server on the host that has this address, in a virtual world.
    pub(crate) fn server_at(&self, ip: IpAddr) -> Rc<dyn SocketServer> {
        let hosts = self.hosts.borrow();
        let host = hosts.iter().find(|host| host.ips().contains(&ip));
        self.serve(host.expect("a host has the address").server())
    }

    /// Takes a server into those that are served.
    pub(crate) fn serve(&self, server: impl SocketServer + 'static) -> Rc<dyn SocketServer> {
        let server: Rc<dyn SocketServer> = Rc::new(server);
        self.servers.borrow_mut().push(server.clone());
        server
    }

    fn ends(&self) -> &[Place; 2] {
        self.ends
            .get_or_init(|| ["here", "there"].map(|name| self.place_named(name)))
    }

    /// The server here.
    pub(crate) fn server(&self) -> Rc<dyn SocketServer> {
        self.ends()[0].server.clone()
    }

    /// The other one; in a physical world it is the same.
    pub(crate) fn other_server(&self) -> Rc<dyn SocketServer> {
        self.ends()[1].server.clone()
    }

    /// An address of the server here, with any port.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ends()[0].ip, 0)
    }

    /// An address of the other server, with any port.
    pub(crate) fn other_address(&self) -> SocketAddr {
        SocketAddr::new(self.ends()[1].ip, 0)
    }

    /// The hosts of a virtual world: here, and the other one, which may be the same.
    #[track_caller]
    pub(crate) fn hosts(&self) -> [VirtualHost; 2] {
        let host = |end: &Place| end.host.clone().expect("this world is virtual");
        self.ends().each_ref().map(host)
    }
}

impl Place {
    /// A socket at the place's address.
    #[track_caller]
    pub(crate) fn bind(&self) -> UdpSocket {
        self.bind_at(SocketAddr::new(self.ip, 0))
    }

    #[track_caller]
    pub(crate) fn bind_at(&self, address: SocketAddr) -> UdpSocket {
        self.server.bind_udp(&UdpOptions::new(address)).unwrap()
    }

    /// A listener at the place's address.
    #[track_caller]
    pub(crate) fn listen(&self) -> TcpListener {
        let address = SocketAddr::new(self.ip, 0);
        self.server
            .listen_tcp(&ListenOptions::new(address))
            .unwrap()
    }
}
