//! Data producers and consumers of a router: who is sent whose messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use rtc_thread::ThreadBound;

use super::address::RouterAddress;
use super::data_consumer::{
    DataConsumer, DataConsumerEvent, DataConsumerOptions, DataConsumerParts, DataConsumerState,
};
use super::data_message::{DataCounters, DataMessage, MAX_SUB_CHANNELS};
use super::data_on_network::{DataConsumerOnNetwork, DataProducerOnNetwork};
use super::data_parameters::{DataError, DataProducerOptions};
use super::data_pipe::{DataNearEnd, DataPipedTo};
use super::data_producer::{
    DataProducer, DataProducerState, DataProducerStatus, DataSource, DataState,
};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{DataConsumerId, DataProducerId, ProducerId, TransportId};
use super::link_ends::Named;
use super::mailbox::{Mailbox, mailbox};
use super::replica::Versioned;
use super::router::{MAX_MEMBERS, Router, RouterState};
use super::transport::{DirectTransport, TransportEvent, TransportKind};
use super::webrtc_transport::WebRtcTransport;
use crate::Operation;
use crate::network::{
    DataEnd, DataOrigin, DataOut, MAX_CHANNELS, Network, OpenedChannel, WantedData,
};
use crate::reserved::Reserved;

/// The data part of a router.
#[derive(Debug, Default)]
pub(super) struct DataObjects {
    producers: BTreeMap<DataProducerId, DataProducerState>,
    consumers: BTreeMap<DataConsumerId, DataConsumerState>,
    /// Transports to clients whose offer had a line for data channels; and the transports whose data
    /// they are sent, without being told one by one.
    followers: BTreeMap<TransportId, Vec<TransportId>>,
}

impl DataObjects {
    /// Whether something is on a transport.
    pub(super) fn uses(&self, id: TransportId) -> bool {
        self.consumers.values().any(|own| own.transport == id)
            || self.producers.values().any(|own| own.transport == id)
    }

    /// Closes everything.
    pub(super) fn close(&mut self, reason: CloseReason) {
        for (_, mut consumer) in std::mem::take(&mut self.consumers) {
            consumer.events.close(reason);
        }
        for (_, mut producer) in std::mem::take(&mut self.producers) {
            producer.events.close(reason);
        }
        self.followers.clear();
    }
}

impl DirectTransport {
    /// Creates a data producer on which the application sends.
    ///
    /// Fails if the parameters contradict each other, if the transport is closed, or if the worker
    /// has no network threads.
    ///
    /// mediasoup: `produceData`.
    pub fn produce_data(
        &self,
        options: DataProducerOptions,
    ) -> Operation<DataProducer, ObjectError> {
        let (transport, address) = (self.id(), self.router().clone());
        self.router()
            .enqueue(move |router| router.produce_data(transport, options, address))
    }

    /// Creates a data consumer whose [messages](DataConsumer::messages) the application reads.
    ///
    /// Fails if the data producer or the transport is closed, or if the worker has no network threads.
    ///
    /// mediasoup: `consumeData`.
    pub fn consume_data(
        &self,
        producer: DataProducerId,
        options: DataConsumerOptions,
    ) -> Operation<DataConsumer, ObjectError> {
        consume_data(self.router(), self.id(), producer, options)
    }
}

impl WebRtcTransport {
    /// Opens a data channel to the client, on which it is sent what comes from a data producer.
    ///
    /// Fails if the data producer or the transport is closed, or if the client's offer had no line for
    /// data channels.
    ///
    /// mediasoup: `consumeData`.
    pub fn consume_data(
        &self,
        producer: DataProducerId,
        options: DataConsumerOptions,
    ) -> Operation<DataConsumer, ObjectError> {
        consume_data(self.router(), self.id(), producer, options)
    }
}

fn consume_data(
    address: &RouterAddress,
    transport: TransportId,
    producer: DataProducerId,
    options: DataConsumerOptions,
) -> Operation<DataConsumer, ObjectError> {
    let own = address.clone();
    address.enqueue(move |router| {
        let parts = router.consume_data(transport, producer, options)?;
        Ok(DataConsumer::new(parts, own))
    })
}

