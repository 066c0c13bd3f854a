//! Options of TCP sockets.

use std::io;
use std::time::Duration;

use super::{TcpOption, TcpSocket};
use crate::dscp::Dscp;
use crate::tcp_options::KeepAlive;

/// Options. They may be set at any time; on a closed socket they are for its next connection.
///
/// libwebrtc: `Socket::GetOption` and `SetOption`.
impl TcpSocket {
    /// See [`TcpOptions::nodelay`](crate::TcpOptions::nodelay).
    ///
    /// # Errors
    ///
    /// The operating system's, here and below.
    pub fn nodelay(&self) -> io::Result<bool> {
        let kept = u64::from(self.core.options.borrow().nodelay);
        Ok(self.option(TcpOption::NoDelay, kept)? != 0)
    }

    /// See [`TcpOptions::nodelay`](crate::TcpOptions::nodelay).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.core.options.borrow_mut().nodelay = nodelay;
        self.set_option(TcpOption::NoDelay, nodelay.into())
    }

    /// Room for what has arrived, in bytes. Linux gives, and counts, twice of what it was asked for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn recv_buffer_bytes(&self) -> io::Result<usize> {
        let kept = self.core.options.borrow().recv_buffer_bytes;
        let bytes = self.option(TcpOption::RecvBuffer, kept.unwrap_or(0) as u64)?;
        Ok(bytes as usize)
    }

    /// See [`TcpOptions::recv_buffer_bytes`](crate::TcpOptions::recv_buffer_bytes).
    ///
    /// # Errors
    ///
    /// The operating system's; in a virtual network, where the buffers of a connection stay what they
    /// are, [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported), and it is for the next one.
    pub fn set_recv_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.core.options.borrow_mut().recv_buffer_bytes = Some(bytes);
        self.set_option(TcpOption::RecvBuffer, bytes as u64)
    }

    /// Room for what is to be sent, in bytes. Linux gives, and counts, twice of what it was asked
    /// for.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn send_buffer_bytes(&self) -> io::Result<usize> {
        let kept = self.core.options.borrow().send_buffer_bytes;
        let bytes = self.option(TcpOption::SendBuffer, kept.unwrap_or(0) as u64)?;
        Ok(bytes as usize)
    }

    /// See [`TcpOptions::send_buffer_bytes`](crate::TcpOptions::send_buffer_bytes).
    ///
    /// # Errors
    ///
    /// As for [`set_recv_buffer_bytes`](Self::set_recv_buffer_bytes).
    pub fn set_send_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        self.core.options.borrow_mut().send_buffer_bytes = Some(bytes);
        self.set_option(TcpOption::SendBuffer, bytes as u64)
    }

    /// See [`TcpOptions::dscp`](crate::TcpOptions::dscp).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn dscp(&self) -> io::Result<Dscp> {
        let kept = self.core.options.borrow().dscp.unwrap_or_default();
        let bits = self.option(TcpOption::Dscp, kept.bits().into())?;
        Ok(Dscp::new(bits as u8).unwrap_or_default())
    }

    /// See [`TcpOptions::dscp`](crate::TcpOptions::dscp).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_dscp(&self, dscp: Dscp) -> io::Result<()> {
        self.core.options.borrow_mut().dscp = Some(dscp);
        self.set_option(TcpOption::Dscp, dscp.bits().into())
    }

    /// See [`TcpOptions::keep_alive`](crate::TcpOptions::keep_alive).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        let Some(io) = self.core.io() else {
            return Ok(self.core.options.borrow().keep_alive);
        };
        if io.option(TcpOption::KeepAlive)? == 0 {
            return Ok(None);
        }
        Ok(Some(KeepAlive {
            idle: Duration::from_secs(io.option(TcpOption::KeepIdle)?),
            interval: Duration::from_secs(io.option(TcpOption::KeepInterval)?),
            count: io.option(TcpOption::KeepCount)? as u32,
        }))
    }

    /// See [`TcpOptions::keep_alive`](crate::TcpOptions::keep_alive).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](io::ErrorKind::InvalidInput) for what a [`KeepAlive`] cannot be,
    /// and the operating system's.
    pub fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> io::Result<()> {
        if let Some(keep_alive) = keep_alive {
            keep_alive.check()?;
            self.set_option(TcpOption::KeepIdle, keep_alive.idle.as_secs())?;
            self.set_option(TcpOption::KeepInterval, keep_alive.interval.as_secs())?;
            self.set_option(TcpOption::KeepCount, keep_alive.count.into())?;
        }
        self.set_option(TcpOption::KeepAlive, keep_alive.is_some().into())?;
        self.core.options.borrow_mut().keep_alive = keep_alive;
        Ok(())
    }

    /// See [`TcpOptions::user_timeout`](crate::TcpOptions::user_timeout).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn user_timeout(&self) -> io::Result<Option<Duration>> {
        let kept = self.core.options.borrow().user_timeout.unwrap_or_default();
        let millis = self.option(TcpOption::UserTimeout, kept.as_millis() as u64)?;
        Ok((millis > 0).then(|| Duration::from_millis(millis)))
    }

    /// See [`TcpOptions::user_timeout`](crate::TcpOptions::user_timeout).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.core.options.borrow_mut().user_timeout = timeout;
        let millis = timeout.unwrap_or_default().as_millis();
        self.set_option(
            TcpOption::UserTimeout,
            u64::try_from(millis).unwrap_or(u64::MAX),
        )
    }

    /// What the connection has, or what is kept for the next.
    fn option(&self, option: TcpOption, kept: u64) -> io::Result<u64> {
        match self.core.io() {
            Some(io) => io.option(option),
            None => Ok(kept),
        }
    }

    fn set_option(&self, option: TcpOption, value: u64) -> io::Result<()> {
        match self.core.io() {
            Some(io) => io.set_option(option, value),
            None => Ok(()),
        }
    }
}
