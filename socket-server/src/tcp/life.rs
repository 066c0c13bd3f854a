//! The life of a TCP socket: from one state to the next, and what the handler hears of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::{Rc, Weak};

use super::{TcpHandler, TcpIo, TcpServer, TcpSocket, TcpState, TcpTarget};
use crate::firewall::{Direction, Firewalls, Protocol};
use crate::handler_slot::{HandlerSlot, TakenHandler};
use crate::registry::{Key, News, Registered, SharedRegistry};
use crate::resolution::{OnResolved, Resolution};
use crate::tcp_options::TcpOptions;

/// What handlers and the server share of a socket: it may outlive the [`TcpSocket`], while a handler
/// runs that drops it.
pub(super) struct TcpCore {
    server: Rc<dyn TcpServer>,
    registry: SharedRegistry,
    /// For the current connection, and for the next.
    pub(super) options: RefCell<TcpOptions>,
    handler: HandlerSlot<dyn TcpHandler>,
    pub(super) firewalls: Firewalls,
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

impl TcpCore {
    pub(super) fn new(
        server: Rc<dyn TcpServer>,
        registry: SharedRegistry,
        options: &TcpOptions,
    ) -> Rc<Self> {
        Rc::new_cyclic(|own| Self {
            server,
            registry,
            options: RefCell::new(options.clone()),
            handler: HandlerSlot::default(),
            firewalls: Firewalls::default(),
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
        })
    }

    /// Begins with a connection that exists.
    pub(super) fn accept(
        &self,
        peer: SocketAddr,
        open: impl FnOnce(Key) -> io::Result<Box<dyn TcpIo>>,
    ) -> io::Result<()> {
        let io = open(self.new_key())?;
        self.peer.set(Some(peer));
        self.io.replace(Some(Rc::from(io)));
        self.state.set(TcpState::Connected);
        Ok(())
    }

    pub(super) fn state(&self) -> TcpState {
        self.state.get()
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
    }

    /// The connection, or the attempt at one.
    pub(super) fn io(&self) -> Option<Rc<dyn TcpIo>> {
        self.io.borrow().clone()
    }

    pub(super) fn change_handler(&self, handler: Option<Box<dyn TcpHandler>>) {
        self.handler.change(handler);
        self.queue_if_ready();
    }

    pub(super) fn connect(&self, target: TcpTarget) -> io::Result<()> {
        if self.state.get() != TcpState::Closed {
            let message = "the socket is connected, or about to be";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        self.reset();
        match target {
            TcpTarget::Address(address) => self.connect_to(address)?,
            TcpTarget::Name(host, port) => {
                let own = self.own.clone();
                let done: OnResolved = Box::new(move |addresses| {
                    if let Some(core) = own.upgrade() {
                        core.on_resolved(addresses);
                    }
                });
                let resolution = self.server.resolve(&host, port, done)?;
                self.resolution.replace(Some(resolution));
                self.state.set(TcpState::Connecting);
            }
        }
        Ok(())
    }

    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let io = self.connected_io()?;
        if buffer.is_empty() || self.peer_finished.get() != PeerFinished::No {
            return Ok(0);
        }
        match io.recv(buffer) {
            Ok(0) => {
                self.readable.set(false);
                if !self.fail_as_sending_did() {
                    self.peer_finished.set(PeerFinished::News);
                    self.queue_if_ready();
                }
                Ok(0)
            }
            Ok(received) => Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable.set(false);
                self.fail_as_sending_did();
                Err(error)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        let io = self.connected_io()?;
        if self.finished.get() || self.send_failed.borrow().is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if data.is_empty() {
            return Ok(0);
        }
        match io.send(data) {
            Ok(sent) => {
                if sent < data.len() {
                    self.blocked.set(true);
                }
                Ok(sent)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked.set(true);
                Err(error)
            }
            Err(error) => Err(self.fail_sending(error)),
        }
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        let io = self.connected_io()?;
        if !self.finished.replace(true) {
            io.shutdown(Shutdown::Write)?;
        }
        self.queue_if_ready();
        Ok(())
    }

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
    pub(super) fn reset(&self) {
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
        // What is connected through may change them.
        let options = self.options.borrow().clone();
        options.check()?;
        let any = SocketAddr::new(crate::address::unspecified_like(address.ip()), 0);
        let local = options.local.unwrap_or(any);
        let (protocol, direction) = (Protocol::Tcp, Direction::Out);
        if !self.firewalls.allow(protocol, direction, local, address) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let key = self.new_key();
        let connecting = self.server.clone().connect(address, &options, key);
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

    /// The kernel, or the network, says what became of the attempt. True if there is a connection.
    fn finish_connecting(&self) -> bool {
        self.writable.set(false);
        let Some(io) = self.io() else {
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
        if let Some(Err(error)) = self.io().map(|io| io.failure()) {
            self.fail(error);
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
    }
}
