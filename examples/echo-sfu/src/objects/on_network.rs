//! What an object has on a network thread. It is there from when the object is made until the object
//! is gone, however it goes; and what happens to it goes there in order.

use std::num::NonZeroU8;

use rtc_thread::ThreadBound;

use super::id::{ConsumerId, TransportId};
use super::producer::ProducerMedia;
use super::trace::{ConsumerTracing, ProducerTracing};
use crate::network::{Accepted, Network, Origin, Place};
use crate::rtp::codec::CodecKind;

/// A transport's part.
#[derive(Debug)]
pub(super) struct TransportOnNetwork {
    pub(super) id: TransportId,
    pub(super) place: Place,
}

impl TransportOnNetwork {
    /// Has it do something there.
    pub(super) fn post(&self, act: impl FnOnce(&mut Network) + Send + 'static) {
        post(&self.place.network, act);
    }
}

impl Drop for TransportOnNetwork {
    fn drop(&mut self) {
        let id = self.id;
        self.post(move |network| network.close_transport(id));
    }
}

/// A producer's part, where its media arrives.
#[derive(Debug)]
pub(super) struct ProducerOnNetwork {
    network: ThreadBound<Network>,
    origin: Origin,
    paused: bool,
}

impl ProducerOnNetwork {
    pub(super) const fn new(network: ThreadBound<Network>, origin: Origin) -> Self {
        Self {
            network,
            origin,
            paused: false,
        }
    }

    pub(super) const fn origin(&self) -> Origin {
        self.origin
    }

    /// `codecs` are its payload types.
    pub(super) fn trace(&self, tracing: ProducerTracing, codecs: Vec<(u8, CodecKind)>) {
        let producer = self.origin.producer;
        post(&self.network, move |network| {
            network.trace_producer(producer, tracing, codecs);
        });
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            let producer = self.origin.producer;
            post(&self.network, move |network| {
                network.set_producer_paused(producer, paused);
            });
        }
    }
}

impl Drop for ProducerOnNetwork {
    fn drop(&mut self) {
        let producer = self.origin.producer;
        post(&self.network, move |network| {
            network.remove_producer(producer);
        });
    }
}

/// A consumer's part, where its media goes out.
#[derive(Debug)]
pub(super) struct ConsumerOnNetwork {
    network: ThreadBound<Network>,
    id: ConsumerId,
    active: bool,
    /// What its client takes, once that is agreed on.
    pub(super) accepted: Option<Accepted>,
}

impl ConsumerOnNetwork {
    pub(super) const fn new(network: ThreadBound<Network>, id: ConsumerId, active: bool) -> Self {
        Self {
            network,
            id,
            active,
            accepted: None,
        }
    }

    /// Sends it another producer. False if its client takes none of that one's codecs.
    pub(super) fn switch_to(&mut self, producer: &ProducerMedia, active: bool) -> bool {
        let accepted = self.accepted.as_deref().unwrap_or_default();
        let codecs = producer.media.map_to(accepted);
        if codecs.is_empty() {
            return false;
        }
        self.active = active;
        let (id, origin, layers) = (self.id, producer.origin, producer.media.layers);
        post(&self.network, move |network| {
            network.switch_consumer(id, origin, (codecs, layers), active);
        });
        true
    }

    pub(super) fn set_active(&mut self, active: bool) {
        if self.active != active {
            self.active = active;
            let id = self.id;
            post(&self.network, move |network| {
                network.set_consumer_active(id, active);
            });
        }
    }

    pub(super) fn set_preferred_layer(&self, layer: Option<u8>) {
        let id = self.id;
        post(&self.network, move |network| {
            network.set_preferred_layer(id, layer);
        });
    }

    pub(super) fn trace(&self, tracing: ConsumerTracing) {
        let id = self.id;
        post(&self.network, move |network| {
            network.trace_consumer(id, tracing);
        });
    }

    pub(super) fn set_priority(&self, priority: NonZeroU8) {
        let id = self.id;
        post(&self.network, move |network| {
            network.set_priority(id, priority);
        });
    }

    pub(super) fn request_key_frame(&self) {
        let id = self.id;
        post(&self.network, move |network| {
            network.request_consumer_key_frame(id);
        });
    }
}

impl Drop for ConsumerOnNetwork {
    fn drop(&mut self) {
        let id = self.id;
        post(&self.network, move |network| network.remove_consumer(id));
    }
}

/// Refused only by a thread that has quit, and has nothing left.
pub(super) fn post(
    network: &ThreadBound<Network>,
    act: impl FnOnce(&mut Network) + Send + 'static,
) {
    let _ = network.post(act);
}
