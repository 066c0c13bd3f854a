//! Transports of plain RTP, and of SRTP whose keys the application exchanges: for ffmpeg, GStreamer and
//! whatever else speaks RTP without WebRTC.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerOptions};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ProducerId, TransportId};
use super::on_network::TransportOnNetwork;
use super::plain_state::{PlainState, random_u32};
use super::producer::{Producer, ProducerOptions};
use super::router::{Router, RouterState};
use super::rtp_parameters::{RtpCapabilities, RtpParameters};
use super::transport::{self, TransportEvent, TransportKind, TransportState};
use crate::Operation;
use crate::network::{OpenPlain, PlainAddresses, PortRange};
use crate::operation::ReplyTo;
use crate::rtp::srtp::{SrtpKey, SrtpProfile, SrtpSender};

/// Which UDP port a transport has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PlainPort {
    /// Whichever is free.
    #[default]
    Any,
    /// This one, or none.
    Fixed(u16),
    /// One of these. At most 1,000 of them are tried.
    Range(RangeInclusive<u16>),
}

/// What a plain transport is to be.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct PlainTransportOptions {
    pub(super) ip: IpAddr,
    port: PlainPort,
    pub(super) rtcp_mux: bool,
    pub(super) comedia: bool,
    pub(super) srtp: Option<SrtpProfile>,
    silence_limit: Option<Duration>,
}

impl Default for PlainTransportOptions {
    /// On the loopback address.
    fn default() -> Self {
        Self::new(Ipv4Addr::LOCALHOST.into())
    }
}

impl PlainTransportOptions {
    /// On this address of the machine: any port, RTCP on the same, without SRTP, to be
    /// [connected](PlainTransport::connect).
    pub const fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            port: PlainPort::Any,
            rtcp_mux: true,
            comedia: false,
            srtp: None,
            silence_limit: None,
        }
    }

    /// On such a port.
    pub fn port(mut self, port: PlainPort) -> Self {
        self.port = port;
        self
    }

    /// Whether RTCP shares the port; otherwise it has the next. ffmpeg wants two.
    pub const fn rtcp_mux(mut self, shared: bool) -> Self {
        self.rtcp_mux = shared;
        self
    }

    /// Whether the other end is wherever its first packet comes from. Without SRTP, anybody can be the
    /// first who knows the SSRC of a producer, or sends RTCP.
    pub const fn comedia(mut self, learns: bool) -> Self {
        self.comedia = learns;
        self
    }

    /// Whether everything is encrypted, and how.
    pub const fn srtp(mut self, profile: Option<SrtpProfile>) -> Self {
        self.srtp = profile;
        self
    }

    /// Closes it, as [`CloseReason::Disconnected`], when nothing has come from the other end for so
    /// long. Otherwise it stays until it is closed.
    pub const fn silence_limit(mut self, limit: Option<Duration>) -> Self {
        self.silence_limit = limit;
        self
    }

    fn ports(&self) -> Option<PortRange> {
        let (first, last) = match &self.port {
            PlainPort::Any => return None,
            PlainPort::Fixed(port) if self.rtcp_mux => (*port, *port),
            PlainPort::Fixed(port) => (*port, port.saturating_add(1)),
            PlainPort::Range(range) => (*range.start(), *range.end()),
        };
        let begin = random_u32() as u16;
        Some(PortRange { first, last, begin })
    }
}

/// The other end of a plain transport.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves"]
pub struct PlainConnectOptions {
    pub(super) remote: Option<SocketAddr>,
    pub(super) rtcp_remote: Option<SocketAddr>,
    pub(super) srtp_key: Option<SrtpKey>,
}

impl PlainConnectOptions {
    /// It is there. If RTCP has a port of its own here, it has the next one there.
    pub fn to(remote: SocketAddr) -> Self {
        Self {
            remote: Some(remote),
            ..Self::default()
        }
    }

    /// It will be [learned](PlainTransportOptions::comedia) where it is; this is its key.
    pub fn with_key(key: SrtpKey) -> Self {
        Self {
            srtp_key: Some(key),
            ..Self::default()
        }
    }

