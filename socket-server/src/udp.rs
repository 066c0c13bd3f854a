//! UDP sockets.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Instant, SystemTime};

use crate::arrival_clock::ArrivalClock;
use crate::dscp::Dscp;
use crate::ecn::Ecn;
use crate::envelope::{Envelope, Transmit};
use crate::firewall::{Direction, Firewalls, Protocol};
use crate::handler_slot::HandlerSlot;
use crate::recv_batch::{Datagram, RecvBatch};
use crate::registry::{Key, News, Registered, SharedRegistry};
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

/// What a server does for a UDP socket.
pub(crate) trait UdpIo {
    fn local_addr(&self) -> SocketAddr;

    /// Receives into the batch. [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is
    /// nothing.
    fn recv(&self, batch: &mut RecvBatch) -> io::Result<Received>;

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()>;

    /// How many datagrams of a run one send takes.
    fn max_gso_segments(&self) -> usize;

    /// Asks to be told when there is room to send, or no longer.
    fn watch_writable(&self, watch: bool) -> io::Result<()>;

    fn option(&self, option: UdpOption) -> io::Result<usize>;

    fn set_option(&self, option: UdpOption, value: usize) -> io::Result<()>;

    /// How many datagrams were lost for want of room.
    fn dropped(&self) -> u64;

    /// When, by the monotonic clock, if that is known better than from the wall clock.
    fn instant_of(&self, received_at: SystemTime) -> Option<Instant> {
        let _ = received_at;
        None
    }
}

/// What a receive call has found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Nothing was left; news is given of what comes.
    pub(crate) is_drained: bool,
}

/// Options that servers keep. Bytes, or zero and one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UdpOption {
    RecvBuffer,
    SendBuffer,
    DontFragment,
    OnlyV6,
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
    /// Handlers are given one that is not.
    is_owner: bool,
}

/// A socket, as its server and the handles to it share it.
struct UdpCore {
    registry: SharedRegistry,
    key: Key,
    /// None once the socket is closed, while a handler runs that has dropped it.
    io: RefCell<Option<Rc<dyn UdpIo>>>,
    local: SocketAddr,
    handler: HandlerSlot<dyn UdpHandler>,
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// A send said that it would block, and the handler is to hear when that is over.
    blocked: Cell<bool>,
    /// Whether it is in the server's list of those to be called.
    queued: Cell<bool>,
    dispatching: Cell<bool>,
    ecn: Cell<Option<Ecn>>,
    dscp: Cell<Dscp>,
    arrival_clock: ArrivalClock,
    firewalls: Firewalls,
    /// For those who receive datagrams one by one.
    singles: RefCell<Option<Singles>>,
}

/// What one receive call has brought for those who take one at a time.
struct Singles {
    batch: RecvBatch,
    taken: usize,
}

/// A datagram received by [`UdpSocket::recv_from`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedDatagram {
    /// How many bytes were written to the buffer.
    pub len: usize,
    /// How long the datagram was. If it is more than `len`, the buffer was too short, and the rest
    /// is lost.
    pub datagram_len: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of this machine that it came to, if the system tells.
    pub local_ip: Option<IpAddr>,
    /// The mark that the network may have put on it.
    pub ecn: Option<Ecn>,
    /// When it arrived; see [`UdpSocket::arrived_at`].
    pub arrived_at: Option<Instant>,
}

/// How many times in a row a firewall may turn away all that has come, before others get their turn.
const MAX_DENIED: usize = 64;

impl UdpSocket {
    /// A socket of a server: `open` is given the key under which it will be registered.
    pub(crate) fn open(
        registry: SharedRegistry,
        open: impl FnOnce(Key) -> io::Result<Box<dyn UdpIo>>,
    ) -> io::Result<Self> {
        let key = registry.borrow_mut().reserve();
        let io = match open(key) {
            Ok(io) => io,
            Err(error) => {
                registry.borrow_mut().remove(key);
                return Err(error);
            }
        };
        let core = Rc::new(UdpCore {
            local: io.local_addr(),
            io: RefCell::new(Some(Rc::from(io))),
            key,
            handler: HandlerSlot::default(),
            readable: Cell::default(),
            writable: Cell::default(),
            blocked: Cell::default(),
            queued: Cell::default(),
            dispatching: Cell::default(),
            ecn: Cell::default(),
            dscp: Cell::default(),
            arrival_clock: ArrivalClock::default(),
            firewalls: Firewalls::default(),
            singles: RefCell::default(),
            registry,
        });
        let registered: Weak<UdpCore> = Rc::downgrade(&core);
        core.registry.borrow_mut().put(key, registered);
        Ok(Self {
            core,
            is_owner: true,
        })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.local
    }

