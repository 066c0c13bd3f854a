//! Every kind of server that a test of sockets should run on: the operating system's, on loopback,
//! and a virtual one, in a network of perfect links unless the test wants others; each over IPv4 and
//! over IPv6.
#![allow(
    dead_code,
    reason = "every test file has its own copy, and uses part of it"
)]

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket_server::{
    Dscp, Ecn, HostOptions, ListenHandler, ListenOptions, MaxWait, PhysicalSocketServer, ProcessIo,
    RecvBatch, SocketServer, TcpHandler, TcpListener, TcpSocket, UdpHandler, UdpOptions, UdpSocket,
    VirtualHost, VirtualNetwork,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Physical,
    Virtual,
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
    network: Option<VirtualNetwork>,
    /// All that are to be served; of wrapped ones, both the wrapper and what is in it.
    servers: RefCell<Vec<Rc<dyn SocketServer>>>,
    hosts: RefCell<Vec<VirtualHost>>,
}

/// A server, and the address that it is reached at: on the virtual network that of a host of its
/// own, on the physical server the loopback address.
pub(crate) struct Place {
    pub(crate) server: Rc<dyn SocketServer>,
    pub(crate) ip: IpAddr,
    pub(crate) host: Option<VirtualHost>,
}

/// Runs a test on both servers, over both families.
pub(crate) fn in_every_world(test: impl Fn(&World)) {
    in_physical_worlds(&test);
    in_virtual_worlds(&test);
}

/// Runs a test on the physical server, over both families.
pub(crate) fn in_physical_worlds(test: impl Fn(&World)) {
    for family in [Family::V4, Family::V6] {
        test(&World::physical(family));
    }
}

/// Runs a test on a virtual network, over both families.
pub(crate) fn in_virtual_worlds(test: impl Fn(&World)) {
    for family in [Family::V4, Family::V6] {
        test(&World::simulated(family));
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
    pub(crate) fn physical(family: Family) -> Self {
        let server = PhysicalSocketServer::new().unwrap();
        Self {
            kind: Kind::Physical,
            family,
            network: None,
            servers: RefCell::new(vec![Rc::new(server)]),
            hosts: RefCell::default(),
        }
    }

    pub(crate) fn simulated(family: Family) -> Self {
        Self::with_seed(family, seed())
    }

    pub(crate) fn with_seed(family: Family, seed: u64) -> Self {
        Self {
            kind: Kind::Virtual,
            family,
            network: Some(VirtualNetwork::new(seed)),
            servers: RefCell::default(),
            hosts: RefCell::default(),
        }
    }

    /// The network, in a virtual world.
    pub(crate) fn network(&self) -> &VirtualNetwork {
        self.network.as_ref().expect("this world is virtual")
    }

    /// The server, or one on a host of its own.
    pub(crate) fn server(&self) -> Place {
        match self.kind {
            Kind::Physical => Place {
                server: self.servers.borrow()[0].clone(),
                ip: self.family.loopback(),
                host: None,
            },
            Kind::Virtual => {
                let number = self.servers.borrow().len();
                self.host(HostOptions::new(format!("host-{number}")))
            }
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

    pub(crate) fn now(&self) -> Instant {
        match &self.network {
            Some(network) => network.time().now(),
            None => Instant::now(),
        }
    }

    /// Waits until something is the case: for real, or by letting happen what is to happen next.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.serve_what_is_ready();
            if is_so() {
                return;
            }
            match &self.network {
                Some(network) => assert!(network.advance(), "it will never happen: {what}"),
                None => {
                    assert!(Instant::now() < deadline, "waited in vain: {what}");
                    self.doze();
                }
            }
        }
    }

    /// Lets everything happen that will happen by itself; in the real world, for a moment.
    pub(crate) fn settle(&self) {
        match &self.network {
            Some(network) => loop {
                self.serve_what_is_ready();
                if !network.advance() {
                    break;
                }
            },
            None => self.pass(Duration::from_millis(10)),
        }
    }

    /// As [`settle`](Self::settle), but in the real world only until something is the case: where it
    /// never will be, over loopback, a moment is enough to know. The moment is so many turns of this
    /// thread, and not so long by the clock, which goes on while a busy machine has no time for it.
    pub(crate) fn settle_soon(&self, mut is_so: impl FnMut() -> bool) {
        if self.kind == Kind::Virtual {
            return self.settle();
        }
        for _ in 0..4 {
            self.serve_what_is_ready();
            if is_so() {
                return;
            }
            self.doze();
        }
    }

    /// Serves for so long.
    pub(crate) fn pass(&self, duration: Duration) {
        let until = self.now() + duration;
        loop {
            self.serve_what_is_ready();
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

    fn serve_what_is_ready(&self) {
        let servers = self.servers.borrow().clone();
        loop {
            for server in &servers {
                server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
            }
            if !servers.iter().any(|server| server.has_ready_sockets()) {
                return;
            }
        }
    }

    /// Sleeps until something comes, or for a moment.
    fn doze(&self) {
        let server = self.servers.borrow().last().cloned().unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        server.wait(MaxWait::Until(soon), ProcessIo::Yes).unwrap();
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

/// Calls a closure when the socket can be read.
pub(crate) struct OnReadable<F>(pub(crate) F);

impl<F: FnMut(&UdpSocket)> UdpHandler for OnReadable<F> {
    fn on_readable(&mut self, socket: &UdpSocket) {
        (self.0)(socket);
    }
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) data: Vec<u8>,
    pub(crate) source: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) dscp: Dscp,
    pub(crate) arrived_at: Option<Instant>,
}

pub(crate) type Inbox = Rc<RefCell<Vec<Got>>>;

/// Reads everything that arrives, in order.
pub(crate) fn collect(socket: &UdpSocket) -> Inbox {
    let inbox = Inbox::default();
    let (to, mut batch) = (inbox.clone(), RecvBatch::new());
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        while socket.recv(&mut batch).is_ok() {
            to.borrow_mut().extend(batch.iter().map(|datagram| Got {
                data: datagram.data.to_vec(),
                source: datagram.source,
                local_ip: datagram.local_ip,
                ecn: datagram.ecn,
                dscp: datagram.dscp,
                arrived_at: socket.arrived_at(&datagram),
            }));
        }
    }));
    inbox
}

