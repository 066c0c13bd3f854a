//! Messages of data channels on a network thread: from where they arrive to whoever consumes them,
//! here and elsewhere. As with media, all that goes to another thread goes there in one post.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::channels::{ChannelChange, DataEnd, OpenedChannel};
use super::pipe_talk::ToLink;
use super::{Network, State};
use crate::media::NetworkIndex;
use crate::objects::{
    CloseReason, DataConsumerId, DataCounters, DataMessage, DataParameters, DataProducerId,
    MailboxWriter, TransportId,
};
use crate::pipe_link::Message;

/// Where the messages of a data producer arrive. One that is piped is its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataOrigin {
    pub(crate) network: NetworkIndex,
    pub(crate) producer: DataProducerId,
}

/// A data consumer that a transport is to have.
#[derive(Debug)]
pub(crate) struct WantedData {
    pub(crate) consumer: DataConsumerId,
    pub(crate) transport: TransportId,
    /// The one whose messages arrive somewhere, if it is piped.
    pub(crate) producer: DataProducerId,
    pub(crate) parameters: Arc<DataParameters>,
    pub(crate) sub_channels: Vec<u16>,
    pub(crate) active: bool,
    pub(crate) counters: Arc<DataCounters>,
    pub(crate) out: DataOut,
}

/// Where messages go.
#[derive(Debug)]
pub(crate) enum DataOut {
    /// To a client, on a channel of its own.
    Channel,
    Application(MailboxWriter<DataMessage>),
    /// To another process, where it is called so.
    Link {
        name: u64,
    },
}

/// The data of one network thread.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// Data producers whose messages arrive here.
    sources: HashMap<DataProducerId, Source>,
    /// Those that have consumers here, wherever their messages arrive.
    fan_outs: HashMap<DataProducerId, Vec<DataConsumerId>>,
    sinks: HashMap<DataConsumerId, Sink>,
}

#[derive(Debug)]
struct Source {
    transport: TransportId,
    paused: bool,
    /// The other network threads on which it has consumers, and how many.
    destinations: BTreeMap<NetworkIndex, usize>,
    counters: Arc<DataCounters>,
}

#[derive(Debug)]
struct Sink {
    transport: TransportId,
    producer: DataProducerId,
    sub_channels: Vec<u16>,
    active: bool,
    is_reliable: bool,
    counters: Arc<DataCounters>,
    out: DataOut,
}

impl Network {
    /// Takes messages of the application's.
    pub(crate) fn add_data_source(
        &mut self,
        producer: DataProducerId,
        transport: TransportId,
        counters: Arc<DataCounters>,
    ) {
        let mut state = self.0.borrow_mut();
        if state.transports.contains_key(&transport) {
            state.add_data_source(producer, transport, counters);
        }
    }

    /// Lets the messages of a data producer through, or not.
    pub(crate) fn set_data_producer_paused(&mut self, producer: DataProducerId, paused: bool) {
        if let Some(source) = self.0.borrow_mut().data.sources.get_mut(&producer) {
            source.paused = paused;
        }
    }

    /// Takes nothing more of a data producer.
    pub(crate) fn remove_data_producer(&mut self, producer: DataProducerId) {
        self.act(|state, now| {
            if let Some(source) = state.data.sources.remove(&producer) {
                let end = DataEnd::Producer(producer);
                state.end_channel(source.transport, end, now);
                state.forget_data_from_link(source.transport, producer);
            }
        });
    }

    /// Sends a message of the application's.
    pub(crate) fn send_data(&mut self, producer: DataProducerId, message: DataMessage) {
        self.act(|state, now| state.forward_data(now, vec![(producer, message)]));
    }

    /// Sends messages to a consumer from now on.
    pub(crate) fn add_data_consumer(&mut self, wanted: WantedData) {
        self.act(|state, now| state.add_data_consumer(wanted, now));
    }

    /// Sends messages to a consumer, or not.
    pub(crate) fn set_data_consumer_active(&mut self, consumer: DataConsumerId, active: bool) {
        if let Some(sink) = self.0.borrow_mut().data.sinks.get_mut(&consumer) {
            sink.active = active;
        }
    }

    /// A consumer has chosen other sub-channels.
    pub(crate) fn set_sub_channels(&mut self, consumer: DataConsumerId, chosen: Vec<u16>) {
        if let Some(sink) = self.0.borrow_mut().data.sinks.get_mut(&consumer) {
            sink.sub_channels = chosen;
        }
    }

    /// Tells when no more than so much waits for a consumer's client.
    pub(crate) fn set_buffered_amount_low_threshold(
        &mut self,
        consumer: DataConsumerId,
        threshold: usize,
    ) {
        self.act(|state, now| {
            if let Some(sink) = state.data.sinks.get(&consumer) {
                let transport = sink.transport;
                state.with_webrtc(transport, now, |transport, _| {
                    transport.set_low_threshold(consumer, threshold);
                    None
                });
            }
        });
    }

    /// Sends nothing more to a consumer.
    pub(crate) fn remove_data_consumer(&mut self, consumer: DataConsumerId) {
        self.act(|state, now| state.remove_data_consumer(consumer, false, now));
    }

