//! TCP sockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::dscp::Dscp;
use crate::firewall::{Direction, Firewall, Protocol};
use crate::handler_slot::{HandlerSlot, TakenHandler};
use crate::registry::{Key, News, Registered, SharedRegistry};
use crate::resolution::{OnResolved, Resolution};
use crate::tcp_options::{KeepAlive, TcpOptions};

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
/// [`Registered::note`].
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

struct TcpCore {
    server: Rc<dyn TcpServer>,
    registry: SharedRegistry,
    options: RefCell<TcpOptions>,
    handler: HandlerSlot<dyn TcpHandler>,
    firewall: RefCell<Option<Rc<Firewall>>>,
    own: Weak<Self>,
    state: Cell<TcpState>,
    /// Of the current connection; another one for the next.
    key: Cell<Option<Key>>,
    io: RefCell<Option<Rc<dyn TcpIo>>>,
    resolution: RefCell<Option<Resolution>>,
    /// Addresses that are tried if the current one does not answer.
    alternatives: RefCell<VecDeque<SocketAddr>>,
    peer: Cell<Option<SocketAddr>>,
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// A send was cut short, and the handler is to hear when there is room.
    blocked: Cell<bool>,
    queued: Cell<bool>,
    peer_finished: Cell<PeerFinished>,
    /// We have said that we will send no more.
    finished: Cell<bool>,
    /// Why nothing can be sent any more. What has arrived is still to be read.
    send_failed: RefCell<Option<io::Error>>,
    /// It has ended with this error, and the handler is to hear of it.
    failed: RefCell<Option<io::Error>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum PeerFinished {
    #[default]
    No,
    /// And the handler is to hear of it.
    News,
    Told,
}

impl TcpSocket {
    pub(crate) fn new(
        server: Rc<dyn TcpServer>,
        registry: SharedRegistry,
        options: &TcpOptions,
    ) -> Self {
        let core = Rc::new_cyclic(|own| TcpCore {
            server,
            registry,
            options: RefCell::new(options.clone()),
            handler: HandlerSlot::default(),
            firewall: RefCell::default(),
            own: own.clone(),
            state: Cell::new(TcpState::Closed),
            key: Cell::default(),
            io: RefCell::default(),
            resolution: RefCell::default(),
            alternatives: RefCell::default(),
            peer: Cell::default(),
            readable: Cell::default(),
            writable: Cell::default(),
            blocked: Cell::default(),
            queued: Cell::default(),
            peer_finished: Cell::default(),
            finished: Cell::default(),
            send_failed: RefCell::default(),
            failed: RefCell::default(),
        });
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
        let core = &socket.core;
        let io = open(core.new_key())?;
        core.peer.set(Some(peer));
        core.io.replace(Some(Rc::from(io)));
        core.state.set(TcpState::Connected);
        Ok(socket)
    }

    /// Sets what is called when something happens, in place of what was before. What has happened
    /// already, it hears in the next wait.
    pub fn set_handler(&self, handler: impl TcpHandler + 'static) {
        self.core.handler.change(Some(Box::new(handler)));
        self.core.queue_if_ready();
    }

