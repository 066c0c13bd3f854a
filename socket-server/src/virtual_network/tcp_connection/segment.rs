//! What travels between two connections.

/// An IPv4 header and a TCP header, both without options.
const HEADER_BYTES: usize = 40;

/// One packet of a connection.
///
/// Sequence numbers are 64 bits wide: no connection lives long enough for them to wrap, though a
/// stranger may begin anywhere, so that the arithmetic on a peer's numbers wraps nevertheless.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// Of the SYN if there is one, else of the first byte of the payload.
    pub(crate) sequence: u64,
    /// The sequence number that is expected next; all before it have been received.
    pub(crate) acknowledgement: Option<u64>,
    /// How many bytes after the acknowledged ones there is room for.
    pub(crate) window: u64,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// What it costs on a link with a limited bandwidth.
    pub(crate) fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Whether it asks for a connection.
    pub(crate) fn is_first(&self) -> bool {
        self.syn && !self.rst && self.acknowledgement.is_none()
    }

    /// Whether it takes up sequence numbers, which is what has to be acknowledged.
    pub(super) fn occupies(&self) -> bool {
        self.syn || self.fin || !self.payload.is_empty()
    }
}

/// What a host answers that has no connection for a segment; nothing to a reset, lest two hosts
/// reset each other for ever.
pub(crate) fn reset_for(segment: &Segment) -> Option<Segment> {
    if segment.rst {
        return None;
    }
    let reset = Segment {
        rst: true,
        ..Segment::default()
    };
    Some(match segment.acknowledgement {
        Some(acknowledgement) => Segment {
            sequence: acknowledgement,
            ..reset
        },
        None => {
            let flags = u64::from(segment.syn) + u64::from(segment.fin);
            let end = segment
                .sequence
                .wrapping_add(segment.payload.len() as u64)
                .wrapping_add(flags);
            Segment {
                acknowledgement: Some(end),
                ..reset
            }
        }
    })
}
