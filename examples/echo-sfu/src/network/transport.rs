//! A transport on its network thread, of whichever kind.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc_thread::DelayedTask;
use socket_server::{Envelope, SendBatch};

use super::direct::DirectTransport;
use super::downlink::Downlink;
use super::outbox::Outbox;
use super::plain_transport::PlainTransport;
use super::webrtc::WebRtcTransport;
use crate::objects::{ConsumerId, ProducerId, RouterAddress, TransportId};
use crate::rtp::rate::BitRate;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::srtp::SrtpSender;

/// No profile of SRTP adds more to a packet.
const MAX_TAG: usize = 16;

/// A transport, and what belongs to it here.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) kind: Kind,
    pub(super) owner: RouterAddress,
    pub(super) consumers: Vec<ConsumerId>,
    /// The same by what they send as: a link to another process may have hundreds.
    by_ssrc: HashMap<u32, ConsumerId>,
    pub(super) downlink: Downlink,
    /// What was made known of it last.
    pub(super) known_downlink: Option<BitRate>,
    pub(super) packets_in: u64,
    pub(super) bytes_in: u64,
    /// When its turn is to report.
    pub(super) turn: u64,
}

/// What a transport is made of.
#[derive(Debug)]
pub(super) enum Kind {
    WebRtc(Box<WebRtcTransport>),
    Plain(Box<PlainTransport>),
    /// To the application.
    Direct(Box<DirectTransport>),
}

/// How packets go out on a transport.
pub(super) struct Way<'a> {
    pub(super) envelope: Envelope,
    /// None, where nothing is encrypted.
    pub(super) srtp: Option<&'a mut SrtpSender>,
    /// Where they wait to be sent.
    pub(super) datagrams: &'a mut SendBatch,
    /// The time of the sender's clock, from whichever beginning.
    pub(super) clock: Duration,
}

impl Way<'_> {
    /// Sends an RTP packet. False if there is no room for it.
    pub(super) fn send(&mut self, header: &[u8], payload: &[u8], sequence: u64) -> bool {
        let room = header.len() + payload.len() + MAX_TAG;
        let mut encrypted = Ok(0);
        let pushed = self.datagrams.push_with(self.envelope, room, |datagram| {
            encrypted = match &mut self.srtp {
                Some(srtp) => srtp.protect_rtp(header, payload, sequence, datagram),
                None => Ok(put(header, payload, datagram)),
            };
            *encrypted.as_ref().unwrap_or(&0)
        });
        pushed.is_ok() && encrypted.is_ok()
    }

    /// Sends RTCP. False if there is no room for it.
    pub(super) fn send_compound(self, compound: &[u8], encrypted: &mut Vec<u8>) -> bool {
        let Some(srtp) = self.srtp else {
            return self.datagrams.push(self.envelope, compound).is_ok();
        };
        encrypted.clear();
        srtp.protect_rtcp(compound, encrypted).is_ok()
            && self.datagrams.push(self.envelope, encrypted).is_ok()
    }
}

/// Writes a packet as it is. `datagram` has room for it.
fn put(header: &[u8], payload: &[u8], datagram: &mut [u8]) -> usize {
    let (to_header, rest) = datagram.split_at_mut(header.len());
    to_header.copy_from_slice(header);
    rest[..payload.len()].copy_from_slice(payload);
    header.len() + payload.len()
}

impl Transport {
    pub(super) fn new(kind: Kind, owner: RouterAddress) -> Self {
        Self {
            kind,
            owner,
            consumers: Vec::new(),
            by_ssrc: HashMap::new(),
            downlink: Downlink::default(),
            known_downlink: None,
            packets_in: 0,
            bytes_in: 0,
            turn: 0,
        }
    }

    pub(super) fn add_consumer(&mut self, id: ConsumerId, ssrc: u32) {
        self.consumers.push(id);
        self.by_ssrc.insert(ssrc, id);
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId, ssrc: u32) {
        self.consumers.retain(|own| *own != id);
        if self.by_ssrc.get(&ssrc) == Some(&id) {
            self.by_ssrc.remove(&ssrc);
        }
    }

    /// What sends under an SSRC.
    pub(super) fn consumer_of(&self, ssrc: u32) -> Option<ConsumerId> {
        self.by_ssrc.get(&ssrc).copied()
    }

    pub(super) fn webrtc(&mut self) -> Option<&mut WebRtcTransport> {
        match &mut self.kind {
            Kind::WebRtc(transport) => Some(transport),
            Kind::Plain(_) | Kind::Direct(_) => None,
        }
    }