impl Router {
    /// A data producer of this router by its name, which
    /// [`TransportEvent::NewDataProducer`] tells.
    pub fn data_producer(&self, id: DataProducerId) -> Operation<DataProducer, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue(move |router| {
            let own = router.data_producer(id)?;
            let (parameters, events) = (own.parameters.clone(), own.events.subscribe());
            Ok(DataProducer::new(id, address, parameters, events))
        })
    }

    /// A data consumer of this router by its name, which
    /// [`TransportEvent::NewDataConsumer`] tells. What it is sent cannot be read here.
    pub fn data_consumer(&self, id: DataConsumerId) -> Operation<DataConsumer, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue(move |router| {
            let own = router.data_consumer(id)?;
            let parts = DataConsumerParts {
                id,
                producer: own.producer,
                parameters: own.parameters.clone(),
                began_with: own.is_producer_paused(),
                messages: None,
                events: own.events.subscribe(),
            };
            Ok(DataConsumer::new(parts, address))
        })
    }
}

impl RouterState {
    pub(super) fn data_producer(
        &mut self,
        id: DataProducerId,
    ) -> Result<&mut DataProducerState, ObjectError> {
        let producer = self.data.producers.get_mut(&id);
        producer.ok_or(ObjectError::DataProducerClosed(id))
    }

    pub(super) fn data_consumer(
        &mut self,
        id: DataConsumerId,
    ) -> Result<&mut DataConsumerState, ObjectError> {
        let consumer = self.data.consumers.get_mut(&id);
        consumer.ok_or(ObjectError::DataConsumerClosed(id))
    }

    fn produce_data(
        &mut self,
        transport: TransportId,
        options: DataProducerOptions,
        address: RouterAddress,
    ) -> Result<DataProducer, ObjectError> {
        self.transport(transport)?;
        let own_paused = options.paused;
        let parameters = Arc::new(options.parameters()?);
        let on_network = self.transport_on_network(transport);
        let place = &on_network.ok_or(ObjectError::NoNetwork)?.place;
        let id = DataProducerId::next();
        let origin = DataOrigin {
            network: place.index,
            producer: id,
        };
        let network = place.network.clone();
        let counters = Arc::<DataCounters>::default();
        let counted = counters.clone();
        let order = move |network: &mut Network| network.add_data_source(id, transport, counted);
        network.post(order).map_err(|_| ObjectError::NoNetwork)?;
        let on_network = DataProducerOnNetwork::new(network, origin);
        let (sink, events) = EventSink::new();
        let state = DataProducerState::new(
            transport,
            parameters.clone(),
            own_paused,
            DataSource::Application(on_network),
            counters,
            sink,
        );
        self.add_data_producer(id, state)?;
        Ok(DataProducer::new(id, address, parameters, events))
    }

    /// Whether there may be another one.
    pub(super) fn check_data_producers(&self) -> Result<(), ObjectError> {
        match self.data.producers.len() >= MAX_MEMBERS {
            true => Err(ObjectError::TooMany(MAX_MEMBERS)),
            false => Ok(()),
        }
    }

    pub(super) fn data_consumers_on(&self, transport: TransportId) -> usize {
        let consumers = self.data.consumers.values();
        consumers.filter(|own| own.transport == transport).count()
    }

    pub(super) fn data_consumers_mut(
        &mut self,
    ) -> impl Iterator<Item = (&DataConsumerId, &mut DataConsumerState)> {
        self.data.consumers.iter_mut()
    }

    /// The data consumer that has such a name on a link to another process.
    pub(super) fn piping_data_consumer(
        &self,
        link: TransportId,
        name: u64,
    ) -> Option<DataConsumerId> {
        let mut consumers = self.data.consumers.iter();
        let is_it = |own: &DataConsumerState| {
            let piped_to = own.piped_to.as_ref();
            piped_to.and_then(|to| to.name_on(link)) == Some(name)
        };
        let found = consumers.find(|(_, own)| is_it(own));
        found.map(|(id, _)| *id)
    }

