//! Options of TCP sockets and listeners.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::dscp::Dscp;

/// Options of a new TCP socket, or of those that a listener accepts.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves"]
pub struct TcpOptions {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) half_open: bool,
    pub(crate) nodelay: bool,
    pub(crate) recv_buffer_bytes: Option<usize>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) dscp: Option<Dscp>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) user_timeout: Option<Duration>,
}

/// How a connection on which nothing happens is probed, so that a peer that has vanished is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long nothing happens before the first probe. Whole seconds, from 1 to 32,767.
    pub idle: Duration,
    /// From one probe to the next. Whole seconds, from 1 to 32,767.
    pub interval: Duration,
    /// How many unanswered probes end the connection: from 1 to 127.
    pub count: u32,
}

impl KeepAlive {
    /// Whether it is within what operating systems take.
    pub(crate) fn check(&self) -> io::Result<()> {
        let seconds = 1..=32_767;
        let is_right = [self.idle, self.interval]
            .iter()
            .all(|time| seconds.contains(&time.as_secs()))
            && (1..=127).contains(&self.count);
        if is_right {
            Ok(())
        } else {
            let message = "keep-alive times are from 1 to 32,767 s, and the count from 1 to 127";
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

impl TcpOptions {
    /// The defaults: any local address, closed when the peer has finished, and what the operating
    /// system does by itself.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        self.keep_alive
            .map_or(Ok(()), |keep_alive| keep_alive.check())
    }

    /// Connects from this address. Port 0 takes a free one.
    pub fn local(mut self, address: SocketAddr) -> Self {
        self.local = Some(address);
        self
    }

    /// Stays open for sending when the peer has finished; see
    /// [`TcpHandler::on_peer_finished`](crate::TcpHandler::on_peer_finished).
    pub fn half_open(mut self, half_open: bool) -> Self {
        self.half_open = half_open;
        self
    }

    /// Sends small pieces at once, instead of collecting them (`TCP_NODELAY`).
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Room for what has arrived and is not read yet, in bytes.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(bytes);
        self
    }

    /// Room for what is to be sent, in bytes.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// The code point of what is sent.
    pub fn dscp(mut self, dscp: Dscp) -> Self {
        self.dscp = Some(dscp);
        self
    }

    /// Probes the peer when nothing happens.
    pub fn keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        self.keep_alive = keep_alive.into();
        self
    }

    /// Ends the connection when the peer has not confirmed for so long what was sent
    /// (`TCP_USER_TIMEOUT`). Whole milliseconds.
    pub fn user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = timeout.into();
        self
    }
}

/// Options of a new TCP listener.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct ListenOptions {
    pub(crate) address: SocketAddr,
    pub(crate) only_v6: bool,
    pub(crate) backlog: u16,
    pub(crate) share_port: bool,
    pub(crate) accepted: TcpOptions,
}

impl ListenOptions {
    /// A listener at this address. Port 0 takes a free one.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            only_v6: false,
            backlog: 1024,
            share_port: false,
            accepted: TcpOptions::new(),
        }
    }

    /// An IPv6 listener does not take IPv4 connections.
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// How many connections may wait to be accepted.
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Shares the port with other listeners that say the same, usually of other threads; each
    /// connection comes to one of them.
    pub fn share_port(mut self, share: bool) -> Self {
        self.share_port = share;
        self
    }

    /// Options of the sockets that are accepted. Their local address is not for choice.
    pub fn accepted(mut self, options: TcpOptions) -> Self {
        self.accepted = options;
        self
    }
}
