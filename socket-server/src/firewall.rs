//! Which traffic passes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use crate::address::canonical;
use crate::resolution::{OnResolved, Resolution};
use crate::server::{MaxWait, ProcessIo, SocketServer};
use crate::signal::{Signal, SignalHandler};
use crate::tcp::TcpSocket;
use crate::tcp_listener::TcpListener;
use crate::tcp_options::{ListenOptions, TcpOptions};
use crate::udp::UdpSocket;
use crate::udp_options::UdpOptions;
use crate::wake::WakeHandle;

/// What a [`FirewallRule`] may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// Which way something passes a firewall, seen from behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the sockets of the server. For TCP, connections that are accepted.
    In,
    /// From the sockets of the server. For TCP, connections that are made.
    Out,
}

/// Says of some traffic whether it passes. What it does not name, it is not particular about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a rule holds once it is added to a firewall"]
pub struct FirewallRule {
    allows: bool,
    protocol: Option<Protocol>,
    direction: Option<Direction>,
    source: (Option<IpAddr>, Option<u16>),
    destination: (Option<IpAddr>, Option<u16>),
}

impl FirewallRule {
    const fn all(allows: bool) -> Self {
        Self {
            allows,
            protocol: None,
            direction: None,
            source: (None, None),
            destination: (None, None),
        }
    }

    /// A rule by which something passes.
    pub const fn allow() -> Self {
        Self::all(true)
    }

    /// A rule by which something is lost, or refused.
    pub const fn deny() -> Self {
        Self::all(false)
    }

    /// Only of this protocol.
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Only in this direction.
    pub const fn direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Only from this address; from any port if none is given. What leaves a socket that is bound to
    /// no particular address comes from the unspecified one, unless its sender has
    /// [chosen](crate::Envelope::from_ip): the system chooses only behind the firewall.
    pub fn source(mut self, ip: impl Into<Option<IpAddr>>, port: impl Into<Option<u16>>) -> Self {
        self.source = (ip.into(), port.into());
        self
    }

    /// Only to this address; to any port if none is given.
    pub fn destination(
        mut self,
        ip: impl Into<Option<IpAddr>>,
        port: impl Into<Option<u16>>,
    ) -> Self {
        self.destination = (ip.into(), port.into());
        self
    }

    fn is_about(
        &self,
        protocol: Protocol,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> bool {
        let is = |(ip, port): (Option<IpAddr>, Option<u16>), address: SocketAddr| {
            ip.is_none_or(|ip| ip.to_canonical() == address.ip())
                && port.is_none_or(|port| port == address.port())
        };
        self.protocol.is_none_or(|own| own == protocol)
            && self.direction.is_none_or(|own| own == direction)
            && is(self.source, source)
            && is(self.destination, destination)
    }
}

/// An ordered list of rules. The first that is about something decides; what no rule is about,
/// passes. IPv4-mapped addresses count as the IPv4 addresses that they stand for.
///
/// libwebrtc: `FirewallManager`.
#[derive(Debug, Default)]
pub struct Firewall {
    rules: RefCell<Vec<FirewallRule>>,
    unbindable: RefCell<Vec<IpAddr>>,
    no_udp: Cell<bool>,
    no_tcp: Cell<bool>,
    no_listen: Cell<bool>,
}

impl Firewall {
    /// A firewall that everything passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule behind the others.
    pub fn add(&self, rule: FirewallRule) {
        self.rules.borrow_mut().push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules.borrow_mut().clear();
    }

    /// Whether UDP sockets may be opened.
    pub fn set_udp_enabled(&self, enabled: bool) {
        self.no_udp.set(!enabled);
    }

    /// Whether TCP sockets may be made, and listeners opened.
    pub fn set_tcp_enabled(&self, enabled: bool) {
        self.no_tcp.set(!enabled);
    }

    /// Whether TCP listeners may be opened.
    pub fn set_listening_enabled(&self, enabled: bool) {
        self.no_listen.set(!enabled);
    }

    /// Addresses that no socket may be bound to.
    pub fn set_unbindable(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        *self.unbindable.borrow_mut() = addresses.into_iter().collect();
    }

