//! The network as a whole: what will happen when, and which way packets go.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::host::Host;
use super::link::{Link, LinkOptions, LossReason};
use super::listener::ListenEndpoint;
use super::packet::{NetPacket, NetworkEvent, PacketFate, Payload};
use super::random::Random;
use super::stream::VirtualStream;
use super::time::VirtualTime;
use super::udp::UdpEndpoint;
use crate::nat::NatTable;
use crate::resolution::Resolved;

/// Hosts, links and NATs in memory, in virtual time, with all chance from one seed.
///
/// Hosts are [added](Self::add_host) to it, or to the inside of a [NAT](Self::add_nat); each has a
/// link up to the network and one down from it, with [properties](LinkOptions) of their own. On a
/// host, [`VirtualSocketServer`](super::VirtualSocketServer)s serve the same sockets as on the
/// operating system: [`UdpSocket`](crate::UdpSocket), [`TcpSocket`](crate::TcpSocket),
/// [`TcpListener`](crate::TcpListener). Every host also has the loopback addresses, without a link.
///
/// It belongs to one OS thread, with all that is on it. Time moves while its servers wait, or when a
/// simulation moves it. Two networks made from the same seed, on which the same is done, behave the
/// same to the last packet.
///
/// A datagram to a port that nobody has bound is lost, without a word to its sender. A TCP connection
/// to such a port is refused, and one to an address that nobody has times out. One to a listener at
/// which too many wait is lost, and tried again. In all of this, and in who may send to whom from
/// where, a host does as Linux does.
///
/// libwebrtc: `VirtualSocketServer`, in which every socket has its own network interface.
///
/// ```
/// use std::time::Duration;
/// use socket_server::{
///     Delay, HostOptions, LinkOptions, MaxWait, ProcessIo, SocketServer, UdpOptions,
///     VirtualNetwork,
/// };
///
/// let network = VirtualNetwork::new(7);
/// let slow = LinkOptions::new().delay(Delay::Constant(Duration::from_millis(30)));
/// let alice = network.add_host(HostOptions::new("alice").uplink(slow))?.server();
/// let bob = network.add_host(HostOptions::new("bob"))?.server();
///
/// let any_port = |server: &socket_server::VirtualSocketServer| (server.host().v4(), 0).into();
/// let from = alice.bind_udp(&UdpOptions::new(any_port(&alice)))?;
/// let to = bob.bind_udp(&UdpOptions::new(any_port(&bob)))?;
/// from.send_to(to.local_addr(), b"hello")?;
///
/// while network.advance() {}
/// let mut buffer = [0; 100];
/// assert_eq!(5, to.recv_from(&mut buffer)?.len);
/// assert_eq!(Duration::from_millis(30), network.time().elapsed());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct VirtualNetwork {
    pub(super) core: Rc<NetworkCore>,
}

/// Called for everything that happens to a packet.
type Observer = Box<dyn FnMut(&NetworkEvent)>;

pub(super) struct NetworkCore {
    pub(super) time: VirtualTime,
    pub(super) state: RefCell<State>,
    observer: RefCell<Option<Observer>>,
}

/// Which host, or NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(pub(super) usize);

/// Which local network; the first is the one outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LanId(pub(super) usize);

impl LanId {
    pub(super) const OUTSIDE: Self = Self(0);
}

pub(super) struct State {
    pub(super) random: Random,
    pub(super) nodes: Vec<Node>,
    pub(super) lans: Vec<Lan>,
    pub(super) names: BTreeMap<String, Vec<IpAddr>>,
    /// Links that packets between two nodes pass besides their own.
    pub(super) transits: BTreeMap<(NodeId, NodeId), Link>,
    to_come: BinaryHeap<Scheduled>,
    last_event: u64,
    last_packet: u64,
    is_observed: bool,
    observed: Vec<NetworkEvent>,
    start: Instant,
}

/// Something with addresses and a link up and down.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) lan: LanId,
    pub(super) ips: Vec<IpAddr>,
    pub(super) up: Link,
    pub(super) down: Link,
    pub(super) kind: NodeKind,
}

pub(super) enum NodeKind {
    Host(Host),
    Nat {
        table: NatTable,
        inside: LanId,
        last_port: u16,
    },
}

/// Nodes that reach each other directly.
#[derive(Default)]
pub(super) struct Lan {
    pub(super) attached: BTreeMap<IpAddr, NodeId>,
    /// The NAT that leads outside.
    pub(super) gateway: Option<NodeId>,
    pub(super) given_addresses: u32,
}

