//! Options of TCP connections of a virtual host.

use std::time::Duration;

use crate::tcp::TcpOption;
use crate::tcp_options::TcpOptions;
use crate::udp_options::DEFAULT_BUFFER_BYTES;
use crate::virtual_network::tcp_connection::{KeepAlive, Limits};

/// Options of a connection, as Linux would tell of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOptions {
    pub(super) nodelay: bool,
    recv_buffer: u64,
    send_buffer: u64,
    pub(super) dscp: u8,
    pub(super) keep_alive: Option<KeepAlive>,
    /// What is kept while it is off.
    pub(super) keep_alive_kept: KeepAlive,
    pub(super) user_timeout: Option<Duration>,
}

impl StreamOptions {
    pub(super) fn of(options: &TcpOptions) -> Self {
        let doubled = |bytes: Option<usize>| {
            bytes.map_or(DEFAULT_BUFFER_BYTES as u64, |bytes| {
                (bytes as u64).saturating_mul(2)
            })
        };
        let keep_alive = options.keep_alive.map(|keep_alive| KeepAlive {
            idle: keep_alive.idle,
            interval: keep_alive.interval,
            count: keep_alive.count,
        });
        Self {
            nodelay: options.nodelay,
            recv_buffer: doubled(options.recv_buffer_bytes),
            send_buffer: doubled(options.send_buffer_bytes),
            dscp: options.dscp.unwrap_or_default().bits(),
            keep_alive,
            // What Linux has by default.
            keep_alive_kept: keep_alive.unwrap_or(KeepAlive {
                idle: Duration::from_secs(7200),
                interval: Duration::from_secs(75),
                count: 9,
            }),
            user_timeout: options.user_timeout,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            send_buffer: self.send_buffer as usize,
            receive_buffer: self.recv_buffer as usize,
            user_timeout: self.user_timeout,
            keep_alive: self.keep_alive,
            nodelay: self.nodelay,
            ..Limits::default()
        }
    }

    pub(super) fn get(&self, option: TcpOption) -> u64 {
        let kept = self.keep_alive_kept;
        match option {
            TcpOption::NoDelay => self.nodelay.into(),
            TcpOption::RecvBuffer => self.recv_buffer,
            TcpOption::SendBuffer => self.send_buffer,
            TcpOption::Dscp => self.dscp.into(),
            TcpOption::KeepAlive => self.keep_alive.is_some().into(),
            TcpOption::KeepIdle => kept.idle.as_secs(),
            TcpOption::KeepInterval => kept.interval.as_secs(),
            TcpOption::KeepCount => kept.count.into(),
            TcpOption::UserTimeout => {
                let millis = self.user_timeout.unwrap_or_default().as_millis();
                u64::try_from(millis).unwrap_or(u64::MAX)
            }
        }
    }
}
