//! Hosts and NATs, as who builds a network sees them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use super::host::Host;
use super::link::{Link, LinkOptions, LinkStats};
use super::network::{LanId, LinkOf, NetworkCore, Node, NodeId, NodeKind, State, VirtualNetwork};
use super::server::VirtualSocketServer;
use crate::nat::{NatTable, NatType};

/// A host to be added to a network.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct HostOptions {
    name: String,
    ips: Vec<IpAddr>,
    up: LinkOptions,
    down: LinkOptions,
}

impl HostOptions {
    /// A host of this name, which others may connect to, with perfect links.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ips: Vec::new(),
            up: LinkOptions::new(),
            down: LinkOptions::new(),
        }
    }

    /// An address of the host. By default it has one of each family, of the network's choice; the
    /// first of each family is what it sends from.
    pub fn ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ips.push(ip.into());
        self
    }

    /// The link that what it sends takes.
    pub fn uplink(mut self, options: LinkOptions) -> Self {
        self.up = options;
        self
    }

    /// The link that what it is sent takes.
    pub fn downlink(mut self, options: LinkOptions) -> Self {
        self.down = options;
        self
    }

    /// Both links.
    pub fn links(self, options: LinkOptions) -> Self {
        self.uplink(options.clone()).downlink(options)
    }
}

/// A NAT to be added to a network.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct NatOptions {
    nat_type: NatType,
    outside: HostOptions,
    timeout: Duration,
    max_mappings: usize,
}

impl NatOptions {
    /// A NAT of this type, with perfect links, that forgets mappings that were not used for two
    /// minutes.
    pub fn new(nat_type: NatType) -> Self {
        Self {
            nat_type,
            outside: HostOptions::new(format!("{nat_type:?}")),
            timeout: Duration::from_secs(120),
            max_mappings: 10_000,
        }
    }

    /// An address that it is known by outside. By default it has one of each family, of the
    /// network's choice.
    pub fn outside_ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.outside = self.outside.ip(ip);
        self
    }

    /// Its link to the outside and from it.
    pub fn links(mut self, options: LinkOptions) -> Self {
        self.outside = self.outside.links(options);
        self
    }

    /// After how long without anything going out a mapping is forgotten.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many mappings it keeps; what would need another one is lost.
    pub fn max_mappings(mut self, mappings: usize) -> Self {
        self.max_mappings = mappings;
        self
    }
}

/// A host of a [`VirtualNetwork`].
#[derive(Clone)]
pub struct VirtualHost {
    pub(super) core: Rc<NetworkCore>,
    pub(super) id: NodeId,
}

/// A NAT of a [`VirtualNetwork`], and the network inside of it.
#[derive(Clone)]
pub struct VirtualNat {
    core: Rc<NetworkCore>,
    id: NodeId,
    inside: LanId,
}

/// One direction of a link, to be changed and looked at while the network runs.
#[derive(Clone)]
pub struct LinkHandle {
    core: Rc<NetworkCore>,
    link: LinkOf,
}

impl VirtualNetwork {
    /// Adds a host.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddrInUse`](io::ErrorKind::AddrInUse) if another has one of its addresses.
    pub fn add_host(&self, options: HostOptions) -> io::Result<VirtualHost> {
        add_host(&self.core, LanId::OUTSIDE, options)
    }

    /// Adds a NAT.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddrInUse`](io::ErrorKind::AddrInUse) if another has one of its addresses.
    pub fn add_nat(&self, options: NatOptions) -> io::Result<VirtualNat> {
        add_nat(&self.core, LanId::OUTSIDE, options)
    }

    /// The link that packets from one host to the other pass, besides their own links, if both are
    /// in the same local network. To cut two hosts apart, or to give them a long way.
    pub fn link_between(&self, from: &VirtualHost, to: &VirtualHost) -> LinkHandle {
        let mut state = self.core.state.borrow_mut();
        state.transit(from.id, to.id);
        LinkHandle {
            core: self.core.clone(),
            link: LinkOf::Transit((from.id, to.id)),
        }
    }
}

impl VirtualHost {
    /// Its name.
    pub fn name(&self) -> String {
        self.core.state.borrow().nodes[self.id.0].name.clone()
    }

    /// Its addresses.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.core.state.borrow().nodes[self.id.0].ips.clone()
    }

    /// Its first IPv4 address; the loopback address if it has none.
    pub fn v4(&self) -> IpAddr {
        let ip = self.ips().into_iter().find(IpAddr::is_ipv4);
        ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Its first IPv6 address; the loopback address if it has none.
    pub fn v6(&self) -> IpAddr {
        let ip = self.ips().into_iter().find(IpAddr::is_ipv6);
        ip.unwrap_or(IpAddr::V6(Ipv6Addr::LOCALHOST))
    }

    /// A server for one of the host's threads. A host can have any number.
    pub fn server(&self) -> VirtualSocketServer {
        VirtualSocketServer::new(self.clone())
    }

    /// The link that what it sends takes.
    pub fn uplink(&self) -> LinkHandle {
        LinkHandle {
            core: self.core.clone(),
            link: LinkOf::Up(self.id),
        }
    }

    /// The link that what it is sent takes.
    pub fn downlink(&self) -> LinkHandle {
        LinkHandle {
            core: self.core.clone(),
            link: LinkOf::Down(self.id),
        }
    }

    /// No datagram can be sent, as if there never were room, until this is taken back. TCP sockets
    /// fill their buffers.
    ///
    /// libwebrtc: `SetSendingBlocked`.
    pub fn set_sending_blocked(&self, blocked: bool) {
        let sockets = self.core.with_state(|state, now| {
            let Some(host) = state.host(self.id) else {
                return Vec::new();
            };
            host.is_sending_blocked = blocked;
            let (sockets, streams) = (host.udp_sockets(), host.streams());
            if !blocked {
                for stream in streams {
                    stream.drive(state, now);
                }
            }
            sockets
        });
        if !blocked {
            for socket in sockets {
                socket.note_room();
            }
        }
    }

    /// The next connection that comes to a listener here cannot be accepted, as if the host had no
    /// descriptors left.
    pub fn fail_next_accept(&self) {
        if let Some(host) = self.core.state.borrow_mut().host(self.id) {
            host.fails_next_accept = true;
        }
    }
}

