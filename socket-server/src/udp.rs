//! UDP sockets.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::physical::ServerCore;
use crate::recv_batch::RecvBatch;
use crate::registry::Key;
use crate::send_batch::{SendBatch, SendReport};

/// What is called when a [`UdpSocket`] can be used.
///
/// A handler may do anything to any socket, its own included: read, send, close, open, and set
/// handlers. It must not wait in the socket server.
pub trait UdpHandler {
    /// There is something to be read, or was when this was found out: a read may still say that it
    /// would block. Called again in a later wait as long as no read has said that.
    fn on_readable(&mut self, socket: &UdpSocket);

    /// There is room to send again, after a send said that it would block. Called once for that.
    fn on_writable(&mut self, socket: &UdpSocket) {
        let _ = socket;
    }
}

/// Options of a new UDP socket.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct UdpOptions {
    address: SocketAddr,
    recv_buffer_bytes: Option<usize>,
    send_buffer_bytes: Option<usize>,
    only_v6: bool,
}

impl UdpOptions {
    /// A socket bound to this address. Port 0 takes a free one.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            recv_buffer_bytes: None,
            send_buffer_bytes: None,
            only_v6: false,
        }
    }

    /// Room for datagrams that have arrived and are not read yet, in bytes. The operating system
    /// may give less, or more; [`UdpSocket::recv_buffer_bytes`] tells.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(bytes);
        self
    }

    /// Room for datagrams that wait to be sent, in bytes. The operating system may give less, or
    /// more; [`UdpSocket::send_buffer_bytes`] tells.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// An IPv6 socket does not take part in IPv4. By default one that is bound to the unspecified
    /// address does, with IPv4 addresses in their IPv6-mapped form.
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }
}

/// A UDP socket, served by the [`SocketServer`](crate::SocketServer) that opened it.
///
/// It belongs to the thread of its server. Dropping it closes it.
///
/// An error of sending or receiving never closes it. The kernel's offloads are used where there are
/// any: many datagrams in one call, and many of one size to one destination as one.
///
/// libwebrtc: `AsyncUDPSocket`.
///
/// ```compile_fail
/// fn send_it<T: Send>() {}
/// send_it::<socket_server::UdpSocket>();
/// ```
pub struct UdpSocket {
    core: Rc<UdpCore>,
}

/// A socket, as its server and the handles to it share it.
pub(crate) struct UdpCore {
    server: Rc<ServerCore>,
    key: Key,
    io: RefCell<mio::net::UdpSocket>,
    state: UdpSocketState,
    local: SocketAddr,
    handler: RefCell<Option<Box<dyn UdpHandler>>>,
    /// Counts the changes of the handler, so that one that replaced itself is not put back.
    handler_changes: Cell<u64>,
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// A send said that it would block, and the handler is to hear when that is over.
    blocked: Cell<bool>,
    /// Whether it is in the server's list of those to be called.
    queued: Cell<bool>,
}

impl UdpSocket {
    pub(crate) fn bind(server: Rc<ServerCore>, options: &UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(options.address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        if options.address.is_ipv6() {
            socket.set_only_v6(options.only_v6)?;
        }
        if let Some(bytes) = options.recv_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        socket.bind(&options.address.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let mut io = mio::net::UdpSocket::from_std(socket.into());
        let local = io.local_addr()?;
        let key = server.register(&mut io)?;
        let core = Rc::new(UdpCore {
            server,
            key,
            io: RefCell::new(io),
            state,
            local,
            handler: RefCell::default(),
            handler_changes: Cell::default(),
            readable: Cell::default(),
            writable: Cell::default(),
            blocked: Cell::default(),
            queued: Cell::default(),
        });
        core.server.sockets().borrow_mut().put(key, &core);
        Ok(Self { core })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.local
    }

    /// Sets what is called when the socket can be used, in place of what was before. If it can be
    /// used already, that is in the next wait.
    pub fn set_handler(&self, handler: impl UdpHandler + 'static) {
        self.core.change_handler(Some(Box::new(handler)));
        self.core.queue_if_ready();
    }

    /// From here on nothing is called. What arrives is kept for the next handler.
    pub fn clear_handler(&self) {
        self.core.change_handler(None);
    }

    /// Reads as many datagrams as one system call gives, in place of what the batch held before.
    /// Returns their number.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there are none: the handler is called
    /// when there are. Others concern something sent earlier; the socket goes on.
    pub fn recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        let io = self.core.io.borrow();
        let received = io.try_io(|| batch.fill(&self.core.state, UdpSockRef::from(&*io)));
        if let Err(error) = &received
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.core.readable.set(false);
        }
        received
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is no room: it was not sent,
    /// and the handler is called when there is. A datagram that is too long, or cannot be routed, is
    /// an error of its own, and leaves the socket as it was.
    pub fn send_to(&self, destination: SocketAddr, data: &[u8]) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination,
            ecn: None,
            contents: data,
            segment_size: None,
            src_ip: None,
        };
        let sent = self.try_send(&transmit);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.core.watch_writable()?;
        }
        sent
    }

    /// Sends what a batch holds, in order, in as few system calls as can be.
    ///
    /// What there is no room for stays in the batch, and the handler is called when there is room.
    /// What cannot be sent for another reason is dropped and counted; it does not stop the others.
    pub fn send_batch(&self, batch: &mut SendBatch) -> SendReport {
        let mut report = batch.flush(self.max_gso_segments(), |transmit| self.try_send(transmit));
        if report.blocked
            && let Err(error) = self.core.watch_writable()
        {
            report.last_error = Some(error);
        }
        report
    }

    /// How many datagrams of one size to one destination leave in one system call at most. 1 where
    /// the kernel cannot do it.
    pub fn max_gso_segments(&self) -> usize {
        self.core.state.max_gso_segments()
    }

    /// How much room there is for datagrams that have arrived, in bytes. Linux gives, and counts,
    /// twice of what it was asked for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn recv_buffer_bytes(&self) -> io::Result<usize> {
        SockRef::from(&*self.core.io.borrow()).recv_buffer_size()
    }

    /// How much room there is for datagrams to be sent, in bytes. Linux gives, and counts, twice of
    /// what it was asked for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn send_buffer_bytes(&self) -> io::Result<usize> {
        SockRef::from(&*self.core.io.borrow()).send_buffer_size()
    }

    fn try_send(&self, transmit: &quinn_udp::Transmit<'_>) -> io::Result<()> {
        let io = self.core.io.borrow();
        io.try_io(|| self.core.state.try_send(UdpSockRef::from(&*io), transmit))
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("local", &self.core.local)
            .finish_non_exhaustive()
    }
}