    /// Sets what is called when the socket can be used, in place of what was before. If it can be
    /// used already, that is in the next wait.
    ///
    /// The socket owns its handler. One that owns the socket in turn, or what owns it, would keep it
    /// open for ever: a [`Weak`] reference does not.
    pub fn set_handler(&self, handler: impl UdpHandler + 'static) {
        self.core.handler.change(Some(Box::new(handler)));
        self.core.queue_if_ready();
    }

    /// From here on nothing is called. What arrives is kept for the next handler.
    pub fn clear_handler(&self) {
        self.core.handler.change(None);
    }

    /// Reads as many datagrams as one system call gives, or what [`recv_from`](Self::recv_from) has
    /// left of one, in place of what the batch held before. Returns their number; 0 if a
    /// [firewall](crate::FirewallSocketServer) turned all of them away.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there are none: the handler is called
    /// when there are. Others concern something sent earlier; the socket goes on.
    pub fn recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        // What came together with one that was read alone, came before what the system still has.
        if let Some(singles) = &mut *self.core.singles.borrow_mut()
            && singles.taken < singles.batch.len()
        {
            let moved = batch.take_rest(&singles.batch, singles.taken);
            singles.taken += moved;
            return Ok(moved);
        }
        self.receive(batch)
    }

    /// As [`recv`](Self::recv), of what the system has.
    fn receive(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        let core = &self.core;
        let io = core.io()?;
        // The call before has emptied the socket. What came meanwhile has been announced, and the
        // handler is called for it.
        if core.dispatching.get() && !core.readable.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match io.recv(batch) {
            Ok(received) => core.readable.set(!received.is_drained),
            Err(error) => {
                if error.kind() == io::ErrorKind::WouldBlock {
                    core.readable.set(false);
                }
                return Err(error);
            }
        }
        core.arrival_clock.forget_comparison();
        if !core.firewalls.is_empty() {
            batch.filter(|arrival| {
                let local_ip = arrival.local_ip.unwrap_or(core.local.ip());
                let local = SocketAddr::new(local_ip, core.local.port());
                let (protocol, direction) = (Protocol::Udp, Direction::In);
                core.firewalls
                    .allow(protocol, direction, arrival.source, local)
            });
        }
        Ok(batch.len())
    }

    /// Reads one datagram. [`recv`](Self::recv) costs less where many arrive.
    ///
    /// libwebrtc: `Socket::RecvFrom`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv). A buffer that is too short is no error; see
    /// [`ReceivedDatagram::datagram_len`].
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<ReceivedDatagram> {
        // Taken out while datagrams are received, which may call an observer of the network.
        let kept = self.core.singles.take();
        let mut singles = kept.unwrap_or_else(|| Singles {
            batch: RecvBatch::single(),
            taken: 0,
        });
        let received = self.next_single(&mut singles, buffer);
        if singles.taken < singles.batch.len() {
            // The others wait here, not in the kernel, which has no news of them.
            self.core.readable.set(true);
            self.core.queue_if_ready();
        }
        self.core.singles.replace(Some(singles));
        received
    }

    fn next_single(
        &self,
        singles: &mut Singles,
        buffer: &mut [u8],
    ) -> io::Result<ReceivedDatagram> {
        for _ in 0..MAX_DENIED {
            if let Some(datagram) = singles.batch.iter().nth(singles.taken) {
                singles.taken += 1;
                let len = datagram.data.len().min(buffer.len());
                buffer[..len].copy_from_slice(&datagram.data[..len]);
                return Ok(ReceivedDatagram {
                    len,
                    datagram_len: datagram.data.len(),
                    source: datagram.source,
                    local_ip: datagram.local_ip,
                    ecn: datagram.ecn,
                    arrived_at: self.arrived_at(&datagram),
                });
            }
            singles.taken = 0;
            self.receive(&mut singles.batch)
                .inspect_err(|_| singles.batch.clear())?;
        }
        // There may be more, for which the handler is called again when others have had their turn.
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// When a datagram of the latest [`recv`](Self::recv) arrived, by the monotonic clock, if the
    /// system tells. Never earlier than what was told for the one before, and never in the future,
    /// whatever happens to the wall clock.
    ///
    /// libwebrtc: `ReceivedIpPacket::arrival_time`.
    pub fn arrived_at(&self, datagram: &Datagram<'_>) -> Option<Instant> {
        let received_at = datagram.received_at?;
        let exact = self.core.io().ok()?.instant_of(received_at);
        Some(exact.unwrap_or_else(|| self.core.arrival_clock.instant_of(received_at)))
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is no room: it was not sent,
    /// and the handler is called when there is. A datagram that is too long, or cannot be routed, is
    /// an error of its own, and leaves the socket as it was.
    pub fn send_to(&self, to: impl Into<Envelope>, data: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            envelope: to.into(),
            contents: data,
            segment_bytes: None,
        };
        self.send_run(transmit)
    }

    /// Sends what a batch holds, in order, in as few system calls as can be.
    ///
    /// What there is no room for stays in the batch, and the handler is called when there is room.
    /// What cannot be sent for another reason is dropped and counted; it does not stop the others.
    pub fn send_batch(&self, batch: &mut SendBatch) -> SendReport {
        let mut report = batch.flush(self.max_gso_segments(), |transmit| self.try_send(*transmit));
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
        self.core.io().map_or(1, |io| io.max_gso_segments())
    }

    /// How many datagrams this socket has lost because nobody read them in time, as far as the
    /// system tells, and as of the latest datagram that was read.
    pub fn dropped_datagrams(&self) -> u64 {
        self.core.io().map_or(0, |io| io.dropped())
    }

    /// Sends a run, all of it or nothing.
    pub(crate) fn send_run(&self, transmit: Transmit<'_>) -> io::Result<()> {
        let sent = self.try_send(transmit);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.core.watch_writable()?;
        }
        sent
    }

    pub(crate) fn firewalls(&self) -> &Firewalls {
        &self.core.firewalls
    }

    fn try_send(&self, mut transmit: Transmit<'_>) -> io::Result<()> {
        let core = &self.core;
        let envelope = &mut transmit.envelope;
        envelope.ecn = envelope.ecn.or(core.ecn.get());
        envelope.dscp = envelope.dscp.or(Some(core.dscp.get()));
        if !core.firewalls.is_empty() {
            let to = envelope.destination;
            let from = envelope.source_ip.unwrap_or(core.local.ip());
            let from = SocketAddr::new(from, core.local.port());
            let (protocol, direction) = (Protocol::Udp, Direction::Out);
            if !core.firewalls.allow(protocol, direction, from, to) {
                // Lost on its way, as far as the sender can tell.
                return Ok(());
            }
        }
        core.io()?.send(&transmit)
    }
}

