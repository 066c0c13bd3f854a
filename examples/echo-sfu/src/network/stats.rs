//! What a network thread knows of objects, for who asks.

use std::time::Instant;

use super::transport::Transport;
use super::{Network, State};
use crate::stats::{NetworkPart, ProducerTraffic, TransportTraffic};

impl Network {
    pub(crate) fn stats(&mut self, thread: &str) -> NetworkPart {
        let now = rtc_thread::now();
        self.0.borrow_mut().object_stats(now, thread)
    }
}

impl State {
    fn object_stats(&mut self, now: Instant, thread: &str) -> NetworkPart {
        let mut part = NetworkPart::default();
        for (id, transport) in &self.transports {
            let traffic = TransportTraffic {
                thread: thread.to_owned(),
                connected: transport.is_connected(),
                remote: transport.remote(),
                packets_in: transport.packets_in,
                bytes_in: transport.bytes_in,
                downlink: transport.known_downlink,
            };
            part.transports.insert(*id, traffic);
        }
        for (id, source) in &self.sources {
            let transport = self.transports.get_mut(&source.transport);
            let reception = transport
                .and_then(Transport::plain)
                .and_then(|plain| plain.reception_of(now, *id));
            let traffic = ProducerTraffic {
                packets: source.packets.clone(),
                bytes: source.bytes,
                key_frame_requests: source.key_frame_requests(),
                reception,
            };
            part.producers.insert(*id, traffic);
        }
        for (id, consumer) in &mut self.consumers {
            part.consumers.insert(*id, consumer.stream.stats(now));
        }
        part
    }
}