impl VirtualNat {
    /// Adds a host inside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddrInUse`](io::ErrorKind::AddrInUse) if another has one of its addresses.
    pub fn add_host(&self, options: HostOptions) -> io::Result<VirtualHost> {
        add_host(&self.core, self.inside, options)
    }

    /// Adds a NAT inside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddrInUse`](io::ErrorKind::AddrInUse) if another has one of its addresses.
    pub fn add_nat(&self, options: NatOptions) -> io::Result<Self> {
        add_nat(&self.core, self.inside, options)
    }

    /// The addresses that it is known by outside.
    pub fn outside_ips(&self) -> Vec<IpAddr> {
        self.core.state.borrow().nodes[self.id.0].ips.clone()
    }

    /// Its link to the outside.
    pub fn uplink(&self) -> LinkHandle {
        LinkHandle {
            core: self.core.clone(),
            link: LinkOf::Up(self.id),
        }
    }

    /// Its link from the outside.
    pub fn downlink(&self) -> LinkHandle {
        LinkHandle {
            core: self.core.clone(),
            link: LinkOf::Down(self.id),
        }
    }
}

impl LinkHandle {
    /// Gives the link other properties from now on.
    pub fn set_options(&self, options: LinkOptions) {
        self.with(|link| link.set_options(options));
    }

    /// Whether anything passes.
    pub fn set_up(&self, up: bool) {
        self.with(|link| link.set_down(!up));
    }

    /// Nothing passes for so long, beginning after so long.
    pub fn black_out(&self, after: Duration, duration: Duration) {
        let from = super::time::after(self.core.now(), after);
        let until = super::time::after(from, duration);
        self.with(|link| link.black_out(from, until));
    }

    /// What it has done.
    pub fn stats(&self) -> LinkStats {
        self.with(|link| link.stats())
    }

    fn with<R>(&self, f: impl FnOnce(&mut Link) -> R) -> R {
        let state = &mut *self.core.state.borrow_mut();
        f(match self.link {
            LinkOf::Up(node) => &mut state.nodes[node.0].up,
            LinkOf::Down(node) => &mut state.nodes[node.0].down,
            LinkOf::Transit((from, to)) => state.transit(from, to),
        })
    }
}

fn add_host(core: &Rc<NetworkCore>, lan: LanId, options: HostOptions) -> io::Result<VirtualHost> {
    let mut state = core.state.borrow_mut();
    let id = state.add_node(lan, options, NodeKind::Host(Host::default()))?;
    let node = &state.nodes[id.0];
    let (name, ips) = (node.name.clone(), node.ips.clone());
    state.names.insert(name, ips);
    Ok(VirtualHost {
        core: core.clone(),
        id,
    })
}

fn add_nat(core: &Rc<NetworkCore>, lan: LanId, options: NatOptions) -> io::Result<VirtualNat> {
    let mut state = core.state.borrow_mut();
    let inside = LanId(state.lans.len());
    let table = NatTable::new(options.nat_type, options.timeout, options.max_mappings);
    let kind = NodeKind::Nat {
        table,
        inside,
        // Not from the beginning, so that nobody takes it for the inside port.
        last_port: 40_000,
    };
    let id = state.add_node(lan, options.outside, kind)?;
    state.lans.push(super::network::Lan {
        gateway: Some(id),
        ..Default::default()
    });
    Ok(VirtualNat {
        core: core.clone(),
        id,
        inside,
    })
}

impl State {
    fn add_node(&mut self, lan: LanId, options: HostOptions, kind: NodeKind) -> io::Result<NodeId> {
        let id = NodeId(self.nodes.len());
        let mut ips: Vec<_> = options.ips.iter().map(IpAddr::to_canonical).collect();
        let here = &mut self.lans[lan.0];
        while ips.is_empty() {
            here.given_addresses += 1;
            let free = default_ips(lan, here.given_addresses);
            if free.iter().all(|ip| !here.attached.contains_key(ip)) {
                ips.extend(free);
            }
        }
        if ips.iter().any(|ip| here.attached.contains_key(ip)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        here.attached.extend(ips.iter().map(|ip| (*ip, id)));
        self.nodes.push(Node {
            name: options.name,
            lan,
            ips,
            up: Link::new(options.up),
            down: Link::new(options.down),
            kind,
        });
        Ok(id)
    }
}

/// Outside, the ranges for benchmarks and documentation; inside, private ones.
fn default_ips(lan: LanId, number: u32) -> [IpAddr; 2] {
    let [high, low] = (number as u16).to_be_bytes();
    let segment = number as u16;
    match lan {
        LanId::OUTSIDE => [
            Ipv4Addr::new(198, 18, high, low).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, segment).into(),
        ],
        LanId(inside) => [
            Ipv4Addr::new(10, inside as u8, high, low).into(),
            Ipv6Addr::new(0xfd00, 0, 0, inside as u16, 0, 0, 0, segment).into(),
        ],
    }
}

impl fmt::Debug for VirtualHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualHost")
            .field("name", &self.name())
            .field("ips", &self.ips())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for VirtualNat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualNat")
            .field("outside_ips", &self.outside_ips())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkHandle")
            .field("link", &self.link)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
