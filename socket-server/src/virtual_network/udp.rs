//! UDP sockets of a virtual host.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::host::{Binding, Bound};
use super::link::LossReason;
use super::network::{Event, NetworkCore, NodeId, State};
use super::packet::{NetPacket, Payload, udp_headers};
use crate::address::{canonical, destination};
use crate::ecn::Ecn;
use crate::envelope::Transmit;
use crate::recv_batch::{Arrival, RecvBatch};
use crate::registry::{Key, News, SharedRegistry};
use crate::udp::{Received, UdpIo, UdpOption};
use crate::udp_options::{DATAGRAM_OVERHEAD_BYTES, DEFAULT_BUFFER_BYTES, UdpOptions};

/// The least that Linux makes of a buffer, whatever it is asked for.
const MIN_RECV_BUFFER_BYTES: usize = 2304;
const MIN_SEND_BUFFER_BYTES: usize = 4608;
/// The longest datagrams there are.
const MAX_V4_BYTES: usize = 65_507;
const MAX_V6_BYTES: usize = 65_527;
/// What the loopback interface takes without fragmenting it.
const LOOPBACK_MTU: usize = 65_536;
/// As many as Linux sends at a time.
const MAX_SEGMENTS: usize = 64;
/// When virtual time began, by the wall clock: the third of September 2001, in the morning of which
/// a billion seconds had passed since the epoch.
const START_SECONDS: u64 = 1_000_000_000;

/// A UDP socket as the network knows it.
pub(super) struct UdpEndpoint {
    host: NodeId,
    binding: Binding,
    registry: SharedRegistry,
    key: Key,
    arrived: RefCell<VecDeque<Arrived>>,
    arrived_bytes: Cell<usize>,
    recv_buffer_bytes: Cell<usize>,
    send_buffer_bytes: Cell<usize>,
    /// Bytes that queue at the host's link.
    leaving_bytes: Cell<usize>,
    watches_writable: Cell<bool>,
    dont_fragment: Cell<bool>,
    dropped: Cell<u64>,
}

/// A datagram that waits to be read.
struct Arrived {
    at: Instant,
    source: SocketAddr,
    local_ip: IpAddr,
    tos: u8,
    data: Rc<[u8]>,
}

impl Bound for UdpEndpoint {
    fn binding(&self) -> Binding {
        self.binding
    }
}

impl UdpEndpoint {
    /// An address as the application knows it: IPv6 sockets know IPv4 addresses in their mapped form.
    fn shown(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.binding.address.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }

    pub(super) fn deliver(
        &self,
        now: Instant,
        source: SocketAddr,
        local_ip: IpAddr,
        tos: u8,
        data: &Rc<[u8]>,
    ) -> Result<(), LossReason> {
        // As Linux does: the last one may be too much, so that even the least buffer takes one.
        let waiting = self.arrived_bytes.get();
        if waiting > self.recv_buffer_bytes.get() {
            self.dropped.set(self.dropped.get() + 1);
            return Err(LossReason::SocketFull);
        }
        let bytes = data.len() + DATAGRAM_OVERHEAD_BYTES;
        self.arrived_bytes.set(waiting + bytes);
        self.arrived.borrow_mut().push_back(Arrived {
            at: now,
            source: self.shown(source),
            local_ip: self.shown(SocketAddr::new(local_ip, 0)).ip(),
            tos,
            data: data.clone(),
        });
        self.note(News::READABLE);
        Ok(())
    }

    /// Bytes that queued have left.
    pub(super) fn has_left(&self, state: &mut State, bytes: usize) {
        let leaving = self.leaving_bytes.get().saturating_sub(bytes);
        self.leaving_bytes.set(leaving);
        let host = state.host(self.host);
        if !host.is_some_and(|host| host.is_sending_blocked) {
            self.note_room();
        }
    }

    /// Tells of room, if there is some. As Linux does, not of every bit of it.
    pub(super) fn note_room(&self) {
        if self.leaving_bytes.get() <= self.send_buffer_bytes.get() / 2 {
            self.note(News::WRITABLE);
        }
    }

    pub(super) fn note(&self, news: News) {
        if news == News::WRITABLE && !self.watches_writable.get() {
            return;
        }
        let socket = self.registry.borrow().get(self.key);
        if let Some(socket) = socket {
            socket.note(news);
        }
    }
}

/// A UDP socket as its owner uses it.
pub(super) struct VirtualUdp {
    core: Rc<NetworkCore>,
    host: NodeId,
    endpoint: Rc<UdpEndpoint>,
}

