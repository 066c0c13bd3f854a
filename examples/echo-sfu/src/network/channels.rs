//! The data channels of one client.
//!
//! str0m keeps what waits to be sent for all channels of a client together, and so little that one
//! slow channel would stop the others' messages of 256 KiB; so each has a queue of its own here, of
//! which str0m is given as much as it takes.

use std::collections::VecDeque;
use std::sync::Arc;

use str0m::Rtc;
use str0m::channel::{ChannelConfig, ChannelData, ChannelId, Reliability};

use super::Flow;
use crate::objects::{
    DataConsumerId, DataCounters, DataKind, DataMessage, DataParameters, DataProducerId,
    DataReliability, MAX_MESSAGE_BYTES, TransportId,
};

/// How many data channels a client may have open that it has opened, and how many that we have.
pub(crate) const MAX_CHANNELS: usize = 128;
/// How many a client may open in its life, lest those who only open and close fill what remembers.
const MAX_CHANNELS_EVER: usize = 10_000;
/// What waits for a client on one channel, at most, before str0m has it.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// What a message counts at least: an empty one takes room, too.
const MESSAGE_OVERHEAD: usize = 64;
/// What str0m keeps for a client: room for the largest message, and the one before it.
pub(super) const STR0M_BUFFER_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// What is left to be done about data by the client's thread.
#[derive(Debug, Default)]
pub(super) struct DataOutbox {
    pub(super) messages: Vec<(DataProducerId, DataMessage)>,
    pub(super) changes: Vec<(TransportId, ChannelChange)>,
}

impl DataOutbox {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.changes.is_empty()
    }
}

/// What has become of a channel.
#[derive(Debug)]
pub(super) enum ChannelChange {
    /// A client that sends has opened it.
    Opened(OpenedChannel),
    /// The client has closed it.
    Closed(DataEnd),
    /// Too much waits on it, and it promises all.
    Undeliverable(DataConsumerId),
    BufferedAmountLow(DataConsumerId, usize),
}

/// A channel that a client has opened.
#[derive(Debug)]
pub(crate) struct OpenedChannel {
    pub(crate) producer: DataProducerId,
    pub(crate) parameters: Arc<DataParameters>,
    pub(crate) counters: Arc<DataCounters>,
    /// Where what it sends is sent back, if it is.
    pub(crate) echo: Option<(DataConsumerId, Arc<DataCounters>)>,
}

/// One end of the way of messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DataEnd {
    Producer(DataProducerId),
    Consumer(DataConsumerId),
}

/// The data channels of a client.
#[derive(Debug)]
pub(super) struct Channels {
    transport: TransportId,
    flow: Flow,
    channels: Vec<Channel>,
    opened_ever: usize,
}

#[derive(Debug)]
struct Channel {
    id: ChannelId,
    is_open: bool,
    is_clients: bool,
    /// It has no more use, and is closed as soon as it can be.
    is_closing: bool,
    incoming: Option<DataProducerId>,
    outgoing: Option<Outgoing>,
}

/// What goes out on a channel.
#[derive(Debug)]
struct Outgoing {
    consumer: DataConsumerId,
    is_reliable: bool,
    queue: VecDeque<DataMessage>,
    queued_bytes: usize,
    /// Whether str0m had something that it had not sent when it was looked at last.
    is_str0m_busy: bool,
    low_threshold: Option<usize>,
    is_above_threshold: bool,
    counters: Arc<DataCounters>,
}

impl Channels {
    pub(super) const fn new(transport: TransportId) -> Self {
        Self {
            transport,
            flow: Flow::Consume,
            channels: Vec::new(),
            opened_ever: 0,
        }
    }

    /// What becomes of channels that the client opens.
    pub(super) const fn set_flow(&mut self, flow: Flow) {
        self.flow = flow;
    }

