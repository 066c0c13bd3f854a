//! Where TCP connections come in.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use crate::firewall::{Direction, Firewalls, Protocol};
use crate::handler_slot::HandlerSlot;
use crate::registry::{Key, News, Registered, SharedRegistry};
use crate::tcp::TcpSocket;

/// How many connections in a row a firewall may turn away, before others get their turn.
const MAX_DENIED: usize = 64;

/// What is called when connections wait to be accepted.
///
/// The listener owns its handler. One that owned the listener in turn, or what owns it, would keep
/// it open for ever: a [`Weak`] reference does not.
pub trait ListenHandler {
    /// There is a connection, or was when this was found out. Called again in a later wait as long
    /// as no [`accept`](TcpListener::accept) has said that it would block.
    ///
    /// A handler may do anything to any socket. It must not wait in the socket server.
    fn on_incoming(&mut self, listener: &TcpListener);
}

/// What a server does for a listener.
pub(crate) trait ListenIo {
    fn local_addr(&self) -> SocketAddr;

    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is no connection. After any
    /// other error there will be news, at the latest in a while.
    fn accept(&self) -> io::Result<TcpSocket>;
}

/// Waits for TCP connections, served by the [`SocketServer`](crate::SocketServer) that opened it.
///
/// It belongs to the thread of its server. Dropping it closes it; connections that were accepted go
/// on, and those that wait are refused.
///
/// libwebrtc: `Socket::Listen`, `AsyncTcpListenSocket`.
pub struct TcpListener {
    core: Rc<ListenCore>,
    /// Handlers are given one that is not.
    is_owner: bool,
}

struct ListenCore {
    registry: SharedRegistry,
    key: Key,
    local: SocketAddr,
    /// None once the listener is closed, while a handler runs that has dropped it.
    io: RefCell<Option<Rc<dyn ListenIo>>>,
    handler: HandlerSlot<dyn ListenHandler>,
    firewalls: Firewalls,
    readable: Cell<bool>,
    queued: Cell<bool>,
}

impl TcpListener {
    /// A listener of a server: `open` is given the key under which it will be registered.
    pub(crate) fn open(
        registry: SharedRegistry,
        open: impl FnOnce(Key) -> io::Result<Box<dyn ListenIo>>,
    ) -> io::Result<Self> {
        let key = registry.borrow_mut().reserve();
        let io = match open(key) {
            Ok(io) => io,
            Err(error) => {
                registry.borrow_mut().remove(key);
                return Err(error);
            }
        };
        let core = Rc::new(ListenCore {
            registry,
            key,
            local: io.local_addr(),
            io: RefCell::new(Some(Rc::from(io))),
            handler: HandlerSlot::default(),
            firewalls: Firewalls::default(),
            readable: Cell::default(),
            queued: Cell::default(),
        });
        let registered: Weak<ListenCore> = Rc::downgrade(&core);
        core.registry.borrow_mut().put(key, registered);
        Ok(Self {
            core,
            is_owner: true,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.local
    }

    /// Sets what is called when there are connections, in place of what was before. If there are
    /// some already, that is in the next wait.
    pub fn set_handler(&self, handler: impl ListenHandler + 'static) {
        self.core.handler.change(Some(Box::new(handler)));
        self.core.queue_if_ready();
    }

    /// From here on nothing is called. Connections that come wait for the next handler.
    pub fn clear_handler(&self) {
        self.core.handler.change(None);
    }

    /// Takes a connection that has come in. Where from, its
    /// [`peer_addr`](TcpSocket::peer_addr) tells.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock) if there is none. Any other error, such
    /// as that there are no descriptors left, concerns this connection or this moment: the listener
    /// goes on, and its handler is called again, after a tenth of a second at the latest.
    pub fn accept(&self) -> io::Result<TcpSocket> {
        let core = &self.core;
        let io = core.io.borrow().clone();
        let io = io.ok_or(io::ErrorKind::NotConnected)?;
        for _ in 0..MAX_DENIED {
            let socket = io.accept().inspect_err(|_| core.readable.set(false))?;
            // The one that the connection came to, which the listener's own need not tell.
            let local = socket.local_addr().unwrap_or(core.local);
            let is_welcome = socket.peer_addr().is_none_or(|peer| {
                let (protocol, direction) = (Protocol::Tcp, Direction::In);
                core.firewalls.allow(protocol, direction, peer, local)
            });
            if is_welcome {
                socket.firewalls().add_all(&core.firewalls);
                return Ok(socket);
            }
        }
        // There may be more, for which the handler is called again when others have had their turn.
        Err(io::ErrorKind::WouldBlock.into())
    }

    pub(crate) fn firewalls(&self) -> &Firewalls {
        &self.core.firewalls
    }
}

impl Drop for TcpListener {
    /// Not left to the core, which lives on while its handler runs.
    fn drop(&mut self) {
        if self.is_owner {
            self.core.close();
        }
    }
}

impl ListenCore {
    fn close(&self) {
        self.registry.borrow_mut().remove(self.key);
        let io = self.io.replace(None);
        drop(io);
        self.readable.set(false);
        self.handler.change(None);
    }
}

impl Registered for ListenCore {
    fn note(&self, news: News) {
        if news.readable {
            self.readable.set(true);
        }
        self.queue_if_ready();
    }

    fn queue_if_ready(&self) {
        if self.readable.get() && self.handler.is_set() && !self.queued.replace(true) {
            self.registry.borrow_mut().push_ready(self.key);
        }
    }

    fn dispatch(self: Rc<Self>) {
        self.queued.set(false);
        let Some(mut handler) = self.handler.take() else {
            return;
        };
        let listener = TcpListener {
            core: self.clone(),
            is_owner: false,
        };
        if self.readable.get() {
            handler.call(|handler| handler.on_incoming(&listener));
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("local", &self.local_addr())
            .finish_non_exhaustive()
    }
}