    /// From here on nothing is called. What happens is kept for the next handler.
    pub fn clear_handler(&self) {
        self.core.handler.change(None);
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
        let core = &self.core;
        if core.state.get() != TcpState::Closed {
            let message = "the socket is connected, or about to be";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        core.reset();
        match target.into() {
            TcpTarget::Address(address) => core.connect_to(address)?,
            TcpTarget::Name(host, port) => {
                let own = core.own.clone();
                let done: OnResolved = Box::new(move |addresses| {
                    if let Some(core) = own.upgrade() {
                        core.on_resolved(addresses);
                    }
                });
                let resolution = core.server.resolve(&host, port, done)?;
                core.resolution.replace(Some(resolution));
                core.state.set(TcpState::Connecting);
            }
        }
        Ok(())
    }

    /// Where the socket is in its life.
    ///
    /// libwebrtc: `GetState`.
    pub fn state(&self) -> TcpState {
        self.core.state.get()
    }

    /// Reads what has arrived; 0 bytes are the end of what the peer sends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing now,
    /// [`ErrorKind::NotConnected`](io::ErrorKind::NotConnected); others end the connection, and the
    /// handler hears of it.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let core = &self.core;
        let io = core.connected_io()?;
        if buffer.is_empty() || core.peer_finished.get() != PeerFinished::No {
            return Ok(0);
        }
        match io.recv(buffer) {
            Ok(0) => {
                core.readable.set(false);
                if !core.fail_as_sending_did() {
                    core.peer_finished.set(PeerFinished::News);
                    core.queue_if_ready();
                }
                Ok(0)
            }
            Ok(received) => Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                core.readable.set(false);
                core.fail_as_sending_did();
                Err(error)
            }
            Err(error) => Err(core.fail(error)),
        }
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
        let core = &self.core;
        let io = core.connected_io()?;
        if core.finished.get() || core.send_failed.borrow().is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if data.is_empty() {
            return Ok(0);
        }
        match io.send(data) {
            Ok(sent) => {
                if sent < data.len() {
                    core.blocked.set(true);
                }
                Ok(sent)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                core.blocked.set(true);
                Err(error)
            }
            Err(error) => Err(core.fail_sending(error)),
        }
    }

    /// Sends no more; the peer finds the end behind what was sent. Receiving goes on.
    ///
    /// libwebrtc has no such thing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotConnected`](io::ErrorKind::NotConnected), and the operating system's.
    pub fn finish(&self) -> io::Result<()> {
        let core = &self.core;
        let io = core.connected_io()?;
        if !core.finished.replace(true) {
            io.shutdown(Shutdown::Write)?;
        }
        core.queue_if_ready();
        Ok(())
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
        match &*self.core.io.borrow() {
            Some(io) => io.local_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The address of the other end; also when the connection has ended, until the socket is closed
    /// or connected again.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.core.peer.get()
    }

    pub(crate) fn set_firewall(&self, firewall: Rc<Firewall>) {
        *self.core.firewall.borrow_mut() = Some(firewall);
    }
}

/// Options. They may be set at any time; on a closed socket they are for its next connection.
///
/// libwebrtc: `Socket::GetOption` and `SetOption`.
impl TcpSocket {
    /// See [`TcpOptions::nodelay`].
    ///
    /// # Errors
    ///
    /// The operating system's, here and below.
    pub fn nodelay(&self) -> io::Result<bool> {
        let kept = u64::from(self.core.options.borrow().nodelay);
        Ok(self.core.option(TcpOption::NoDelay, kept)? != 0)
    }

    /// See [`TcpOptions::nodelay`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.core.options.borrow_mut().nodelay = nodelay;
        self.core.set_option(TcpOption::NoDelay, nodelay.into())
    }

