//! Pipes to routers of other processes.
//!
//! Between two processes the same holds as within one: the order to make a producer carries the state
//! of what it is piped from, and whatever changes after that goes the same way, in order. The way is a
//! link: a connection that says everything in order, or has ended. When it has, everything that came
//! by it is closed, on both sides: nothing is left that could be wrong about what it depends on.

use std::net::SocketAddr;
use std::sync::Arc;

use rtc_thread::ThreadBound;

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerOptions};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, TransportId};
use super::on_network::TransportOnNetwork;
use super::pipe::PipedTo;
use super::plain_transport::PlainState;
use super::producer::{Producer, ProducerEvent, ProducerOptions, ProducerSource};
use super::replica::{Replica, Versioned};
use super::router::{Router, RouterState};
use super::rtp_parameters::{RtpCapabilities, RtpParameters};
use super::transport::{self, TransportKind, TransportState};
use crate::Operation;
use crate::media::TrackInfo;
use crate::network::{ConnectPipe, ListenForPipes, Network};
use crate::operation::ReplyTo;
use crate::pipe_link::{Message, PipeSecret, PipedState};

/// What one process may tell another of a producer, in bytes.
const MAX_LABEL: usize = 1_000;

/// What a pipe to another process tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemotePipeEvent {
    /// The other process has piped a producer to here: [`Router::producer`] has it.
    Produced {
        /// What it is here.
        producer: ProducerId,
        /// What it sends.
        track: TrackInfo,
        /// What the other process says about it.
        label: Arc<str>,
    },
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for RemotePipeEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// What a listener for pipes tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeListenerEvent {
    /// A process that has the secret has connected: [`Router::remote_pipe`] has the pipe.
    Connected(TransportId),
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for PipeListenerEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// Where other processes may connect to a router. Dropping this closes nothing.
#[derive(Debug)]
pub struct PipeListener {
    id: TransportId,
    router: RouterAddress,
    address: SocketAddr,
    events: Events<PipeListenerEvent>,
}

impl PipeListener {
    /// Where they connect to.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody connect any more. Pipes that there are stay.
    pub fn close(&self) -> Operation<(), ObjectError> {
        transport::close(&self.router, self.id)
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<PipeListenerEvent> {
        &mut self.events
    }
}

/// A pipe to a router of another process: one end of it. Dropping this closes nothing.
///
/// Media goes by SRTP, of AEAD_AES_256_GCM and with RTX, between ports of its own; what is said about
/// it by TCP, authenticated but not secret. Both addresses must be reachable as they are, without a NAT
/// in between.
///
/// mediasoup: `PipeTransport`, with what connects two of them, which is the application's there.
#[derive(Debug)]
pub struct RemotePipe {
    id: TransportId,
    router: RouterAddress,
    events: Events<RemotePipeEvent>,
}

impl RemotePipe {
    /// Its name.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// Makes a producer of this router one of the other process's, too, and returns the consumer that
    /// feeds it. The other end is told the label with it, of at most 1,000 bytes.
    ///
    /// Whether it is paused, and whether it is closed, is the same there as here, once nothing is
    /// under way; if the pipe breaks, it is closed there. The consumer is closed as
    /// [`CloseReason::FarEndClosed`] if the other end closes it, or does not take it. Of simulcast, the
    /// best layer is sent. Piped again, it is the same pipe.
    ///
    /// mediasoup: `pipeTransport.consume`, and `produce` on the other one.
    pub fn pipe(&self, producer: ProducerId, label: &str) -> Operation<Consumer, ObjectError> {
        let (id, address, label) = (self.id, self.router.clone(), label.to_owned());
        self.router
            .enqueue(move |router| router.pipe_to_process(id, producer, label, address))
    }

    /// Closes it, and everything that came and went by it, on both sides.
    pub fn close(&self) -> Operation<(), ObjectError> {
        transport::close(&self.router, self.id)
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<RemotePipeEvent> {
        &mut self.events
    }
}

impl Router {
    /// Lets other processes connect that have the secret.
    ///
    /// Fails with [`ObjectError::CannotBind`].
    pub fn listen_for_pipes(
        &self,
        bind: SocketAddr,
        secret: PipeSecret,
    ) -> Operation<PipeListener, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue_with_reply(move |router, reply| {
            router.listen_for_pipes(address, bind, secret, reply);
        })
    }