/// Something that will happen.
pub(super) enum Event {
    /// A packet has left the link of a node up to the local network.
    InLan(NetPacket, LanId, NodeId),
    /// A packet enters the link down to a node.
    AtDoor(NetPacket, NodeId),
    /// A packet has reached a node.
    AtNode(NetPacket, NodeId),
    /// Bytes of a socket have left the host.
    Left(Weak<UdpEndpoint>, usize),
    /// A connection has waited for this.
    Timer(Weak<VirtualStream>),
    /// A listener that could not accept tries again.
    Retry(Weak<ListenEndpoint>),
    /// A name server answers.
    Answer(Resolved, io::Result<Vec<SocketAddr>>),
}

struct Scheduled {
    at: Instant,
    /// Decides between those at the same time: who was scheduled first.
    number: u64,
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl VirtualNetwork {
    /// An empty network in a time of its own.
    pub fn new(seed: u64) -> Self {
        Self::in_time(VirtualTime::new(), seed)
    }

    /// An empty network in a time that others use too.
    pub fn in_time(time: VirtualTime, seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            nodes: Vec::new(),
            lans: vec![Lan::default()],
            names: BTreeMap::new(),
            transits: BTreeMap::new(),
            to_come: BinaryHeap::new(),
            last_event: 0,
            last_packet: 0,
            is_observed: false,
            observed: Vec::new(),
            start: time.now() - time.elapsed(),
        };
        Self {
            core: Rc::new(NetworkCore {
                time,
                state: RefCell::new(state),
                observer: RefCell::default(),
            }),
        }
    }

    /// The network's time.
    pub fn time(&self) -> &VirtualTime {
        &self.core.time
    }

    /// When something will happen in the network next: a packet moves on, a connection waits no
    /// longer. `None` if nothing will, unless a socket does something.
    pub fn next_event(&self) -> Option<Instant> {
        self.core.next_event()
    }

    /// Lets everything happen that is to happen up to now. What reaches sockets makes them ready;
    /// their handlers are called when their servers wait.
    pub fn run_due(&self) {
        self.core.run_due();
    }

    /// Moves time on to when something happens next, and lets it happen. False if nothing will.
    pub fn advance(&self) -> bool {
        let Some(next) = self.next_event() else {
            return false;
        };
        self.core.time.advance_to(next);
        self.run_due();
        true
    }

    /// Tells a function of everything that happens to a packet, instead of the one before it.
    ///
    /// The network owns it; one that owns a socket of the network in turn keeps both alive, until there
    /// is another one.
    ///
    /// Two runs that are the same give the same events.
    pub fn observe(&self, observer: impl FnMut(&NetworkEvent) + 'static) {
        self.core.state.borrow_mut().is_observed = true;
        let old = self.core.observer.replace(Some(Box::new(observer)));
        // Its drop code may use the network.
        drop(old);
    }

    /// Gives a name to addresses, beside the hosts' own names.
    pub fn set_name(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut state = self.core.state.borrow_mut();
        let addresses = addresses.into_iter().collect();
        state.names.insert(name.to_owned(), addresses);
    }
}

impl fmt::Debug for VirtualNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualNetwork")
            .field("time", &self.core.time)
            .finish_non_exhaustive()
    }
}

impl NetworkCore {
    pub(super) fn now(&self) -> Instant {
        self.time.now()
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let state = self.state.borrow();
        state.to_come.peek().map(|next| next.at)
    }

    pub(super) fn run_due(&self) {
        let now = self.now();
        loop {
            let mut state = self.state.borrow_mut();
            if state.to_come.peek().is_none_or(|next| next.at > now) {
                break;
            }
            if let Some(next) = state.to_come.pop() {
                state.happen(next.at, next.event);
            }
        }
        self.tell_observer();
    }

    /// Tells what has been observed. Nothing may be borrowed: the observer is a stranger. What it
    /// causes to be observed, it is told when it is done with this.
    pub(super) fn tell_observer(&self) {
        if self.state.borrow().observed.is_empty() {
            return;
        }
        let Some(observer) = self.observer.take() else {
            return;
        };
        let mut telling = Telling {
            core: self,
            observer: Some(observer),
        };
        loop {
            let observed = std::mem::take(&mut self.state.borrow_mut().observed);
            if observed.is_empty() {
                return;
            }
            for event in &observed {
                telling.tell(event);
            }
        }
    }