    /// Room for what has arrived, in bytes. Linux gives, and counts, twice of what it was asked for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn recv_buffer_bytes(&self) -> io::Result<usize> {
        let kept = self.core.options.borrow().recv_buffer_bytes;
        let bytes = self
            .core
            .option(TcpOption::RecvBuffer, kept.unwrap_or(0) as u64)?;
        Ok(bytes as usize)
    }

    /// See [`TcpOptions::recv_buffer_bytes`].
    ///
    /// # Errors
    ///
    /// The operating system's; in a virtual network, where the buffers of a connection stay what they
    /// are, [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported), and it is for the next one.
    pub fn set_recv_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.core.options.borrow_mut().recv_buffer_bytes = Some(bytes);
        self.core.set_option(TcpOption::RecvBuffer, bytes as u64)
    }

    /// Room for what is to be sent, in bytes. Linux gives, and counts, twice of what it was asked
    /// for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn send_buffer_bytes(&self) -> io::Result<usize> {
        let kept = self.core.options.borrow().send_buffer_bytes;
        let bytes = self
            .core
            .option(TcpOption::SendBuffer, kept.unwrap_or(0) as u64)?;
        Ok(bytes as usize)
    }

    /// See [`TcpOptions::send_buffer_bytes`].
    ///
    /// # Errors
    ///
    /// As for [`set_recv_buffer_bytes`](Self::set_recv_buffer_bytes).
    pub fn set_send_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.core.options.borrow_mut().send_buffer_bytes = Some(bytes);
        self.core.set_option(TcpOption::SendBuffer, bytes as u64)
    }

    /// See [`TcpOptions::dscp`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn dscp(&self) -> io::Result<Dscp> {
        let kept = self.core.options.borrow().dscp.unwrap_or_default();
        let bits = self.core.option(TcpOption::Dscp, kept.bits().into())?;
        Ok(Dscp::new(bits as u8).unwrap_or_default())
    }

    /// See [`TcpOptions::dscp`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_dscp(&self, dscp: Dscp) -> io::Result<()> {
        self.core.options.borrow_mut().dscp = Some(dscp);
        self.core.set_option(TcpOption::Dscp, dscp.bits().into())
    }

    /// See [`TcpOptions::keep_alive`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        let io = self.core.io.borrow();
        let Some(io) = &*io else {
            return Ok(self.core.options.borrow().keep_alive);
        };
        if io.option(TcpOption::KeepAlive)? == 0 {
            return Ok(None);
        }
        Ok(Some(KeepAlive {
            idle: Duration::from_secs(io.option(TcpOption::KeepIdle)?),
            interval: Duration::from_secs(io.option(TcpOption::KeepInterval)?),
            count: io.option(TcpOption::KeepCount)? as u32,
        }))
    }

    /// See [`TcpOptions::keep_alive`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> io::Result<()> {
        let core = &self.core;
        core.options.borrow_mut().keep_alive = keep_alive;
        core.set_option(TcpOption::KeepAlive, keep_alive.is_some().into())?;
        if let Some(keep_alive) = keep_alive {
            core.set_option(TcpOption::KeepIdle, keep_alive.idle.as_secs())?;
            core.set_option(TcpOption::KeepInterval, keep_alive.interval.as_secs())?;
            core.set_option(TcpOption::KeepCount, keep_alive.count.into())?;
        }
        Ok(())
    }

    /// See [`TcpOptions::user_timeout`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn user_timeout(&self) -> io::Result<Option<Duration>> {
        let kept = self.core.options.borrow().user_timeout.unwrap_or_default();
        let millis = self
            .core
            .option(TcpOption::UserTimeout, kept.as_millis() as u64)?;
        Ok((millis > 0).then(|| Duration::from_millis(millis)))
    }

    /// See [`TcpOptions::user_timeout`].
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.core.options.borrow_mut().user_timeout = timeout;
        let millis = timeout.unwrap_or_default().as_millis();
        self.core.set_option(
            TcpOption::UserTimeout,
            u64::try_from(millis).unwrap_or(u64::MAX),
        )
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
            .field("state", &self.core.state.get())
            .field("peer", &self.core.peer.get())
            .finish_non_exhaustive()
    }
}

impl TcpCore {
    /// Registers the socket anew: news for an earlier connection must not reach the next one.
    fn new_key(&self) -> Key {
        let own: Weak<Self> = self.own.clone();
        let mut registry = self.registry.borrow_mut();
        if let Some(old) = self.key.take() {
            registry.remove(old);
        }
        let key = registry.reserve();
        registry.put(key, own);
        self.key.set(Some(key));
        self.queued.set(false);
        key
    }

