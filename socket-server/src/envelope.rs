//! Where a datagram goes, and how.

use std::net::{IpAddr, SocketAddr};

use crate::dscp::Dscp;
use crate::ecn::Ecn;

/// What is written on a datagram that is to be sent: where to, where from, and how it is marked.
///
/// Made from a [`SocketAddr`] where nothing but the destination matters.
///
/// libwebrtc: `AsyncSocketPacketOptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an envelope without a datagram goes nowhere"]
pub struct Envelope {
    pub(crate) destination: SocketAddr,
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) dscp: Option<Dscp>,
}

impl Envelope {
    /// To this address, from wherever the socket is bound, with the socket's own marks.
    pub const fn to(destination: SocketAddr) -> Self {
        Self {
            destination,
            source_ip: None,
            ecn: None,
            dscp: None,
        }
    }

    /// From this address of the machine, on a socket that is bound to the unspecified one. What
    /// arrived at [`Datagram::local_ip`](crate::Datagram::local_ip) is answered from there. An address
    /// that is not the machine's, or of another family than the destination, is an error of sending.
    pub fn from_ip(mut self, source_ip: impl Into<Option<IpAddr>>) -> Self {
        self.source_ip = source_ip.into();
        self
    }

    /// With this mark, instead of [the socket's](crate::UdpSocket::set_ecn).
    pub fn ecn(mut self, ecn: impl Into<Option<Ecn>>) -> Self {
        self.ecn = ecn.into();
        self
    }

    /// With this code point, instead of [the socket's](crate::UdpSocket::set_dscp).
    pub fn dscp(mut self, dscp: impl Into<Option<Dscp>>) -> Self {
        self.dscp = dscp.into();
        self
    }
}

impl From<SocketAddr> for Envelope {
    fn from(destination: SocketAddr) -> Self {
        Self::to(destination)
    }
}

/// Datagrams of one envelope, as a server sends them: one, or a run of one size, of which the last
/// may be shorter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transmit<'a> {
    pub(crate) envelope: Envelope,
    pub(crate) contents: &'a [u8],
    /// How long each datagram of a run is.
    pub(crate) segment_bytes: Option<usize>,
}

impl<'a> Transmit<'a> {
    /// The datagrams one by one.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        segments(self.contents, self.segment_bytes.unwrap_or(0))
    }
}

/// Splits a run into its datagrams; a stride of zero is one datagram. An empty datagram is one.
pub(crate) fn segments(run: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let empty = run.is_empty().then_some(run);
    let stride = if stride == 0 {
        run.len().max(1)
    } else {
        stride
    };
    empty.into_iter().chain(run.chunks(stride))
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[test]
    fn runs_are_taken_apart() {
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
