//! What is said and heard on links to other processes, and what waits to be said.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Weak;
use std::sync::Arc;
use std::time::Instant;

use super::pipes::Link;
use super::{Network, State};
use crate::objects::{
    DataConsumerId, DataCounters, DataMessage, DataProducerId, PipedDataProducer, TransportId,
};
use crate::pipe_link::{FarEndReason, Heard, Message};
use crate::reserved::Reserved;

/// What may wait to be said, but for messages of data channels. Who does not listen for so long is
/// gone.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// What may wait of the messages of one data consumer, as on a client's channel; and of all of them.
const MAX_DATA_OF_ONE: usize = 1 << 20;
const MAX_DATA: usize = 4 << 20;
/// Behind more than this, a message would be late that is not to be waited for.
const MAX_BEFORE_UNRELIABLE: usize = 256 << 10;
/// Bytes of messages of the other end's that its router has not got to. Many hundred tracks at once
/// have fewer.
const MAX_UNHEARD: usize = 8 << 20;
/// What a message takes besides what was said, be it ever so short.
const UNHEARD_MESSAGE: usize = 256;
/// How many data producers one link may bring.
const MAX_DATA_PRODUCERS: usize = 512;
/// Sent bytes that are kept, lest what waits be moved at each turn.
const COMPACTED_FROM: usize = 64 << 10;

/// What waits for the other end of a link. How much of it is whose data follows from how far it is sent.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Of what waits in the protocol's buffer, what has been sent already.
    flushed: usize,
    /// Counted from the beginning of the link: to where it was written, and to where it was sent.
    written: u64,
    sent: u64,
    data: VecDeque<WaitingData>,
    data_bytes: usize,
    by_consumer: HashMap<DataConsumerId, OfConsumer>,
}

#[derive(Debug)]
struct WaitingData {
    /// Where it ends, counted from the beginning of the link.
    end: u64,
    bytes: usize,
    consumer: DataConsumerId,
}

#[derive(Debug)]
struct OfConsumer {
    bytes: usize,
    counters: Arc<DataCounters>,
}

impl Backlog {
    /// Whether there is room for so many bytes of a data consumer's.
    fn has_room(&self, consumer: DataConsumerId, bytes: usize, is_reliable: bool) -> bool {
        let of_one = self.by_consumer.get(&consumer).map_or(0, |own| own.bytes);
        let has_room = of_one + bytes <= MAX_DATA_OF_ONE && self.data_bytes + bytes <= MAX_DATA;
        has_room && (is_reliable || self.waiting() <= MAX_BEFORE_UNRELIABLE)
    }

    const fn waiting(&self) -> usize {
        (self.written - self.sent) as usize
    }

    /// Something has been written that belongs to nobody.
    pub(super) const fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    fn wrote_data(&mut self, consumer: DataConsumerId, bytes: usize, counters: &Arc<DataCounters>) {
        self.wrote(bytes);
        self.data_bytes += bytes;
        self.data.push_back(WaitingData {
            end: self.written,
            bytes,
            consumer,
        });
        let own = self.by_consumer.entry(consumer);
        let own = own.or_insert_with(|| OfConsumer {
            bytes: 0,
            counters: counters.clone(),
        });
        own.bytes += bytes;
        own.counters.set_buffered(own.bytes);
    }

    fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        while let Some(first) = self.data.front().filter(|first| first.end <= self.sent) {
            let (bytes, consumer) = (first.bytes, first.consumer);
            self.data.pop_front();
            self.data_bytes -= bytes;
            if let Some(own) = self.by_consumer.get_mut(&consumer) {
                own.bytes -= bytes;
                own.counters.set_buffered(own.bytes);
                if own.bytes == 0 {
                    self.by_consumer.remove(&consumer);
                }
            }
        }
    }
}

/// A data consumer that feeds a data producer of another process.
pub(super) struct ToLink<'a> {
    pub(super) link: TransportId,
    pub(super) consumer: DataConsumerId,
    /// What it is called on the link.
    pub(super) name: u64,
    pub(super) is_reliable: bool,
    pub(super) counters: &'a Arc<DataCounters>,
}

impl Network {
    /// Says something to another process, after all that was said before.
    pub(crate) fn say_on_pipe(&mut self, id: TransportId, message: &Message) {
        self.act(|state, _| state.say_on_pipe(id, message));
    }
}

impl State {
    pub(super) fn say_on_pipe(&mut self, id: TransportId, message: &Message) {
        let Some(link) = self.pipes.link(id) else {
            return;
        };
        let before = link.protocol.outgoing.len();
        match link.protocol.say(message) {
            Ok(()) => {
                link.backlog.wrote(link.protocol.outgoing.len() - before);
                self.flush_link(id);
            }
            Err(error) => self.break_link(id, &error.to_string()),
        }
    }