    /// Does something to the network, and tells of it.
    pub(super) fn with_state<R>(&self, f: impl FnOnce(&mut State, Instant) -> R) -> R {
        let result = f(&mut self.state.borrow_mut(), self.now());
        self.tell_observer();
        result
    }
}

/// An observer that is being told, and put back afterwards, also if it panics; unless it has put
/// another one in its place.
struct Telling<'a> {
    core: &'a NetworkCore,
    observer: Option<Observer>,
}

impl Telling<'_> {
    fn tell(&mut self, event: &NetworkEvent) {
        let new = self.core.observer.take();
        if new.is_some() {
            let old = std::mem::replace(&mut self.observer, new);
            drop(old);
        }
        if let Some(observer) = &mut self.observer {
            observer(event);
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let is_replaced = self.core.observer.borrow().is_some();
        if !is_replaced {
            self.core.observer.replace(self.observer.take());
        }
    }
}

impl State {
    pub(super) fn schedule(&mut self, at: Instant, event: Event) {
        self.last_event += 1;
        self.to_come.push(Scheduled {
            at,
            number: self.last_event,
            event,
        });
    }

    pub(super) fn host(&mut self, id: NodeId) -> Option<&mut Host> {
        match &mut self.nodes[id.0].kind {
            NodeKind::Host(host) => Some(host),
            NodeKind::Nat { .. } => None,
        }
    }

    pub(super) fn next_packet_id(&mut self) -> u64 {
        self.last_packet += 1;
        self.last_packet
    }

    pub(super) fn observe(&mut self, now: Instant, packet: &NetPacket, what: PacketFate) {
        if self.is_observed {
            self.observed.push(NetworkEvent {
                at: now - self.start,
                packet: packet.id,
                protocol: packet.protocol(),
                source: packet.source,
                destination: packet.destination,
                bytes: packet.wire_bytes(),
                what,
            });
        }
    }

    fn happen(&mut self, now: Instant, event: Event) {
        match event {
            Event::InLan(packet, lan, from) => self.cross_lan(now, packet, lan, Some(from)),
            Event::AtDoor(packet, to) => self.enter_node(now, packet, to),
            Event::AtNode(packet, node) => self.reach_node(now, packet, node),
            Event::Left(socket, bytes) => {
                if let Some(socket) = socket.upgrade() {
                    socket.has_left(self, bytes);
                }
            }
            Event::Timer(stream) => {
                if let Some(stream) = stream.upgrade() {
                    stream.on_time(self, now);
                }
            }
            Event::Retry(listener) => {
                if let Some(listener) = listener.upgrade() {
                    listener.note();
                }
            }
            Event::Answer(resolved, addresses) => resolved.deliver(addresses),
        }
    }

    /// A host sends a packet. Returns when it will have left the host, if it has to queue there.
    pub(super) fn send(
        &mut self,
        now: Instant,
        from: NodeId,
        packet: NetPacket,
    ) -> Option<Instant> {
        self.observe(now, &packet, PacketFate::Sent);
        let node = &mut self.nodes[from.0];
        let ip = packet.destination.ip();
        if ip.is_loopback() || node.ips.contains(&ip) {
            self.schedule(now, Event::AtNode(packet, from));
            return None;
        }
        let lan = node.lan;
        let link = LinkOf::Up(from);
        self.pass(now, link, packet, |packet| Event::InLan(packet, lan, from))
    }

    /// A packet looks for its destination in a local network.
    fn cross_lan(&mut self, now: Instant, packet: NetPacket, lan: LanId, from: Option<NodeId>) {
        let here = &self.lans[lan.0];
        match (here.attached.get(&packet.destination.ip()), here.gateway) {
            (Some(to), _) => {
                let to = *to;
                let transit = from.map(|from| (from, to));
                match transit.filter(|transit| self.transits.contains_key(transit)) {
                    Some(transit) => {
                        let link = LinkOf::Transit(transit);
                        self.pass(now, link, packet, |packet| Event::AtDoor(packet, to));
                    }
                    None => self.enter_node(now, packet, to),
                }
            }
            (None, Some(gateway)) => self.leave_through_nat(now, packet, gateway),
            (None, None) => self.observe(now, &packet, PacketFate::Lost(LossReason::NoRoute)),
        }
    }

    fn enter_node(&mut self, now: Instant, packet: NetPacket, to: NodeId) {
        self.pass(now, LinkOf::Down(to), packet, |packet| {
            Event::AtNode(packet, to)
        });
    }

