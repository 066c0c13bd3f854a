//! TCP connections of a virtual host.

mod options;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use self::options::StreamOptions;
use super::listener::ListenEndpoint;
use super::network::{Event, NetworkCore, NodeId, State};
use super::packet::{NetPacket, Payload};
use super::tcp_connection::{self, Connection, Segment};
use super::topology::VirtualHost;
use super::udp::unsupported_family;
use crate::address::{canonical, destination, unspecified_like};
use crate::registry::{Key, News, SharedRegistry};
use crate::tcp::{TcpIo, TcpOption};
use crate::tcp_options::TcpOptions;

/// One end of a connection as the network knows it. It outlives the socket by as long as it takes to
/// say goodbye.
pub(super) struct VirtualStream {
    host: NodeId,
    local: SocketAddr,
    remote: SocketAddr,
    connection: RefCell<Connection>,
    /// Who is told what happens.
    owner: RefCell<Owner>,
    options: RefCell<StreamOptions>,
    timer: Cell<Option<Instant>>,
    is_connected: Cell<bool>,
    /// Why the attempt has failed.
    refused: Cell<Option<io::ErrorKind>>,
    /// Why the connection has.
    failed: Cell<Option<io::ErrorKind>>,
}

/// Who hears of a connection.
enum Owner {
    Socket(SharedRegistry, Key),
    /// Once it exists.
    Listener(Weak<ListenEndpoint>),
    Nobody,
}

impl VirtualStream {
    /// A connection that comes in to a listener.
    pub(super) fn accept(
        now: Instant,
        host: NodeId,
        listener: &Rc<ListenEndpoint>,
        local: SocketAddr,
        remote: SocketAddr,
        syn: &Segment,
    ) -> Rc<Self> {
        let options = StreamOptions::of(listener.accepted());
        let connection = Connection::accept(now, &options.limits(), syn);
        let owner = Owner::Listener(Rc::downgrade(listener));
        listener.is_coming();
        Self::new(host, (local, remote), connection, owner, options)
    }

