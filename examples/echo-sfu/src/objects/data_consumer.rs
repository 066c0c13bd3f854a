//! A data consumer: messages that go out.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::address::RouterAddress;
use super::data_message::{DataCounters, DataMessage, MAX_SUB_CHANNELS};
use super::data_on_network::DataConsumerOnNetwork;
use super::data_parameters::{DataError, DataParameters};
use super::data_pipe::DataPipedTo;
use super::data_producer::DataState;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{DataConsumerId, DataProducerId, TransportId};
use super::mailbox::Mailbox;
use super::replica::Replica;
use crate::Operation;

/// What a data consumer begins with.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves"]
pub struct DataConsumerOptions {
    pub(super) paused: bool,
    pub(super) sub_channels: BTreeSet<u16>,
}

impl DataConsumerOptions {
    /// A data consumer that is not paused, and has chosen no sub-channel.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it begins paused.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// The sub-channels that it begins with.
    pub fn sub_channels(mut self, chosen: &[u16]) -> Self {
        self.sub_channels = chosen.iter().copied().collect();
        self
    }
}

/// What a data consumer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataConsumerEvent {
    /// Its data producer is paused.
    ProducerPaused,
    /// Its data producer goes on.
    ProducerResumed,
    /// So much is left of what waited for its client, which is no more than the threshold that was
    /// set. mediasoup: `bufferedamountlow`.
    BufferedAmountLow(usize),
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for DataConsumerEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// How a data consumer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DataConsumerStatus {
    /// Whether it is paused itself.
    pub paused: bool,
    /// Whether its data producer is, as far as is known here.
    pub producer_paused: bool,
    /// How many changes of the data producer are known here.
    pub producer_changes: u64,
    /// The sub-channels that it has chosen.
    pub sub_channels: Vec<u16>,
    /// Messages that went out.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages there was no room for.
    pub dropped: u64,
    /// Bytes that wait for its client.
    pub buffered_amount: usize,
}

/// Messages of a data producer that go out of a router: on a data channel to a client, or to the
/// application. Dropping this closes nothing.
///
/// A channel that is reliable is closed if so much waits for its client that no more can be kept,
/// [`CloseReason::Undeliverable`]; one that is not loses messages then. What was sent while it was
/// paused is not for it, and is not kept.
///
/// mediasoup: `DataConsumer`.
#[derive(Debug)]
pub struct DataConsumer {
    id: DataConsumerId,
    producer: DataProducerId,
    router: RouterAddress,
    parameters: Arc<DataParameters>,
    /// What its producer was when it came into being.
    began_with: bool,
    messages: Option<Mailbox<DataMessage>>,
    events: Events<DataConsumerEvent>,
}

/// What a handle to a data consumer is made of.
pub(super) struct DataConsumerParts {
    pub(super) id: DataConsumerId,
    pub(super) producer: DataProducerId,
    pub(super) parameters: Arc<DataParameters>,
    pub(super) began_with: bool,
    pub(super) messages: Option<Mailbox<DataMessage>>,
    pub(super) events: Events<DataConsumerEvent>,
}

impl DataConsumer {
    pub(super) fn new(parts: DataConsumerParts, router: RouterAddress) -> Self {
        Self {
            id: parts.id,
            producer: parts.producer,
            router,
            parameters: parts.parameters,
            began_with: parts.began_with,
            messages: parts.messages,
            events: parts.events,
        }
    }

    /// Its name.
    pub fn id(&self) -> DataConsumerId {
        self.id
    }

    /// What it consumes.
    pub fn producer(&self) -> DataProducerId {
        self.producer
    }

    /// What it is called, and what it promises: the same as its data producer.
    pub fn parameters(&self) -> &DataParameters {
        &self.parameters
    }

    /// Whether its data producer was paused when the consumer came into being, or was asked for.
    pub fn producer_was_paused(&self) -> bool {
        self.began_with
    }

    /// What arrives for the application; `None` unless it is on a
    /// [`DirectTransport`](super::DirectTransport).
    pub fn messages(&mut self) -> Option<&mut Mailbox<DataMessage>> {
        self.messages.as_mut()
    }

    /// Pauses it: nothing that is sent from now on goes out here. What waits for its client already
    /// still does.
    pub fn pause(&self) -> Operation<(), ObjectError> {
        self.change(|own| own.set_own_paused(true))
    }

    /// Lets it go on.
    pub fn resume(&self) -> Operation<(), ObjectError> {
        self.change(|own| own.set_own_paused(false))
    }

    /// Chooses other sub-channels. Fails if they are more than 256.
    ///
    /// mediasoup: `setSubchannels`.
    pub fn set_sub_channels(&self, chosen: &[u16]) -> Operation<(), ObjectError> {
        let chosen: BTreeSet<u16> = chosen.iter().copied().collect();
        self.try_change(|own| own.set_sub_channels(chosen))
    }

    /// Chooses one more. mediasoup: `addSubchannel`.
    pub fn add_sub_channel(&self, chosen: u16) -> Operation<(), ObjectError> {
        self.try_change(move |own| {
            let mut sub_channels = own.sub_channels.clone();
            sub_channels.insert(chosen);
            own.set_sub_channels(sub_channels)
        })
    }

