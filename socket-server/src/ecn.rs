//! Explicit congestion notification.

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

impl Ecn {
    /// The mark in the low two bits of a TOS or traffic-class byte.
    pub(crate) const fn from_bits(byte: u8) -> Option<Self> {
        match byte & 0b11 {
            0b01 => Some(Self::Ect1),
            0b10 => Some(Self::Ect0),
            0b11 => Some(Self::Ce),
            _ => None,
        }
    }

    pub(crate) const fn bits(mark: Option<Self>) -> u8 {
        match mark {
            None => 0b00,
            Some(Self::Ect1) => 0b01,
            Some(Self::Ect0) => 0b10,
            Some(Self::Ce) => 0b11,
        }
    }
}