/// Options. What a system lacks is [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported), or its
/// own error.
///
/// libwebrtc: `Socket::GetOption` and `SetOption`.
impl UdpSocket {
    /// How much room there is for datagrams that have arrived, in bytes. Linux gives, and counts,
    /// twice of what it was asked for.
    ///
    /// # Errors
    ///
    /// The operating system's, here and below.
    pub fn recv_buffer_bytes(&self) -> io::Result<usize> {
        self.core.io()?.option(UdpOption::RecvBuffer)
    }

    /// See [`UdpOptions::recv_buffer_bytes`](crate::UdpOptions::recv_buffer_bytes).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_recv_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.core.io()?.set_option(UdpOption::RecvBuffer, bytes)
    }

    /// How much room there is for datagrams to be sent, in bytes. Linux gives, and counts, twice of
    /// what it was asked for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn send_buffer_bytes(&self) -> io::Result<usize> {
        self.core.io()?.option(UdpOption::SendBuffer)
    }

    /// See [`UdpOptions::send_buffer_bytes`](crate::UdpOptions::send_buffer_bytes).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_send_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.core.io()?.set_option(UdpOption::SendBuffer, bytes)
    }

    /// Whether datagrams that are too long for a link on their way are lost, and not cut up. Not so
    /// by default, on Linux.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn dont_fragment(&self) -> io::Result<bool> {
        Ok(self.core.io()?.option(UdpOption::DontFragment)? != 0)
    }

    /// See [`dont_fragment`](Self::dont_fragment).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_dont_fragment(&self, dont: bool) -> io::Result<()> {
        self.core
            .io()?
            .set_option(UdpOption::DontFragment, dont.into())
    }

    /// Whether an IPv6 socket keeps out of IPv4; an error on an IPv4 socket. On Linux, one that is
    /// bound to a particular address, which is not a mapped one, does so in any case.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn only_v6(&self) -> io::Result<bool> {
        Ok(self.core.io()?.option(UdpOption::OnlyV6)? != 0)
    }

    /// The mark of datagrams whose [`Envelope`] has none.
    pub fn ecn(&self) -> Option<Ecn> {
        self.core.ecn.get()
    }

    /// Marks all datagrams from here on whose [`Envelope`] says nothing else.
    pub fn set_ecn(&self, ecn: Option<Ecn>) {
        self.core.ecn.set(ecn);
    }

    /// The code point of datagrams whose [`Envelope`] has none.
    pub fn dscp(&self) -> Dscp {
        self.core.dscp.get()
    }

    /// Marks all datagrams from here on whose [`Envelope`] says nothing else.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) where it cannot be done.
    pub fn set_dscp(&self, dscp: Dscp) -> io::Result<()> {
        if cfg!(not(target_os = "linux")) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.core.dscp.set(dscp);
        Ok(())
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("local", &self.core.local)
            .finish_non_exhaustive()
    }
}