impl VirtualUdp {
    pub(super) fn bind(
        core: Rc<NetworkCore>,
        host: NodeId,
        registry: SharedRegistry,
        key: Key,
        options: &UdpOptions,
    ) -> io::Result<Self> {
        let mut state = core.state.borrow_mut();
        let mut binding = Binding::new(options.address, options.only_v6, options.share_port)?;
        state.check_bindable(host, options.address.ip())?;
        let on_host = state.host(host).ok_or(io::ErrorKind::NotFound)?;
        binding.address = on_host.bind_udp(binding)?;
        let endpoint = Rc::new(UdpEndpoint {
            host,
            binding,
            registry,
            key,
            arrived: RefCell::default(),
            arrived_bytes: Cell::new(0),
            recv_buffer_bytes: Cell::new(DEFAULT_BUFFER_BYTES),
            send_buffer_bytes: Cell::new(DEFAULT_BUFFER_BYTES),
            leaving_bytes: Cell::new(0),
            watches_writable: Cell::new(false),
            dont_fragment: Cell::new(false),
            dropped: Cell::new(0),
        });
        on_host.add_udp(&endpoint);
        drop(state);
        let socket = Self {
            core,
            host,
            endpoint,
        };
        if let Some(bytes) = options.recv_buffer_bytes {
            socket.set_option(UdpOption::RecvBuffer, bytes)?;
        }
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_option(UdpOption::SendBuffer, bytes)?;
        }
        Ok(socket)
    }

    /// Checks what the socket may send to whom, as Linux does. Returns the address that it is sent
    /// from, and the one that it is sent to.
    fn path(&self, transmit: &Transmit<'_>) -> io::Result<(SocketAddr, SocketAddr)> {
        let binding = &self.endpoint.binding;
        let asked = transmit.envelope.destination;
        let source_ip = transmit.envelope.source_ip.map(|ip| ip.to_canonical());
        let bound = canonical(binding.address).ip();
        let own = source_ip.filter(IpAddr::is_ipv4);
        let destination = destination(asked, own.unwrap_or(binding.address.ip()));
        // An IPv6 socket at a mapped address is one of IPv4, but for its form.
        let is_mapped = binding.address.is_ipv6() && bound.is_ipv4();
        if source_ip.is_some_and(|ip| ip.is_ipv4() != canonical(asked).is_ipv4()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Linux looks at this early on its way to IPv4, and late on that to IPv6.
        let is_absurdly_long = transmit.contents.len() > usize::from(u16::MAX);
        if binding.address.is_ipv4() && is_absurdly_long {
            return Err(too_long());
        }
        if binding.address.is_ipv4() && asked.is_ipv6() {
            return Err(unsupported_family());
        }
        if binding.only_v6 && destination.is_ipv4() {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        if destination.is_ipv4() && is_absurdly_long {
            return Err(too_long());
        }
        // `::` has become an address of IPv4.
        if source_ip.is_some_and(|ip| ip.is_ipv4() != destination.is_ipv4()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if destination.port() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let state = self.core.state.borrow();
        let wanted = source_ip.unwrap_or(bound);
        if source_ip.is_some() && state.check_bindable(self.host, wanted).is_err() {
            return Err(match wanted {
                IpAddr::V4(_) => io::ErrorKind::NetworkUnreachable.into(),
                IpAddr::V6(_) => io::ErrorKind::InvalidInput.into(),
            });
        }
        let is_chosen = source_ip.is_some_and(|ip| !ip.is_unspecified());
        if is_mapped && destination.is_ipv6() && !is_chosen {
            return Err(unsupported_family());
        }
        let ip = match wanted {
            ip if !ip.is_unspecified() && ip.is_ipv4() == destination.is_ipv4() => ip,
            _ => state.source_ip(self.host, destination.ip())?,
        };
        // Nothing from the loopback address leaves the host, and nothing reaches it from elsewhere.
        let is_own = state.nodes[self.host.0].ips.contains(&destination.ip());
        if ip.is_loopback() && !destination.ip().is_loopback() && !is_own {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((SocketAddr::new(ip, binding.address.port()), destination))
    }
}

#[cfg(unix)]
pub(super) fn unsupported_family() -> io::Error {
    io::Error::from_raw_os_error(libc::EAFNOSUPPORT)
}

#[cfg(not(unix))]
pub(super) fn unsupported_family() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

#[cfg(unix)]
fn too_long() -> io::Error {
    io::Error::from_raw_os_error(libc::EMSGSIZE)
}

#[cfg(not(unix))]
fn too_long() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

fn wall_clock(elapsed: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START_SECONDS) + elapsed
}

impl UdpIo for VirtualUdp {
    fn local_addr(&self) -> SocketAddr {
        self.endpoint.binding.address
    }

    fn recv(&self, batch: &mut RecvBatch) -> io::Result<Received> {
        self.core.run_due();
        let mut arrived = self.endpoint.arrived.borrow_mut();
        if arrived.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let start = self.core.now() - self.core.time.elapsed();
        batch.fill(|| {
            let next = arrived.pop_front()?;
            let bytes = next.data.len() + DATAGRAM_OVERHEAD_BYTES;
            let arrived_bytes = &self.endpoint.arrived_bytes;
            arrived_bytes.set(arrived_bytes.get() - bytes);
            let arrival = Arrival {
                source: next.source,
                local_ip: Some(next.local_ip),
                tos: next.tos,
                received_at: Some(wall_clock(next.at - start)),
                ..Arrival::default()
            };
            Some((next.data, arrival))
        });
        Ok(Received {
            is_drained: arrived.is_empty(),
        })
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let endpoint = &self.endpoint;
        let (source, destination) = self.path(transmit)?;
        let headers = udp_headers(destination);
        let longest = match destination {
            SocketAddr::V4(_) => MAX_V4_BYTES,
            SocketAddr::V6(_) => MAX_V6_BYTES,
        };
        let is_local = {
            let state = &mut *self.core.state.borrow_mut();
            let node = &state.nodes[self.host.0];
            let is_local = destination.ip().is_loopback() || node.ips.contains(&destination.ip());
            let mtu = match is_local {
                true => Some(LOOPBACK_MTU),
                false => node.up.options().mtu,
            };
            let mtu = mtu.filter(|_| endpoint.dont_fragment.get());
            let limit = mtu.map_or(longest, |mtu| longest.min(mtu.saturating_sub(headers)));
            if transmit.datagrams().any(|data| data.len() > limit) {
                return Err(too_long());
            }
            is_local
        };
        let tos = transmit.envelope.dscp.unwrap_or_default().bits() << 2
            | Ecn::bits(transmit.envelope.ecn);
        self.core.with_state(|state, now| {
            let is_blocked = state
                .host(self.host)
                .is_some_and(|host| host.is_sending_blocked);
            let is_full = endpoint.leaving_bytes.get() >= endpoint.send_buffer_bytes.get();
            if is_blocked || (is_full && !is_local) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            for data in transmit.datagrams() {
                let packet = NetPacket {
                    id: state.next_packet_id(),
                    source,
                    destination,
                    payload: Payload::Datagram(data.into()),
                    tos,
                    may_fragment: !endpoint.dont_fragment.get(),
                };
                let bytes = packet.wire_bytes() + DATAGRAM_OVERHEAD_BYTES;
                let left = state.send(now, self.host, packet);
                if let Some(left) = left.filter(|left| *left > now) {
                    let leaving = &endpoint.leaving_bytes;
                    leaving.set(leaving.get() + bytes);
                    let socket = Rc::downgrade(endpoint);
                    state.schedule(left, Event::Left(socket, bytes));
                }
            }
            Ok(())
        })
    }

    fn max_gso_segments(&self) -> usize {
        MAX_SEGMENTS
    }

    fn watch_writable(&self, watch: bool) -> io::Result<()> {
        self.endpoint.watches_writable.set(watch);
        Ok(())
    }

    fn option(&self, option: UdpOption) -> io::Result<usize> {
        let endpoint = &self.endpoint;
        match option {
            UdpOption::RecvBuffer => Ok(endpoint.recv_buffer_bytes.get()),
            UdpOption::SendBuffer => Ok(endpoint.send_buffer_bytes.get()),
            UdpOption::DontFragment => Ok(endpoint.dont_fragment.get().into()),
            UdpOption::OnlyV6 if endpoint.binding.address.is_ipv4() => {
                Err(io::ErrorKind::Unsupported.into())
            }
            UdpOption::OnlyV6 => Ok(endpoint.binding.only_v6.into()),
        }
    }

    fn set_option(&self, option: UdpOption, value: usize) -> io::Result<()> {
        let endpoint = &self.endpoint;
        match option {
            // Twice as much, as on Linux, which counts what the kernel needs besides.
            UdpOption::RecvBuffer => {
                let bytes = value.saturating_mul(2).max(MIN_RECV_BUFFER_BYTES);
                endpoint.recv_buffer_bytes.set(bytes);
            }
            UdpOption::SendBuffer => {
                let bytes = value.saturating_mul(2).max(MIN_SEND_BUFFER_BYTES);
                endpoint.send_buffer_bytes.set(bytes);
            }
            UdpOption::DontFragment => endpoint.dont_fragment.set(value != 0),
            UdpOption::OnlyV6 => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    fn dropped(&self) -> u64 {
        self.endpoint.dropped.get()
    }

    fn instant_of(&self, received_at: SystemTime) -> Option<Instant> {
        let start = self.core.now() - self.core.time.elapsed();
        let elapsed = received_at
            .duration_since(wall_clock(Duration::ZERO))
            .ok()?;
        Some(start + elapsed)
    }
}
