//! TCP listeners of a virtual host.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::host::{Binding, Bound};
use super::network::Event;
use super::stream::{StreamHandle, VirtualStream};
use super::tcp_connection::Connection;
use super::topology::VirtualHost;
use crate::registry::{Key, News, SharedRegistry};
use crate::tcp::{TcpServer, TcpSocket};
use crate::tcp_listener::ListenIo;
use crate::tcp_options::{ListenOptions, TcpOptions};

/// How soon a listener that could not accept tries again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A listener as the network knows it.
pub(super) struct ListenEndpoint {
    binding: Binding,
    backlog: usize,
    accepted: TcpOptions,
    registry: SharedRegistry,
    key: Key,
    /// Connections that do not exist yet.
    pending: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<VirtualStream>>>,
}

impl Bound for ListenEndpoint {
    fn binding(&self) -> Binding {
        self.binding
    }
}

impl ListenEndpoint {
    /// Whether one more connection may come.
    pub(super) fn has_room(&self) -> bool {
        self.pending.get() + self.waiting.borrow().len() < self.backlog
    }

    /// What accepted sockets have.
    pub(super) fn accepted(&self) -> &TcpOptions {
        &self.accepted
    }

    /// A connection is on its way.
    pub(super) fn is_coming(&self) {
        self.pending.set(self.pending.get() + 1);
    }

    /// One that was on its way will not come.
    pub(super) fn has_failed(&self) {
        self.pending.set(self.pending.get().saturating_sub(1));
    }

    /// One that was on its way is there.
    pub(super) fn has_come(&self, stream: Rc<VirtualStream>) {
        self.pending.set(self.pending.get().saturating_sub(1));
        self.waiting.borrow_mut().push_back(stream);
        self.note();
    }

    pub(super) fn note(&self) {
        let listener = self.registry.borrow().get(self.key);
        if let Some(listener) = listener {
            listener.note(News::READABLE);
        }
    }
}

/// A listener as its owner uses it.
pub(super) struct VirtualListener {
    host: VirtualHost,
    server: Rc<dyn TcpServer>,
    endpoint: Rc<ListenEndpoint>,
}

impl VirtualListener {
    pub(super) fn bind(
        host: &VirtualHost,
        server: Rc<dyn TcpServer>,
        registry: SharedRegistry,
        key: Key,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        let mut state = host.core.state.borrow_mut();
        state.check_bindable(host.id, options.address.ip())?;
        let on_host = state.host(host.id).ok_or(io::ErrorKind::NotFound)?;
        let mut binding = Binding::new(options.address, options.only_v6, options.share_port)?;
        binding.address = on_host.bind_listener(binding)?;
        let endpoint = Rc::new(ListenEndpoint {
            binding,
            backlog: usize::from(options.backlog).max(1),
            accepted: options.accepted.clone(),
            registry,
            key,
            pending: Cell::new(0),
            waiting: RefCell::default(),
        });
        on_host.add_listener(&endpoint);
        Ok(Self {
            host: host.clone(),
            server,
            endpoint,
        })
    }
}

impl ListenIo for VirtualListener {
    fn local_addr(&self) -> SocketAddr {
        self.endpoint.binding.address
    }

    fn accept(&self) -> io::Result<TcpSocket> {
        let (core, endpoint) = (&self.host.core, &self.endpoint);
        core.run_due();
        let fails = core.with_state(|state, now| {
            let host = state.host(self.host.id)?;
            let is_waited_for = !endpoint.waiting.borrow().is_empty();
            let fails = is_waited_for && std::mem::take(&mut host.fails_next_accept);
            if fails {
                let retry = Event::Retry(Rc::downgrade(endpoint));
                state.schedule(now + RETRY_AFTER, retry);
            }
            Some(fails)
        });
        if fails == Some(true) {
            let message = "no descriptors left";
            return Err(io::Error::other(message));
        }
        let waiting = endpoint.waiting.borrow_mut().pop_front();
        let stream = waiting.ok_or(io::ErrorKind::WouldBlock)?;
        let registry = endpoint.registry.clone();
        let (server, options) = (self.server.clone(), &endpoint.accepted);
        let is_v6 = endpoint.binding.address.is_ipv6();
        let handle = StreamHandle::accepted(core.clone(), stream.clone(), is_v6);
        let peer = handle.shown(stream.remote());
        let socket = TcpSocket::accepted(server, registry.clone(), options, peer, |key| {
            stream.give_to(registry, key);
            Ok(Box::new(handle))
        })?;
        stream.note_what_has_come();
        Ok(socket)
    }
}

impl Drop for VirtualListener {
    fn drop(&mut self) {
        let waiting = self.endpoint.waiting.take();
        self.host.core.with_state(|state, now| {
            for stream in waiting {
                stream.release(state, now, Connection::abort);
            }
        });
    }
}
