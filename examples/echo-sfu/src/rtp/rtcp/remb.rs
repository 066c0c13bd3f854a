//! The receiver's estimate of bandwidth, which the library does not know: `goog-remb`
//! (draft-alvestrand-rmcat-remb-03).

#[cfg(test)]
use rtcp_types::RtcpWriteError;
use rtcp_types::prelude::FciParser;
#[cfg(test)]
use rtcp_types::prelude::{FciBuilder, RtcpPacketWriter};
use rtcp_types::{FciFeedbackPacketType, RtcpParseError};

/// RFC 4585, section 6.4: feedback of the application's own, so that it says what it is.
const APPLICATION_LAYER: u8 = 15;
const NAME: [u8; 4] = *b"REMB";
/// The name, the number of SSRCs and the bitrate.
const FIXED: usize = 8;
const MANTISSA_BITS: u32 = 18;
const MANTISSA_MAX: u32 = (1 << MANTISSA_BITS) - 1;
/// As many as the packet has a number for.
#[cfg(test)]
pub(super) const SSRCS_MAX: usize = u8::MAX as usize;

/// Application layer feedback, of this kind or of another.
#[derive(Debug)]
pub(super) enum ReadRemb {
    Remb { bitrate_bps: u64, ssrcs: Vec<u32> },
    Other,
}

impl<'a> FciParser<'a> for ReadRemb {
    const PACKET_TYPE: FciFeedbackPacketType = FciFeedbackPacketType::PAYLOAD;
    const FCI_FORMAT: u8 = APPLICATION_LAYER;

    fn parse(data: &'a [u8]) -> Result<Self, RtcpParseError> {
        let Some(data) = data.strip_prefix(&NAME) else {
            return Ok(Self::Other);
        };
        let truncated = |expected| RtcpParseError::Truncated {
            expected,
            actual: NAME.len() + data.len(),
        };
        let (&[count, bitrate @ ..], ssrcs) = data
            .split_first_chunk::<4>()
            .ok_or_else(|| truncated(FIXED))?;
        let ssrcs = ssrcs
            .get(..4 * usize::from(count))
            .ok_or_else(|| truncated(FIXED + 4 * usize::from(count)))?;
        let (ssrcs, _) = ssrcs.as_chunks();
        Ok(Self::Remb {
            bitrate_bps: read_bitrate(bitrate),
            ssrcs: ssrcs.iter().map(|ssrc| u32::from_be_bytes(*ssrc)).collect(),
        })
    }
}

/// Six bits of exponent, and the mantissa. What has no room is as much as there can be.
fn read_bitrate([first, second, third]: [u8; 3]) -> u64 {
    let bits = u32::from_be_bytes([0, first, second, third]);
    let (exponent, mantissa) = (bits >> MANTISSA_BITS, u64::from(bits & MANTISSA_MAX));
    if mantissa.leading_zeros() < exponent {
        return u64::MAX;
    }
    // At most 63 bits, since six bits said so.
    mantissa << exponent
}

/// Rounded down, so that nobody sends more than was said.
#[cfg(test)]
fn bitrate_bytes(bitrate_bps: u64) -> [u8; 3] {
    let bits = u64::BITS - bitrate_bps.leading_zeros();
    let exponent = bits.saturating_sub(MANTISSA_BITS);
    // Has no more bits than that, by the choice of the exponent.
    let mantissa = (bitrate_bps >> exponent) as u32;
    let [_, bytes @ ..] = ((exponent << MANTISSA_BITS) | mantissa).to_be_bytes();
    bytes
}

/// What [`ReadRemb`] reads. Of at most [`SSRCS_MAX`] senders.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct WriteRemb<'s> {
    pub(super) bitrate_bps: u64,
    pub(super) ssrcs: &'s [u32],
}

#[cfg(test)]
impl FciBuilder<'_> for WriteRemb<'_> {
    fn format(&self) -> u8 {
        APPLICATION_LAYER
    }

    fn supports_feedback_type(&self) -> FciFeedbackPacketType {
        FciFeedbackPacketType::PAYLOAD
    }
}

#[cfg(test)]
impl RtcpPacketWriter for WriteRemb<'_> {
    fn calculate_size(&self) -> Result<usize, RtcpWriteError> {
        if self.ssrcs.len() > SSRCS_MAX {
            return Err(RtcpWriteError::TooManySources {
                count: self.ssrcs.len(),
                max: u8::MAX,
            });
        }
        Ok(FIXED + 4 * self.ssrcs.len())
    }

    fn write_into_unchecked(&self, buf: &mut [u8]) -> usize {
        buf[..4].copy_from_slice(&NAME);
        buf[4] = self.ssrcs.len() as u8;
        buf[5..FIXED].copy_from_slice(&bitrate_bytes(self.bitrate_bps));
        let mut end = FIXED;
        for ssrc in self.ssrcs {
            buf[end..end + 4].copy_from_slice(&ssrc.to_be_bytes());
            end += 4;
        }
        end
    }

    fn get_padding(&self) -> Option<u8> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitrates_are_rounded_down_to_eighteen_bits() {
        let as_read = |bps| read_bitrate(bitrate_bytes(bps));
        for exact in [0, 1, 0x3_ffff, 0x4_0000, 0x3_ffff << 46, 1 << 63] {
            assert_eq!(exact, as_read(exact));
        }
        assert_eq!(0x3_ffff << 46, as_read(u64::MAX));
        assert_eq!(0x4_0000, as_read(0x4_0001));
        for bps in (0..64).map(|bits| u64::MAX >> bits) {
            let read = as_read(bps);
            assert!(
                read <= bps && bps - read <= bps >> (MANTISSA_BITS - 1),
                "{bps}"
            );
        }
    }

    #[test]
    fn what_no_number_has_room_for_is_the_largest() {
        assert_eq!(u64::MAX, read_bitrate([0xff; 3]));
        assert_eq!(u64::MAX, read_bitrate([0xbf, 0xff, 0xff]));
        assert_eq!(1 << 63, read_bitrate([0xfc, 0, 1]));
        assert_eq!(0, read_bitrate([0xfc, 0, 0]));
    }
}
