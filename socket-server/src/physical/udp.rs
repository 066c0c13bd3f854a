//! The operating system's UDP sockets.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use mio::Interest;
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::ServerCore;
use crate::envelope::Transmit;
use crate::recv_batch::RecvBatch;
use crate::registry::Key;
use crate::udp::{Received, UdpIo, UdpOption};
use crate::udp_options::UdpOptions;

/// A UDP socket in the poll set of its server.
pub(super) struct PhysicalUdp {
    server: Rc<ServerCore>,
    key: Key,
    io: RefCell<mio::net::UdpSocket>,
    local: SocketAddr,
    max_gso_segments: Cell<usize>,
    #[cfg(not(target_os = "linux"))]
    state: UdpSocketState,
    /// What the kernel says, a counter that overflows; and ours, which does not.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "it is not told"))]
    last_drops: Cell<u32>,
    dropped: Cell<u64>,
}

impl PhysicalUdp {
    pub(super) fn bind(server: Rc<ServerCore>, key: Key, options: &UdpOptions) -> io::Result<Self> {
        let domain = Domain::for_address(options.address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if options.address.is_ipv6() {
            socket.set_only_v6(options.only_v6)?;
        }
        if options.share_port {
            share_port(&socket)?;
        }
        if let Some(bytes) = options.recv_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        server.bind(&socket, options.address)?;
        // Switches on what is to be told of each datagram, GRO, and the don't-fragment bit, which not
        // everybody wants.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsFd;
            let (level, name) = (libc::SOL_SOCKET, libc::SO_RXQ_OVFL);
            super::linux_io::set_int_option(socket.as_fd(), level, name, 1)?;
        }
        let mut io = mio::net::UdpSocket::from_std(socket.into());
        let local = io.local_addr()?;
        server.register(&mut io, key, Interest::READABLE)?;
        let socket = Self {
            server,
            key,
            io: RefCell::new(io),
            local,
            max_gso_segments: Cell::new(state.max_gso_segments()),
            #[cfg(not(target_os = "linux"))]
            state,
            last_drops: Cell::new(0),
            dropped: Cell::new(0),
        };
        #[cfg(target_os = "linux")]
        socket.set_never_fragmented(false)?;
        Ok(socket)
    }
}