/// What has come, as text.
pub(crate) fn texts(inbox: &Inbox) -> Vec<String> {
    let inbox = inbox.borrow();
    let texts = inbox
        .iter()
        .map(|got| String::from_utf8_lossy(&got.data).into_owned());
    texts.collect()
}

/// What a TCP socket has been told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) connected: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) writable: usize,
    pub(crate) closed: Option<Option<std::io::ErrorKind>>,
}

struct Listens(Rc<RefCell<Told>>);

impl TcpHandler for Listens {
    fn on_connected(&mut self, _socket: &TcpSocket) {
        self.0.borrow_mut().connected = true;
    }

    fn on_readable(&mut self, socket: &TcpSocket) {
        let mut buffer = [0; 4096];
        while let Ok(received @ 1..) = socket.recv(&mut buffer) {
            self.0.borrow_mut().data.extend(&buffer[..received]);
        }
    }

    fn on_writable(&mut self, _socket: &TcpSocket) {
        self.0.borrow_mut().writable += 1;
    }

    fn on_closed(&mut self, _socket: &TcpSocket, error: Option<std::io::Error>) {
        self.0.borrow_mut().closed = Some(error.map(|error| error.kind()));
    }
}

/// Notes what happens to a connection.
pub(crate) fn follow(socket: &TcpSocket) -> Rc<RefCell<Told>> {
    let told = Rc::<RefCell<Told>>::default();
    socket.set_handler(Listens(told.clone()));
    told
}

struct Accepts(Rc<RefCell<Vec<TcpSocket>>>);

impl ListenHandler for Accepts {
    fn on_incoming(&mut self, listener: &TcpListener) {
        while let Ok(socket) = listener.accept() {
            self.0.borrow_mut().push(socket);
        }
    }
}

/// Takes all connections that come in.
pub(crate) fn accept_all(listener: &TcpListener) -> Rc<RefCell<Vec<TcpSocket>>> {
    let accepted = Rc::<RefCell<Vec<TcpSocket>>>::default();
    listener.set_handler(Accepts(accepted.clone()));
    accepted
}