    pub(super) fn plain(&mut self) -> Option<&mut PlainTransport> {
        match &mut self.kind {
            Kind::Plain(transport) => Some(transport),
            Kind::WebRtc(_) | Kind::Direct(_) => None,
        }
    }

    /// When it is to hear of time again, and what will tell it.
    pub(super) fn timer(&mut self) -> Option<&mut Option<(Instant, DelayedTask)>> {
        match &mut self.kind {
            Kind::WebRtc(transport) => Some(&mut transport.timer),
            Kind::Plain(transport) => Some(&mut transport.timer),
            Kind::Direct(_) => None,
        }
    }

    /// Lets time pass. Returns when it wants to hear of it again.
    pub(super) fn advance(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Instant> {
        match &mut self.kind {
            Kind::WebRtc(transport) => transport.advance(now, outbox),
            Kind::Plain(transport) => transport.after(now, outbox),
            Kind::Direct(_) => None,
        }
    }

    pub(super) fn direct(&mut self) -> Option<&mut DirectTransport> {
        match &mut self.kind {
            Kind::Direct(transport) => Some(transport),
            Kind::WebRtc(_) | Kind::Plain(_) => None,
        }
    }

    /// How packets go out, once they can go anywhere.
    pub(super) fn way<'a>(
        &'a mut self,
        datagrams: &'a mut SendBatch,
        touched: &mut Vec<TransportId>,
        clock: Duration,
    ) -> Option<Way<'a>> {
        match &mut self.kind {
            Kind::WebRtc(transport) => Some(Way {
                envelope: transport.envelope()?,
                srtp: Some(transport.encryption()?),
                datagrams,
                clock,
            }),
            Kind::Plain(transport) => transport.way(touched, clock),
            Kind::Direct(_) => None,
        }
    }

    /// How reports go out: the same way, unless they have a port of their own.
    pub(super) fn reporting_way<'a>(
        &'a mut self,
        datagrams: &'a mut SendBatch,
        touched: &mut Vec<TransportId>,
        clock: Duration,
    ) -> Option<Way<'a>> {
        match self.kind {
            Kind::WebRtc(_) | Kind::Direct(_) => self.way(datagrams, touched, clock),
            Kind::Plain(ref mut transport) => transport.reporting_way(touched),
        }
    }

    /// What there is to report of what arrives, and who does; `None` where that is done elsewhere.
    pub(super) fn reception(&mut self, now: Instant) -> Option<(u32, Vec<ReportBlock>)> {
        match &mut self.kind {
            Kind::WebRtc(_) | Kind::Direct(_) => None,
            Kind::Plain(transport) => Some(transport.reception(now)),
        }
    }

    /// Where packets go, once they can go anywhere.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::WebRtc(transport) => transport.remote(),
            Kind::Plain(transport) => transport.remote(),
            Kind::Direct(_) => None,
        }
    }

    /// Whether packets can go out.
    pub(super) fn is_connected(&self) -> bool {
        match &self.kind {
            Kind::WebRtc(transport) => transport.is_connected(),
            Kind::Plain(transport) => transport.is_connected(),
            Kind::Direct(_) => true,
        }
    }

    /// Asks whoever sends a producer for a key frame. Returns when it wants to hear of time again.
    pub(super) fn request_key_frame(
        &mut self,
        now: Instant,
        producer: ProducerId,
        layer: u8,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        match &mut self.kind {
            Kind::WebRtc(transport) => transport.request_key_frame(now, producer, layer, outbox),
            Kind::Plain(transport) => {
                transport.request_key_frame(producer, layer, outbox);
                None
            }
            Kind::Direct(_) => {
                self.owner
                    .post(move |router| router.key_frame_requested(producer));
                None
            }
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        match &mut self.kind {
            Kind::WebRtc(transport) => transport.close(now, outbox),
            // Its consumers have said goodbye, each for itself.
            Kind::Plain(_) => {}
            Kind::Direct(_) => {}
        }
    }

    /// What arrives here.
    pub(super) fn produced(&self) -> Vec<ProducerId> {
        match &self.kind {
            Kind::WebRtc(transport) => transport.produced().collect(),
            Kind::Plain(transport) => transport.produced().collect(),
            Kind::Direct(transport) => transport.produced().collect(),
        }
    }

    /// Whether whoever is at the other end has vanished, or never came.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        match &self.kind {
            Kind::WebRtc(transport) => transport.is_silent(now),
            Kind::Plain(transport) => transport.is_silent(now),
            Kind::Direct(_) => false,
        }
    }
}