    /// A channel is open: one of ours, or one that the client has opened.
    pub(super) fn opened(&mut self, rtc: &mut Rtc, id: ChannelId, outbox: &mut DataOutbox) {
        if let Some(own) = self.channels.iter_mut().find(|own| own.id == id) {
            own.is_open = true;
            if own.is_closing {
                rtc.direct_api().close_data_channel(id);
            }
            return;
        }
        let mut channel = Channel {
            id,
            is_open: true,
            is_clients: true,
            is_closing: false,
            incoming: None,
            outgoing: None,
        };
        let config = rtc.channel(id).and_then(|own| own.config().cloned());
        let parameters = config.map(parameters).unwrap_or_default();
        let here = self.channels.iter().filter(|own| own.is_clients).count();
        self.opened_ever += 1;
        let is_refused = here >= MAX_CHANNELS
            || self.opened_ever > MAX_CHANNELS_EVER
            || parameters.check().is_err();
        if is_refused {
            tracing::debug!(transport = ?self.transport, "a data channel is refused");
            channel.is_closing = true;
            rtc.direct_api().close_data_channel(id);
        } else if self.flow != Flow::Consume {
            let producer = DataProducerId::next();
            let is_reliable = parameters.is_reliable();
            channel.incoming = Some(producer);
            let echo = (self.flow == Flow::Echo).then(|| {
                let (consumer, counters) = (DataConsumerId::next(), Arc::<DataCounters>::default());
                let outgoing = Outgoing::new(consumer, is_reliable, counters.clone());
                channel.outgoing = Some(outgoing);
                (consumer, counters)
            });
            let opened = OpenedChannel {
                producer,
                parameters: Arc::new(parameters),
                counters: Arc::default(),
                echo,
            };
            let change = ChannelChange::Opened(opened);
            outbox.changes.push((self.transport, change));
        }
        self.channels.push(channel);
    }

    /// A channel is closed, by either end.
    pub(super) fn closed(&mut self, id: ChannelId, outbox: &mut DataOutbox) {
        let Some(at) = self.channels.iter().position(|own| own.id == id) else {
            return;
        };
        let channel = self.channels.swap_remove(at);
        let consumer = channel.outgoing.map(|own| DataEnd::Consumer(own.consumer));
        let producer = channel.incoming.map(DataEnd::Producer);
        for end in consumer.into_iter().chain(producer) {
            let change = ChannelChange::Closed(end);
            outbox.changes.push((self.transport, change));
        }
    }

    /// The client has sent a message.
    pub(super) fn received(&self, data: ChannelData, outbox: &mut DataOutbox) {
        let channel = self.channels.iter().find(|own| own.id == data.id);
        let Some(producer) = channel.and_then(|own| own.incoming) else {
            return;
        };
        if data.data.len() > MAX_MESSAGE_BYTES {
            return;
        }
        let kind = match data.binary {
            true => DataKind::Binary,
            false => DataKind::Text,
        };
        let message = DataMessage::new(kind, data.data.into());
        outbox.messages.push((producer, message));
    }

    /// Opens a channel on which the client is sent something.
    pub(super) fn open(
        &mut self,
        rtc: &mut Rtc,
        consumer: DataConsumerId,
        parameters: &DataParameters,
        counters: Arc<DataCounters>,
    ) {
        let id = rtc.direct_api().create_data_channel(config(parameters));
        let outgoing = Outgoing::new(consumer, parameters.is_reliable(), counters);
        self.channels.push(Channel {
            id,
            is_open: false,
            is_clients: false,
            is_closing: false,
            incoming: None,
            outgoing: Some(outgoing),
        });
    }

    /// Takes nothing more from a channel, or sends nothing more on it; and closes it if that was its
    /// last use.
    pub(super) fn end(&mut self, rtc: &mut Rtc, end: DataEnd) {
        let found = self.channels.iter_mut().find(|own| own.has(end));
        let Some(channel) = found else {
            return;
        };
        match end {
            DataEnd::Producer(_) => channel.incoming = None,
            DataEnd::Consumer(_) => channel.outgoing = None,
        }
        if channel.incoming.is_none() && channel.outgoing.is_none() {
            // One that is not open yet cannot be closed, and is when it is.
            channel.is_closing = true;
            rtc.direct_api().close_data_channel(channel.id);
        }
    }

    pub(super) fn set_low_threshold(&mut self, consumer: DataConsumerId, threshold: usize) {
        if let Some(own) = self.outgoing(consumer) {
            own.low_threshold = Some(threshold);
            own.is_above_threshold = own.counters.buffered() > threshold;
        }
    }

    fn outgoing(&mut self, consumer: DataConsumerId) -> Option<&mut Outgoing> {
        let all = self.channels.iter_mut();
        let mut all = all.filter_map(|own| own.outgoing.as_mut());
        all.find(|own| own.consumer == consumer)
    }

