//! A NAT in front of real sockets.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::address::canonical;
use crate::ecn::Ecn;
use crate::envelope::Transmit;
use crate::firewall::Protocol;
use crate::nat::{NatTable, NatType};
use crate::packet::Packet;
use crate::recv_batch::{Arrival, RecvBatch};
use crate::registry::{Key, News, SharedRegistry, dispatch_round};
use crate::resolution::{OnResolved, Resolution};
use crate::server::{MaxWait, ProcessIo, SocketServer, Waiting};
use crate::signal::{Signal, SignalHandler};
use crate::tcp::TcpSocket;
use crate::tcp_options::TcpOptions;
use crate::udp::{Received, UdpHandler, UdpIo, UdpOption, UdpSocket};
use crate::udp_options::{DATAGRAM_OVERHEAD_BYTES, DEFAULT_BUFFER_BYTES, UdpOptions};
use crate::wake::WakeHandle;

/// How many outside ports a NAT keeps.
const MAX_MAPPINGS: usize = 1024;
/// After how long without anything going out a mapping is forgotten.
const MAPPING_TIMEOUT: Duration = Duration::from_secs(120);
/// Handlers of sockets behind the NAT that are called in one wait.
const MAX_HANDLERS: usize = 64;
/// Receive calls of an outside socket, before others get their turn.
const RECEIVES_PER_TURN: usize = 8;
/// The first port of the inside that is given out.
const FIRST_INSIDE_PORT: u16 = 1024;

/// A server whose sockets are behind a NAT. It may be put in front of any other, also of the
/// operating system's: then real peers see what they would see of a host behind a real NAT.
///
/// Its sockets have inside addresses, which nobody else knows. What they send leaves from a socket
/// that the NAT binds to its outside address, a new one for each mapping, and what comes in there
/// reaches them if the [type](NatType) of the NAT lets it. TCP connections that they make leave from
/// the outside address; nobody can connect to them.
///
/// In a virtual network a NAT is better [added](crate::VirtualNetwork::add_nat) as what it is, a
/// place that packets pass.
///
/// libwebrtc: `NATSocketServer`, `NATSocketFactory` and `NATServer`, which prepends addresses to the
/// data and takes another hop.
pub struct NatSocketServer<S: ?Sized = dyn SocketServer> {
    nat: Rc<Nat>,
    inner: Rc<S>,
    waiting: Cell<bool>,
}

struct Nat {
    inner: Weak<dyn SocketServer>,
    outside_ip: IpAddr,
    inside_ip: IpAddr,
    table: RefCell<NatTable>,
    registry: SharedRegistry,
    /// The outside sockets, by port.
    outside: RefCell<BTreeMap<u16, Rc<UdpSocket>>>,
    /// The sockets inside, by address.
    inside: RefCell<BTreeMap<SocketAddr, Weak<Inside>>>,
    next_inside_port: Cell<u16>,
    batch: RefCell<Option<RecvBatch>>,
}

/// A socket behind the NAT, as the NAT knows it.
struct Inside {
    nat: Rc<Nat>,
    local: SocketAddr,
    key: Key,
    waiting: RefCell<VecDeque<Waiter>>,
    waiting_bytes: Cell<usize>,
    recv_buffer_bytes: Cell<usize>,
    /// When those arrived that were read last, by both clocks.
    latest: RefCell<Vec<(SystemTime, Instant)>>,
    watches_writable: Cell<bool>,
    dropped: Cell<u64>,
}

/// A datagram that waits to be read.
struct Waiter {
    data: Packet,
    arrival: Arrival,
    arrived_at: Option<Instant>,
}

impl<S: SocketServer + 'static> NatSocketServer<S> {
    /// Puts a NAT of this type in front of a server. Outside it is known by `outside_ip`, an address
    /// of the inner server's host; inside, sockets are given addresses at `inside_ip`, which may be
    /// any of the same family.
    pub fn new(inner: Rc<S>, nat_type: NatType, inside_ip: IpAddr, outside_ip: IpAddr) -> Self {
        let weak: Weak<S> = Rc::downgrade(&inner);
        let nat = Nat {
            inner: weak,
            outside_ip,
            inside_ip,
            table: RefCell::new(NatTable::new(nat_type, MAPPING_TIMEOUT, MAX_MAPPINGS)),
            registry: SharedRegistry::default(),
            outside: RefCell::default(),
            inside: RefCell::default(),
            next_inside_port: Cell::new(FIRST_INSIDE_PORT),
            batch: RefCell::default(),
        };
        Self {
            nat: Rc::new(nat),
            inner,
            waiting: Cell::new(false),
        }
    }
}