impl UdpCore {
    /// The kernel says what can be done now.
    pub(crate) fn note(&self, readable: bool, writable: bool) {
        if readable {
            self.readable.set(true);
        }
        if writable && self.blocked.get() {
            self.writable.set(true);
        }
        self.queue_if_ready();
    }

    fn queue_if_ready(&self) {
        let is_ready = self.readable.get() || self.writable.get();
        // Without a handler there is nobody to call; setting one comes back here.
        if is_ready && self.handler.borrow().is_some() && !self.queued.replace(true) {
            self.server.sockets().borrow_mut().push_ready(self.key);
        }
    }

    /// Calls the handler for what can be done.
    pub(crate) fn dispatch(self: Rc<Self>) {
        self.queued.set(false);
        let Some(handler) = self.handler.borrow_mut().take() else {
            return;
        };
        let socket = UdpSocket { core: self.clone() };
        let mut borrowed = BorrowedHandler {
            changes: self.handler_changes.get(),
            core: &self,
            handler: Some(handler),
        };
        if self.writable.replace(false)
            && let Some(handler) = &mut borrowed.handler
        {
            self.stop_watching_writable();
            handler.on_writable(&socket);
        }
        if self.readable.get()
            && borrowed.is_current()
            && let Some(handler) = &mut borrowed.handler
        {
            handler.on_readable(&socket);
        }
        drop(borrowed);
        self.queue_if_ready();
    }

    fn change_handler(&self, handler: Option<Box<dyn UdpHandler>>) {
        self.handler_changes.set(self.handler_changes.get() + 1);
        let old = self.handler.replace(handler);
        // Its drop code may use the socket.
        drop(old);
    }

    /// Asks the kernel to tell when there is room. Only then: told of room all the time, the poll
    /// would end with every datagram that leaves.
    fn watch_writable(&self) -> io::Result<()> {
        if self.blocked.replace(true) {
            return Ok(());
        }
        let watched = self
            .server
            .watch_writable(&mut self.io.borrow_mut(), self.key, true);
        self.blocked.set(watched.is_ok());
        watched
    }

    fn stop_watching_writable(&self) {
        self.blocked.set(false);
        // If it fails, needless events come, and find nothing blocked.
        let _ = self
            .server
            .watch_writable(&mut self.io.borrow_mut(), self.key, false);
    }
}

impl Drop for UdpCore {
    fn drop(&mut self) {
        self.server.deregister(self.io.get_mut(), self.key);
    }
}

impl fmt::Debug for UdpCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpCore")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// A handler taken out while it runs, and put back afterwards, also if it panics; unless it has been
/// replaced or cleared meanwhile.
struct BorrowedHandler<'a> {
    core: &'a UdpCore,
    changes: u64,
    handler: Option<Box<dyn UdpHandler>>,
}

impl BorrowedHandler<'_> {
    fn is_current(&self) -> bool {
        self.core.handler_changes.get() == self.changes
    }
}

impl Drop for BorrowedHandler<'_> {
    fn drop(&mut self) {
        if self.is_current() {
            self.core.handler.replace(self.handler.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{MaxWait, PhysicalSocketServer, ProcessIo, SocketServer};

    /// Notes when it is told of room.
    struct Writer(Rc<Cell<usize>>);

    impl UdpHandler for Writer {
        fn on_readable(&mut self, _socket: &UdpSocket) {}

        fn on_writable(&mut self, _socket: &UdpSocket) {
            self.0.set(self.0.get() + 1);
        }
    }

    /// Conformance item 32. On loopback a datagram leaves the send buffer within the call that sends
    /// it, so that no send ever blocks; this starts where one that did would have gone on.
    #[test]
    fn after_a_send_that_blocked_the_handler_hears_once_that_there_is_room() {
        let server = PhysicalSocketServer::new().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = server.bind_udp(&UdpOptions::new(any)).unwrap();
        let told = Rc::new(Cell::new(0));
        socket.set_handler(Writer(told.clone()));
        let quiet = |expected: usize| {
            let deadline = Instant::now() + Duration::from_millis(10);
            while Instant::now() < deadline {
                server
                    .wait(MaxWait::Until(deadline), ProcessIo::Yes)
                    .unwrap();
            }
            assert_eq!(expected, told.get());
        };
        quiet(0);
        for times in 1..=3 {
            socket.core.watch_writable().unwrap();
            // A second send that blocks asks for no second call.
            socket.core.watch_writable().unwrap();
            while told.get() < times {
                server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
            }
            socket.send_to(socket.local_addr(), b"x").unwrap();
            quiet(times);
        }
    }
}