    fn new(
        host: NodeId,
        (local, remote): (SocketAddr, SocketAddr),
        connection: Connection,
        owner: Owner,
        options: StreamOptions,
    ) -> Rc<Self> {
        Rc::new(Self {
            host,
            local,
            remote,
            connection: RefCell::new(connection),
            owner: RefCell::new(owner),
            options: RefCell::new(options),
            timer: Cell::new(None),
            is_connected: Cell::new(false),
            refused: Cell::new(None),
            failed: Cell::new(None),
        })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn on_segment(self: &Rc<Self>, state: &mut State, now: Instant, segment: &Segment) {
        self.connection.borrow_mut().on_segment(now, segment);
        self.drive(state, now);
    }

    pub(super) fn on_time(self: &Rc<Self>, state: &mut State, now: Instant) {
        self.timer.set(None);
        self.connection.borrow_mut().on_time(now);
        self.drive(state, now);
    }

    /// Does what the connection has left to be done after it was changed.
    pub(super) fn drive(self: &Rc<Self>, state: &mut State, now: Instant) {
        let is_blocked = state
            .host(self.host)
            .is_some_and(|host| host.is_sending_blocked);
        if !is_blocked {
            loop {
                let segment = self.connection.borrow_mut().poll_segment(now);
                let Some(segment) = segment else { break };
                let tos = self.options.borrow().dscp << 2;
                state.send_segment(now, self.host, self.local, self.remote, segment, tos);
            }
        }
        loop {
            let event = self.connection.borrow_mut().poll_event();
            let Some(event) = event else { break };
            if event == tcp_connection::Event::Connected && self.is_unwanted() {
                return self.release(state, now, Connection::abort);
            }
            self.tell(event);
        }
        let (deadline, is_over) = {
            let connection = self.connection.borrow();
            (connection.deadline(), connection.is_over())
        };
        if is_over {
            if let Some(host) = state.host(self.host) {
                host.remove_stream(self);
            }
            return;
        }
        // One that comes too early finds a later deadline, and is set again.
        if let Some(deadline) = deadline
            && self.timer.get().is_none_or(|timer| deadline < timer)
        {
            let at = deadline.max(now);
            self.timer.set(Some(at));
            state.schedule(at, Event::Timer(Rc::downgrade(self)));
        }
    }

    fn tell(self: &Rc<Self>, event: tcp_connection::Event) {
        use tcp_connection::Event::{Closed, Connected, PeerFinished, Readable, Writable};

        if event == Connected {
            self.is_connected.set(true);
        }
        if let Closed(error) = event {
            if self.is_connected.get() {
                self.failed.set(error);
            } else {
                self.refused
                    .set(Some(error.unwrap_or(io::ErrorKind::ConnectionRefused)));
            }
        }
        let listener = match &*self.owner.borrow() {
            Owner::Listener(listener) => listener.upgrade(),
            Owner::Socket(..) | Owner::Nobody => None,
        };
        self.note(match event {
            Connected | Writable => News::WRITABLE,
            Readable | PeerFinished => News::READABLE,
            // Whoever waits to write finds out by writing.
            Closed(_) => News {
                readable: true,
                writable: true,
            },
        });
        if let Some(listener) = listener {
            match event {
                Connected => listener.has_come(self.clone()),
                Closed(_) if self.refused.get().is_some() => listener.has_failed(),
                _ => {}
            }
        }
    }

    /// Whether the listener that it was for has gone.
    fn is_unwanted(&self) -> bool {
        matches!(&*self.owner.borrow(), Owner::Listener(listener) if listener.strong_count() == 0)
    }

    /// Tells the socket, if there is one.
    fn note(&self, news: News) {
        let socket = match &*self.owner.borrow() {
            Owner::Socket(registry, key) => registry.borrow().get(*key),
            Owner::Listener(_) | Owner::Nobody => None,
        };
        if let Some(socket) = socket {
            socket.note(news);
        }
    }

    /// From here on this socket hears of it.
    pub(super) fn give_to(&self, registry: SharedRegistry, key: Key) {
        self.owner.replace(Owner::Socket(registry, key));
    }

    /// Tells the socket of what came while there was nobody to be told.
    pub(super) fn note_what_has_come(&self) {
        if self.connection.borrow().is_readable() {
            self.note(News::READABLE);
        }
    }

    /// Who owned it is gone, and hears nothing more.
    pub(super) fn release(
        self: &Rc<Self>,
        state: &mut State,
        now: Instant,
        how: impl FnOnce(&mut Connection),
    ) {
        self.owner.replace(Owner::Nobody);
        how(&mut self.connection.borrow_mut());
        self.drive(state, now);
    }
}

/// A connection as its socket uses it.
pub(super) struct StreamHandle {
    core: Rc<NetworkCore>,
    stream: Rc<VirtualStream>,
    /// Whether the application knows its addresses as IPv6 ones.
    is_v6: bool,
}

impl StreamHandle {
    pub(super) fn connect(
        host: &VirtualHost,
        registry: SharedRegistry,
        key: Key,
        to: SocketAddr,
        options: &TcpOptions,
    ) -> io::Result<Self> {
        let local_ip = options
            .local
            .map_or(unspecified_like(to.ip()), |local| local.ip());
        let (core, remote) = (host.core.clone(), destination(to, local_ip));
        let is_v6 = to.is_ipv6();
        if local_ip.is_ipv6() != is_v6 {
            return Err(match is_v6 {
                true => io::ErrorKind::InvalidInput.into(),
                false => unsupported_family(),
            });
        }
        // A socket at a mapped address is one of IPv4.
        if local_ip.to_canonical().is_ipv4() && remote.is_ipv6() {
            return Err(unsupported_family());
        }
        let stream = core.with_state(|state, now| {
            let wanted = options.local.map(canonical);
            let mut ip = state.source_ip(host.id, remote.ip())?;
            if let Some(wanted) = wanted.filter(|wanted| !wanted.ip().is_unspecified()) {
                state.check_bindable(host.id, wanted.ip())?;
                ip = wanted.ip();
            }
            if ip.is_ipv4() != remote.is_ipv4() {
                return Err(io::ErrorKind::NetworkUnreachable.into());
            }
            let on_host = state.host(host.id).ok_or(io::ErrorKind::NotFound)?;
            let port = match wanted.map_or(0, |wanted| wanted.port()) {
                0 => on_host
                    .tcp_port_to(ip, remote)
                    .ok_or(io::ErrorKind::AddrNotAvailable)?,
                port => port,
            };
            let options = StreamOptions::of(options);
            let connection = Connection::connect(now, &options.limits());
            let between = (SocketAddr::new(ip, port), remote);
            let owner = Owner::Socket(registry, key);
            let stream = VirtualStream::new(host.id, between, connection, owner, options);
            on_host.add_stream(&stream)?;
            stream.drive(state, now);
            Ok::<_, io::Error>(stream)
        })?;
        Ok(Self {
            core,
            stream,
            is_v6,
        })
    }