    /// Back to the beginning, with nothing left of a connection, and nothing to be told.
    fn reset(&self) {
        self.state.set(TcpState::Closed);
        if let Some(key) = self.key.take() {
            self.registry.borrow_mut().remove(key);
        }
        self.end_io();
        self.peer.set(None);
        for flag in [
            &self.readable,
            &self.writable,
            &self.blocked,
            &self.queued,
            &self.finished,
        ] {
            flag.set(false);
        }
        self.peer_finished.set(PeerFinished::No);
        self.send_failed.replace(None);
        self.failed.replace(None);
    }

    /// Gives up the connection or the attempt at it.
    fn end_io(&self) {
        self.resolution.replace(None);
        self.alternatives.borrow_mut().clear();
        let io = self.io.replace(None);
        drop(io);
    }

    fn connected_io(&self) -> io::Result<Rc<dyn TcpIo>> {
        match &*self.io.borrow() {
            Some(io) if self.state.get() == TcpState::Connected => Ok(io.clone()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn connect_to(&self, address: SocketAddr) -> io::Result<()> {
        if let Some(firewall) = &*self.firewall.borrow() {
            let any = SocketAddr::new(crate::address::unspecified_like(address.ip()), 0);
            let local = self.options.borrow().local.unwrap_or(any);
            if !firewall.allows(Protocol::Tcp, Direction::Out, local, address) {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
        }
        let key = self.new_key();
        let server = self.server.clone();
        let connecting = server.connect(address, &self.options.borrow(), key);
        let io = connecting.inspect_err(|_| {
            self.registry.borrow_mut().remove(key);
            self.key.set(None);
        })?;
        self.io.replace(Some(Rc::from(io)));
        self.peer.set(Some(address));
        self.state.set(TcpState::Connecting);
        Ok(())
    }

    fn on_resolved(&self, addresses: io::Result<Vec<SocketAddr>>) {
        match addresses {
            Ok(addresses) => {
                *self.alternatives.borrow_mut() = addresses.into();
                let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                self.connect_to_next(error);
            }
            Err(error) => self.give_up(error),
        }
    }

    /// Tries the next address there is; the error is why the one before did not work.
    fn connect_to_next(&self, mut error: io::Error) {
        loop {
            let next = self.alternatives.borrow_mut().pop_front();
            let Some(address) = next else {
                return self.give_up(error);
            };
            self.io.replace(None);
            match self.connect_to(address) {
                Ok(()) => return,
                Err(other) => error = other,
            }
        }
    }

    /// The attempt has failed. There may be no key yet under which the handler could be called.
    fn give_up(&self, error: io::Error) {
        if self.key.get().is_none() {
            self.new_key();
        }
        self.fail(error);
    }

    /// The connection ends with an error. Returns one like it.
    fn fail(&self, error: io::Error) -> io::Error {
        let same = copy_of(&error);
        self.end();
        self.failed.replace(Some(error));
        self.queue_if_ready();
        same
    }

    /// Nothing can be sent any more, which ends the connection as soon as everything has been read.
    fn fail_sending(&self, error: io::Error) -> io::Error {
        if self.peer_finished.get() != PeerFinished::No {
            return self.fail(error);
        }
        let same = copy_of(&error);
        self.send_failed.replace(Some(error));
        self.readable.set(true);
        self.queue_if_ready();
        same
    }

    /// Everything has been read. True if sending has failed before, and so the connection ends.
    fn fail_as_sending_did(&self) -> bool {
        let error = self.send_failed.replace(None);
        error.map(|error| self.fail(error)).is_some()
    }

    /// It is not connected any more, and nothing that was left of that is of interest.
    fn end(&self) {
        self.state.set(TcpState::Closed);
        self.end_io();
        self.send_failed.replace(None);
        for flag in [&self.readable, &self.writable, &self.blocked] {
            flag.set(false);
        }
    }

    fn is_over(&self) -> bool {
        self.finished.get() && self.peer_finished.get() == PeerFinished::Told
    }

    fn has_news(&self) -> bool {
        self.readable.get()
            || self.writable.get()
            || self.peer_finished.get() == PeerFinished::News
            || self.failed.borrow().is_some()
            || self.is_over()
    }

    fn queue_if_ready(&self) {
        // Without a handler there is nobody to call; setting one comes back here.
        if self.has_news()
            && self.handler.is_set()
            && let Some(key) = self.key.get()
            && !self.queued.replace(true)
        {
            self.registry.borrow_mut().push_ready(key);
        }
    }

    /// The kernel, or the network, says what became of the attempt. True if there is a connection.
    fn finish_connecting(&self) -> bool {
        self.writable.set(false);
        let Some(io) = self.io.borrow().clone() else {
            return false;
        };
        match io.finish_connect() {
            Ok(true) => {
                self.state.set(TcpState::Connected);
                self.alternatives.borrow_mut().clear();
                self.peer.set(io.peer_addr().ok().or(self.peer.get()));
                return true;
            }
            Ok(false) => self.readable.set(false),
            Err(error) => {
                self.readable.set(false);
                self.connect_to_next(error);
            }
        }
        false
    }

    /// There is news, but nothing to be read any more.
    fn look_for_failure(&self) {
        self.readable.set(false);
        let io = self.io.borrow().clone();
        if let Some(Err(error)) = io.map(|io| io.failure()) {
            self.fail(error);
        }
    }

    fn option(&self, option: TcpOption, kept: u64) -> io::Result<u64> {
        match &*self.io.borrow() {
            Some(io) => io.option(option),
            None => Ok(kept),
        }
    }

    fn set_option(&self, option: TcpOption, value: u64) -> io::Result<()> {
        match &*self.io.borrow() {
            Some(io) => io.set_option(option, value),
            None => Ok(()),
        }
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

impl Registered for TcpCore {
    fn note(&self, news: News) {
        if news.readable {
            self.readable.set(true);
        }
        let is_awaited = self.blocked.get() || self.state.get() == TcpState::Connecting;
        if news.writable && is_awaited {
            self.writable.set(true);
        }
        self.queue_if_ready();
    }

    fn dispatch(self: Rc<Self>) {
        self.queued.set(false);
        let Some(mut handler) = self.handler.take() else {
            return;
        };
        let socket = TcpSocket {
            core: self.clone(),
            is_owner: false,
        };
        // A handler that closes the socket, or drops it, and perhaps connects again, has ended this
        // life; one that replaces itself leaves the rest to the next.
        let key = self.key.get();
        let goes_on = |handler: &TakenHandler<'_, dyn TcpHandler>| {
            self.key.get() == key && handler.is_current()
        };
        let is_connected = || self.state.get() == TcpState::Connected;
        if self.state.get() == TcpState::Connecting && self.finish_connecting() {
            handler.call(|handler| handler.on_connected(&socket));
        }
        if goes_on(&handler) && is_connected() && self.writable.replace(false) {
            self.blocked.set(false);
            handler.call(|handler| handler.on_writable(&socket));
        }
        if goes_on(&handler) && is_connected() && self.readable.get() {
            if self.peer_finished.get() == PeerFinished::No {
                handler.call(|handler| handler.on_readable(&socket));
            } else {
                self.look_for_failure();
            }
        }
        if goes_on(&handler) && is_connected() && self.peer_finished.get() == PeerFinished::News {
            self.peer_finished.set(PeerFinished::Told);
            if !self.options.borrow().half_open {
                self.finished.set(true);
            } else if !self.finished.get() {
                handler.call(|handler| handler.on_peer_finished(&socket));
            }
        }
        if goes_on(&handler) {
            let error = self.failed.replace(None);
            if self.is_over() || error.is_some() {
                self.end();
                self.peer_finished.set(PeerFinished::No);
                self.finished.set(false);
                handler.call(|handler| handler.on_closed(&socket, error));
            }
        }
        drop(handler);
        self.queue_if_ready();
    }
}
