//! Stats of many threads in one answer.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ProducerTraffic, SfuStats, TransportTraffic, WorkerStats};
use crate::objects::{ConsumerId, ProducerId, TransportId};
use crate::operation::ReplyTo;
use crate::rtp::outgoing::OutgoingStats;

/// What one network thread knows of objects.
#[derive(Debug, Default)]
pub(crate) struct NetworkPart {
    pub(crate) transports: HashMap<TransportId, TransportTraffic>,
    pub(crate) producers: HashMap<ProducerId, ProducerTraffic>,
    pub(crate) consumers: HashMap<ConsumerId, OutgoingStats>,
}

/// An answer that many threads add to. When the last of them has let go of it, having said what it
/// had to say or having ended, it is sent.
#[derive(Debug)]
pub(crate) struct Gather(Mutex<Gathered>);

#[derive(Debug)]
struct Gathered {
    stats: SfuStats,
    /// By their place among the workers.
    workers: Vec<(usize, WorkerStats)>,
    networks: NetworkPart,
    reply: Option<ReplyTo<SfuStats>>,
}

impl Gather {
    pub(crate) fn new(stats: SfuStats, reply: ReplyTo<SfuStats>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Gathered {
            stats,
            workers: Vec::new(),
            networks: NetworkPart::default(),
            reply: Some(reply),
        })))
    }

    pub(crate) fn add_worker(&self, place: usize, worker: WorkerStats) {
        self.0.lock().workers.push((place, worker));
    }

    pub(crate) fn add_network(&self, part: NetworkPart) {
        let networks = &mut self.0.lock().networks;
        networks.transports.extend(part.transports);
        networks.producers.extend(part.producers);
        networks.consumers.extend(part.consumers);
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        let gathered = self.0.get_mut();
        let Some(reply) = gathered.reply.take() else {
            return;
        };
        let networks = &mut gathered.networks;
        gathered.workers.sort_by_key(|(place, _)| *place);
        for (_, mut worker) in gathered.workers.drain(..) {
            for router in &mut worker.routers {
                for transport in &mut router.transports {
                    transport.network = networks.transports.remove(&transport.id);
                }
                for producer in &mut router.producers {
                    producer.media = networks.producers.remove(&producer.id);
                }
                for consumer in &mut router.consumers {
                    consumer.media = networks.consumers.remove(&consumer.id);
                }
            }
            gathered.stats.workers.push(worker);
        }
        reply.send(Ok(gathered.stats.clone()));
    }
}
