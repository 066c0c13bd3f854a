//! TCP sockets.
//!
//! [`life`] says what becomes of a connection, and when the handler hears what; [`options`] has what
//! can be set.

mod life;
mod options;

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use self::life::TcpCore;
use crate::firewall::Firewalls;
use crate::registry::{Key, SharedRegistry};
use crate::resolution::{OnResolved, Resolution};
use crate::tcp_options::TcpOptions;

/// What is called when something happens to a [`TcpSocket`].
///
/// Where several things have happened, the order is: connected, writable, readable, finished,
/// closed. A handler may do anything to any socket, its own included. It must not wait in the socket
/// server.
pub trait TcpHandler {
    /// The connection exists. Not called for sockets that were accepted.
    fn on_connected(&mut self, socket: &TcpSocket) {
        let _ = socket;
    }

    /// There is something to be read, or the end of it. Called again in a later wait as long as no
    /// read has said that it would block, or that this is the end.
    fn on_readable(&mut self, socket: &TcpSocket);

    /// There is room to send again, after a send took less than it was given. Called once for that.
    fn on_writable(&mut self, socket: &TcpSocket) {
        let _ = socket;
    }

    /// The peer will send no more, and all it sent has been read. Only for sockets that may be
    /// [half open](TcpOptions::half_open), which can go on sending.
    fn on_peer_finished(&mut self, socket: &TcpSocket) {
        let _ = socket;
    }

    /// The connection has ended, or has not come about: without an error if both sides are done, or
    /// the peer is and the socket may not be half open. What had arrived has been read before.
    /// Called once, and not if [`close`](TcpSocket::close) ended it. The socket can be connected
    /// again.
    fn on_closed(&mut self, socket: &TcpSocket, error: Option<io::Error>) {
        let _ = (socket, error);
    }
}

/// What a server does for TCP sockets.
pub(crate) trait TcpServer {
    fn connect(
        self: Rc<Self>,
        to: SocketAddr,
        options: &TcpOptions,
        key: Key,
    ) -> io::Result<Box<dyn TcpIo>>;

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution>;
}

/// What a server does for one connection. Of news it gives notice to the socket's
/// [`Registered::note`](crate::registry::Registered::note).
pub(crate) trait TcpIo {
    /// Asked when there is news: whether the connection exists now.
    fn finish_connect(&self) -> io::Result<bool>;

    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Takes as much as there is room for. If that is not all, there will be news of room.
    fn send(&self, data: &[u8]) -> io::Result<usize>;

    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    fn local_addr(&self) -> io::Result<SocketAddr>;

    fn peer_addr(&self) -> io::Result<SocketAddr>;

    /// Asked when there is news after the end of what the peer sends, where reading tells nothing.
    fn failure(&self) -> io::Result<()>;

    fn option(&self, option: TcpOption) -> io::Result<u64>;

    fn set_option(&self, option: TcpOption, value: u64) -> io::Result<()>;
}

/// Options that servers keep: bytes, seconds for keep-alive, milliseconds for the user timeout,
/// numbers, or zero and one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TcpOption {
    NoDelay,
    RecvBuffer,
    SendBuffer,
    Dscp,
    KeepAlive,
    KeepIdle,
    KeepInterval,
    KeepCount,
    UserTimeout,
}

/// Where a [`TcpSocket`] is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// Not yet, or no longer, connected.
    Closed,
    /// On the way; the handler will hear of the outcome.
    Connecting,
    /// Data can be sent and received.
    Connected,
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpTarget {
    /// This address.
    Address(SocketAddr),
    /// One of the addresses of this host, of either family, one after the other until one answers.
    Name(String, u16),
}

