//! Ends of TCP connections that keep a record of what their handlers hear.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;

use socket_server::{
    ListenHandler, ListenOptions, TcpHandler, TcpListener, TcpOptions, TcpSocket, TcpState,
    TcpTarget,
};

use super::World;
use super::ports::at_lasting_port;

/// What a handler is told. What can be read it may be told any number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Connected,
    Readable,
    Writable,
    Finished,
    Closed(Option<ErrorKind>),
}

/// What a handler has heard.
#[derive(Default)]
pub(crate) struct Log {
    /// All but `Readable`.
    events: RefCell<Vec<Event>>,
    data: RefCell<Vec<u8>>,
    readable_calls: Cell<usize>,
}

impl Log {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    pub(crate) fn has(&self, event: Event) -> bool {
        self.events.borrow().contains(&event)
    }

    /// How often it has heard this.
    pub(crate) fn count(&self, event: Event) -> usize {
        let events = self.events.borrow();
        events.iter().filter(|heard| **heard == event).count()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.has(Event::Connected)
    }

    /// Why the connection has ended last, if it has.
    pub(crate) fn closed(&self) -> Option<Option<ErrorKind>> {
        self.events
            .borrow()
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Closed(error) => Some(*error),
                _ => None,
            })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed().is_some()
    }

    /// What was read.
    pub(crate) fn data(&self) -> Vec<u8> {
        self.data.borrow().clone()
    }

    pub(crate) fn received(&self) -> usize {
        self.data.borrow().len()
    }

    pub(crate) fn readable_calls(&self) -> usize {
        self.readable_calls.get()
    }

    /// Reads what there is.
    pub(crate) fn read(&self, socket: &TcpSocket) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            if length == 0 {
                return;
            }
            self.data.borrow_mut().extend(&buffer[..length]);
        }
    }
}

/// Does something more for each event, after it has been noted.
type Hook = Box<dyn FnMut(&TcpSocket, Event)>;

/// Keeps a record, and reads all there is.
pub(crate) struct Record {
    log: Rc<Log>,
    reads: bool,
    hook: Hook,
}

impl Record {
    pub(crate) fn new(log: &Rc<Log>) -> Self {
        Self::with(log, |_, _| {})
    }

    pub(crate) fn with(log: &Rc<Log>, hook: impl FnMut(&TcpSocket, Event) + 'static) -> Self {
        Self {
            log: log.clone(),
            reads: true,
            hook: Box::new(hook),
        }
    }

    /// Leaves reading to the hook.
    pub(crate) fn without_reading(mut self) -> Self {
        self.reads = false;
        self
    }

    fn note(&mut self, socket: &TcpSocket, event: Event) {
        self.log.events.borrow_mut().push(event);
        (self.hook)(socket, event);
    }
}

impl TcpHandler for Record {
    fn on_connected(&mut self, socket: &TcpSocket) {
        self.note(socket, Event::Connected);
    }

    fn on_readable(&mut self, socket: &TcpSocket) {
        self.log
            .readable_calls
            .set(self.log.readable_calls.get() + 1);
        if self.reads {
            self.log.read(socket);
        }
        (self.hook)(socket, Event::Readable);
    }

    fn on_writable(&mut self, socket: &TcpSocket) {
        self.note(socket, Event::Writable);
    }

    fn on_peer_finished(&mut self, socket: &TcpSocket) {
        self.note(socket, Event::Finished);
    }

    fn on_closed(&mut self, socket: &TcpSocket, error: Option<io::Error>) {
        let kind = error.map(|error| error.kind());
        self.note(socket, Event::Closed(kind));
    }
}

/// Keeps a record of what happens to a connection.
pub(crate) fn follow(socket: &TcpSocket) -> Rc<Log> {
    let log = Rc::default();
    socket.set_handler(Record::new(&log));
    log
}

/// A socket, and what its handler has heard.
pub(crate) struct Peer {
    pub(crate) socket: TcpSocket,
    pub(crate) log: Rc<Log>,
}

impl Peer {
    pub(crate) fn new(socket: TcpSocket) -> Self {
        Self::with(socket, |_, _| {})
    }

    pub(crate) fn with(socket: TcpSocket, hook: impl FnMut(&TcpSocket, Event) + 'static) -> Self {
        let log = Rc::<Log>::default();
        socket.set_handler(Record::with(&log, hook));
        Self { socket, log }
    }

    /// One without a handler: it reads nothing.
    pub(crate) fn idle(socket: TcpSocket) -> Self {
        let log = Rc::default();
        Self { socket, log }
    }
}

/// Calls a closure when there are connections.
pub(crate) struct OnIncoming<F>(pub(crate) F);

impl<F: FnMut(&TcpListener)> ListenHandler for OnIncoming<F> {
    fn on_incoming(&mut self, listener: &TcpListener) {
        (self.0)(listener);
    }
}

/// The ends that a listener has accepted.
pub(crate) type Accepted = Rc<RefCell<Vec<Peer>>>;

/// Accepts all that come.
pub(crate) fn accept_all(listener: &TcpListener) -> Accepted {
    accept_all_as(listener, Peer::new)
}

pub(crate) fn accept_all_as(
    listener: &TcpListener,
    peer: impl Fn(TcpSocket) -> Peer + 'static,
) -> Accepted {
    let accepted = Accepted::default();
    let to = accepted.clone();
    listener.set_handler(OnIncoming(move |listener: &TcpListener| {
        while let Ok(socket) = listener.accept() {
            to.borrow_mut().push(peer(socket));
        }
    }));
    accepted
}

/// A listener of the other server. When it is closed, nobody listens there.
#[track_caller]
pub(crate) fn listen(world: &World) -> TcpListener {
    let listen = |port| {
        let mut address = world.other_address();
        address.set_port(port);
        let options = ListenOptions::new(address);
        world.other_server().listen_tcp(&options)
    };
    match world.is_physical() {
        true => at_lasting_port(listen),
        false => listen(0).unwrap(),
    }
}

/// A socket of the server here.
pub(crate) fn socket(world: &World) -> TcpSocket {
    world.server().tcp_socket(&TcpOptions::new()).unwrap()
}

/// Begins to connect from here.
pub(crate) fn connect(world: &World, target: impl Into<TcpTarget>) -> Peer {
    let peer = Peer::new(socket(world));
    peer.socket.connect(target).unwrap();
    peer
}

/// Connects, and accepts; the end here comes first.
#[track_caller]
pub(crate) fn pair(world: &World) -> (Peer, Peer) {
    pair_as(world, &TcpOptions::new(), &TcpOptions::new(), Peer::new)
}

#[track_caller]
pub(crate) fn pair_as(
    world: &World,
    options: &TcpOptions,
    accepted: &TcpOptions,
    peer: impl Fn(TcpSocket) -> Peer + 'static,
) -> (Peer, Peer) {
    let options_there = ListenOptions::new(world.other_address()).accepted(accepted.clone());
    let listener = world.other_server().listen_tcp(&options_there).unwrap();
    let accepted = accept_all_as(&listener, peer);
    let here = Peer::new(world.server().tcp_socket(options).unwrap());
    here.socket.connect(listener.local_addr()).unwrap();
    world.wait_until("both have the connection", || {
        here.socket.state() == TcpState::Connected && !accepted.borrow().is_empty()
    });
    let there = accepted.borrow_mut().remove(0);
    (here, there)
}