    /// One that a listener had.
    pub(super) fn accepted(core: Rc<NetworkCore>, stream: Rc<VirtualStream>, is_v6: bool) -> Self {
        Self {
            core,
            stream,
            is_v6,
        }
    }

    /// An address as the application knows it.
    pub(super) fn shown(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.is_v6 => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }

    fn with_connection<R>(&self, f: impl FnOnce(&mut Connection, Instant) -> R) -> R {
        self.core.with_state(|state, now| {
            let result = f(&mut self.stream.connection.borrow_mut(), now);
            self.stream.drive(state, now);
            result
        })
    }
}

impl TcpIo for StreamHandle {
    fn finish_connect(&self) -> io::Result<bool> {
        match self.stream.refused.get() {
            Some(error) => Err(error.into()),
            None => Ok(self.stream.is_connected.get()),
        }
    }

    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.core.run_due();
        self.with_connection(|connection, _| connection.recv(buffer))
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.core.run_due();
        self.with_connection(|connection, now| connection.send(now, data))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            self.with_connection(|connection, now| connection.shutdown_write(now));
        }
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shown(self.stream.local))
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shown(self.stream.remote))
    }

    fn failure(&self) -> io::Result<()> {
        match self.stream.failed.get() {
            None => Ok(()),
            // As Linux calls it when it comes after the end of what the peer sends.
            Some(io::ErrorKind::ConnectionReset) => Err(io::ErrorKind::BrokenPipe.into()),
            Some(error) => Err(error.into()),
        }
    }

    fn option(&self, option: TcpOption) -> io::Result<u64> {
        Ok(self.stream.options.borrow().get(option))
    }

    fn set_option(&self, option: TcpOption, value: u64) -> io::Result<()> {
        let mut options = self.stream.options.borrow_mut();
        match option {
            TcpOption::NoDelay => {
                options.nodelay = value != 0;
                drop(options);
                self.with_connection(|connection, _| connection.set_nodelay(value != 0));
            }
            TcpOption::RecvBuffer | TcpOption::SendBuffer => {
                let message = "buffers of a virtual connection cannot change";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            TcpOption::Dscp => options.dscp = value as u8 & 63,
            TcpOption::UserTimeout => {
                let timeout = (value > 0).then(|| Duration::from_millis(value));
                options.user_timeout = timeout;
                drop(options);
                self.with_connection(|connection, _| connection.set_user_timeout(timeout));
            }
            TcpOption::KeepAlive
            | TcpOption::KeepIdle
            | TcpOption::KeepInterval
            | TcpOption::KeepCount => {
                let seconds = Duration::from_secs(value);
                match option {
                    TcpOption::KeepIdle => options.keep_alive_kept.idle = seconds,
                    TcpOption::KeepInterval => options.keep_alive_kept.interval = seconds,
                    TcpOption::KeepCount => {
                        options.keep_alive_kept.count = u32::try_from(value).unwrap_or(u32::MAX);
                    }
                    _ => {}
                }
                let is_on = match option {
                    TcpOption::KeepAlive => value != 0,
                    _ => options.keep_alive.is_some(),
                };
                let keep_alive = is_on.then_some(options.keep_alive_kept);
                options.keep_alive = keep_alive;
                drop(options);
                self.with_connection(|connection, now| connection.set_keep_alive(now, keep_alive));
            }
        }
        Ok(())
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        let stream = &self.stream;
        self.core.with_state(|state, now| {
            stream.release(state, now, |connection| connection.close(now));
        });
    }
}

impl State {
    pub(super) fn send_segment(
        &mut self,
        now: Instant,
        from: NodeId,
        source: SocketAddr,
        destination: SocketAddr,
        segment: Segment,
        tos: u8,
    ) {
        let packet = NetPacket {
            id: self.next_packet_id(),
            source,
            destination,
            payload: Payload::Segment(Rc::new(segment)),
            tos,
            may_fragment: true,
        };
        self.send(now, from, packet);
    }
}