    /// Sends messages of a data channel to another process. False if one of them was promised, and there
    /// is no room for it: those after it are not sent.
    pub(super) fn say_data(&mut self, to: &ToLink<'_>, messages: &[DataMessage]) -> bool {
        let Some(link) = self.pipes.link(to.link) else {
            return true;
        };
        let mut is_complete = true;
        for message in messages {
            let before = link.protocol.outgoing.len();
            // What else is written with it is no more than what a short text has.
            let room = message.payload().len();
            let is_said = link.backlog.has_room(to.consumer, room, to.is_reliable)
                && link.protocol.say_data(to.name, message).is_ok();
            if is_said {
                let bytes = link.protocol.outgoing.len() - before;
                link.backlog.wrote_data(to.consumer, bytes, to.counters);
                to.counters.count(message);
            } else {
                to.counters.count_dropped();
                if to.is_reliable {
                    is_complete = false;
                    break;
                }
            }
        }
        self.flush_link(to.link);
        is_complete
    }

    pub(super) fn flush_link(&mut self, id: TransportId) {
        let Some(link) = self.pipes.link(id) else {
            return;
        };
        let (waiting, backlog) = (&mut link.protocol.outgoing, &mut link.backlog);
        // Whatever else may be wrong, the handler hears of.
        while let Some(rest) = waiting
            .get(backlog.flushed..)
            .filter(|rest| !rest.is_empty())
            && let Ok(count) = link.socket.send(rest)
        {
            backlog.flushed += count;
            backlog.sent(count);
        }
        if backlog.flushed == waiting.len() || backlog.flushed >= COMPACTED_FROM {
            waiting.drain(..backlog.flushed);
            backlog.flushed = 0;
        }
        if backlog.waiting() > MAX_WAITING_BYTES + backlog.data_bytes {
            self.break_link(id, "the other end does not listen");
        }
    }

    pub(super) fn link_heard(
        &mut self,
        own: &Weak<RefCell<Self>>,
        id: TransportId,
        bytes: &[u8],
        now: Instant,
    ) {
        let Some(link) = self.pipes.link(id) else {
            return;
        };
        let mut heard = Vec::new();
        let outcome = link.protocol.hear(bytes, &mut heard);
        for heard in heard {
            let taken = match heard {
                Heard::Keys { ours, theirs } => self.keys_known(own, id, (ours, theirs), now),
                Heard::Ready { udp_port } => self.link_ready(own, id, udp_port, now),
                Heard::Message { message, bytes } => {
                    // What was said before it goes before what comes of it.
                    if !self.outbox.data.messages.is_empty() {
                        self.heed_data(now);
                    }
                    self.take_message(id, message, bytes)
                }
                Heard::Data { name, message } => {
                    self.take_data(id, name, message);
                    Ok(())
                }
            };
            if let Err(reason) = taken {
                return self.break_link(id, &reason);
            }
        }
        if let Err(error) = outcome {
            self.break_link(id, &error.to_string());
        }
    }

    fn take_message(
        &mut self,
        id: TransportId,
        message: Message,
        bytes: usize,
    ) -> Result<(), String> {
        let Some(link) = self.pipes.link(id) else {
            return Ok(());
        };
        let owner = link.owner.clone();
        let noted = Reserved::new(&link.unheard, bytes + UNHEARD_MESSAGE, MAX_UNHEARD);
        let noted = noted.ok_or("it says more than can be heard")?;
        if let Message::CreateData {
            name,
            parameters,
            label,
            state,
        } = message
        {
            // Its messages may come next, and so it is known here first.
            let Some((producer, counters)) = self.add_data_from_link(id, name) else {
                return Ok(());
            };
            let created = PipedDataProducer {
                name,
                producer,
                parameters: *parameters,
                label,
                state,
                counters,
            };
            owner.post(move |router| {
                drop(noted);
                router.data_from_process(id, created);
            });
        } else {
            owner.post(move |router| {
                drop(noted);
                router.pipe_says(id, message);
            });
        }
        Ok(())
    }

    fn add_data_from_link(
        &mut self,
        id: TransportId,
        name: u64,
    ) -> Option<(DataProducerId, Arc<DataCounters>)> {
        let link = self.pipes.link(id)?;
        if link.data.contains_key(&name) {
            // Two of one name cannot be told apart; the first stays.
            return None;
        }
        if link.data.len() >= MAX_DATA_PRODUCERS {
            let reason = FarEndReason::Full;
            self.say_on_pipe(id, &Message::FarEndClosed { name, reason });
            return None;
        }
        let (producer, counters) = (DataProducerId::next(), Arc::<DataCounters>::default());
        link.data.insert(name, producer);
        self.add_data_source(producer, id, counters.clone());
        Some((producer, counters))
    }

    fn take_data(&mut self, id: TransportId, name: u64, message: DataMessage) {
        let link = self.pipes.link(id);
        // It may have been closed here, of which the other end has not heard yet.
        if let Some(producer) = link.and_then(|link| link.data.get(&name).copied()) {
            self.outbox.data.messages.push((producer, message));
        }
    }

    /// A data producer is gone; if it came by a link, it is known there no longer.
    pub(super) fn forget_data_from_link(&mut self, id: TransportId, producer: DataProducerId) {
        if let Some(link) = self.pipes.link(id) {
            link.data.retain(|_, own| *own != producer);
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
