//! What a host does with the packets that reach it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Instant;

use super::link::LossReason;
use super::listener::ListenEndpoint;
use super::network::{NodeId, State};
use super::random::Random;
use super::stream::VirtualStream;
use super::tcp_connection::{Segment, reset_for};
use super::udp::UdpEndpoint;
use crate::address::canonical;

/// The ports that are given out to those who ask for any.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// The sockets of a host. They belong to whoever opened them, but for connections, which end in
/// their own time.
#[derive(Default)]
pub(super) struct Host {
    udp: BTreeMap<u16, Vec<Weak<UdpEndpoint>>>,
    listeners: BTreeMap<u16, Vec<Weak<ListenEndpoint>>>,
    /// By local and remote address.
    streams: BTreeMap<(SocketAddr, SocketAddr), Rc<VirtualStream>>,
    last_port: Option<u16>,
    pub(super) is_sending_blocked: bool,
    pub(super) fails_next_accept: bool,
}

/// What a socket is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) address: SocketAddr,
    pub(super) only_v6: bool,
    pub(super) share_port: bool,
}

impl Binding {
    /// Checks what is wanted as Linux does, to which an IPv6 socket at a particular address, which
    /// is not a mapped one, has nothing to do with IPv4.
    pub(super) fn new(address: SocketAddr, only_v6: bool, share_port: bool) -> io::Result<Self> {
        let is_mapped = address.is_ipv6() && address.ip().to_canonical().is_ipv4();
        if is_mapped && only_v6 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let is_particular = address.is_ipv6() && !is_mapped && !address.ip().is_unspecified();
        Ok(Self {
            address,
            only_v6: address.is_ipv6() && (only_v6 || is_particular),
            share_port,
        })
    }

    /// What it takes of IPv4, or of IPv6: an address, all of them if that is the unspecified one, or
    /// nothing.
    fn part(&self, of_v4: bool) -> Option<IpAddr> {
        match self.address.ip().to_canonical() {
            own if own.is_ipv4() == of_v4 => Some(own),
            own if own.is_unspecified() && of_v4 && !self.only_v6 => {
                Some(Ipv4Addr::UNSPECIFIED.into())
            }
            _ => None,
        }
    }

    /// Whether it is for what is sent to this address; the greater the closer, none if it is not. Of
    /// two that take one IPv4 address, an IPv4 socket is closer.
    fn closeness(&self, destination: IpAddr) -> Option<u8> {
        let own = self.part(destination.is_ipv4())?;
        let is_of_this_family = u8::from(self.address.is_ipv4() == destination.is_ipv4());
        if own == destination {
            Some(2 + is_of_this_family)
        } else {
            own.is_unspecified().then_some(is_of_this_family)
        }
    }

    /// Whether both at the same port would be in each other's way.
    fn clashes_with(&self, other: &Self) -> bool {
        let overlap = |of_v4| match (self.part(of_v4), other.part(of_v4)) {
            (Some(own), Some(others)) => {
                own == others || own.is_unspecified() || others.is_unspecified()
            }
            _ => false,
        };
        (overlap(true) || overlap(false)) && !(self.share_port && other.share_port)
    }
}

/// Something that is bound.
pub(super) trait Bound {
    fn binding(&self) -> Binding;
}

type ByPort<T> = BTreeMap<u16, Vec<Weak<T>>>;

/// Those at a port that still exist. Forgets the others.
fn at_port<T>(map: &mut ByPort<T>, port: u16) -> Vec<Rc<T>> {
    let Some(entries) = map.get_mut(&port) else {
        return Vec::new();
    };
    entries.retain(|entry| entry.strong_count() > 0);
    let alive = entries.iter().filter_map(Weak::upgrade).collect();
    if entries.is_empty() {
        map.remove(&port);
    }
    alive
}

/// The one that something from `source` is for: the closest, and among those that share a port the
/// one that the flow belongs to.
fn find<T: Bound>(
    map: &mut ByPort<T>,
    source: SocketAddr,
    destination: SocketAddr,
) -> Option<Rc<T>> {
    let mut candidates: Vec<(u8, Rc<T>)> = at_port(map, destination.port())
        .into_iter()
        .filter_map(|bound| Some((bound.binding().closeness(destination.ip())?, bound)))
        .collect();
    let closest = candidates.iter().map(|(closeness, _)| *closeness).max()?;
    candidates.retain(|(closeness, _)| *closeness == closest);
    let chosen = match candidates.len() {
        1 => 0,
        several => flow_hash(source, destination) as usize % several,
    };
    Some(candidates.swap_remove(chosen).1)
}

fn flow_hash(source: SocketAddr, destination: SocketAddr) -> u64 {
    let mut hash = 0;
    for address in [source, destination] {
        let ip = match address.ip() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        for part in [(ip >> 64) as u64, ip as u64, address.port().into()] {
            hash = Random::new(hash ^ part).next();
        }
    }
    hash
}