    /// Sends messages that arrived on another network thread to the consumers here.
    fn deliver_data(&mut self, messages: &[(DataProducerId, DataMessage)]) {
        self.act(|state, now| state.deliver_data(now, messages));
    }

    /// A consumer on another network thread is to be sent what arrives here. Ordered by whoever made
    /// the consumer, and after that: so whatever is sent once it is made reaches it.
    pub(crate) fn add_data_destination(&mut self, producer: DataProducerId, to: NetworkIndex) {
        if let Some(source) = self.0.borrow_mut().data.sources.get_mut(&producer) {
            *source.destinations.entry(to).or_default() += 1;
        }
    }

    /// A consumer on another network thread is there no longer.
    pub(crate) fn remove_data_destination(&mut self, producer: DataProducerId, to: NetworkIndex) {
        if let Some(source) = self.0.borrow_mut().data.sources.get_mut(&producer)
            && let Some(consumers) = source.destinations.get_mut(&to)
        {
            *consumers -= 1;
            if *consumers == 0 {
                source.destinations.remove(&to);
            }
        }
    }
}

impl Source {
    const fn new(transport: TransportId, counters: Arc<DataCounters>) -> Self {
        Self {
            transport,
            paused: false,
            destinations: BTreeMap::new(),
            counters,
        }
    }
}

impl State {
    /// Takes messages of a data producer, which arrive on that transport.
    pub(super) fn add_data_source(
        &mut self,
        producer: DataProducerId,
        transport: TransportId,
        counters: Arc<DataCounters>,
    ) {
        let source = Source::new(transport, counters);
        self.data.sources.insert(producer, source);
    }

    fn add_data_consumer(&mut self, wanted: WantedData, now: Instant) {
        let (id, transport) = (wanted.consumer, wanted.transport);
        if !self.transports.contains_key(&transport) {
            return;
        }
        let is_reliable = wanted.parameters.is_reliable();
        if matches!(wanted.out, DataOut::Channel) {
            let (parameters, counters) = (wanted.parameters, wanted.counters.clone());
            self.with_webrtc(transport, now, |transport, outbox| {
                transport.open_channel(now, id, &parameters, counters, outbox)
            });
        }
        let sink = Sink {
            transport,
            producer: wanted.producer,
            sub_channels: wanted.sub_channels,
            active: wanted.active,
            is_reliable,
            counters: wanted.counters,
            out: wanted.out,
        };
        self.add_sink(id, sink);
    }

    fn add_sink(&mut self, id: DataConsumerId, sink: Sink) {
        let fan_out = self.data.fan_outs.entry(sink.producer).or_default();
        fan_out.push(id);
        self.data.sinks.insert(id, sink);
    }

    /// By a link, this is the last that is said of it: it comes after all of its messages.
    fn remove_data_consumer(&mut self, id: DataConsumerId, undeliverable: bool, now: Instant) {
        let Some(sink) = self.data.sinks.remove(&id) else {
            return;
        };
        let producer = sink.producer;
        if let Some(fan_out) = self.data.fan_outs.get_mut(&producer) {
            fan_out.retain(|own| *own != id);
            if fan_out.is_empty() {
                self.data.fan_outs.remove(&producer);
            }
        }
        match sink.out {
            DataOut::Channel => self.end_channel(sink.transport, DataEnd::Consumer(id), now),
            DataOut::Link { name } => {
                let closed = Message::Closed {
                    name,
                    undeliverable,
                };
                self.say_on_pipe(sink.transport, &closed);
            }
            DataOut::Application(_) => {}
        }
    }

    fn end_channel(&mut self, transport: TransportId, end: DataEnd, now: Instant) {
        self.with_webrtc(transport, now, |transport, outbox| {
            transport.end_channel(now, end, outbox)
        });
    }

    /// Sends what has arrived here to whoever consumes it, here and elsewhere.
    pub(super) fn forward_data(
        &mut self,
        now: Instant,
        mut messages: Vec<(DataProducerId, DataMessage)>,
    ) {
        let mut elsewhere: BTreeMap<NetworkIndex, Vec<(DataProducerId, DataMessage)>> =
            BTreeMap::new();
        messages.retain(|(producer, message)| {
            let Some(source) = self.data.sources.get(producer) else {
                return false;
            };
            source.counters.count(message);
            if source.paused {
                return false;
            }
            for destination in source.destinations.keys() {
                let batch = elsewhere.entry(*destination).or_default();
                batch.push((*producer, message.clone()));
            }
            true
        });
        for (destination, batch) in elsewhere {
            if let Some(peer) = self.peers.get(destination.0) {
                // Refused only while everything is shutting down.
                let _ = peer.post(move |network| network.deliver_data(&batch));
            }
        }
        self.deliver_data(now, &messages);
    }

    fn deliver_data(&mut self, now: Instant, messages: &[(DataProducerId, DataMessage)]) {
        let mut producers: Vec<DataProducerId> = messages.iter().map(|(of, _)| *of).collect();
        producers.sort_unstable();
        producers.dedup();
        for producer in producers {
            let of_producer = messages.iter().filter(|(of, _)| *of == producer);
            let of_producer = of_producer.map(|(_, message)| message);
            for consumer in self
                .data
                .fan_outs
                .get(&producer)
                .cloned()
                .unwrap_or_default()
            {
                self.deliver_data_to(now, consumer, of_producer.clone());
            }
        }
    }

