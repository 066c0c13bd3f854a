//! A server of the operating system's sockets.

mod deadline;
#[cfg(target_os = "linux")]
mod linux_io;
mod listener;
mod network_binder;
mod resolver;
#[cfg(unix)]
mod signals;
mod stream;
mod udp;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::event::Source;
use mio::{Events, Interest, Poll, Token};

use self::deadline::Deadline;
use self::listener::PhysicalListener;
use self::network_binder::bind;
use self::resolver::Answer;
use self::stream::PhysicalStream;
use self::udp::PhysicalUdp;
use crate::registry::{Key, News, SharedRegistry, dispatch_round, own_token};
use crate::resolution::{OnResolved, Resolution, Resolved};
use crate::server::{MaxWait, ProcessIo, SocketServer, Waiting};
#[cfg(unix)]
use crate::signal::{Signal, SignalHandler};
use crate::tcp::{TcpIo, TcpServer, TcpSocket};
use crate::tcp_listener::TcpListener;
use crate::tcp_options::{ListenOptions, TcpOptions};
use crate::udp::UdpSocket;
use crate::udp_options::UdpOptions;
use crate::wake::{Wake, WakeHandle};

pub use self::network_binder::{NetworkBinder, NetworkBinding};

const WAKER: Token = Token(own_token(0));
const TIMER: Token = Token(own_token(1));

/// Events taken from the kernel at a time.
const EVENT_CAPACITY: usize = 256;
/// Handlers called in one wait, before the thread's tasks get their turn.
const SOCKETS_PER_ROUND: usize = 64;
/// How soon a listener that could not accept tries again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

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
/// - **Names** are resolved by the operating system, on at most four threads that the process's
///   servers share, and that end when there is nothing to do.
///
/// libwebrtc: `PhysicalSocketServer`.
pub struct PhysicalSocketServer {
    core: Rc<ServerCore>,
}

/// What the sockets of a server share with it; they may outlive it.
struct ServerCore {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    poll_registry: mio::Registry,
    waker: Arc<PollWaker>,
    deadline: RefCell<Deadline>,
    registry: SharedRegistry,
    waiting: Cell<bool>,
    binder: RefCell<Option<Rc<dyn NetworkBinder>>>,
    /// Answers of the resolver's threads, and who waits for them.
    answers: (Sender<Answer>, Receiver<Answer>),
    questions: RefCell<HashMap<u64, Resolved>>,
    /// Listeners that could not accept, and when they are to try again.
    retries: RefCell<Vec<(Instant, Key)>>,
}

/// Ends a poll, and remembers why.
#[derive(Debug)]
struct PollWaker {
    waker: mio::Waker,
    reasons: AtomicU8,
}

/// Somebody wants the wait to end.
const WANTED: u8 = 1;
/// The resolver has answered.
const ANSWERED: u8 = 2;

impl PollWaker {
    fn wake_for(&self, reason: u8) {
        // Whoever gave this reason before has woken, or is about to, and the reasons are looked at
        // only after that.
        if self.reasons.fetch_or(reason, Ordering::AcqRel) & reason == 0 {
            // An eventfd, and its like elsewhere, takes a wake-up as long as it is open, which this
            // value sees to; mio deals with the overflow of its counter.
            let _ = self.waker.wake();
        }
    }
}

impl Wake for PollWaker {
    fn wake(&self) {
        self.wake_for(WANTED);
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
        let poll_registry = poll.registry().try_clone()?;
        let waker = Arc::new(PollWaker {
            waker: mio::Waker::new(&poll_registry, WAKER)?,
            reasons: AtomicU8::new(0),
        });
        let deadline = RefCell::new(Deadline::new(&poll_registry, TIMER)?);
        Ok(Self {
            core: Rc::new(ServerCore {
                poll: RefCell::new(poll),
                events: RefCell::new(Events::with_capacity(EVENT_CAPACITY)),
                poll_registry,
                waker,
                deadline,
                registry: SharedRegistry::default(),
                waiting: Cell::new(false),
                binder: RefCell::default(),
                answers: unbounded(),
                questions: RefCell::default(),
                retries: RefCell::default(),
            }),
        })
    }

