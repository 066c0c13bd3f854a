//! The operating system's TCP connections.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use mio::Interest;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::ServerCore;
use crate::registry::Key;
use crate::tcp::{TcpIo, TcpOption};
use crate::tcp_options::TcpOptions;

/// A TCP connection in the poll set of its server.
pub(super) struct PhysicalStream {
    server: Rc<ServerCore>,
    io: RefCell<mio::net::TcpStream>,
}

impl PhysicalStream {
    pub(super) fn connect(
        server: Rc<ServerCore>,
        to: SocketAddr,
        options: &TcpOptions,
        key: Key,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        apply(&socket, options)?;
        if let Some(local) = options.local {
            socket.set_reuse_address(cfg!(unix))?;
            server.bind(&socket, local)?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if is_in_progress(&error) => {}
            Err(error) => return Err(error),
        }
        Self::register(server, socket.into(), key)
    }

    /// A connection that was accepted.
    pub(super) fn accepted(
        server: Rc<ServerCore>,
        stream: std::net::TcpStream,
        options: &TcpOptions,
        key: Key,
    ) -> io::Result<Self> {
        apply(&SockRef::from(&stream), options)?;
        Self::register(server, stream, key)
    }

    fn register(server: Rc<ServerCore>, stream: std::net::TcpStream, key: Key) -> io::Result<Self> {
        let mut io = mio::net::TcpStream::from_std(stream);
        // Both from the start: a connected socket has no news of room unless it ran out of it.
        server.register(&mut io, key, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            server,
            io: RefCell::new(io),
        })
    }
}

/// What a connection in progress says of itself.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

fn apply(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(bytes) = options.recv_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(dscp) = options.dscp {
        set_dscp(socket, dscp.bits())?;
    }
    if let Some(keep_alive) = options.keep_alive {
        let parameters = TcpKeepalive::new()
            .with_time(keep_alive.idle)
            .with_interval(keep_alive.interval)
            .with_retries(keep_alive.count);
        socket.set_tcp_keepalive(&parameters)?;
    }
    if let Some(timeout) = options.user_timeout {
        set_user_timeout(socket, timeout)?;
    }
    Ok(())
}

/// Of the family that the socket has.
#[cfg(unix)]
fn set_dscp(socket: &Socket, bits: u8) -> io::Result<()> {
    let tos = u32::from(bits) << 2;
    // An IPv6 socket may carry IPv4, too.
    let v4 = socket.set_tos_v4(tos);
    match socket.local_addr()?.is_ipv6() {
        true => socket.set_tclass_v6(tos),
        false => v4,
    }
}

#[cfg(unix)]
fn dscp(socket: &Socket) -> io::Result<u64> {
    let tos = match socket.local_addr()?.is_ipv6() {
        true => socket.tclass_v6(),
        false => socket.tos_v4(),
    };
    Ok(u64::from(tos? >> 2))
}

#[cfg(unix)]
fn keep_alive_times(socket: &Socket) -> io::Result<(Duration, Duration)> {
    Ok((
        socket.tcp_keepalive_time()?,
        socket.tcp_keepalive_interval()?,
    ))
}

#[cfg(not(unix))]
fn set_dscp(_socket: &Socket, _bits: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn dscp(_socket: &Socket) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn keep_alive_times(_socket: &Socket) -> io::Result<(Duration, Duration)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn set_user_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(target_os = "linux")]
fn user_timeout(socket: &Socket) -> io::Result<u64> {
    let timeout = socket.tcp_user_timeout()?.unwrap_or_default();
    Ok(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_socket: &Socket, _timeout: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn user_timeout(_socket: &Socket) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

impl TcpIo for PhysicalStream {
    fn finish_connect(&self) -> io::Result<bool> {
        self.failure()?;
        match self.io.borrow().peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry_if_interrupted(|| self.io.borrow_mut().read(buffer))
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        retry_if_interrupted(|| self.io.borrow_mut().write(data))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.borrow().shutdown(how)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.borrow().local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.borrow().peer_addr()
    }

    fn failure(&self) -> io::Result<()> {
        self.io.borrow().take_error()?.map_or(Ok(()), Err)
    }

    fn option(&self, option: TcpOption) -> io::Result<u64> {
        let io = self.io.borrow();
        let socket = SockRef::from(&*io);
        match option {
            TcpOption::NoDelay => socket.tcp_nodelay().map(u64::from),
            TcpOption::RecvBuffer => socket.recv_buffer_size().map(|bytes| bytes as u64),
            TcpOption::SendBuffer => socket.send_buffer_size().map(|bytes| bytes as u64),
            TcpOption::Dscp => dscp(&socket),
            TcpOption::KeepAlive => socket.keepalive().map(u64::from),
            TcpOption::KeepIdle => keep_alive_times(&socket).map(|(idle, _)| idle.as_secs()),
            TcpOption::KeepInterval => {
                keep_alive_times(&socket).map(|(_, interval)| interval.as_secs())
            }
            TcpOption::KeepCount => socket.tcp_keepalive_retries().map(u64::from),
            TcpOption::UserTimeout => user_timeout(&socket),
        }
    }

    fn set_option(&self, option: TcpOption, value: u64) -> io::Result<()> {
        let io = self.io.borrow();
        let socket = SockRef::from(&*io);
        let bytes = usize::try_from(value).unwrap_or(usize::MAX);
        let seconds = Duration::from_secs(value);
        let keep_alive = TcpKeepalive::new();
        match option {
            TcpOption::NoDelay => socket.set_tcp_nodelay(value != 0),
            TcpOption::RecvBuffer => socket.set_recv_buffer_size(bytes),
            TcpOption::SendBuffer => socket.set_send_buffer_size(bytes),
            TcpOption::Dscp => set_dscp(&socket, value as u8),
            TcpOption::KeepAlive => socket.set_keepalive(value != 0),
            TcpOption::KeepIdle => socket.set_tcp_keepalive(&keep_alive.with_time(seconds)),
            TcpOption::KeepInterval => socket.set_tcp_keepalive(&keep_alive.with_interval(seconds)),
            TcpOption::KeepCount => {
                let count = u32::try_from(value).unwrap_or(u32::MAX);
                socket.set_tcp_keepalive(&keep_alive.with_retries(count))
            }
            TcpOption::UserTimeout => set_user_timeout(&socket, Duration::from_millis(value)),
        }
    }
}

fn retry_if_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

impl Drop for PhysicalStream {
    fn drop(&mut self) {
        self.server.deregister(self.io.get_mut());
    }
}
