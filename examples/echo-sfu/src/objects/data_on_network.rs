//! What data producers and consumers have on a network thread: there from when the object is made
//! until it is gone, as media has it.

use std::collections::BTreeSet;

use rtc_thread::ThreadBound;

use super::data_message::DataMessage;
use super::id::{DataConsumerId, DataProducerId};
use super::on_network::post;
use crate::media::NetworkIndex;
use crate::network::{DataOrigin, Network, WantedData};

/// A data producer's part, where its messages arrive.
#[derive(Debug)]
pub(super) struct DataProducerOnNetwork {
    network: ThreadBound<Network>,
    origin: DataOrigin,
    paused: bool,
}

impl DataProducerOnNetwork {
    pub(super) const fn new(network: ThreadBound<Network>, origin: DataOrigin) -> Self {
        Self {
            network,
            origin,
            paused: false,
        }
    }

    pub(super) const fn origin(&self) -> DataOrigin {
        self.origin
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            let producer = self.origin.producer;
            post(&self.network, move |network| {
                network.set_data_producer_paused(producer, paused);
            });
        }
    }

    /// Sends a message. What came along with it is dropped when the network thread has it.
    pub(super) fn send(&self, message: DataMessage, until_there: impl Send + 'static) {
        let producer = self.origin.producer;
        post(&self.network, move |network| {
            network.send_data(producer, message);
            drop(until_there);
        });
    }
}

impl Drop for DataProducerOnNetwork {
    fn drop(&mut self) {
        let producer = self.origin.producer;
        post(&self.network, move |network| {
            network.remove_data_producer(producer);
        });
    }
}

/// A data consumer's part, where its messages go out.
#[derive(Debug)]
pub(super) struct DataConsumerOnNetwork {
    network: ThreadBound<Network>,
    id: DataConsumerId,
    active: bool,
    from_elsewhere: Option<Destination>,
}

/// That messages go from one network thread to another, for one consumer.
#[derive(Debug)]
struct Destination {
    from: ThreadBound<Network>,
    producer: DataProducerId,
    to: NetworkIndex,
}

impl Destination {
    fn new(from: ThreadBound<Network>, producer: DataProducerId, to: NetworkIndex) -> Self {
        post(&from, move |network| {
            network.add_data_destination(producer, to);
        });
        Self { from, producer, to }
    }
}

impl Destination {
    /// Ends it, and the consumer after it: what is on its way from one thread to the other still
    /// reaches it.
    fn end(&self, consumer: DataConsumerId, network: &ThreadBound<Network>) {
        let (producer, to) = (self.producer, self.to);
        let there = network.clone();
        let ended = self.from.post(move |network| {
            network.remove_data_destination(producer, to);
            post(&there, move |network| {
                network.remove_data_consumer(consumer);
            });
        });
        if ended.is_err() {
            // That thread has quit, and nothing comes from it.
            post(network, move |network| {
                network.remove_data_consumer(consumer);
            });
        }
    }
}

impl DataConsumerOnNetwork {
    /// One that is there already, on the thread where its messages arrive.
    pub(super) const fn of_echo(network: ThreadBound<Network>, id: DataConsumerId) -> Self {
        Self {
            network,
            id,
            active: true,
            from_elsewhere: None,
        }
    }

    /// Orders one. Its thread knows it before the thread where the messages arrive is told of it; so
    /// none comes before it.
    pub(super) fn order(
        network: ThreadBound<Network>,
        place: NetworkIndex,
        wanted: WantedData,
        from: (NetworkIndex, ThreadBound<Network>),
    ) -> Self {
        let (id, active, producer) = (wanted.consumer, wanted.active, wanted.producer);
        post(&network, move |network| network.add_data_consumer(wanted));
        let (arrives, from) = from;
        let is_elsewhere = arrives != place;
        Self {
            network,
            id,
            active,
            from_elsewhere: is_elsewhere.then(|| Destination::new(from, producer, place)),
        }
    }

    pub(super) fn set_active(&mut self, active: bool) {
        if self.active != active {
            self.active = active;
            let id = self.id;
            post(&self.network, move |network| {
                network.set_data_consumer_active(id, active);
            });
        }
    }

    pub(super) fn set_sub_channels(&self, chosen: &BTreeSet<u16>) {
        let (id, chosen) = (self.id, chosen.iter().copied().collect());
        post(&self.network, move |network| {
            network.set_sub_channels(id, chosen);
        });
    }

    pub(super) fn set_low_threshold(&self, threshold: usize) {
        let id = self.id;
        post(&self.network, move |network| {
            network.set_buffered_amount_low_threshold(id, threshold);
        });
    }
}

impl Drop for DataConsumerOnNetwork {
    fn drop(&mut self) {
        let id = self.id;
        match &self.from_elsewhere {
            Some(destination) => destination.end(id, &self.network),
            None => post(&self.network, move |network| {
                network.remove_data_consumer(id);
            }),
        }
    }
}
