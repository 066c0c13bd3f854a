//! What the application allows a transport to send and to be sent.

use serde::Serialize;
use thiserror::Error;

use super::error::ObjectError;
use super::transport::TransportKind;
use super::webrtc_transport::WebRtcTransport;
use crate::Operation;
use crate::rtp::rate::BitRate;

/// Between what and what the estimate is of what a client's connection carries, whatever the client
/// says of it. By default, any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BitrateBounds {
    min: Option<BitRate>,
    max: Option<BitRate>,
}

/// Bounds between which there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the least bit rate of {} is above the greatest of {}", min.0, max.0)]
pub struct BadBitrateBounds {
    /// In bits per second.
    pub min: BitRate,
    /// In bits per second.
    pub max: BitRate,
}

impl BitrateBounds {
    /// # Errors
    ///
    /// `min` is above `max`.
    pub fn new(min: Option<BitRate>, max: Option<BitRate>) -> Result<Self, BadBitrateBounds> {
        match (min, max) {
            (Some(min), Some(max)) if min > max => Err(BadBitrateBounds { min, max }),
            _ => Ok(Self { min, max }),
        }
    }

    /// In bits per second.
    pub fn min(self) -> Option<BitRate> {
        self.min
    }

    /// In bits per second.
    pub fn max(self) -> Option<BitRate> {
        self.max
    }

    /// An estimate; `None` where nothing limits anything.
    pub(crate) fn bound(self, estimate: Option<BitRate>) -> Option<BitRate> {
        let raised = estimate.map(|rate| self.min.map_or(rate, |min| rate.max(min)));
        [raised, self.max].into_iter().flatten().min()
    }
}

impl WebRtcTransport {
    /// Takes the connection to the client to carry no less and no more than this. By it, layers of
    /// simulcast are chosen, and those who send to this client alone are told what to send. A single
    /// layer is sent whatever it takes.
    ///
    /// mediasoup: `setMinOutgoingBitrate` and `setMaxOutgoingBitrate`.
    pub fn set_outgoing_bitrate(&self, bounds: BitrateBounds) -> Operation<(), ObjectError> {
        let id = self.id();
        self.router()
            .enqueue(move |router| match router.transport_kind(id) {
                Some(TransportKind::WebRtc { on_network, .. }) => {
                    on_network.post(move |network| network.bound_downlink(id, bounds));
                    Ok(())
                }
                _ => Err(ObjectError::TransportClosed(id)),
            })
    }

    /// Tells the client to send no more than so much altogether, from now on and until another limit
    /// is set; `None` for no limit but [what its viewers can be sent](Self::set_outgoing_bitrate). It is
    /// the client who keeps to it, and only where it sends video: browsers do.
    ///
    /// mediasoup: `setMaxIncomingBitrate`.
    pub fn set_max_incoming_bitrate(&self, limit: Option<BitRate>) -> Operation<(), ObjectError> {
        let id = self.id();
        self.router()
            .enqueue(move |router| router.allow_incoming(id, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_kept_between_its_bounds() {
        let rate = |rate| Some(BitRate(rate));
        let bounds = |min, max| BitrateBounds::new(min, max).unwrap();
        for (min, max, estimate, bound) in [
            (None, None, None, None),
            (None, None, rate(5), rate(5)),
            (rate(3), None, None, None),
            (rate(3), None, rate(2), rate(3)),
            (None, rate(7), None, rate(7)),
            (None, rate(7), rate(8), rate(7)),
            (rate(3), rate(7), rate(5), rate(5)),
            (rate(7), rate(7), rate(1), rate(7)),
        ] {
            assert_eq!(bound, bounds(min, max).bound(estimate));
        }
        let (min, max) = (BitRate(8), BitRate(7));
        let refused = BitrateBounds::new(Some(min), Some(max)).unwrap_err();
        assert_eq!(BadBitrateBounds { min, max }, refused);
        assert!(refused.to_string().contains("least bit rate of 8"));
    }
}
