//! Requests for key frames: from the consumers that need one to whoever sends it.

use std::time::Instant;

use super::source::{KeyFrame, Origin};
use super::{Network, State};
use crate::objects::{ConsumerId, ProducerId};

impl Network {
    /// Asks the client that sends a producer for a key frame.
    fn request_key_frame(&mut self, producer: ProducerId, layer: u8) {
        self.act(|state, now| state.request_key_frame(now, producer, layer));
    }

    fn request_delayed_key_frame(&mut self, producer: ProducerId, layer: u8) {
        self.act(|state, now| {
            if let Some(source) = state.sources.get_mut(&producer) {
                source.wait_is_over(layer);
            }
            state.request_key_frame(now, producer, layer);
        });
    }
}

impl State {
    /// Asks for what a consumer needs in order to begin, or to change layers.
    pub(super) fn ask_for_key_frame(&mut self, now: Instant, consumer: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&consumer) else {
            return;
        };
        let transport = self.transports.get(&consumer.transport);
        if !transport.is_some_and(|transport| transport.is_connected()) {
            return;
        }
        if let Some(layer) = consumer.key_frame_to_ask_for(now) {
            let origin = consumer.origin;
            self.request_key_frame_at(now, origin, layer);
        }
    }

    /// Asks, on whichever thread the producer's media arrives.
    pub(super) fn request_key_frame_at(&mut self, now: Instant, origin: Origin, layer: u8) {
        let Origin { network, producer } = origin;
        if network == self.index {
            self.request_key_frame(now, producer, layer);
        } else if let Some(peer) = self.peers.get(network.0) {
            // A thread that has quit has nobody to ask.
            let _ = peer.post(move |network| network.request_key_frame(producer, layer));
        }
    }

    fn request_key_frame(&mut self, now: Instant, producer: ProducerId, layer: u8) {
        let Some(source) = self.sources.get_mut(&producer) else {
            return;
        };
        match source.request_key_frame(now, layer) {
            KeyFrame::Coalesced => {}
            KeyFrame::Later(wait) => {
                let own = self.peers.get(self.index.0);
                let posted = own.map(|own| {
                    own.post_delayed(wait, move |network| {
                        network.request_delayed_key_frame(producer, layer);
                    })
                });
                if !matches!(posted, Some(Ok(_))) {
                    source.wait_is_over(layer);
                }
            }
            KeyFrame::Now => {
                source.trace_key_frame_request();
                let transport = source.transport;
                self.counters.keyframe_requests.add(1);
                self.with_transport(transport, now, |transport, outbox| {
                    transport.request_key_frame(now, producer, layer, outbox)
                });
                self.tell_traces(producer);
            }
        }
    }
}