    fn deliver_data_to<'a>(
        &mut self,
        now: Instant,
        id: DataConsumerId,
        messages: impl Iterator<Item = &'a DataMessage>,
    ) {
        let Some(sink) = self.data.sinks.get(&id).filter(|sink| sink.active) else {
            return;
        };
        // Who has chosen which sub-channels, the other process knows.
        let to_all = matches!(sink.out, DataOut::Link { .. });
        let messages = messages.filter(|message| to_all || message.is_for(&sink.sub_channels));
        match &sink.out {
            DataOut::Application(mailbox) => {
                for message in messages {
                    match mailbox.put(message.clone(), message.payload().len()) {
                        true => sink.counters.count(message),
                        false => sink.counters.count_dropped(),
                    }
                }
            }
            DataOut::Link { name } => {
                let messages: Vec<_> = messages.cloned().collect();
                let counters = sink.counters.clone();
                let to = ToLink {
                    link: sink.transport,
                    consumer: id,
                    name: *name,
                    is_reliable: sink.is_reliable,
                    counters: &counters,
                };
                let link = to.link;
                if !self.say_data(&to, &messages)
                    && let Some(sink) = self.data.sinks.get_mut(&id)
                {
                    // Nothing may follow what is missing.
                    sink.active = false;
                    let change = ChannelChange::Undeliverable(id);
                    self.outbox.data.changes.push((link, change));
                }
            }
            DataOut::Channel => {
                let messages: Vec<_> = messages.collect();
                if messages.is_empty() {
                    return;
                }
                let transport = sink.transport;
                self.with_webrtc(transport, now, |transport, outbox| {
                    transport.send_data(now, id, &messages, outbox)
                });
            }
        }
    }

    /// Sends what has arrived by channels. Those that were opened meanwhile are known before, since
    /// they may have brought something; those that were closed go after.
    pub(super) fn heed_data(&mut self, now: Instant) {
        let messages = std::mem::take(&mut self.outbox.data.messages);
        let mut later = Vec::new();
        for (id, change) in std::mem::take(&mut self.outbox.data.changes) {
            match change {
                ChannelChange::Opened(opened) => self.channel_opened(id, opened),
                change => later.push((id, change)),
            }
        }
        self.forward_data(now, messages);
        self.heed_changes(now, later);
    }

    fn heed_changes(&mut self, now: Instant, changes: Vec<(TransportId, ChannelChange)>) {
        for (id, change) in changes {
            match change {
                ChannelChange::Opened(opened) => self.channel_opened(id, opened),
                ChannelChange::Closed(end) => {
                    match end {
                        DataEnd::Producer(producer) => drop(self.data.sources.remove(&producer)),
                        DataEnd::Consumer(consumer) => {
                            self.remove_data_consumer(consumer, false, now);
                        }
                    }
                    self.tell_end(id, end, CloseReason::ChannelClosed);
                }
                ChannelChange::Undeliverable(consumer) => {
                    if self.data.sinks.contains_key(&consumer) {
                        self.remove_data_consumer(consumer, true, now);
                        let end = DataEnd::Consumer(consumer);
                        self.tell_end(id, end, CloseReason::Undeliverable);
                    }
                }
                ChannelChange::BufferedAmountLow(consumer, bytes) => {
                    if let Some(transport) = self.transports.get(&id) {
                        let owner = &transport.owner;
                        owner.post(move |router| router.buffered_amount_low(consumer, bytes));
                    }
                }
            }
        }
    }

    fn channel_opened(&mut self, id: TransportId, opened: OpenedChannel) {
        let Some(owner) = self.transports.get(&id).map(|own| own.owner.clone()) else {
            return;
        };
        let source = Source::new(id, opened.counters.clone());
        self.data.sources.insert(opened.producer, source);
        if let Some((consumer, counters)) = &opened.echo {
            let sink = Sink {
                transport: id,
                producer: opened.producer,
                sub_channels: Vec::new(),
                active: true,
                is_reliable: opened.parameters.is_reliable(),
                counters: counters.clone(),
                out: DataOut::Channel,
            };
            self.add_sink(*consumer, sink);
        }
        owner.post(move |router| router.data_channel_opened(id, opened));
    }

    fn tell_end(&self, transport: TransportId, end: DataEnd, reason: CloseReason) {
        if let Some(transport) = self.transports.get(&transport) {
            let owner = &transport.owner;
            owner.post(move |router| router.data_channel_ended(end, reason));
        }
    }

    /// Forgets the data of a transport that has ended.
    pub(super) fn end_data(&mut self, transport: TransportId, now: Instant) {
        let Data { sources, sinks, .. } = &mut self.data;
        sources.retain(|_, source| source.transport != transport);
        let sinks = sinks.iter().filter(|(_, sink)| sink.transport == transport);
        for sink in sinks.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remove_data_consumer(sink, false, now);
        }
    }
}