impl<S: SocketServer + ?Sized> SocketServer for NatSocketServer<S> {
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()> {
        let _waiting = Waiting::begin(&self.waiting)?;
        let has_ready = || self.nat.registry.borrow_mut().has_ready();
        let max_wait = match process_io {
            ProcessIo::Yes if has_ready() => MaxWait::Poll,
            _ => max_wait,
        };
        self.inner.wait(max_wait, process_io)?;
        if process_io == ProcessIo::Yes {
            dispatch_round(&self.nat.registry, MAX_HANDLERS);
        }
        Ok(())
    }

    fn wake_handle(&self) -> WakeHandle {
        self.inner.wake_handle()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn has_ready_sockets(&self) -> bool {
        self.nat.registry.borrow_mut().has_ready() || self.inner.has_ready_sockets()
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        if options.share_port {
            let message = "sockets behind a NAT share no port";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let nat = &self.nat;
        UdpSocket::open(nat.registry.clone(), |key| {
            let local = nat.choose_inside(options.address)?;
            let inside = Rc::new(Inside {
                nat: nat.clone(),
                local,
                key,
                waiting: RefCell::default(),
                waiting_bytes: Cell::new(0),
                // Twice as much, as on Linux.
                recv_buffer_bytes: Cell::new(
                    options
                        .recv_buffer_bytes
                        .map_or(DEFAULT_BUFFER_BYTES, |bytes| bytes.saturating_mul(2)),
                ),
                latest: RefCell::default(),
                watches_writable: Cell::new(false),
                dropped: Cell::new(0),
            });
            let known = Rc::downgrade(&inside);
            nat.inside.borrow_mut().insert(local, known);
            Ok(Box::new(InsideUdp {
                shown: SocketAddr::new(options.address.ip(), local.port()),
                inside,
            }))
        })
    }

    fn tcp_socket(&self, options: &TcpOptions) -> io::Result<TcpSocket> {
        let outside = SocketAddr::new(self.nat.outside_ip, 0);
        self.inner.tcp_socket(&options.clone().local(outside))
    }

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        self.inner.resolve(host, port, done)
    }

    fn on_signal(&self, signal: Signal, handler: Box<dyn FnMut()>) -> io::Result<SignalHandler> {
        self.inner.on_signal(signal, handler)
    }
}

impl Nat {
    /// Checks, or chooses, the address of a socket inside.
    fn choose_inside(&self, wanted: SocketAddr) -> io::Result<SocketAddr> {
        let is_here = wanted.ip() == self.inside_ip
            || (wanted.ip().is_unspecified() && wanted.is_ipv4() == self.inside_ip.is_ipv4());
        if !is_here {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut inside = self.inside.borrow_mut();
        inside.retain(|_, socket| socket.strong_count() > 0);
        let is_free = |port| !inside.contains_key(&SocketAddr::new(self.inside_ip, port));
        let port = match wanted.port() {
            0 => (0..=u16::MAX)
                .map(|_| {
                    let port = self.next_inside_port.get();
                    let next = port.checked_add(1).unwrap_or(FIRST_INSIDE_PORT);
                    self.next_inside_port.set(next);
                    port
                })
                .find(|port| is_free(*port)),
            port => Some(port).filter(|port| is_free(*port)),
        };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        Ok(SocketAddr::new(self.inside_ip, port))
    }

    /// The outside socket that something leaves from, which is opened if there is none.
    fn outside_port(self: &Rc<Self>, inside: SocketAddr, to: SocketAddr) -> io::Result<u16> {
        let now = self.now();
        // Before the table forgets them by itself, in want of room, and their sockets stay open.
        let forgotten = self.table.borrow_mut().forget_stale(now);
        self.close_outside(forgotten.into_iter().map(|(_, port)| port));
        let mut table = self.table.borrow_mut();
        let mut refused = None;
        let port = table.outbound(now, Protocol::Udp, inside, to, |_| {
            let opened = self.open_outside();
            opened.map_err(|error| refused = Some(error)).ok()
        });
        drop(table);
        port.ok_or_else(|| refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    fn now(&self) -> Instant {
        let inner = self.inner.upgrade();
        inner.map_or_else(Instant::now, |inner| inner.now())
    }

    fn open_outside(self: &Rc<Self>) -> io::Result<u16> {
        let inner = self.inner.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let any_port = SocketAddr::new(self.outside_ip, 0);
        let socket = inner.bind_udp(&UdpOptions::new(any_port))?;
        socket.set_handler(Outside(Rc::downgrade(self)));
        let port = socket.local_addr().port();
        self.outside.borrow_mut().insert(port, Rc::new(socket));
        Ok(port)
    }

    fn close_outside(&self, ports: impl IntoIterator<Item = u16>) {
        let close = |port| self.outside.borrow_mut().remove(&port);
        let closed: Vec<_> = ports.into_iter().filter_map(close).collect();
        if !closed.is_empty() {
            drop(closed);
            // Whoever waited for room in one of them finds another one.
            self.note_room();
        }
    }

    fn note_room(&self) {
        let inside: Vec<_> = self.inside.borrow().values().cloned().collect();
        for socket in inside.iter().filter_map(Weak::upgrade) {
            if socket.watches_writable.get() {
                socket.note(News::WRITABLE);
            }
        }
    }

    /// Reads what has come to an outside socket, and passes on what may come in.
    fn pass_inside(&self, socket: &UdpSocket) {
        let mut batch = self.batch.take().unwrap_or_default();
        for _ in 0..RECEIVES_PER_TURN {
            if socket.recv(&mut batch).is_err() {
                break;
            }
            for datagram in batch.iter() {
                let port = socket.local_addr().port();
                let source = canonical(datagram.source);
                let table = self.table.borrow();
                let to = table.inbound(self.now(), Protocol::Udp, port, source);
                drop(table);
                if let Some(to) = to {
                    let arrival = Arrival {
                        source,
                        local_ip: Some(self.inside_ip),
                        tos: datagram.dscp.bits() << 2 | Ecn::bits(datagram.ecn),
                        received_at: datagram.received_at,
                        is_truncated: datagram.is_truncated,
                        ..Arrival::default()
                    };
                    self.deliver(
                        to,
                        Waiter {
                            data: datagram.share(),
                            arrival,
                            arrived_at: socket.arrived_at(&datagram),
                        },
                    );
                }
            }
        }
        self.batch.replace(Some(batch));
    }

    fn deliver(&self, to: SocketAddr, waiter: Waiter) {
        let inside = self.inside.borrow().get(&to).and_then(Weak::upgrade);
        let Some(inside) = inside else { return };
        let bytes = inside.waiting_bytes.get() + waiter.data.len() + DATAGRAM_OVERHEAD_BYTES;
        let is_first = inside.waiting.borrow().is_empty();
        if bytes > inside.recv_buffer_bytes.get() && !is_first {
            inside.dropped.set(inside.dropped.get() + 1);
            return;
        }
        inside.waiting_bytes.set(bytes);
        inside.waiting.borrow_mut().push_back(waiter);
        inside.note(News::READABLE);
    }
}

/// The handler of the outside sockets.
struct Outside(Weak<Nat>);

impl UdpHandler for Outside {
    fn on_readable(&mut self, socket: &UdpSocket) {
        if let Some(nat) = self.0.upgrade() {
            nat.pass_inside(socket);
        }
    }

    fn on_writable(&mut self, _socket: &UdpSocket) {
        if let Some(nat) = self.0.upgrade() {
            nat.note_room();
        }
    }
}

impl Inside {
    fn note(&self, news: News) {
        let socket = self.nat.registry.borrow().get(self.key);
        if let Some(socket) = socket {
            socket.note(news);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let ports = self
            .nat
            .table
            .borrow_mut()
            .forget_inside(Protocol::Udp, self.local);
        self.nat.close_outside(ports);
    }
}

/// A socket behind the NAT, as its owner uses it.
struct InsideUdp {
    shown: SocketAddr,
    inside: Rc<Inside>,
}

impl UdpIo for InsideUdp {
    fn local_addr(&self) -> SocketAddr {
        self.shown
    }

    fn recv(&self, batch: &mut RecvBatch) -> io::Result<Received> {
        let mut waiting = self.inside.waiting.borrow_mut();
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let inside = &self.inside;
        let mut latest = inside.latest.borrow_mut();
        latest.clear();
        batch.fill(|| {
            let next = waiting.pop_front()?;
            let bytes = next.data.len() + DATAGRAM_OVERHEAD_BYTES;
            inside.waiting_bytes.set(inside.waiting_bytes.get() - bytes);
            latest.extend(next.arrival.received_at.zip(next.arrived_at));
            Some((next.data, next.arrival))
        });
        Ok(Received {
            is_drained: waiting.is_empty(),
        })
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let (nat, from) = (&self.inside.nat, self.inside.local);
        let to = canonical(transmit.envelope.destination);
        if to.is_ipv4() != from.is_ipv4() {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        if to.ip() == nat.inside_ip {
            let dscp = transmit.envelope.dscp.unwrap_or_default();
            for data in transmit.datagrams() {
                let arrival = Arrival {
                    source: from,
                    local_ip: Some(to.ip()),
                    tos: dscp.bits() << 2 | Ecn::bits(transmit.envelope.ecn),
                    ..Arrival::default()
                };
                nat.deliver(
                    to,
                    Waiter {
                        data: Packet::from(data),
                        arrival,
                        arrived_at: None,
                    },
                );
            }
            return Ok(());
        }
        let port = nat.outside_port(from, to)?;
        // Not borrowed while it sends, which may call an observer of the network.
        let socket = nat.outside.borrow().get(&port).cloned();
        let socket = socket.ok_or(io::ErrorKind::NotConnected)?;
        let mut translated = *transmit;
        translated.envelope.source_ip = None;
        socket.send_run(translated)
    }

    fn max_gso_segments(&self) -> usize {
        let outside = self.inside.nat.outside.borrow();
        outside
            .values()
            .next()
            .map_or(1, |socket| socket.max_gso_segments())
    }

    fn watch_writable(&self, watch: bool) -> io::Result<()> {
        self.inside.watches_writable.set(watch);
        Ok(())
    }

    fn option(&self, option: UdpOption) -> io::Result<usize> {
        match option {
            UdpOption::DontFragment => Ok(0),
            UdpOption::RecvBuffer => Ok(self.inside.recv_buffer_bytes.get()),
            UdpOption::SendBuffer | UdpOption::OnlyV6 => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn set_option(&self, option: UdpOption, value: usize) -> io::Result<()> {
        match option {
            UdpOption::RecvBuffer => {
                let doubled = value.saturating_mul(2);
                self.inside.recv_buffer_bytes.set(doubled);
                Ok(())
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn instant_of(&self, received_at: SystemTime) -> Option<Instant> {
        let latest = self.inside.latest.borrow();
        let found = latest.iter().find(|(at, _)| *at == received_at);
        found.map(|(_, instant)| *instant)
    }

    fn dropped(&self) -> u64 {
        self.inside.dropped.get()
    }
}

impl<S: ?Sized> fmt::Debug for NatSocketServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatSocketServer")
            .field("outside_ip", &self.nat.outside_ip)
            .field("inside_ip", &self.nat.inside_ip)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket as Plain};

    use super::*;
    use crate::PhysicalSocketServer;

    /// Whatever makes the table forget a mapping, its outside socket is closed.
    #[test]
    fn what_is_forgotten_has_no_socket_outside() {
        let inner = Rc::new(PhysicalSocketServer::new().unwrap());
        let (inside, outside) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::LOCALHOST);
        let server = NatSocketServer::new(inner, NatType::Symmetric, inside.into(), outside.into());
        let nat = &server.nat;
        let forgetful = NatTable::new(NatType::Symmetric, Duration::ZERO, 1);
        nat.table.replace(forgetful);
        let socket = server
            .bind_udp(&UdpOptions::new((inside, 0).into()))
            .unwrap();
        for _ in 0..10 {
            let peer = Plain::bind((outside, 0)).unwrap();
            socket.send_to(peer.local_addr().unwrap(), b"x").unwrap();
            assert_eq!(1, nat.outside.borrow().len());
        }
        drop(socket);
        assert!(nat.outside.borrow().is_empty());
    }
}
