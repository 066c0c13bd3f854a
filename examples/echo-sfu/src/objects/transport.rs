//! Transports: where media comes in and goes out.

use std::net::SocketAddr;

use super::address::RouterAddress;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{DataConsumerId, DataProducerId, ProducerId, RouterId, TransportId};
use super::on_network::TransportOnNetwork;
use super::plain_state::PlainState;
use super::producer::{Producer, ProducerOptions, ProducerSource};
use super::remote_pipe::{PipeListenerState, RemotePipeState};
use super::transport_status::{DtlsState, IceState, TransportStatus};
use super::webrtc_transport::Opening;
use crate::Operation;
use crate::rtp::rate::BitRate;

/// What a transport tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportEvent {
    /// The client has opened a data channel, on which it sends: see
    /// [`Router::data_producer`](super::Router::data_producer).
    NewDataProducer(DataProducerId),
    /// The client is sent what comes on a data channel of somebody whom it consumes, without the
    /// application's asking: see [`Router::data_consumer`](super::Router::data_consumer).
    NewDataConsumer(DataConsumerId),
    /// ICE has come further, or lost its client; of a transport to a WebRTC client.
    ///
    /// mediasoup: `icestatechange`.
    IceStateChanged(IceState),
    /// Its WebRTC client wants to be sent media at this address from now on.
    ///
    /// mediasoup: `iceselectedtuplechange`.
    RemoteChanged(SocketAddr),
    /// DTLS with its WebRTC client has come further.
    ///
    /// mediasoup: `dtlsstatechange`.
    DtlsStateChanged(DtlsState),
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for TransportEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// A transport between a router and the application itself, without a network.
///
/// mediasoup: `DirectTransport`.
#[derive(Debug)]
pub struct DirectTransport {
    id: TransportId,
    router: RouterAddress,
    events: Events<TransportEvent>,
}

impl DirectTransport {
    pub(super) fn new(
        id: TransportId,
        router: RouterAddress,
        events: Events<TransportEvent>,
    ) -> Self {
        Self { id, router, events }
    }

    /// Its name.
    pub fn id(&self) -> TransportId {
        self.id
    }

    pub(super) const fn router(&self) -> &RouterAddress {
        &self.router
    }

    /// Creates a producer that is there, and sends nothing. For one that sends, there is
    /// [`produce_rtp`](Self::produce_rtp).
    pub fn produce(&self, options: ProducerOptions) -> Operation<Producer, ObjectError> {
        let (transport, router) = (self.id, self.router.clone());
        self.router.enqueue(move |state| {
            let (sink, events) = EventSink::new();
            let source = ProducerSource::Application;
            let id = ProducerId::next();
            state.produce(id, transport, options, source, sink)?;
            Ok(Producer::new(id, router, events))
        })
    }

    /// Closes it, and all producers and consumers on it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        close(&self.router, self.id)
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<TransportEvent> {
        &mut self.events
    }
}

/// Closes a transport of whichever kind.
pub(super) fn close(router: &RouterAddress, id: TransportId) -> Operation<(), ObjectError> {
    router.enqueue(move |router| router.close_transport(id, CloseReason::Called))
}

/// A transport as its router knows it.
#[derive(Debug)]
pub(super) struct TransportState {
    pub(super) kind: TransportKind,
    pub(super) events: EventSink<TransportEvent>,
}

/// What a transport is, and has.
#[derive(Debug)]
pub(super) enum TransportKind {
    /// With a place on a network thread, if there is any.
    Direct(Option<TransportOnNetwork>),
    /// One end of the pipe to another router.
    Pipe(RouterId),
    Plain(Box<PlainState>),
    /// One end of the pipe to another process.
    RemotePipe(Box<RemotePipeState>),
    /// Where other processes may connect.
    PipeListener(Box<PipeListenerState>),
    WebRtc {
        on_network: TransportOnNetwork,
        /// Until its network thread has answered the offer.
        opening: Option<Opening>,
        /// What its client's connection seems to carry, if that limits anything.
        downlink: Option<BitRate>,
        /// What its client may send, if the application limits it.
        allowed: Option<BitRate>,
        /// As far as its network thread has told.
        status: TransportStatus,
    },
}

impl TransportKind {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Pipe(_) => "pipe",
            Self::Plain(_) => "plain",
            Self::RemotePipe(_) => "remote-pipe",
            Self::PipeListener(_) => "pipe-listener",
            Self::WebRtc { .. } => "webrtc",
        }
    }
}

impl TransportState {
    pub(super) fn leads_to(&self, router: RouterId) -> bool {
        matches!(self.kind, TransportKind::Pipe(to) if to == router)
    }

    pub(super) fn is_pipe(&self) -> bool {
        matches!(self.kind, TransportKind::Pipe(_))
    }

    pub(super) fn on_network(&self) -> Option<&TransportOnNetwork> {
        match &self.kind {
            TransportKind::WebRtc { on_network, .. } => Some(on_network),
            TransportKind::Plain(plain) => Some(&plain.on_network),
            TransportKind::RemotePipe(pipe) => Some(&pipe.plain.on_network),
            TransportKind::PipeListener(listener) => Some(&listener.on_network),
            TransportKind::Direct(on_network) => on_network.as_ref(),
            TransportKind::Pipe(_) => None,
        }
    }

    pub(super) fn downlink(&self) -> Option<BitRate> {
        match &self.kind {
            TransportKind::WebRtc { downlink, .. } => *downlink,
            _ => None,
        }
    }
}
