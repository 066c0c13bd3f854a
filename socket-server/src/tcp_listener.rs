//! Where TCP connections come in.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use crate::firewall::{Direction, Firewall, Protocol};
use crate::handler_slot::HandlerSlot;
use crate::registry::{Key, News, Registered, SharedRegistry};
use crate::tcp::TcpSocket;

/// What is called when connections wait to be accepted.
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
}

struct ListenCore {
    registry: SharedRegistry,
    key: Key,
    io: Box<dyn ListenIo>,
    handler: HandlerSlot<dyn ListenHandler>,
    firewall: RefCell<Option<Rc<Firewall>>>,
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
            io,
            handler: HandlerSlot::default(),
            firewall: RefCell::default(),
            readable: Cell::default(),
            queued: Cell::default(),
        });
        let registered: Weak<ListenCore> = Rc::downgrade(&core);
        core.registry.borrow_mut().put(key, registered);
        Ok(Self { core })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.io.local_addr()
    }

    /// Sets what is called when there are connections, in place of what was before. If there are
    /// some already, that is in the next wait.
    pub fn set_handler(&self, handler: impl ListenHandler + 'static) {
        self.core.handler.change(Some(Box::new(handler)));
        self.core.queue_if_ready();
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
        loop {
            let socket = self
                .core
                .io
                .accept()
                .inspect_err(|_| self.core.readable.set(false))?;
            // The one that the connection came to, which the listener's own need not tell.
            let local = socket.local_addr().unwrap_or(self.local_addr());
            let Some(firewall) = &*self.core.firewall.borrow() else {
                return Ok(socket);
            };
            let is_welcome = socket
                .peer_addr()
                .is_none_or(|peer| firewall.allows(Protocol::Tcp, Direction::In, peer, local));
            if is_welcome {
                socket.set_firewall(firewall.clone());
                return Ok(socket);
            }
        }
    }

    pub(crate) fn set_firewall(&self, firewall: Rc<Firewall>) {
        *self.core.firewall.borrow_mut() = Some(firewall);
    }
}

impl ListenCore {
    fn queue_if_ready(&self) {
        if self.readable.get() && self.handler.is_set() && !self.queued.replace(true) {
            self.registry.borrow_mut().push_ready(self.key);
        }
    }
}

impl Registered for ListenCore {
    fn note(&self, news: News) {
        if news.readable {
            self.readable.set(true);
        }
        self.queue_if_ready();
    }

    fn dispatch(self: Rc<Self>) {
        self.queued.set(false);
        let Some(mut handler) = self.handler.take() else {
            return;
        };
        let listener = TcpListener { core: self.clone() };
        if self.readable.get() {
            handler.call(|handler| handler.on_incoming(&listener));
        }
        drop(handler);
        self.queue_if_ready();
    }
}

impl Drop for ListenCore {
    fn drop(&mut self) {
        self.registry.borrow_mut().remove(self.key);
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("local", &self.local_addr())
            .finish_non_exhaustive()
    }
}
