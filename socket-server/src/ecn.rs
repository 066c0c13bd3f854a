//! Explicit congestion notification.

use quinn_udp::EcnCodepoint;

/// The mark of a datagram whose sender can deal with congestion being notified (RFC 3168). A
/// datagram without one has none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECT(0): can deal with it.
    Ect0,
    /// ECT(1): can deal with it, as L4S wants it (RFC 9331).
    Ect1,
    /// CE: congestion was met.
    Ce,
}

impl From<EcnCodepoint> for Ecn {
    fn from(codepoint: EcnCodepoint) -> Self {
        match codepoint {
            EcnCodepoint::Ect0 => Self::Ect0,
            EcnCodepoint::Ect1 => Self::Ect1,
            EcnCodepoint::Ce => Self::Ce,
        }
    }
}

impl From<Ecn> for EcnCodepoint {
    fn from(ecn: Ecn) -> Self {
        match ecn {
            Ecn::Ect0 => Self::Ect0,
            Ecn::Ect1 => Self::Ect1,
            Ecn::Ce => Self::Ce,
        }
    }
}
