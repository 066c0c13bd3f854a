//! Differentiated services.

/// What treatment a datagram asks of the network (RFC 2474): six bits.
///
/// libwebrtc: `DiffServCodePoint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dscp(u8);

impl Dscp {
    /// Default forwarding: best effort.
    pub const DEFAULT: Self = Self(0);
    /// Class selector 1: less than best effort, for bulk transfers.
    pub const CS1: Self = Self(8);
    /// Assured forwarding 41: interactive video (RFC 8837).
    pub const AF41: Self = Self(34);
    /// Assured forwarding 42: interactive video, dropped sooner.
    pub const AF42: Self = Self(36);
    /// Expedited forwarding: audio (RFC 8837).
    pub const EF: Self = Self(46);

    /// The code point with this number; `None` beyond six bits.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits < 64 { Some(Self(bits)) } else { None }
    }

    /// The code point in the upper six bits of a TOS or traffic-class byte.
    pub(crate) const fn of_tos(byte: u8) -> Self {
        Self(byte >> 2)
    }

    /// Its number.
    pub const fn bits(self) -> u8 {
        self.0
    }
}
