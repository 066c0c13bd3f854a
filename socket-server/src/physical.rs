//! A server of the operating system's sockets.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token};

use crate::deadline::Deadline;
use crate::registry::{Key, Sockets, own_token};
use crate::server::{MaxWait, ProcessIo, SocketServer};
use crate::udp::{UdpOptions, UdpSocket};
use crate::wake::{Wake, WakeHandle};

const WAKER: Token = own_token(0);
const TIMER: Token = own_token(1);

/// Events taken from the kernel at a time.
const EVENT_CAPACITY: usize = 256;
/// Handlers called in one wait, before the thread's tasks get their turn.
const SOCKETS_PER_ROUND: usize = 64;

/// A server of the operating system's sockets, on mio.
///
/// - **Level-like.** mio reports the change to ready once. Here a socket stays ready until a call has
///   said that it would block: a handler that leaves data behind is called again in the next wait,
///   without a system call to ask for that. Ready sockets take turns.
/// - **No stray events.** A handler may close, drop or open any socket, its own included. Whatever
///   was reported for a closed socket reaches nobody, also if its slot or descriptor is in use
///   again.
/// - **No lock and no borrow** is held while a handler runs.
/// - **Deadlines** are a timer in the poll set on Linux, exact to some tens of microseconds. On other
///   systems they are rounded up to a millisecond.
///
/// libwebrtc: `PhysicalSocketServer`.
pub struct PhysicalSocketServer {
    core: Rc<ServerCore>,
}

/// What the sockets of a server share with it; they may outlive it.
pub(crate) struct ServerCore {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    registry: Registry,
    waker: Arc<PollWaker>,
    deadline: RefCell<Deadline>,
    sockets: RefCell<Sockets>,
    waiting: Cell<bool>,
}

#[derive(Debug)]
struct PollWaker(mio::Waker);

impl Wake for PollWaker {
    fn wake(&self) {
        // An eventfd, and its like elsewhere, takes a wake-up as long as it is open, which this
        // value sees to; mio deals with the overflow of its counter.
        let _ = self.0.wake();
    }
}

impl PhysicalSocketServer {
    /// Makes a server for the calling thread.
    ///
    /// # Errors
    ///
    /// The operating system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Arc::new(PollWaker(mio::Waker::new(&registry, WAKER)?));
        let deadline = RefCell::new(Deadline::new(&registry, TIMER)?);
        Ok(Self {
            core: Rc::new(ServerCore {
                poll: RefCell::new(poll),
                events: RefCell::new(Events::with_capacity(EVENT_CAPACITY)),
                registry,
                waker,
                deadline,
                sockets: RefCell::default(),
                waiting: Cell::new(false),
            }),
        })
    }
}

impl SocketServer for PhysicalSocketServer {
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()> {
        let core = &self.core;
        let _waiting = Waiting::begin(&core.waiting)?;
        loop {
            let timeout = match max_wait {
                _ if process_io == ProcessIo::Yes && core.has_ready() => Some(Duration::ZERO),
                MaxWait::Poll => Some(Duration::ZERO),
                MaxWait::Until(deadline) => core.deadline.borrow_mut().arm(deadline)?,
                MaxWait::Forever => None,
            };
            let woken = core.poll(timeout)?;
            if process_io == ProcessIo::Yes && core.has_ready() {
                core.dispatch_round();
                return Ok(());
            }
            let is_over = match max_wait {
                MaxWait::Poll => true,
                MaxWait::Until(deadline) => Instant::now() >= deadline,
                MaxWait::Forever => false,
            };
            if woken || is_over {
                return Ok(());
            }
        }
    }

    fn wake_handle(&self) -> WakeHandle {
        WakeHandle::new(self.core.waker.clone())
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        UdpSocket::bind(self.core.clone(), options)
    }
}

impl fmt::Debug for PhysicalSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhysicalSocketServer")
            .finish_non_exhaustive()
    }
}

impl ServerCore {
    /// Asks the kernel, and notes which sockets are ready. True if there was a wake-up.
    fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        match self.poll.borrow_mut().poll(&mut events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut woken = false;
        for event in events.iter() {
            match event.token() {
                WAKER => woken = true,
                TIMER => self.deadline.borrow_mut().fired(),
                token => {
                    let socket = self.sockets.borrow().get(Key::from_token(token));
                    if let Some(socket) = socket {
                        // An error is found by reading.
                        let readable = event.is_readable() || event.is_error();
                        socket.note(readable, event.is_writable());
                    }
                }
            }
        }
        Ok(woken)
    }

    fn has_ready(&self) -> bool {
        self.sockets.borrow().ready_len() > 0
    }

    /// Calls the handlers of sockets that are ready now, each once. Those that are ready still, or
    /// again, have queued up behind the others.
    fn dispatch_round(&self) {
        let round = self.sockets.borrow().ready_len().min(SOCKETS_PER_ROUND);
        for _ in 0..round {
            let key = self.sockets.borrow_mut().pop_ready();
            let socket = key.and_then(|key| self.sockets.borrow().get(key));
            if let Some(socket) = socket {
                socket.dispatch();
            }
        }
    }

    /// Registers a socket for reading.
    pub(crate) fn register(&self, io: &mut mio::net::UdpSocket) -> io::Result<Key> {
        let key = self.sockets.borrow_mut().reserve();
        let registered = self.registry.register(io, key.token(), Interest::READABLE);
        if registered.is_err() {
            self.sockets.borrow_mut().remove(key);
        }
        registered.map(|()| key)
    }

    /// Asks to be told, besides about reading, when there is room to send; or no longer.
    pub(crate) fn watch_writable(
        &self,
        io: &mut mio::net::UdpSocket,
        key: Key,
        watch: bool,
    ) -> io::Result<()> {
        let interest = if watch {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.registry.reregister(io, key.token(), interest)
    }

    pub(crate) fn deregister(&self, io: &mut mio::net::UdpSocket, key: Key) {
        // It fails only for a descriptor that the kernel has forgotten by itself.
        let _ = self.registry.deregister(io);
        self.sockets.borrow_mut().remove(key);
    }

    pub(crate) fn sockets(&self) -> &RefCell<Sockets> {
        &self.sockets
    }
}

impl fmt::Debug for ServerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCore").finish_non_exhaustive()
    }
}

/// Keeps waits from nesting, also when a handler panics out of one.
struct Waiting<'a>(&'a Cell<bool>);

impl<'a> Waiting<'a> {
    fn begin(flag: &'a Cell<bool>) -> io::Result<Self> {
        if flag.replace(true) {
            let message = "a wait from within a handler of the same server";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        Ok(Self(flag))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