    fn reach_node(&mut self, now: Instant, mut packet: NetPacket, id: NodeId) {
        let node = &self.nodes[id.0];
        match &node.kind {
            NodeKind::Host(_) => self.deliver(now, packet, id),
            NodeKind::Nat { table, inside, .. } => {
                let (inside, port) = (*inside, packet.destination.port());
                match table.inbound(now, packet.protocol(), port, packet.source) {
                    Some(to) => {
                        packet.destination = to;
                        self.cross_lan(now, packet, inside, None);
                    }
                    None => self.observe(now, &packet, PacketFate::Lost(LossReason::Nat)),
                }
            }
        }
    }

    fn leave_through_nat(&mut self, now: Instant, mut packet: NetPacket, nat: NodeId) {
        let node = &mut self.nodes[nat.0];
        let (lan, is_v4) = (node.lan, packet.destination.is_ipv4());
        let outside_ip = node.ips.iter().find(|ip| ip.is_ipv4() == is_v4).copied();
        let NodeKind::Nat {
            table, last_port, ..
        } = &mut node.kind
        else {
            return;
        };
        let protocol = packet.protocol();
        let port = table.outbound(now, protocol, packet.source, packet.destination, |table| {
            let candidates = (0..=u16::MAX).map(|n| last_port.wrapping_add(n).max(1024));
            let free = candidates
                .skip(1)
                .find(|port| !table.is_mapped(protocol, *port))?;
            *last_port = free;
            Some(free)
        });
        let (Some(port), Some(ip)) = (port, outside_ip) else {
            self.observe(now, &packet, PacketFate::Lost(LossReason::Nat));
            return;
        };
        packet.source = SocketAddr::new(ip, port);
        if node.ips.contains(&packet.destination.ip()) {
            // From inside to inside, by the outside address.
            self.reach_node(now, packet, nat);
        } else {
            self.pass(now, LinkOf::Up(nat), packet, |packet| {
                Event::InLan(packet, lan, nat)
            });
        }
    }

    /// Sends a packet through a link. Returns when it has left, if it gets as far as that.
    fn pass(
        &mut self,
        now: Instant,
        link: LinkOf,
        mut packet: NetPacket,
        and_then: impl Fn(NetPacket) -> Event,
    ) -> Option<Instant> {
        let random = &mut self.random;
        let link = match link {
            LinkOf::Up(node) => &mut self.nodes[node.0].up,
            LinkOf::Down(node) => &mut self.nodes[node.0].down,
            LinkOf::Transit(between) => self.transits.get_mut(&between)?,
        };
        let may_fragment = packet.may_fragment;
        match link.pass(now, packet.wire_bytes(), may_fragment, random) {
            Ok(passage) => {
                if passage.marked {
                    packet.mark_congestion();
                }
                if let Some(again) = passage.again {
                    self.schedule(again, and_then(packet.clone()));
                }
                self.schedule(passage.arrives, and_then(packet));
                Some(passage.left)
            }
            Err(reason) => {
                // What is lost by chance, is lost when it has left.
                let left = link.busy_until();
                self.observe(now, &packet, PacketFate::Lost(reason));
                left.filter(|_| reason == LossReason::Chance)
            }
        }
    }

    /// A packet has reached the host that it is for.
    fn deliver(&mut self, now: Instant, packet: NetPacket, id: NodeId) {
        let Some(host) = self.host(id) else {
            return;
        };
        let fate = match &packet.payload {
            Payload::Datagram(data) => {
                host.deliver_datagram(now, packet.source, packet.destination, packet.tos, data)
            }
            Payload::Segment(segment) => {
                let segment = segment.clone();
                self.observe(now, &packet, PacketFate::Arrived);
                self.deliver_segment(now, id, packet.source, packet.destination, &segment);
                return;
            }
        };
        let what = fate.map_or_else(PacketFate::Lost, |()| PacketFate::Arrived);
        self.observe(now, &packet, what);
    }

    /// The default properties of a link between two nodes, until somebody sets others.
    pub(super) fn transit(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        self.transits
            .entry((from, to))
            .or_insert_with(|| Link::new(LinkOptions::default()))
    }

    /// How long a name server takes.
    pub(super) const fn resolve_delay() -> Duration {
        Duration::from_millis(20)
    }
}

/// One of the links.
#[derive(Debug, Clone, Copy)]
pub(super) enum LinkOf {
    Up(NodeId),
    Down(NodeId),
    Transit((NodeId, NodeId)),
}