    /// Connects to a router of another process that [listens](Self::listen_for_pipes) there.
    ///
    /// Fails with [`ObjectError::NotLinked`] if it does not, or has another secret; at the latest after
    /// five seconds.
    pub fn connect_pipe(
        &self,
        remote: SocketAddr,
        secret: PipeSecret,
    ) -> Operation<RemotePipe, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue_with_reply(move |router, reply| {
            router.connect_pipe(address, remote, secret, reply);
        })
    }

    /// A pipe that [has come about](PipeListenerEvent::Connected), with its events from the beginning
    /// if it is asked for the first time.
    pub fn remote_pipe(&self, id: TransportId) -> Operation<RemotePipe, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue(move |router| {
            let pipe = router.pipe_state(id)?;
            let events = pipe.unread.take();
            let events = events.unwrap_or_else(|| pipe.events.subscribe());
            Ok(RemotePipe {
                id,
                router: address,
                events,
            })
        })
    }

    /// A producer of the router, with its events from here on.
    pub fn producer(&self, id: ProducerId) -> Operation<Producer, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue(move |router| {
            let events: Option<Events<ProducerEvent>> = router.subscribe_to_producer(id);
            let events = events.ok_or(ObjectError::ProducerClosed(id))?;
            Ok(Producer::new(id, address, events))
        })
    }
}

/// A pipe to another process as its router knows it.
#[derive(Debug)]
pub(super) struct RemotePipeState {
    pub(super) plain: PlainState,
    pub(super) events: EventSink<RemotePipeEvent>,
    /// For the first who asks.
    unread: Option<Events<RemotePipeEvent>>,
}

/// A listener for pipes as its router knows it.
#[derive(Debug)]
pub(super) struct PipeListenerState {
    pub(super) on_network: TransportOnNetwork,
    pub(super) events: EventSink<PipeListenerEvent>,
}

/// The other end of something on a link: by its name there.
#[derive(Debug)]
pub(super) struct OnLink {
    network: ThreadBound<Network>,
    link: TransportId,
    pub(super) name: u64,
}

impl OnLink {
    fn say(&self, message: Message) {
        let link = self.link;
        // A thread that has quit has no links.
        let _ = self
            .network
            .post(move |network| network.say_on_pipe(link, &message));
    }

    pub(super) fn source_changed(&self, paused: Versioned<bool>) {
        let (name, state) = (self.name, PipedState::of(paused));
        self.say(Message::Changed { name, state });
    }

    /// The consumer that feeds it is gone.
    pub(super) fn source_closed(&self) {
        self.say(Message::Closed { name: self.name });
    }

    pub(super) fn leads_to(&self, link: TransportId) -> bool {
        self.link == link
    }
}

/// The near end of a link, as the producer knows it that is fed.
#[derive(Debug)]
pub(super) struct FromLink(OnLink);

impl Drop for FromLink {
    /// However the producer ends, or does not even come into being, the consumer that feeds it ends.
    fn drop(&mut self) {
        let name = self.0.name;
        self.0.say(Message::FarEndClosed { name });
    }
}

impl PipedState {
    const fn of(paused: Versioned<bool>) -> Self {
        Self {
            version: paused.version,
            paused: paused.state,
        }
    }

    const fn versioned(self) -> Versioned<bool> {
        Versioned {
            version: self.version,
            state: self.paused,
        }
    }
}

impl RouterAddress {
    /// A process has connected. If the router is gone, so is the link.
    pub(crate) fn accept_pipe(
        &self,
        listener: TransportId,
        id: TransportId,
        network: ThreadBound<Network>,
    ) {
        let address = self.clone();
        let _ = self.worker.post(move |state| {
            let accepted = state
                .router(address.id)
                .and_then(|router| router.accept_pipe(listener, id));
            if accepted.is_err() {
                let _ = network.post(move |network| network.close_transport(id));
            }
        });
    }
}

impl RouterState {
    pub(super) fn pipe_state(
        &mut self,
        id: TransportId,
    ) -> Result<&mut RemotePipeState, ObjectError> {
        match self.transport_kind(id) {
            Some(TransportKind::RemotePipe(pipe)) => Ok(pipe),
            _ => Err(ObjectError::TransportClosed(id)),
        }
    }