    /// Whoever follows its transport is sent what it sends.
    pub(super) fn add_data_producer(
        &mut self,
        id: DataProducerId,
        producer: DataProducerState,
    ) -> Result<(), ObjectError> {
        self.check_data_producers()?;
        let sender = producer.transport;
        self.data.producers.insert(id, producer);
        let followers = self.data.followers.iter();
        let followers = followers.filter(|(_, followed)| followed.contains(&sender));
        for follower in followers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.follow(follower, id);
        }
        Ok(())
    }

    /// A client whose offer has a line for data channels is sent the data of these transports.
    pub(super) fn follow_data_of(&mut self, follower: TransportId, followed: Vec<TransportId>) {
        let producers = self.data.producers.iter();
        let producers = producers.filter(|(_, own)| followed.contains(&own.transport));
        let producers: Vec<_> = producers.map(|(id, _)| *id).collect();
        self.data.followers.insert(follower, followed);
        for producer in producers {
            self.follow(follower, producer);
        }
    }

    fn follow(&mut self, follower: TransportId, producer: DataProducerId) {
        match self.consume_data(follower, producer, DataConsumerOptions::new()) {
            Ok(parts) => self.tell_transport(follower, TransportEvent::NewDataConsumer(parts.id)),
            Err(error) => tracing::debug!(transport = ?follower, %error, "data is not followed"),
        }
    }

    fn tell_transport(&mut self, id: TransportId, event: TransportEvent) {
        if let Ok(transport) = self.transport(id) {
            transport.events.send(event);
        }
    }

    /// The transports on which these are produced, as far as their data can be followed: what comes
    /// by a pipe is not told apart by who sent it.
    pub(super) fn senders_of(&mut self, producers: &[ProducerId]) -> Vec<TransportId> {
        let mut senders = Vec::new();
        for id in producers {
            let Ok(sender) = self.producer(*id).map(|own| own.transport) else {
                continue;
            };
            let is_pipe = self.transport(sender).is_ok_and(|own| own.is_pipe());
            if !is_pipe && !senders.contains(&sender) {
                senders.push(sender);
            }
        }
        senders
    }

    pub(super) fn consume_data(
        &mut self,
        transport: TransportId,
        producer: DataProducerId,
        options: DataConsumerOptions,
    ) -> Result<DataConsumerParts, ObjectError> {
        self.consume_data_by(transport, producer, options, None)
    }

    /// The same by a link to another process, where it has such a name.
    pub(super) fn consume_data_by(
        &mut self,
        transport: TransportId,
        producer: DataProducerId,
        options: DataConsumerOptions,
        name: Option<u64>,
    ) -> Result<DataConsumerParts, ObjectError> {
        let (network, out, messages) = match name {
            Some(name) => {
                let place = &self.pipe_state(transport)?.plain.on_network.place;
                (place.network.clone(), DataOut::Link { name }, None)
            }
            None => self.way_out(transport)?,
        };
        let place = self
            .transport_on_network(transport)
            .map(|own| own.place.index);
        let place = place.ok_or(ObjectError::NoNetwork)?;
        if options.sub_channels.len() > MAX_SUB_CHANNELS {
            return Err(DataError::TooManySubChannels(options.sub_channels.len()).into());
        }
        let consumers = self.data.consumers.values();
        let here = consumers.filter(|own| own.transport == transport).count();
        if matches!(out, DataOut::Channel) && here >= MAX_CHANNELS {
            return Err(ObjectError::TooMany(MAX_CHANNELS));
        }
        let sub_channels = options.sub_channels.iter().copied().collect();
        let origin = self.data_producer(producer)?.origin();
        let arrives_at = self.networks().at(origin.network).cloned();
        let arrives_at = arrives_at.ok_or(ObjectError::NoNetwork)?;
        let id = DataConsumerId::next();
        let (sink, events) = EventSink::new();
        let counters = Arc::<DataCounters>::default();
        let paused =
            self.add_data_consumer(id, (transport, producer), options, counters.clone(), sink)?;
        let own = self.data_consumer(id)?;
        let (active, parameters) = (own.is_active(), own.parameters.clone());
        let wanted = WantedData {
            consumer: id,
            transport,
            producer: origin.producer,
            parameters: parameters.clone(),
            sub_channels,
            active,
            counters,
            out,
        };
        let from = (origin.network, arrives_at);
        own.on_network = Some(DataConsumerOnNetwork::order(network, place, wanted, from));
        Ok(DataConsumerParts {
            id,
            producer,
            parameters,
            began_with: paused.state,
            messages,
            events,
        })
    }

    /// How messages go out on a transport.
    #[expect(clippy::type_complexity, reason = "named where it is taken apart")]
    fn way_out(
        &mut self,
        id: TransportId,
    ) -> Result<(ThreadBound<Network>, DataOut, Option<Mailbox<DataMessage>>), ObjectError> {
        let has_channels = self.data.followers.contains_key(&id);
        let transport = self.transport(id)?;
        let on_network = transport.on_network().ok_or(ObjectError::NoNetwork)?;
        let network = on_network.place.network.clone();
        if matches!(transport.kind, TransportKind::Direct(_)) {
            let (writer, mailbox) = mailbox();
            return Ok((network, DataOut::Application(writer), Some(mailbox)));
        }
        if !has_channels {
            return Err(ObjectError::NoDataChannels(id));
        }
        Ok((network, DataOut::Channel, None))
    }

    fn add_data_consumer(
        &mut self,
        id: DataConsumerId,
        (transport, producer): (TransportId, DataProducerId),
        options: DataConsumerOptions,
        counters: Arc<DataCounters>,
        events: EventSink<DataConsumerEvent>,
    ) -> Result<Versioned<bool>, ObjectError> {
        if self.data.consumers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let source = self.data_producer(producer)?;
        let (state, parameters) = (source.current(), source.parameters.clone());
        let between = (transport, producer);
        let consumer =
            DataConsumerState::new(between, parameters, options, state, counters, events);
        self.data.consumers.insert(id, consumer);
        Ok(state.paused)
    }

    /// The data consumer that feeds a data producer of another router, the same if there is one.
    pub(super) fn data_pipe_consumer(
        &mut self,
        producer: DataProducerId,
        to: &RouterAddress,
    ) -> Result<DataNearEnd, ObjectError> {
        let source = self.data_producer(producer)?;
        let (state, origin) = (source.current(), source.origin());
        let (parameters, counters) = (source.parameters.clone(), source.counters.clone());
        let near_end = |id, feeds, is_new, events: Events<DataConsumerEvent>| DataNearEnd {
            parts: DataConsumerParts {
                id,
                producer,
                parameters,
                began_with: state.paused.state,
                messages: None,
                events,
            },
            feeds,
            is_new,
            source: state,
            origin,
            counters,
        };
        for (id, consumer) in &mut self.data.consumers {
            if consumer.producer == producer
                && let Some(piped_to) = &consumer.piped_to
                && let Some(feeds) = piped_to.producer_in(to.id)
            {
                return Ok(near_end(*id, feeds, false, consumer.events.subscribe()));
            }
        }
        let transport = self.pipe_transport(to.id)?;
        let (id, feeds) = (DataConsumerId::next(), DataProducerId::next());
        let (sink, events) = EventSink::new();
        let options = DataConsumerOptions::new();
        self.add_data_consumer(id, (transport, producer), options, Arc::default(), sink)?;
        self.data_consumer(id)?.piped_to = Some(DataPipedTo::new(to.clone(), feeds));
        Ok(near_end(id, feeds, true, events))
    }

    pub(super) fn send_data(
        &mut self,
        id: DataProducerId,
        message: DataMessage,
        waiting: Reserved,
    ) -> Result<(), ObjectError> {
        Ok(self.data_producer(id)?.send(message, waiting)?)
    }

    pub(super) fn set_data_producer_paused(
        &mut self,
        id: DataProducerId,
        paused: bool,
    ) -> Result<(), ObjectError> {
        if let Some(changed) = self.data_producer(id)?.set_own_paused(paused) {
            self.data_producer_changed(id, changed);
        }
        Ok(())
    }

    /// What a data producer here is piped from has changed.
    pub(super) fn piped_data_source_changed(&mut self, id: DataProducerId, changed: DataState) {
        let producer = self.data.producers.get_mut(&id);
        if let Some(changed) = producer.and_then(|own| own.piped_source_changed(changed)) {
            self.data_producer_changed(id, changed);
        }
    }

    /// The same of one that is of another process.
    pub(super) fn remote_data_source_changed(
        &mut self,
        id: DataProducerId,
        changed: Versioned<bool>,
    ) {
        let producer = self.data.producers.get_mut(&id);
        if let Some(changed) = producer.and_then(|own| own.remote_source_changed(changed)) {
            self.data_producer_changed(id, changed);
        }
    }

    fn data_producer_changed(&mut self, id: DataProducerId, changed: DataState) {
        let consumers = self.data.consumers.values_mut();
        for consumer in consumers.filter(|consumer| consumer.producer == id) {
            consumer.producer_changed(changed);
        }
    }

    pub(super) fn data_producer_status(
        &mut self,
        id: DataProducerId,
    ) -> Result<DataProducerStatus, ObjectError> {
        let consumers = self.data.consumers.values();
        let consumers = consumers.filter(|own| own.producer == id).count();
        let own = self.data_producer(id)?;
        let paused = own.current().paused;
        Ok(DataProducerStatus {
            paused: paused.state,
            changes: paused.version,
            consumers,
            messages: own.counters.messages(),
            bytes: own.counters.bytes(),
        })
    }

    pub(super) fn close_data_producer(
        &mut self,
        id: DataProducerId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        let producer = self.data.producers.remove(&id);
        let mut producer = producer.ok_or(ObjectError::DataProducerClosed(id))?;
        let consumers = self.data.consumers.iter();
        let consumers = consumers.filter(|(_, consumer)| consumer.producer == id);
        for consumer in consumers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_data_consumer(consumer, CloseReason::ProducerClosed)?;
        }
        producer.events.close(reason);
        self.forget_named(producer.transport, Named::DataProducer(id));
        self.forget_idle_pipe(producer.transport);
        Ok(())
    }

    pub(super) fn close_data_consumer(
        &mut self,
        id: DataConsumerId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        let consumer = self.data.consumers.remove(&id);
        let mut consumer = consumer.ok_or(ObjectError::DataConsumerClosed(id))?;
        consumer.events.close(reason);
        self.forget_idle_pipe(consumer.transport);
        Ok(())
    }

    /// A transport is about to be closed.
    pub(super) fn close_data_on(&mut self, transport: TransportId) -> Result<(), ObjectError> {
        self.data.followers.remove(&transport);
        self.end_data_on(transport, CloseReason::TransportClosed)
    }

    /// A link to another process is broken.
    pub(super) fn close_data_of_broken_pipe(&mut self, link: TransportId) {
        // All of them are there, since they have just been looked up.
        let _ = self.end_data_on(link, CloseReason::FarEndClosed);
    }

    fn end_data_on(
        &mut self,
        transport: TransportId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        let consumers = self.data.consumers.iter();
        let consumers = consumers.filter(|(_, own)| own.transport == transport);
        for consumer in consumers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_data_consumer(consumer, reason)?;
        }
        let producers = self.data.producers.iter();
        let producers = producers.filter(|(_, own)| own.transport == transport);
        for producer in producers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_data_producer(producer, reason)?;
        }
        Ok(())
    }

    /// A client that sends has opened a data channel.
    pub(crate) fn data_channel_opened(&mut self, transport: TransportId, opened: OpenedChannel) {
        let OpenedChannel {
            producer,
            parameters,
            counters,
            echo,
        } = opened;
        // If the transport is closed by now, so are its channels.
        let Some(place) = self.transport_on_network(transport).map(|own| &own.place) else {
            return;
        };
        let network = place.network.clone();
        let origin = DataOrigin {
            network: place.index,
            producer,
        };
        // Whichever of them is refused is dropped, and its end of the channel closed.
        let echo = echo.map(|(id, counters)| {
            let on_network = DataConsumerOnNetwork::of_echo(network.clone(), id);
            (id, counters, on_network)
        });
        let on_network = DataProducerOnNetwork::new(network, origin);
        let source = DataSource::Client(on_network);
        let sink = EventSink::unheard();
        let state = DataProducerState::new(transport, parameters, false, source, counters, sink);
        if let Err(error) = self.add_data_producer(producer, state) {
            tracing::debug!(?transport, %error, "a data channel is refused");
            return;
        }
        self.tell_transport(transport, TransportEvent::NewDataProducer(producer));
        if let Some((id, counters, on_network)) = echo {
            let options = DataConsumerOptions::new();
            let between = (transport, producer);
            let sink = EventSink::unheard();
            let added = self.add_data_consumer(id, between, options, counters, sink);
            if added.is_ok()
                && let Ok(own) = self.data_consumer(id)
            {
                own.on_network = Some(on_network);
                self.tell_transport(transport, TransportEvent::NewDataConsumer(id));
            }
        }
    }

    /// A data channel has come to its end, other than by our will.
    pub(crate) fn data_channel_ended(&mut self, end: DataEnd, reason: CloseReason) {
        // It may be closed already.
        let _ = match end {
            DataEnd::Producer(id) => self.close_data_producer(id, reason),
            DataEnd::Consumer(id) => self.close_data_consumer(id, reason),
        };
    }

    /// Little is left of what waited for a client.
    pub(crate) fn buffered_amount_low(&mut self, id: DataConsumerId, bytes: usize) {
        if let Ok(consumer) = self.data_consumer(id) {
            let event = DataConsumerEvent::BufferedAmountLow(bytes);
            consumer.events.send(event);
        }
    }
}