impl Drop for UdpSocket {
    /// Not left to the core, which lives on while its handler runs.
    fn drop(&mut self) {
        if self.is_owner {
            self.core.close();
        }
    }
}

impl UdpCore {
    fn io(&self) -> io::Result<Rc<dyn UdpIo>> {
        let io = self.io.borrow().clone();
        io.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn close(&self) {
        self.registry.borrow_mut().remove(self.key);
        let io = self.io.replace(None);
        drop(io);
        self.readable.set(false);
        self.writable.set(false);
        self.handler.change(None);
    }

    /// Asks to be told when there is room. Only then: told of room all the time, the poll would end
    /// with every datagram that leaves.
    fn watch_writable(&self) -> io::Result<()> {
        if self.blocked.replace(true) {
            return Ok(());
        }
        let watched = self.io().and_then(|io| io.watch_writable(true));
        self.blocked.set(watched.is_ok());
        watched
    }

    fn stop_watching_writable(&self) {
        self.blocked.set(false);
        // If it fails, needless news comes, and finds nothing blocked.
        let _ = self.io().and_then(|io| io.watch_writable(false));
    }
}

impl Registered for UdpCore {
    fn note(&self, news: News) {
        if news.readable {
            self.readable.set(true);
        }
        if news.writable && self.blocked.get() {
            self.writable.set(true);
        }
        self.queue_if_ready();
    }

    fn queue_if_ready(&self) {
        let is_ready = self.readable.get() || self.writable.get();
        // Without a handler there is nobody to call; setting one comes back here.
        if is_ready && self.handler.is_set() && !self.queued.replace(true) {
            self.registry.borrow_mut().push_ready(self.key);
        }
    }

    fn dispatch(self: Rc<Self>) {
        self.queued.set(false);
        let Some(mut handler) = self.handler.take() else {
            return;
        };
        let socket = UdpSocket {
            core: self.clone(),
            is_owner: false,
        };
        let _dispatching = Dispatching::begin(&self.dispatching);
        if self.writable.replace(false) {
            self.stop_watching_writable();
            handler.call(|handler| handler.on_writable(&socket));
        }
        if self.readable.get() {
            handler.call(|handler| handler.on_readable(&socket));
        }
    }
}

/// Marks a socket whose handler runs, also if it panics out of that.
struct Dispatching<'a>(&'a Cell<bool>);

impl<'a> Dispatching<'a> {
    fn begin(flag: &'a Cell<bool>) -> Self {
        flag.set(true);
        Self(flag)
    }
}

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{MaxWait, PhysicalSocketServer, ProcessIo, SocketServer, UdpOptions};

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
