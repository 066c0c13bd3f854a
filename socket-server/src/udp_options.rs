//! Options of new UDP sockets.

use std::net::SocketAddr;

/// The buffers of a socket that asks for nothing, where it is not the operating system's: what Linux
/// gives.
pub(crate) const DEFAULT_BUFFER_BYTES: usize = 212_992;
/// What a datagram takes of a buffer there, besides its data.
pub(crate) const DATAGRAM_OVERHEAD_BYTES: usize = 256;

/// Options of a new UDP socket.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct UdpOptions {
    pub(crate) address: SocketAddr,
    pub(crate) recv_buffer_bytes: Option<usize>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) only_v6: bool,
    pub(crate) share_port: bool,
}

impl UdpOptions {
    /// A socket bound to this address. Port 0 takes a free one.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            recv_buffer_bytes: None,
            send_buffer_bytes: None,
            only_v6: false,
            share_port: false,
        }
    }

    /// Room for datagrams that have arrived and are not read yet, in bytes. The operating system
    /// may give less, or more; [`recv_buffer_bytes`](crate::UdpSocket::recv_buffer_bytes) tells.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(bytes);
        self
    }

    /// Room for datagrams that wait to be sent, in bytes. The operating system may give less, or
    /// more; [`send_buffer_bytes`](crate::UdpSocket::send_buffer_bytes) tells.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// An IPv6 socket does not take part in IPv4. By default one that is bound to the unspecified
    /// address does, with IPv4 addresses in their IPv6-mapped form.
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// Shares the port with other sockets that say the same, usually of other threads: a group
    /// (`SO_REUSEPORT`).
    ///
    /// Every datagram goes to one of the group. Which one, its source and destination decide: a flow
    /// stays on its socket, and so on its thread, as long as the group is the same. A socket that
    /// joins or leaves moves flows; so open all the sockets of a group before the first datagram
    /// comes, and close them together.
    pub fn share_port(mut self, share: bool) -> Self {
        self.share_port = share;
        self
    }
}
