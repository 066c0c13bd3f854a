//! Pipes for data: as for media, the order to make the far end carries the state of the near one, and
//! what changes after that goes the same way.

use std::sync::Arc;

use super::address::RouterAddress;
use super::data_consumer::{DataConsumer, DataConsumerParts};
use super::data_message::DataCounters;
use super::data_parameters::DataParameters;
use super::data_producer::{DataProducer, DataProducerState, DataSource, DataState};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink};
use super::id::{DataConsumerId, DataProducerId, RouterId, TransportId};
use super::link_ends::OnLink;
use super::replica::Replica;
use super::router::Router;
use super::worker::{WorkerState, enqueue};
use crate::Operation;
use crate::network::DataOrigin;
use crate::operation::ReplyTo;

/// A data producer that is piped: the two ends.
#[derive(Debug)]
#[non_exhaustive]
pub struct PipedData {
    /// The data consumer of it, on the router where it comes from. Messages do not go by it: they go
    /// from where they arrive to wherever they are consumed.
    pub consumer: DataConsumer,
    /// The data producer that it is on the other router.
    pub producer: DataProducer,
}

/// The far end of a pipe, as the data consumer knows it that feeds it.
#[derive(Debug)]
pub(super) enum DataPipedTo {
    Router {
        router: RouterAddress,
        producer: DataProducerId,
    },
    Process {
        far_end: OnLink,
    },
}

/// The near end of a pipe, as the data producer knows it that is fed.
#[derive(Debug)]
pub(super) struct DataPipedFrom {
    router: RouterAddress,
    /// None if it is known through another one of these.
    consumer: Option<DataConsumerId>,
}

impl DataPipedTo {
    pub(super) const fn new(router: RouterAddress, producer: DataProducerId) -> Self {
        Self::Router { router, producer }
    }

    /// What it feeds, if that is in such a router of this process.
    pub(super) fn producer_in(&self, id: RouterId) -> Option<DataProducerId> {
        match self {
            Self::Router { router, producer } => (router.id == id).then_some(*producer),
            Self::Process { .. } => None,
        }
    }

    /// By which name it is known at the other end of such a link.
    pub(super) fn name_on(&self, link: TransportId) -> Option<u64> {
        match self {
            Self::Router { .. } => None,
            Self::Process { far_end } => far_end.name_on(link),
        }
    }
}

impl Drop for DataPipedTo {
    /// However the consumer ends, the data producer that it feeds does. Another process is told by the
    /// network thread, after the last message.
    fn drop(&mut self) {
        match self {
            Self::Router { router, producer } => {
                let producer = *producer;
                router.post(move |router| {
                    // It may be closed already, for a reason of its own.
                    let _ = router.close_data_producer(producer, CloseReason::ProducerClosed);
                });
            }
            Self::Process { .. } => {}
        }
    }
}

impl Drop for DataPipedFrom {
    /// However the data producer ends, or does not even come into being, the consumer that feeds it
    /// ends.
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer {
            self.router.post(move |router| {
                let _ = router.close_data_consumer(consumer, CloseReason::FarEndClosed);
            });
        }
    }
}

impl Router {
    /// Makes a data producer of this router one of another router, too, of whichever worker.
    ///
    /// Whether it is paused, and whether it is closed, is the same there as here, once nothing is
    /// under way. Piped to the same router again, it is the same pipe. Pausing the consumer of the
    /// pipe does not stop the messages; pausing either of the data producers does.
    ///
    /// mediasoup: `pipeToRouter`, with a `dataProducerId`.
    pub fn pipe_data(
        &self,
        producer: DataProducerId,
        to: &Self,
    ) -> Operation<PipedData, ObjectError> {
        let (from, to) = (self.address().clone(), to.address().clone());
        enqueue(&self.address().worker, move |state, reply| {
            if let Err((reply, error)) = state.begin_data_pipe(from, producer, to, reply) {
                reply.send(Err(error));
            }
        })
    }
}

/// The near end of a pipe.
pub(super) struct DataNearEnd {
    pub(super) parts: DataConsumerParts,
    /// The data producer at the far end.
    pub(super) feeds: DataProducerId,
    pub(super) is_new: bool,
    pub(super) source: DataState,
    pub(super) origin: DataOrigin,
    pub(super) counters: Arc<DataCounters>,
}

/// What goes from the near end to the far end.
struct Order {
    to: RouterAddress,
    from: RouterId,
    producer: DataProducerId,
    parameters: Arc<DataParameters>,
    pipe: DataPipedFrom,
    is_new: bool,
    source: DataState,
    origin: DataOrigin,
    counters: Arc<DataCounters>,
    /// The near end of it, for whoever asked.
    consumer: DataConsumer,
}

type Refused = (ReplyTo<PipedData, ObjectError>, ObjectError);

impl WorkerState {
    fn begin_data_pipe(
        &mut self,
        from: RouterAddress,
        producer: DataProducerId,
        to: RouterAddress,
        reply: ReplyTo<PipedData, ObjectError>,
    ) -> Result<(), Refused> {
        if from.id == to.id {
            return Err((reply, ObjectError::SameRouter));
        }
        let router = match self.router(from.id) {
            Ok(router) => router,
            Err(error) => return Err((reply, error)),
        };
        let end = match router.data_pipe_consumer(producer, &to) {
            Ok(end) => end,
            Err(error) => return Err((reply, error)),
        };
        let order = Order {
            from: from.id,
            producer: end.feeds,
            parameters: end.parts.parameters.clone(),
            pipe: DataPipedFrom {
                router: from.clone(),
                // One that exists has one of these already.
                consumer: end.is_new.then_some(end.parts.id),
            },
            consumer: DataConsumer::new(end.parts, from),
            is_new: end.is_new,
            source: end.source,
            origin: end.origin,
            counters: end.counters,
            to: to.clone(),
        };
        // If it is refused, the order is dropped, and closes the consumer; the reply settles.
        let _ = to
            .worker
            .post(move |state| reply.send(state.complete_data_pipe(order)));
        Ok(())
    }

    fn complete_data_pipe(&mut self, order: Order) -> Result<PipedData, ObjectError> {
        let router = self.router(order.to.id)?;
        let events = if order.is_new {
            let (sink, events) = EventSink::new();
            let transport = router.pipe_transport(order.from)?;
            let source = DataSource::Router {
                _pipe: order.pipe,
                paused: Replica::of(order.source.paused),
                held: Replica::of(order.source.held),
                origin: order.origin,
            };
            let state = DataProducerState::new(
                transport,
                order.parameters.clone(),
                false,
                source,
                order.counters,
                sink,
            );
            router.add_data_producer(order.producer, state)?;
            events
        } else {
            // It may have been closed here, of which the near end has not heard yet.
            router.data_producer(order.producer)?.events.subscribe()
        };
        let producer = DataProducer::new(order.producer, order.to, order.parameters, events);
        Ok(PipedData {
            consumer: order.consumer,
            producer,
        })
    }
}