    fn add_pipe(&mut self, on_network: TransportOnNetwork) -> Result<(), ObjectError> {
        let id = on_network.id;
        let (sink, events) = EventSink::new();
        let pipe = RemotePipeState {
            plain: PlainState::of_pipe(on_network),
            events: sink,
            unread: Some(events),
        };
        let transport = TransportState {
            kind: TransportKind::RemotePipe(Box::new(pipe)),
            events: EventSink::unheard(),
        };
        self.add_transport(id, transport)
    }

    fn listen_for_pipes(
        &mut self,
        address: RouterAddress,
        bind: SocketAddr,
        secret: PipeSecret,
        reply: ReplyTo<PipeListener, ObjectError>,
    ) {
        let id = TransportId::next();
        let Some(place) = self.networks().place() else {
            return reply.send(Err(ObjectError::NoNetwork));
        };
        let network = place.network.clone();
        let (sink, events) = EventSink::new();
        let listener = PipeListenerState {
            on_network: TransportOnNetwork { id, place },
            events: sink,
        };
        let transport = TransportState {
            kind: TransportKind::PipeListener(Box::new(listener)),
            events: EventSink::unheard(),
        };
        if let Err(error) = self.add_transport(id, transport) {
            return reply.send(Err(error));
        }
        let order = ListenForPipes {
            id,
            owner: address.clone(),
            bind,
            secret,
        };
        // If this is dropped, so is the reply, which settles.
        let _ = network.post(move |network| {
            let outcome = network.listen_for_pipes(order);
            let outcome = outcome.map_err(|error| ObjectError::CannotBind {
                ip: bind.ip(),
                reason: error.to_string(),
            });
            if outcome.is_err() {
                address.post(move |router| {
                    let _ = router.close_transport(id, CloseReason::Refused);
                });
            }
            reply.send(outcome.map(|local| PipeListener {
                id,
                router: address,
                address: local,
                events,
            }));
        });
    }

    fn connect_pipe(
        &mut self,
        address: RouterAddress,
        remote: SocketAddr,
        secret: PipeSecret,
        reply: ReplyTo<RemotePipe, ObjectError>,
    ) {
        let id = TransportId::next();
        let Some(place) = self.networks().place() else {
            return reply.send(Err(ObjectError::NoNetwork));
        };
        let network = place.network.clone();
        let on_network = TransportOnNetwork { id, place };
        if let Err(error) = self.add_pipe(on_network) {
            return reply.send(Err(error));
        }
        let owner = address.clone();
        let order = ConnectPipe {
            id,
            owner: address.clone(),
            remote,
            secret,
            opened: Box::new(move |outcome| {
                let _ = owner.worker.clone().post(move |state| {
                    reply.send(state.router(owner.id).and_then(|router| {
                        if let Err(reason) = outcome {
                            let _ = router.close_transport(id, CloseReason::Refused);
                            return Err(ObjectError::NotLinked { remote, reason });
                        }
                        let events = router.pipe_state(id)?.unread.take();
                        Ok(RemotePipe {
                            id,
                            router: address,
                            events: events.ok_or(ObjectError::TransportClosed(id))?,
                        })
                    }));
                });
            }),
        };
        let _ = network.post(move |network| network.connect_pipe(order));
    }

    fn accept_pipe(&mut self, listener: TransportId, id: TransportId) -> Result<(), ObjectError> {
        let place = match self.transport_kind(listener) {
            Some(TransportKind::PipeListener(own)) => own.on_network.place.beside(),
            _ => return Err(ObjectError::TransportClosed(listener)),
        };
        self.add_pipe(TransportOnNetwork { id, place })?;
        if let Some(TransportKind::PipeListener(own)) = self.transport_kind(listener) {
            own.events.send(PipeListenerEvent::Connected(id));
        }
        Ok(())
    }