    /// Where it receives RTCP.
    pub const fn rtcp(mut self, remote: SocketAddr) -> Self {
        self.rtcp_remote = Some(remote);
        self
    }

    /// What it encrypts with.
    pub fn srtp_key(mut self, key: SrtpKey) -> Self {
        self.srtp_key = Some(key);
        self
    }
}

/// Why a plain transport is not connected like that.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlainConnectError {
    /// It is connected already.
    #[error("the transport is connected already")]
    Again,
    /// There is nowhere to send to, and the transport does not learn it.
    #[error("the remote address is missing")]
    NoRemote,
    /// The transport learns the address from the first packet.
    #[error("the transport learns the remote address by itself")]
    LearnsRemote,
    /// Nobody can receive there, or not what is sent from here: an address of the other family, port 0.
    #[error("nothing can be sent to {0}")]
    BadRemote(SocketAddr),
    /// RTCP shares a port here.
    #[error("RTCP has no port of its own")]
    NoRtcpPort,
    /// The transport has SRTP, and the other end must have a key.
    #[error("the SRTP key is missing")]
    NoKey,
    /// The transport has no SRTP.
    #[error("the transport has no SRTP")]
    NoSrtp,
    /// The key is of another profile.
    #[error("the SRTP key is for {actual}, and not for {expected}")]
    WrongProfile {
        /// The transport's.
        expected: SrtpProfile,
        /// The key's.
        actual: SrtpProfile,
    },
}

/// A transport of plain RTP or SRTP, over a UDP port of its own. Dropping this closes nothing.
///
/// Without SRTP it is as safe as the network it is on: anybody who can send from the other end's
/// address can send media.
///
/// mediasoup: `PlainTransport`.
#[derive(Debug)]
pub struct PlainTransport {
    id: TransportId,
    router: RouterAddress,
    addresses: PlainAddresses,
    srtp_key: Option<SrtpKey>,
    events: Events<TransportEvent>,
}

/// A consumer on a plain transport, and what its stream looks like.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlainConsumer {
    /// The consumer.
    pub consumer: Consumer,
    /// What is sent: what the receiver must be told.
    pub parameters: RtpParameters,
}

impl Router {
    /// Creates a transport of plain RTP or SRTP.
    ///
    /// Fails with [`ObjectError::CannotBind`] if the address is not this machine's, or no such port is
    /// free; nothing is left behind then.
    ///
    /// mediasoup: `createPlainTransport`.
    pub fn create_plain_transport(
        &self,
        options: PlainTransportOptions,
    ) -> Operation<PlainTransport, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue_with_reply(move |router, reply| {
            router.open_plain(address, options, reply);
        })
    }
}

impl PlainTransport {
    /// Its name.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// Where it receives: RTP, and RTCP unless that has a port of its own.
    pub fn local_address(&self) -> SocketAddr {
        self.addresses.rtp
    }

    /// Where it receives RTCP, if that has a port of its own.
    pub fn local_rtcp_address(&self) -> Option<SocketAddr> {
        self.addresses.rtcp
    }

    /// What it encrypts with, if it does: the other end must be told, by a way that nobody else reads.
    ///
    /// mediasoup: `srtpParameters`.
    pub fn srtp_key(&self) -> Option<&SrtpKey> {
        self.srtp_key.as_ref()
    }