impl Host {
    /// Finds the port that a socket gets. Who is bound there already is asked through `bound`.
    fn choose_port(
        &mut self,
        mut binding: Binding,
        mut bound: impl FnMut(&mut Self, u16) -> Vec<Binding>,
    ) -> io::Result<SocketAddr> {
        let mut clashes = |host: &mut Self, binding: Binding, port| {
            let others = bound(host, port);
            others.iter().any(|other| binding.clashes_with(other))
        };
        let mut address = binding.address;
        if address.port() != 0 {
            if clashes(self, binding, address.port()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            return Ok(address);
        }
        // Nobody wants to share a port that was not asked for.
        binding.share_port = false;
        for _ in EPHEMERAL {
            let port = self.next_ephemeral_port();
            if !clashes(self, binding, port) {
                address.set_port(port);
                return Ok(address);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn next_ephemeral_port(&mut self) -> u16 {
        let port = match self.last_port {
            Some(last) if last < *EPHEMERAL.end() => last + 1,
            _ => *EPHEMERAL.start(),
        };
        self.last_port = Some(port);
        port
    }

    pub(super) fn bind_udp(&mut self, binding: Binding) -> io::Result<SocketAddr> {
        self.choose_port(binding, |host, port| {
            let sockets = at_port(&mut host.udp, port);
            sockets.iter().map(|socket| socket.binding()).collect()
        })
    }

    pub(super) fn bind_listener(&mut self, binding: Binding) -> io::Result<SocketAddr> {
        self.choose_port(binding, |host, port| {
            let listeners = at_port(&mut host.listeners, port);
            listeners.iter().map(|bound| bound.binding()).collect()
        })
    }

    /// A port for a connection that is made from here.
    pub(super) fn tcp_port_to(&mut self, ip: IpAddr, remote: SocketAddr) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.next_ephemeral_port();
            let local = SocketAddr::new(ip, port);
            if !self.streams.contains_key(&(local, remote))
                && at_port(&mut self.listeners, port).is_empty()
            {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn add_udp(&mut self, socket: &Rc<UdpEndpoint>) {
        let port = socket.binding().address.port();
        let sockets = self.udp.entry(port).or_default();
        sockets.push(Rc::downgrade(socket));
    }

    pub(super) fn add_listener(&mut self, listener: &Rc<ListenEndpoint>) {
        let port = listener.binding().address.port();
        let listeners = self.listeners.entry(port).or_default();
        listeners.push(Rc::downgrade(listener));
    }

    pub(super) fn add_stream(&mut self, stream: &Rc<VirtualStream>) -> io::Result<()> {
        let between = (stream.local(), stream.remote());
        if self.streams.contains_key(&between) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.streams.insert(between, stream.clone());
        Ok(())
    }

    pub(super) fn remove_stream(&mut self, stream: &VirtualStream) {
        self.streams.remove(&(stream.local(), stream.remote()));
    }

    pub(super) fn streams(&self) -> Vec<Rc<VirtualStream>> {
        self.streams.values().cloned().collect()
    }

    pub(super) fn udp_sockets(&self) -> Vec<Rc<UdpEndpoint>> {
        let sockets = self.udp.values().flatten();
        sockets.filter_map(Weak::upgrade).collect()
    }

    pub(super) fn deliver_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        tos: u8,
        data: &Rc<[u8]>,
    ) -> Result<(), LossReason> {
        let socket = find(&mut self.udp, source, destination).ok_or(LossReason::NoSocket)?;
        socket.deliver(now, source, destination.ip(), tos, data)
    }
}

impl State {
    /// A TCP segment has reached a host.
    pub(super) fn deliver_segment(
        &mut self,
        now: Instant,
        id: NodeId,
        source: SocketAddr,
        destination: SocketAddr,
        segment: &Segment,
    ) {
        let Some(host) = self.host(id) else {
            return;
        };
        if let Some(stream) = host.streams.get(&(destination, source)).cloned() {
            stream.on_segment(self, now, segment);
            return;
        }
        let listener = find(&mut host.listeners, source, destination);
        if let Some(listener) = listener.filter(|_| segment.is_first()) {
            // Where too many wait already, it is lost, as on Linux: the peer will try again.
            if !listener.has_room() {
                return;
            }
            let stream = VirtualStream::accept(now, id, &listener, destination, source, segment);
            if let Some(host) = self.host(id)
                && host.add_stream(&stream).is_ok()
            {
                stream.drive(self, now);
                return;
            }
        }
        if let Some(reset) = reset_for(segment) {
            self.send_segment(now, id, destination, source, reset, 0);
        }
    }

    /// The address of a host that something to this destination is sent from, where the sender has
    /// no choice of its own.
    pub(super) fn source_ip(&self, id: NodeId, destination: IpAddr) -> io::Result<IpAddr> {
        let node = &self.nodes[id.0];
        if destination.is_loopback() {
            return Ok(match destination {
                IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                IpAddr::V6(_) => destination,
            });
        }
        if node.ips.contains(&destination) {
            return Ok(destination);
        }
        let mut ips = node.ips.iter();
        let same_family = ips.find(|ip| ip.is_ipv4() == destination.is_ipv4());
        same_family
            .copied()
            .ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }

    /// Whether a socket of the host may be bound to this address.
    pub(super) fn check_bindable(&self, id: NodeId, ip: IpAddr) -> io::Result<()> {
        let ip = canonical(SocketAddr::new(ip, 0)).ip();
        let is_own = self.nodes[id.0].ips.contains(&ip);
        if ip.is_unspecified() || ip.is_loopback() || is_own {
            Ok(())
        } else {
            Err(io::ErrorKind::AddrNotAvailable.into())
        }
    }
}