    fn pipe_to_process(
        &mut self,
        link: TransportId,
        producer: ProducerId,
        label: String,
        address: RouterAddress,
    ) -> Result<Consumer, ObjectError> {
        if label.len() > MAX_LABEL {
            return Err(ObjectError::TooMany(MAX_LABEL));
        }
        let network = self
            .pipe_state(link)?
            .plain
            .on_network
            .place
            .network
            .clone();
        if let Some((id, paused, events)) = self.find_pipe_consumer(link, producer) {
            return Ok(Consumer::new(id, producer, address, paused, events));
        }
        let media = self.producer(producer)?.media();
        let media = media.ok_or(ObjectError::NoMedia(producer))?.media;
        let accepted = RtpCapabilities::of_pipe(&media).check()?;
        let id = ConsumerId::next();
        let name = id.number();
        let far_end = PipedTo::Process(OnLink {
            network: network.clone(),
            link,
            name,
        });
        let options = ConsumerOptions::new();
        let ordered =
            self.consume_plain_as(id, link, producer, &accepted, options, Some(far_end))?;
        let message = Message::Create {
            name,
            parameters: Box::new(ordered.parameters),
            label,
            state: PipedState::of(ordered.paused),
        };
        let _ = network.post(move |network| network.say_on_pipe(link, &message));
        let (began_with, events) = (ordered.paused.state, ordered.events);
        Ok(Consumer::new(id, producer, address, began_with, events))
    }

    /// The other process says something.
    pub(crate) fn pipe_says(&mut self, link: TransportId, message: Message) {
        match message {
            Message::Ready { .. } => {}
            Message::Create {
                name,
                parameters,
                label,
                state,
            } => {
                if let Err(error) = self.produce_from_process(link, name, &parameters, label, state)
                {
                    tracing::warn!(%error, "what another process pipes is not taken");
                }
            }
            Message::Changed { name, state } => {
                if let Some(producer) = self.piped_producer(link, name) {
                    self.piped_source_changed(producer, state.versioned());
                }
            }
            Message::Closed { name } => {
                if let Some(producer) = self.piped_producer(link, name) {
                    let _ = self.close_producer(producer, CloseReason::ProducerClosed);
                }
            }
            Message::FarEndClosed { name } => {
                if let Some(consumer) = self.piping_consumer(link, name) {
                    let _ = self.close_consumer(consumer, CloseReason::FarEndClosed);
                }
            }
        }
    }

    fn piped_producer(&mut self, link: TransportId, name: u64) -> Option<ProducerId> {
        self.pipe_state(link).ok()?.plain.producer_named(name)
    }

    fn produce_from_process(
        &mut self,
        link: TransportId,
        name: u64,
        parameters: &RtpParameters,
        label: String,
        state: PipedState,
    ) -> Result<(), ObjectError> {
        let pipe = self.pipe_state(link)?;
        if pipe.plain.producer_named(name).is_some() {
            // Two of one name cannot be told apart; the first stays.
            return Ok(());
        }
        // However this ends without a producer, the other end is told.
        let near = FromLink(OnLink {
            network: pipe.plain.on_network.place.network.clone(),
            link,
            name,
        });
        if label.len() > MAX_LABEL {
            return Err(ObjectError::TooMany(MAX_LABEL));
        }
        let track = parameters.track()?;
        let id = ProducerId::next();
        let (on_network, media) = self.add_arriving(id, link, parameters.check()?)?;
        let source = ProducerSource::Process {
            near,
            paused: Replica::of(state.versioned()),
            on_network,
            media,
        };
        let added = self.produce(
            id,
            link,
            ProducerOptions::new(),
            source,
            EventSink::unheard(),
        );
        let pipe = self.pipe_state(link)?;
        if let Err(error) = added {
            pipe.plain.forget_producer(id);
            return Err(error);
        }
        pipe.plain.name_producer(name, id);
        pipe.events.send(RemotePipeEvent::Produced {
            producer: id,
            track,
            label: label.into(),
        });
        Ok(())
    }

    /// The link is broken: what came and went by it is closed for that reason.
    pub(super) fn close_broken_pipe(&mut self, id: TransportId) {
        if self.pipe_state(id).is_err() {
            return;
        }
        for consumer in self.consumers_on(id) {
            let _ = self.close_consumer(consumer, CloseReason::FarEndClosed);
        }
        for producer in self.producers_on(id) {
            let _ = self.close_producer(producer, CloseReason::FarEndClosed);
        }
    }
}
