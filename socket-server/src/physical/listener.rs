//! The operating system's TCP listeners.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use mio::Interest;
use socket2::{Domain, Protocol, Socket, Type};

use super::ServerCore;
use super::stream::PhysicalStream;
use super::udp::share_port;
use crate::registry::Key;
use crate::tcp::TcpSocket;
use crate::tcp_listener::ListenIo;
use crate::tcp_options::{ListenOptions, TcpOptions};

/// A listener in the poll set of its server.
pub(super) struct PhysicalListener {
    server: Rc<ServerCore>,
    key: Key,
    io: RefCell<mio::net::TcpListener>,
    local: SocketAddr,
    accepted: TcpOptions,
}

impl PhysicalListener {
    pub(super) fn bind(
        server: Rc<ServerCore>,
        key: Key,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(options.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if options.address.is_ipv6() {
            socket.set_only_v6(options.only_v6)?;
        }
        // Else the port is taken for a minute after a connection of an earlier listener. On Windows
        // the option means something else.
        socket.set_reuse_address(cfg!(unix))?;
        if options.share_port {
            share_port(&socket)?;
        }
        server.bind(&socket, options.address)?;
        socket.listen(options.backlog.into())?;
        let mut io = mio::net::TcpListener::from_std(socket.into());
        let local = io.local_addr()?;
        server.register(&mut io, key, Interest::READABLE)?;
        Ok(Self {
            server,
            key,
            io: RefCell::new(io),
            local,
            accepted: options.accepted.clone(),
        })
    }

    fn accept_one(&self) -> io::Result<TcpSocket> {
        let (stream, peer) = self.io.borrow().accept()?;
        let server = &self.server;
        let (registry, options) = (server.registry.clone(), &self.accepted);
        TcpSocket::accepted(server.clone(), registry, options, peer, |key| {
            let stream = PhysicalStream::accepted(server.clone(), into_std(stream), options, key)?;
            Ok(Box::new(stream))
        })
    }
}

impl ListenIo for PhysicalListener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn accept(&self) -> io::Result<TcpSocket> {
        loop {
            match self.accept_one() {
                Ok(socket) => return Ok(socket),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Err(error),
                    // It has gone while it waited; there may be others.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        // No descriptors, or no memory. The connection still waits, and there will be
                        // no news of it.
                        self.server.retry_later(self.key);
                        return Err(error);
                    }
                },
            }
        }
    }
}

#[cfg(unix)]
fn into_std(stream: mio::net::TcpStream) -> std::net::TcpStream {
    std::os::fd::OwnedFd::from(stream).into()
}

#[cfg(windows)]
fn into_std(stream: mio::net::TcpStream) -> std::net::TcpStream {
    std::os::windows::io::OwnedSocket::from(stream).into()
}

impl Drop for PhysicalListener {
    fn drop(&mut self) {
        self.server.deregister(self.io.get_mut());
    }
}