#[cfg(unix)]
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
pub(super) fn share_port(_socket: &Socket) -> io::Result<()> {
    let message = "this system does not let sockets share a port";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

#[cfg(target_os = "linux")]
mod datagrams {
    //! Through system calls of our own.

    use std::os::fd::AsFd;

    use super::*;
    use crate::physical::linux_io;

    impl PhysicalUdp {
        pub(super) fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<Received> {
            let received = linux_io::recv(self.io.borrow().as_fd(), batch)?;
            if let Some(drops) = received.drops {
                let more = drops.wrapping_sub(self.last_drops.replace(drops));
                self.dropped.set(self.dropped.get() + u64::from(more));
            }
            Ok(Received {
                is_drained: received.is_drained,
            })
        }

        pub(super) fn send_run(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            let sent = linux_io::send(self.io.borrow().as_fd(), transmit);
            if let Err(error) = &sent
                && transmit.segment_bytes.is_some()
                && error.raw_os_error() == Some(libc::EIO)
            {
                // The interface cannot do it, and says so only now. (`EINVAL` is about this run: its
                // datagrams are longer than the interface takes.)
                self.max_gso_segments.set(1);
            }
            sent
        }

        pub(super) fn is_never_fragmented(&self) -> io::Result<bool> {
            let io = self.io.borrow();
            let never = [libc::IP_PMTUDISC_DO, libc::IP_PMTUDISC_PROBE];
            let (level, name) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
            Ok(never.contains(&linux_io::int_option(io.as_fd(), level, name)?))
        }

        pub(super) fn set_never_fragmented(&self, never: bool) -> io::Result<()> {
            let io = self.io.borrow();
            let set = |level, name, value| linux_io::set_int_option(io.as_fd(), level, name, value);
            // What is sent to mapped addresses goes by the IPv4 option, on IPv6 sockets too.
            let value = if never {
                libc::IP_PMTUDISC_PROBE
            } else {
                libc::IP_PMTUDISC_DONT
            };
            set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value)?;
            if self.local.is_ipv6() {
                let value = if never {
                    libc::IPV6_PMTUDISC_PROBE
                } else {
                    libc::IPV6_PMTUDISC_DONT
                };
                set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, value)?;
                set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, never.into())?;
            }
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod datagrams {
    //! Through quinn-udp.

    use std::io::IoSliceMut;
    use std::time::SystemTime;

    use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta};

    use super::*;
    use crate::ecn::Ecn;
    use crate::recv_batch::Arrival;

    impl PhysicalUdp {
        pub(super) fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<Received> {
            let asked = batch.prepare().min(BATCH_SIZE);
            let mut meta = [RecvMeta::default(); BATCH_SIZE];
            let received = {
                let mut buffers = batch.buffers().map(|(buffer, _)| buffer);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
                let io = self.io.borrow();
                io.try_io(|| {
                    let socket = UdpSockRef::from(&*io);
                    self.state.recv(socket, &mut slices[..asked], &mut meta)
                })?
            };
            for ((_, arrival), meta) in batch.buffers().zip(&meta[..received]) {
                *arrival = Arrival {
                    len: meta.len,
                    stride: meta.stride,
                    source: meta.addr,
                    local_ip: meta.dst_ip,
                    tos: meta.ecn.map_or(0, |ecn| ecn as u8),
                    received_at: meta
                        .timestamp
                        .map(|since_epoch| SystemTime::UNIX_EPOCH + since_epoch),
                    ..Arrival::default()
                };
            }
            batch.set_filled(received, asked);
            // Only a call that finds nothing makes mio listen again.
            Ok(Received { is_drained: false })
        }

        pub(super) fn send_run(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            let transmit = quinn_udp::Transmit {
                destination: transmit.envelope.destination,
                ecn: EcnCodepoint::from_bits(Ecn::bits(transmit.envelope.ecn)),
                contents: transmit.contents,
                segment_size: transmit.segment_bytes,
                src_ip: transmit.envelope.source_ip,
            };
            let io = self.io.borrow();
            let sent = io.try_io(|| self.state.try_send(UdpSockRef::from(&*io), &transmit));
            self.max_gso_segments.set(self.state.max_gso_segments());
            sent
        }

        pub(super) fn is_never_fragmented(&self) -> io::Result<bool> {
            Ok(!self.state.may_fragment())
        }

        pub(super) fn set_never_fragmented(&self, never: bool) -> io::Result<()> {
            if never != self.is_never_fragmented()? {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Ok(())
        }
    }
}

impl UdpIo for PhysicalUdp {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn recv(&self, batch: &mut RecvBatch) -> io::Result<Received> {
        self.recv_batch(batch)
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send_run(transmit)
    }

    fn max_gso_segments(&self) -> usize {
        self.max_gso_segments.get()
    }

    fn watch_writable(&self, watch: bool) -> io::Result<()> {
        let interest = if watch {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        let token = mio::Token(self.key.token());
        let registry = &self.server.poll_registry;
        registry.reregister(&mut *self.io.borrow_mut(), token, interest)
    }

    fn option(&self, option: UdpOption) -> io::Result<usize> {
        let io = self.io.borrow();
        let socket = SockRef::from(&*io);
        match option {
            UdpOption::RecvBuffer => socket.recv_buffer_size(),
            UdpOption::SendBuffer => socket.send_buffer_size(),
            UdpOption::OnlyV6 => socket.only_v6().map(usize::from),
            UdpOption::DontFragment => self.is_never_fragmented().map(usize::from),
        }
    }

    fn set_option(&self, option: UdpOption, value: usize) -> io::Result<()> {
        let io = self.io.borrow();
        let socket = SockRef::from(&*io);
        match option {
            UdpOption::RecvBuffer => socket.set_recv_buffer_size(value),
            UdpOption::SendBuffer => socket.set_send_buffer_size(value),
            UdpOption::OnlyV6 => socket.set_only_v6(value != 0),
            UdpOption::DontFragment => self.set_never_fragmented(value != 0),
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Drop for PhysicalUdp {
    fn drop(&mut self) {
        self.server.deregister(self.io.get_mut());
    }
}