    pub(crate) fn allows(
        &self,
        protocol: Protocol,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> bool {
        let (source, destination) = (canonical(source), canonical(destination));
        let rules = self.rules.borrow();
        let decisive = rules
            .iter()
            .find(|rule| rule.is_about(protocol, direction, source, destination));
        decisive.is_none_or(|rule| rule.allows)
    }

    fn check_bind(&self, is_disabled: &Cell<bool>, ip: IpAddr) -> io::Result<()> {
        if is_disabled.get() {
            let message = "the firewall does not let such sockets be opened";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let unbindable = self.unbindable.borrow();
        let ip = ip.to_canonical();
        if unbindable
            .iter()
            .any(|address| address.to_canonical() == ip)
        {
            let message = "the firewall does not let this address be used";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(())
    }
}

/// The firewalls that a socket is behind, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Firewalls(RefCell<Vec<Rc<Firewall>>>);

impl Firewalls {
    pub(crate) fn add(&self, firewall: Rc<Firewall>) {
        self.0.borrow_mut().push(firewall);
    }

    /// As many more as there are for another socket.
    pub(crate) fn add_all(&self, others: &Self) {
        let others = others.0.borrow().clone();
        self.0.borrow_mut().extend(others);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Whether all of them let it pass.
    pub(crate) fn allow(
        &self,
        protocol: Protocol,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> bool {
        let firewalls = self.0.borrow();
        firewalls
            .iter()
            .all(|firewall| firewall.allows(protocol, direction, source, destination))
    }
}

/// A server whose sockets are behind a firewall. It may be put in front of any other.
///
/// A datagram that may not pass is lost, without its sender being told. A connection that may not be
/// made is [`ErrorKind::HostUnreachable`](io::ErrorKind::HostUnreachable), and one that may not come
/// in is closed instead of accepted. Rules that change later concern connections made later.
///
/// libwebrtc: `FirewallSocketServer`, which reports a denied TCP connection only by its silence.
#[derive(Debug)]
pub struct FirewallSocketServer<S: ?Sized = dyn SocketServer> {
    firewall: Rc<Firewall>,
    inner: Rc<S>,
}

impl<S: SocketServer + ?Sized> FirewallSocketServer<S> {
    /// Puts a firewall in front of a server. It can be changed from outside.
    pub fn new(inner: Rc<S>, firewall: Rc<Firewall>) -> Self {
        Self { firewall, inner }
    }

    /// Its rules.
    pub fn firewall(&self) -> &Rc<Firewall> {
        &self.firewall
    }
}

impl<S: SocketServer + ?Sized> SocketServer for FirewallSocketServer<S> {
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()> {
        self.inner.wait(max_wait, process_io)
    }

    fn wake_handle(&self) -> WakeHandle {
        self.inner.wake_handle()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn has_ready_sockets(&self) -> bool {
        self.inner.has_ready_sockets()
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        let firewall = &self.firewall;
        firewall.check_bind(&firewall.no_udp, options.address.ip())?;
        let socket = self.inner.bind_udp(options)?;
        socket.firewalls().add(firewall.clone());
        Ok(socket)
    }

    fn tcp_socket(&self, options: &TcpOptions) -> io::Result<TcpSocket> {
        let firewall = &self.firewall;
        let unspecified = IpAddr::from([0, 0, 0, 0]);
        let local = options.local.map_or(unspecified, |local| local.ip());
        firewall.check_bind(&firewall.no_tcp, local)?;
        let socket = self.inner.tcp_socket(options)?;
        socket.firewalls().add(firewall.clone());
        Ok(socket)
    }

    fn listen_tcp(&self, options: &ListenOptions) -> io::Result<TcpListener> {
        let firewall = &self.firewall;
        firewall.check_bind(&firewall.no_tcp, options.address.ip())?;
        firewall.check_bind(&firewall.no_listen, options.address.ip())?;
        let listener = self.inner.listen_tcp(options)?;
        listener.firewalls().add(firewall.clone());
        Ok(listener)
    }

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        self.inner.resolve(host, port, done)
    }

    fn on_signal(&self, signal: Signal, handler: Box<dyn FnMut()>) -> io::Result<SignalHandler> {
        self.inner.on_signal(signal, handler)
    }
}

impl fmt::Display for FirewallRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allows { "allow" } else { "deny" })?;
        if let Some(protocol) = self.protocol {
            write!(f, " {protocol:?}")?;
        }
        if let Some(direction) = self.direction {
            write!(f, " {direction:?}")?;
        }
        for (word, (ip, port)) in [("from", self.source), ("to", self.destination)] {
            match (ip, port) {
                (None, None) => {}
                (Some(ip), None) => write!(f, " {word} {ip}")?,
                (None, Some(port)) => write!(f, " {word} port {port}")?,
                (Some(ip), Some(port)) => write!(f, " {word} {}", SocketAddr::new(ip, port))?,
            }
        }
        Ok(())
    }
}
