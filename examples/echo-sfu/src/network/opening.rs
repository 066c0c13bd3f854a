//! WebRTC transports on their network thread: what is ordered of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use str0m::Candidate;

use super::consumers::{Accepted, Wanted};
use super::outbox::Outbox;
use super::source::{Origin, Source};
use super::transport::{Kind, Transport};
use super::webrtc::{Negotiated, ReceivingLine, WebRtcTransport};
use super::{Network, State};
use crate::ApiError;
use crate::media::Media;
use crate::objects::{
    BitrateBounds, ConsumerId, ObjectError, ProducerId, RouterAddress, TransportId,
};
use crate::operation::ReplyTo;
use crate::rtp::rate::BitRate;
use crate::sdp::{self, Offer};

/// A transport to be opened for a client that has sent an offer.
#[derive(Debug)]
pub(crate) struct OpenWebRtc {
    pub(crate) id: TransportId,
    pub(crate) owner: RouterAddress,
    pub(crate) offer: Offer,
    pub(crate) flow: Flow,
    /// What it is to be sent.
    pub(crate) wanted: Vec<Wanted>,
}

/// What a transport is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It is sent what it sends.
    Echo,
    /// It sends.
    Produce,
    /// It is sent what is wanted.
    Consume,
}

/// A transport that has been opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) answer: String,
    /// What the client sends.
    pub(crate) produced: Vec<(ProducerId, Media)>,
    /// What it is sent of that, if it is an echo.
    pub(crate) echoed: Vec<(ConsumerId, ProducerId, Accepted)>,
    /// Those of the wanted for which its offer has a media line.
    pub(crate) consumed: Vec<(ConsumerId, Accepted)>,
    /// Whether its offer has a line for data channels.
    pub(crate) has_data: bool,
}

impl Network {
    /// Opens a transport, and tells its owner how it went.
    pub(crate) fn open_webrtc(&mut self, order: OpenWebRtc) {
        self.act(|state, now| {
            let (id, owner) = (order.id, order.owner.clone());
            let outcome = state.open_webrtc(order, now);
            let refused = outcome.is_err();
            owner.post(move |router| router.transport_opened(id, outcome));
            if refused {
                // What was ordered for it since finds nothing here.
                tracing::debug!(transport = ?id, "offer refused");
            }
        });
    }

    /// Takes in candidates that a client has trickled.
    pub(crate) fn add_remote_candidates(
        &mut self,
        transport: TransportId,
        candidates: Vec<Candidate>,
        reply: ReplyTo<(), ObjectError>,
    ) {
        self.act(|state, now| {
            let found = state.with_webrtc(transport, now, |transport, outbox| {
                transport.add_remote_candidates(now, candidates, outbox)
            });
            reply.send(match found {
                true => Ok(()),
                false => Err(ObjectError::TransportClosed(transport)),
            });
        });
    }

    /// Tells a client to send no more than so much.
    pub(crate) fn limit_bitrate(&mut self, transport: TransportId, limit: Option<BitRate>) {
        self.act(|state, now| {
            state.with_webrtc(transport, now, |transport, outbox| {
                transport.limit_bitrate(now, limit, outbox)
            });
        });
    }

    /// Keeps the estimate of what a client's connection carries within bounds.
    pub(crate) fn bound_downlink(&mut self, transport: TransportId, bounds: BitrateBounds) {
        self.act(|state, now| {
            if let Some(own) = state.transports.get_mut(&transport) {
                own.downlink.set_bounds(bounds);
                state.use_downlink(now, transport);
            }
        });
    }
}

