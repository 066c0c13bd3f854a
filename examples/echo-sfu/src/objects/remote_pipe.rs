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
use super::consumer::Consumer;
use super::data_consumer::DataConsumer;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{DataProducerId, ProducerId, TransportId};
use super::link_ends::Names;
use super::on_network::TransportOnNetwork;
use super::plain_state::PlainState;
use super::producer::{Producer, ProducerEvent};
use super::router::{Router, RouterState};
use super::transport::{self, TransportKind, TransportState};
use crate::Operation;
use crate::media::TrackInfo;
use crate::network::{ConnectPipe, ListenForPipes, Network};
use crate::operation::ReplyTo;
use crate::pipe_link::PipeSecret;

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
    /// The other process has piped a data producer to here: [`Router::data_producer`] has it.
    ProducedData {
        /// What it is here.
        producer: DataProducerId,
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
    /// [`CloseReason::FarEndClosed`] if the other end closes it, as [`CloseReason::FarEndFull`] if that
    /// has 512 of this pipe already, and as [`CloseReason::Refused`] if it does not take it for another
    /// reason. Of simulcast, every layer is sent up to the one that the consumer
    /// [prefers](Consumer::set_preferred_layer), and the other end chooses among these for each of its
    /// own. Piped again, it is the same pipe.
    ///
    /// Scores do not go by it, as they do by [`Router::pipe`](super::Router::pipe): the other end scores
    /// what arrives there by the link.
    ///
    /// mediasoup: `pipeTransport.consume`, and `produce` on the other one.
    pub fn pipe(&self, producer: ProducerId, label: &str) -> Operation<Consumer, ObjectError> {
        let (id, address, label) = (self.id, self.router.clone(), label.to_owned());
        self.router
            .enqueue(move |router| router.pipe_to_process(id, producer, label, address))
    }

    /// Makes a data producer of this router one of the other process's, too, with all that it promises,
    /// and returns the data consumer that feeds it. It is as with [`pipe`](Self::pipe) what the other
    /// end is told, and when it is closed.
    ///
    /// Messages go by the connection of the pipe, in order, which keeps 1 MiB of each data consumer's
    /// and 4 MiB of all for the other end. If there is no room for a message that was promised, the
    /// pipe of that data producer is closed at both ends as [`CloseReason::Undeliverable`]; one that was
    /// not is lost and counted, from 256 KiB of whatever waits on. Pausing the data consumer stops the
    /// messages.
    ///
    /// mediasoup: `pipeTransport.consumeData`, and `produceData` on the other one.
    pub fn pipe_data(
        &self,
        producer: DataProducerId,
        label: &str,
    ) -> Operation<DataConsumer, ObjectError> {
        let (id, address, label) = (self.id, self.router.clone(), label.to_owned());
        self.router
            .enqueue(move |router| router.pipe_data_to_process(id, producer, label, address))
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
    /// What each producer and data producer is called that goes or comes by it.
    pub(super) names: Names,
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

/// A link that no router has taken yet. A worker that has ended drops what it was asked, and the link
/// ends with that.
struct Unaccepted(Option<(ThreadBound<Network>, TransportId)>);

impl Unaccepted {
    fn accepted(mut self) {
        self.0 = None;
    }
}

impl Drop for Unaccepted {
    fn drop(&mut self) {
        if let Some((network, id)) = self.0.take() {
            let _ = network.post(move |network| network.close_transport(id));
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
        let (address, link) = (self.clone(), Unaccepted(Some((network, id))));
        let _ = self.worker.post(move |state| {
            let accepted = state
                .router(address.id)
                .and_then(|router| router.accept_pipe(listener, id));
            if accepted.is_ok() {
                link.accepted();
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
            names: Names::default(),
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
}