    /// Asks this for every socket that is bound from now on; see [`NetworkBinder`].
    ///
    /// libwebrtc: `set_network_binder`.
    pub fn set_network_binder(&self, binder: impl NetworkBinder + 'static) {
        let old = self.core.binder.replace(Some(Rc::new(binder)));
        // Its drop code may use the server.
        drop(old);
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
                MaxWait::Until(deadline) => core.sleep_until(Some(deadline))?,
                MaxWait::Forever => core.sleep_until(None)?,
            };
            let woken = core.poll(timeout)?;
            core.retry_what_is_due();
            if process_io == ProcessIo::Yes && core.has_ready() {
                dispatch_round(&core.registry, SOCKETS_PER_ROUND);
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

    fn has_ready_sockets(&self) -> bool {
        self.core.has_ready()
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        let core = &self.core;
        UdpSocket::open(core.registry.clone(), |key| {
            Ok(Box::new(PhysicalUdp::bind(core.clone(), key, options)?))
        })
    }

    fn tcp_socket(&self, options: &TcpOptions) -> io::Result<TcpSocket> {
        let core = &self.core;
        Ok(TcpSocket::new(core.clone(), core.registry.clone(), options))
    }

    fn listen_tcp(&self, options: &ListenOptions) -> io::Result<TcpListener> {
        let core = &self.core;
        TcpListener::open(core.registry.clone(), |key| {
            let listener = PhysicalListener::bind(core.clone(), key, options)?;
            Ok(Box::new(listener))
        })
    }

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        self.core.resolve(host, port, done)
    }

    #[cfg(unix)]
    fn on_signal(&self, signal: Signal, handler: Box<dyn FnMut()>) -> io::Result<SignalHandler> {
        let core = &self.core;
        SignalHandler::new(core.registry.clone(), handler, |key| {
            Ok(Box::new(signals::Pipe::new(core.clone(), key, signal)?))
        })
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
                WAKER => {
                    let reasons = self.waker.reasons.swap(0, Ordering::AcqRel);
                    woken |= reasons & WANTED != 0;
                    if reasons & ANSWERED != 0 {
                        self.deliver_answers();
                    }
                }
                TIMER => self.deadline.borrow_mut().fired(),
                Token(token) => {
                    let socket = self.registry.borrow().get(Key::from_token(token));
                    if let Some(socket) = socket {
                        // An error is found by reading.
                        socket.note(News {
                            readable: event.is_readable() || event.is_error(),
                            writable: event.is_writable() || event.is_error(),
                        });
                    }
                }
            }
        }
        Ok(woken)
    }

    fn has_ready(&self) -> bool {
        self.registry.borrow_mut().has_ready()
    }

    /// Prepares a poll that ends at the deadline, or when something is to be tried again.
    fn sleep_until(&self, deadline: Option<Instant>) -> io::Result<Option<Duration>> {
        let retries = self.retries.borrow();
        let retry_at = retries.iter().map(|(at, _)| *at).min();
        match [deadline, retry_at].into_iter().flatten().min() {
            Some(until) => self.deadline.borrow_mut().arm(until),
            None => Ok(None),
        }
    }

    fn retry_later(&self, key: Key) {
        let mut retries = self.retries.borrow_mut();
        if retries.iter().all(|(_, other)| *other != key) {
            retries.push((Instant::now() + RETRY_AFTER, key));
        }
    }

    fn retry_what_is_due(&self) {
        if self.retries.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        let due: Vec<_> = self
            .retries
            .borrow_mut()
            .extract_if(.., |(at, _)| *at <= now)
            .collect();
        for (_, key) in due {
            let socket = self.registry.borrow().get(key);
            if let Some(socket) = socket {
                socket.note(News::READABLE);
            }
        }
    }

    fn deliver_answers(&self) {
        for answer in self.answers.1.try_iter() {
            let waits = self.questions.borrow_mut().remove(&answer.question);
            if let Some(waits) = waits {
                waits.deliver(answer.addresses);
            }
        }
    }

    fn register(&self, source: &mut impl Source, key: Key, interest: Interest) -> io::Result<()> {
        self.poll_registry
            .register(source, Token(key.token()), interest)
    }

    fn deregister(&self, source: &mut impl Source) {
        // It fails only for a descriptor that the kernel has forgotten by itself.
        let _ = self.poll_registry.deregister(source);
    }

    fn bind(&self, socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
        let binder = self.binder.borrow().clone();
        bind(socket, address, binder.as_deref())
    }
}

impl TcpServer for ServerCore {
    fn connect(
        self: Rc<Self>,
        to: SocketAddr,
        options: &TcpOptions,
        key: Key,
    ) -> io::Result<Box<dyn TcpIo>> {
        Ok(Box::new(PhysicalStream::connect(self, to, options, key)?))
    }

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        let (resolution, resolved) = Resolution::new(self.registry.clone(), done);
        let mut questions = self.questions.borrow_mut();
        questions.retain(|_, resolved| resolved.is_awaited());
        let (answers, waker) = (self.answers.0.clone(), self.waker.clone());
        let wake = move || waker.wake_for(ANSWERED);
        let question = resolver::ask(host.to_owned(), port, answers, wake)?;
        questions.insert(question, resolved);
        Ok(resolution)
    }
}

impl fmt::Debug for ServerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCore").finish_non_exhaustive()
    }
}