    /// Has a message sent as soon as it can be.
    pub(super) fn enqueue(
        &mut self,
        consumer: DataConsumerId,
        message: &DataMessage,
        outbox: &mut DataOutbox,
    ) {
        let transport = self.transport;
        let Some(own) = self.outgoing(consumer) else {
            return;
        };
        if message.payload().is_empty() {
            // Of an empty message, str0m 0.25 sends nothing but counts it; so the client would wait for
            // it, and hear nothing more. What cannot be sent is better lost alone.
            own.counters.count_dropped();
            return;
        }
        let bytes = message.payload().len() + MESSAGE_OVERHEAD;
        if own.queued_bytes + bytes <= MAX_QUEUED_BYTES {
            own.queued_bytes += bytes;
            own.queue.push_back(message.clone());
        } else {
            own.give_up(transport, outbox);
        }
    }

    /// Gives str0m what it takes. True if it has taken something.
    pub(super) fn pump(&mut self, rtc: &mut Rtc, outbox: &mut DataOutbox) -> bool {
        let mut has_written = false;
        for channel in &mut self.channels {
            let Some(own) = &mut channel.outgoing else {
                continue;
            };
            if !channel.is_open || channel.is_closing || own.is_idle() {
                continue;
            }
            let Some(mut way) = rtc.channel(channel.id) else {
                continue;
            };
            while let Some(message) = own.queue.front() {
                let is_binary = message.kind() == DataKind::Binary;
                match way.write(is_binary, message.payload()) {
                    Ok(true) => {
                        own.counters.count(message);
                        has_written = true;
                    }
                    Ok(false) => break,
                    // It is larger than the client takes, or the client is going.
                    Err(error) => {
                        tracing::debug!(transport = ?self.transport, %error, "message not sent");
                        own.give_up(self.transport, outbox);
                    }
                }
                if let Some(done) = own.queue.pop_front() {
                    own.queued_bytes -= done.payload().len() + MESSAGE_OVERHEAD;
                }
            }
            let in_str0m = way.buffered_amount();
            own.is_str0m_busy = in_str0m > 0;
            let buffered = own.note_buffered(in_str0m);
            if let Some(threshold) = own.low_threshold {
                let was_above =
                    std::mem::replace(&mut own.is_above_threshold, buffered > threshold);
                if was_above && !own.is_above_threshold {
                    let change = ChannelChange::BufferedAmountLow(own.consumer, buffered);
                    outbox.changes.push((self.transport, change));
                }
            }
        }
        has_written
    }
}

impl Channel {
    fn has(&self, end: DataEnd) -> bool {
        match end {
            DataEnd::Producer(id) => self.incoming == Some(id),
            DataEnd::Consumer(id) => self.outgoing.as_ref().is_some_and(|own| own.consumer == id),
        }
    }
}

impl Outgoing {
    const fn new(consumer: DataConsumerId, is_reliable: bool, counters: Arc<DataCounters>) -> Self {
        Self {
            consumer,
            is_reliable,
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_str0m_busy: false,
            low_threshold: None,
            is_above_threshold: false,
            counters,
        }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_str0m_busy && !self.is_above_threshold
    }

    fn note_buffered(&self, in_str0m: usize) -> usize {
        let waiting = self.queued_bytes - self.queue.len() * MESSAGE_OVERHEAD;
        let buffered = waiting + in_str0m;
        self.counters.set_buffered(buffered);
        buffered
    }

    /// A message is lost. What promises all messages is nothing without this one.
    fn give_up(&mut self, transport: TransportId, outbox: &mut DataOutbox) {
        self.counters.count_dropped();
        if self.is_reliable {
            let change = ChannelChange::Undeliverable(self.consumer);
            outbox.changes.push((transport, change));
        }
    }
}

fn parameters(config: ChannelConfig) -> DataParameters {
    DataParameters {
        label: config.label,
        protocol: config.protocol,
        ordered: config.ordered,
        reliability: match config.reliability {
            Reliability::Reliable => DataReliability::Reliable,
            Reliability::MaxRetransmits { retransmits } => {
                DataReliability::MaxRetransmits(retransmits)
            }
            Reliability::MaxPacketLifetime { lifetime } => DataReliability::MaxLifetime(lifetime),
        },
    }
}

fn config(parameters: &DataParameters) -> ChannelConfig {
    ChannelConfig {
        label: parameters.label.clone(),
        protocol: parameters.protocol.clone(),
        ordered: parameters.ordered,
        reliability: match parameters.reliability {
            DataReliability::Reliable => Reliability::Reliable,
            DataReliability::MaxRetransmits(retransmits) => {
                Reliability::MaxRetransmits { retransmits }
            }
            DataReliability::MaxLifetime(lifetime) => Reliability::MaxPacketLifetime { lifetime },
        },
        negotiated: None,
    }
}
