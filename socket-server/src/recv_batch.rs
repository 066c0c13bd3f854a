//! Datagrams that have been received, many at a time.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

use crate::ecn::Ecn;

/// A UDP datagram, and what the kernel coalesces of several, is shorter than this.
const BUFFER_BYTES: usize = 1 << 16;

/// Reusable memory for datagrams that arrive together.
///
/// Every buffer holds the longest datagram there is, so that none is cut off; together they take
/// two mebibytes of addresses on Linux, and as much memory as was ever written to them. One batch
/// serves any number of sockets of a thread.
pub struct RecvBatch {
    memory: Box<[u8]>,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

/// A datagram that has been received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// What was sent; possibly nothing.
    pub data: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of this machine that it came to, if the system tells: on a socket bound to the
    /// unspecified address, the one to answer from.
    pub local_ip: Option<IpAddr>,
    /// The mark that the network may have put on it.
    pub ecn: Option<Ecn>,
    /// When the kernel received it, by the wall clock, if it tells.
    pub received_at: Option<SystemTime>,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self {
            memory: vec![0; BATCH_SIZE * BUFFER_BYTES].into_boxed_slice(),
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }
}

impl RecvBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The datagrams, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let buffers = self.memory.chunks_exact(BUFFER_BYTES);
        buffers
            .zip(&self.meta[..self.filled])
            .flat_map(|(buffer, meta)| {
                segments(&buffer[..meta.len.min(BUFFER_BYTES)], meta.stride).map(|data| Datagram {
                    data,
                    source: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.map(Ecn::from),
                    received_at: meta.timestamp.map(since_epoch),
                })
            })
    }

    pub(crate) fn fill(
        &mut self,
        state: &UdpSocketState,
        socket: UdpSockRef<'_>,
    ) -> io::Result<usize> {
        self.filled = 0;
        let mut buffers = self.memory.chunks_exact_mut(BUFFER_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        self.filled = state.recv(socket, &mut slices, &mut self.meta)?;
        let counts = self.meta[..self.filled]
            .iter()
            .map(|meta| match meta.stride {
                0 => 1,
                stride => meta.len.div_ceil(stride).max(1),
            });
        Ok(counts.sum())
    }
}

/// Splits what the kernel has coalesced. An empty datagram is one datagram.
fn segments(buffer: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let empty = buffer.is_empty().then_some(buffer);
    let stride = if stride == 0 {
        buffer.len().max(1)
    } else {
        stride
    };
    empty.into_iter().chain(buffer.chunks(stride))
}

fn since_epoch(since: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + since
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[test]
    fn coalesced_datagrams_are_taken_apart() {
        let lengths = |total: usize, stride| {
            segments(&vec![0; total], stride)
                .map(<[u8]>::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(vec![0], lengths(0, 0));
        assert_eq!(vec![0], lengths(0, 100));
        assert_eq!(vec![100], lengths(100, 100));
        assert_eq!(vec![100, 100, 20], lengths(220, 100));
        assert_eq!(vec![50], lengths(50, 0));
    }
}
