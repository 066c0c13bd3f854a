//! What a router knows of its objects, for who asks.

use super::id::RouterId;
use super::router::RouterState;
use crate::stats::{ConsumerStats, ProducerStats, RouterStats, TransportStats};

impl RouterState {
    pub(super) fn stats(&self, id: RouterId) -> RouterStats {
        let transports = self.transports.iter();
        let producers = self.producers.iter();
        let consumers = self.consumers.iter();
        RouterStats {
            id,
            transports: transports
                .map(|(id, transport)| TransportStats {
                    id: *id,
                    kind: transport.kind.name(),
                    network: None,
                })
                .collect(),
            producers: producers
                .map(|(id, producer)| ProducerStats {
                    id: *id,
                    transport: producer.transport,
                    status: self.status_of(*id, producer),
                    track: producer.track(),
                    media: None,
                })
                .collect(),
            consumers: consumers
                .map(|(id, consumer)| ConsumerStats {
                    id: *id,
                    transport: consumer.transport,
                    status: consumer.status(),
                    media: None,
                })
                .collect(),
        }
    }
}