    /// Chooses one less. mediasoup: `removeSubchannel`.
    pub fn remove_sub_channel(&self, no_longer: u16) -> Operation<(), ObjectError> {
        self.try_change(move |own| {
            let mut sub_channels = own.sub_channels.clone();
            sub_channels.remove(&no_longer);
            own.set_sub_channels(sub_channels)
        })
    }

    /// Has [`DataConsumerEvent::BufferedAmountLow`] told every time that what waits for its client
    /// falls to so many bytes from more. Without this it is not told.
    ///
    /// mediasoup: `setBufferedAmountLowThreshold`.
    pub fn set_buffered_amount_low_threshold(&self, bytes: usize) -> Operation<(), ObjectError> {
        self.change(move |own| {
            if let Some(on_network) = &own.on_network {
                on_network.set_low_threshold(bytes);
            }
        })
    }

    /// Closes it, and its channel.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.close_data_consumer(id, CloseReason::Called))
    }

    /// How it is when the operation takes effect.
    ///
    /// mediasoup: `getStats` and `getBufferedAmount`, among others.
    pub fn status(&self) -> Operation<DataConsumerStatus, ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| Ok(router.data_consumer(id)?.status()))
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<DataConsumerEvent> {
        &mut self.events
    }

    fn change(
        &self,
        change: impl FnOnce(&mut DataConsumerState) + Send + 'static,
    ) -> Operation<(), ObjectError> {
        self.try_change(|own| {
            change(own);
            Ok(())
        })
    }

    fn try_change(
        &self,
        change: impl FnOnce(&mut DataConsumerState) -> Result<(), DataError> + Send + 'static,
    ) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| Ok(change(router.data_consumer(id)?)?))
    }
}

/// A data consumer as its router knows it.
#[derive(Debug)]
pub(super) struct DataConsumerState {
    pub(super) transport: TransportId,
    pub(super) producer: DataProducerId,
    pub(super) parameters: Arc<DataParameters>,
    own_paused: bool,
    producer_paused: Replica<bool>,
    producer_held: Replica<bool>,
    sub_channels: BTreeSet<u16>,
    /// Where its messages go out, unless it feeds a pipe.
    pub(super) on_network: Option<DataConsumerOnNetwork>,
    /// If it feeds a data producer of another router: which.
    pub(super) piped_to: Option<DataPipedTo>,
    pub(super) counters: Arc<DataCounters>,
    pub(super) events: EventSink<DataConsumerEvent>,
}

impl DataConsumerState {
    pub(super) fn new(
        between: (TransportId, DataProducerId),
        parameters: Arc<DataParameters>,
        options: DataConsumerOptions,
        producer: DataState,
        counters: Arc<DataCounters>,
        events: EventSink<DataConsumerEvent>,
    ) -> Self {
        Self {
            transport: between.0,
            producer: between.1,
            parameters,
            own_paused: options.paused,
            producer_paused: Replica::of(producer.paused),
            producer_held: Replica::of(producer.held),
            sub_channels: options.sub_channels,
            on_network: None,
            piped_to: None,
            counters,
            events,
        }
    }

    /// Whether messages go out that come here. While the producer is paused, they do not even come,
    /// unless it is held.
    pub(super) const fn is_active(&self) -> bool {
        !self.own_paused && !self.producer_held.state()
    }

    /// What its data producer was, as far as is known here.
    pub(super) const fn is_producer_paused(&self) -> bool {
        self.producer_paused.state()
    }

    fn set_own_paused(&mut self, paused: bool) {
        self.own_paused = paused;
        self.tell_network();
    }

    fn set_sub_channels(&mut self, chosen: BTreeSet<u16>) -> Result<(), DataError> {
        if chosen.len() > MAX_SUB_CHANNELS {
            return Err(DataError::TooManySubChannels(chosen.len()));
        }
        self.sub_channels = chosen;
        if let Some(on_network) = &self.on_network {
            on_network.set_sub_channels(&self.sub_channels);
        }
        Ok(())
    }

    /// The data producer has changed.
    pub(super) fn producer_changed(&mut self, changed: DataState) {
        let is_held_anew = self.producer_held.apply(changed.held);
        let is_paused_anew = self.producer_paused.apply(changed.paused);
        if is_paused_anew {
            self.events.send(match changed.paused.state {
                true => DataConsumerEvent::ProducerPaused,
                false => DataConsumerEvent::ProducerResumed,
            });
        }
        match &self.piped_to {
            Some(DataPipedTo::Router { router, producer }) if is_paused_anew || is_held_anew => {
                let producer = *producer;
                router.post(move |router| router.piped_data_source_changed(producer, changed));
            }
            Some(DataPipedTo::Process { far_end }) if is_paused_anew => {
                far_end.source_changed(changed.paused);
            }
            Some(_) | None => {}
        }
        if is_held_anew {
            self.tell_network();
        }
    }

    fn tell_network(&mut self) {
        let active = self.is_active();
        if let Some(on_network) = &mut self.on_network {
            on_network.set_active(active);
        }
    }

    fn status(&self) -> DataConsumerStatus {
        DataConsumerStatus {
            paused: self.own_paused,
            producer_paused: self.producer_paused.state(),
            producer_changes: self.producer_paused.version(),
            sub_channels: self.sub_channels.iter().copied().collect(),
            messages: self.counters.messages(),
            bytes: self.counters.bytes(),
            dropped: self.counters.dropped(),
            buffered_amount: self.counters.buffered(),
        }
    }
}