impl From<SocketAddr> for TcpTarget {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl From<(&str, u16)> for TcpTarget {
    fn from((host, port): (&str, u16)) -> Self {
        Self::Name(host.to_owned(), port)
    }
}

/// A TCP socket, served by the [`SocketServer`](crate::SocketServer) that made it.
///
/// It belongs to the thread of its server. Dropping it closes it. It can be connected again once it
/// is closed.
///
/// libwebrtc: `Socket` of type `SOCK_STREAM`.
///
/// ```compile_fail
/// fn send_it<T: Send>() {}
/// send_it::<socket_server::TcpSocket>();
/// ```
pub struct TcpSocket {
    core: Rc<TcpCore>,
    /// Whether dropping this closes the socket: not so for what handlers are given.
    is_owner: bool,
}

impl TcpSocket {
    pub(crate) fn new(
        server: Rc<dyn TcpServer>,
        registry: SharedRegistry,
        options: &TcpOptions,
    ) -> Self {
        let core = TcpCore::new(server, registry, options);
        Self {
            core,
            is_owner: true,
        }
    }

    /// A socket for a connection that exists: `open` is given the key under which it is registered.
    /// The peer's address is what the listener knows; a connection that has ended has none any more.
    pub(crate) fn accepted(
        server: Rc<dyn TcpServer>,
        registry: SharedRegistry,
        options: &TcpOptions,
        peer: SocketAddr,
        open: impl FnOnce(Key) -> io::Result<Box<dyn TcpIo>>,
    ) -> io::Result<Self> {
        let socket = Self::new(server, registry, options);
        socket.core.accept(peer, open)?;
        Ok(socket)
    }

    /// Sets what is called when something happens, in place of what was before. What has happened
    /// already, it hears in the next wait.
    pub fn set_handler(&self, handler: impl TcpHandler + 'static) {
        self.core.change_handler(Some(Box::new(handler)));
    }

    /// From here on nothing is called. What happens is kept for the next handler.
    pub fn clear_handler(&self) {
        self.core.change_handler(None);
    }

    /// Begins to connect. Whether it works, the handler hears.
    ///
    /// libwebrtc: `Connect`, which knows only IPv4 addresses of names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`](io::ErrorKind::AlreadyExists) unless the socket is closed; the
    /// connection that there is goes on. Those of the operating system that it finds at once.
    pub fn connect(&self, target: impl Into<TcpTarget>) -> io::Result<()> {
        self.core.connect(target.into())
    }

    /// Where the socket is in its life.
    ///
    /// libwebrtc: `GetState`.
    pub fn state(&self) -> TcpState {
        self.core.state()
    }

    /// Reads what has arrived; 0 bytes are the end of what the peer sends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing now,
    /// [`ErrorKind::NotConnected`](io::ErrorKind::NotConnected); others end the connection, and the
    /// handler hears of it.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.core.recv(buffer)
    }

    /// Sends as much as there is room for, at least one byte. If that is not all, the handler is
    /// called when there is room again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; the handler is
    /// called when there is. [`ErrorKind::NotConnected`](io::ErrorKind::NotConnected);
    /// [`ErrorKind::BrokenPipe`](io::ErrorKind::BrokenPipe) after
    /// [`finish`](Self::finish), or another error. Others end the connection: the handler hears of it
    /// when it has read what had arrived.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.core.send(data)
    }

    /// Sends no more; the peer finds the end behind what was sent. Receiving goes on.
    ///
    /// libwebrtc has no such thing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotConnected`](io::ErrorKind::NotConnected), and the operating system's.
    pub fn finish(&self) -> io::Result<()> {
        self.core.finish()
    }

    /// Ends the connection, or the attempt. What was sent still goes out, unless there is unread
    /// data: then the peer may get an error instead. The handler hears nothing of it.
    pub fn close(&self) {
        self.core.reset();
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotConnected`](io::ErrorKind::NotConnected), and the operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.core.io() {
            Some(io) => io.local_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The address of the other end; also when the connection has ended, until the socket is closed
    /// or connected again.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.core.peer()
    }

    pub(crate) fn firewalls(&self) -> &Firewalls {
        &self.core.firewalls
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        if self.is_owner {
            // Not left to the core, which outlives this while its handler runs.
            self.core.reset();
        }
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket")
            .field("state", &self.core.state())
            .field("peer", &self.core.peer())
            .finish_non_exhaustive()
    }
}