impl State {
    fn open_webrtc(&mut self, order: OpenWebRtc, now: Instant) -> Result<Opened, ApiError> {
        let OpenWebRtc {
            id,
            owner,
            offer,
            flow,
            wanted,
        } = order;
        // str0m's own advice: a panic in it is a fault of it, to be contained to one peer.
        let negotiated = catch_unwind(AssertUnwindSafe(|| {
            WebRtcTransport::negotiate(id, offer, &self.certificate, &self.announced, now)
        }));
        let Negotiated {
            transport: mut rtc,
            answer,
            ufrag,
            produced,
            receiving,
        } = negotiated.unwrap_or_else(|_| {
            let reason = "the SDP could not be processed";
            Err(ApiError::BadOffer(reason.to_owned()))
        })?;
        if flow != Flow::Consume && produced.is_empty() {
            let reason = "none of the offered codecs is Opus, VP8, VP9, H.264 or AV1";
            return Err(ApiError::NoCommonCodec(reason.to_owned()));
        }
        let own = |(producer, media): &(ProducerId, Media)| Wanted {
            consumer: ConsumerId::next(),
            origin: Origin {
                network: self.index,
                producer: *producer,
            },
            media: media.clone(),
            active: true,
        };
        let wanted = match flow {
            Flow::Echo => produced.iter().map(own).collect(),
            Flow::Produce => Vec::new(),
            Flow::Consume => wanted,
        };
        rtc.set_flow(flow);
        let has_data = sdp::has_data_line(&answer);
        let paired = match flow {
            Flow::Produce => Vec::new(),
            // Whoever asks for nothing but data is not refused for want of media.
            Flow::Consume if wanted.is_empty() && has_data => Vec::new(),
            Flow::Echo | Flow::Consume => pair(wanted, receiving)?,
        };
        for (producer, media) in &produced {
            self.sources
                .insert(*producer, Source::new(id, media.layers));
        }
        let mut opened = Opened {
            answer,
            produced,
            echoed: Vec::new(),
            consumed: Vec::new(),
            has_data,
        };
        let transport = Transport::new(Kind::WebRtc(Box::new(rtc)), owner);
        self.demux.insert(id, ufrag);
        self.add_transport(id, transport);
        for (wanted, line) in paired {
            let (consumer, producer) = (wanted.consumer, wanted.origin.producer);
            let accepted = line.codecs.as_slice().into();
            match flow {
                Flow::Echo => opened.echoed.push((consumer, producer, accepted)),
                _ => opened.consumed.push((consumer, accepted)),
            }
            self.add_consumer(id, wanted, line, now);
        }
        tracing::debug!(transport = ?id, "offer answered");
        self.sweep_later();
        self.report_later();
        Ok(opened)
    }

    /// The same with a transport to a WebRTC client; of another kind there is none.
    pub(super) fn with_webrtc(
        &mut self,
        id: TransportId,
        now: Instant,
        use_it: impl FnOnce(&mut WebRtcTransport, &mut Outbox) -> Option<Instant>,
    ) -> bool {
        let mut found = false;
        self.with_transport(id, now, |transport, outbox| {
            let transport = transport.webrtc()?;
            found = true;
            use_it(transport, outbox)
        });
        found
    }
}

/// Pairs what is wanted with the media lines on which it is to be sent. What there is no line left
/// over for is not sent.
fn pair(
    wanted: Vec<Wanted>,
    mut lines: Vec<ReceivingLine>,
) -> Result<Vec<(Wanted, ReceivingLine)>, ApiError> {
    let (mut paired, mut refused) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let Some(at) = lines.iter().position(|line| line.kind == wanted.media.kind) else {
            continue;
        };
        let line = lines.remove(at);
        if wanted.media.map_to(&line.codecs).is_empty() {
            refused.push(wanted.media.codec_name());
        } else {
            paired.push((wanted, line));
        }
    }
    if !refused.is_empty() {
        let reason = format!("the publisher sends {}", refused.join(" and "));
        return Err(ApiError::NoCommonCodec(reason));
    }
    if paired.is_empty() {
        let reason = "the offer receives no kind of media that is published";
        return Err(ApiError::NoCommonCodec(reason.to_owned()));
    }
    Ok(paired)
}