    /// Says where the other end is, and what it encrypts with. Once only.
    ///
    /// Fails with [`ObjectError::Connect`].
    pub fn connect(&self, options: PlainConnectOptions) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.connect_plain(id, options))
    }

    /// Creates a producer of what arrives under an SSRC.
    ///
    /// Fails with [`ObjectError::Rtp`] if the codec is not supported, the SSRC is missing or another
    /// producer's, or anything else makes no sense.
    pub fn produce(
        &self,
        parameters: RtpParameters,
        options: ProducerOptions,
    ) -> Operation<Producer, ObjectError> {
        let (id, address) = (self.id, self.router.clone());
        self.router
            .enqueue(move |router| router.produce_plain(id, &parameters, options, address))
    }

    /// Creates a consumer of a producer of the same router, as the other end can receive it.
    ///
    /// Fails with [`ObjectError::NoCommonCodec`] if it cannot.
    pub fn consume(
        &self,
        producer: ProducerId,
        capabilities: RtpCapabilities,
        options: ConsumerOptions,
    ) -> Operation<PlainConsumer, ObjectError> {
        let (id, address) = (self.id, self.router.clone());
        self.router.enqueue(move |router| {
            router.consume_plain(id, producer, &capabilities, options, address)
        })
    }

    /// Closes it, its ports, and all producers and consumers on it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        transport::close(&self.router, self.id)
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<TransportEvent> {
        &mut self.events
    }
}

/// Who waits for a plain transport to be open.
struct Opening {
    address: RouterAddress,
    ip: IpAddr,
    srtp_key: Option<SrtpKey>,
    events: Events<TransportEvent>,
    reply: ReplyTo<PlainTransport, ObjectError>,
}

impl RouterState {
    fn open_plain(
        &mut self,
        address: RouterAddress,
        options: PlainTransportOptions,
        reply: ReplyTo<PlainTransport, ObjectError>,
    ) {
        let id = TransportId::next();
        let (sink, events) = EventSink::new();
        let Some(place) = self.networks().place() else {
            return reply.send(Err(ObjectError::NoNetwork));
        };
        let network = place.network.clone();
        let mut plain = PlainState::new(TransportOnNetwork { id, place }, &options);
        let ssrc = plain.take_ssrc();
        let state = TransportState {
            kind: TransportKind::Plain(Box::new(plain)),
            events: sink,
        };
        if let Err(error) = self.add_transport(id, state) {
            return reply.send(Err(error));
        }
        let srtp_key = options.srtp.map(SrtpKey::random);
        let sender = srtp_key.as_ref().map(SrtpSender::new);
        let opening = Opening {
            address: address.clone(),
            ip: options.ip,
            srtp_key,
            events,
            reply,
        };
        let owner = address.clone();
        let order = OpenPlain {
            id,
            owner: address,
            ip: options.ip,
            ports: options.ports(),
            with_rtcp_port: !options.rtcp_mux,
            learns: options.comedia,
            silence_limit: options.silence_limit,
            sender,
            ssrc,
        };
        let posted = network.post(move |network| {
            let outcome = network.open_plain(order);
            // If this is dropped, so is the reply, which settles.
            let _ = owner
                .worker
                .clone()
                .post(move |state| match state.router(owner.id) {
                    Ok(router) => router.plain_opened(id, opening, outcome),
                    Err(error) => opening.reply.send(Err(error)),
                });
        });
        if posted.is_err() {
            let _ = self.close_transport(id, CloseReason::Refused);
        }
    }

    fn plain_opened(
        &mut self,
        id: TransportId,
        opening: Opening,
        outcome: std::io::Result<PlainAddresses>,
    ) {
        let Opening {
            address,
            ip,
            srtp_key,
            events,
            reply,
        } = opening;
        let outcome = outcome.map_err(|error| ObjectError::CannotBind {
            ip,
            reason: error.to_string(),
        });
        let outcome = match outcome {
            Ok(_) if self.plain(id).is_err() => Err(ObjectError::TransportClosed(id)),
            Ok(addresses) => Ok(PlainTransport {
                id,
                router: address,
                addresses,
                srtp_key,
                events,
            }),
            Err(error) => {
                let _ = self.close_transport(id, CloseReason::Refused);
                Err(error)
            }
        };
        reply.send(outcome);
    }

    fn connect_plain(
        &mut self,
        id: TransportId,
        options: PlainConnectOptions,
    ) -> Result<(), ObjectError> {
        let plain = self.plain(id)?;
        let remote = plain.connect(options)?;
        let on_network = &plain.on_network;
        on_network.post(move |network| network.connect_plain(id, remote));
        Ok(())
    }
}
