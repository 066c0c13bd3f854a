//! Pipes: a producer of one router as a producer of another.
//!
//! The router that has the producer makes a consumer of it, and orders the other router to make a
//! producer; the order carries the state as it is in that step. Whatever changes after that goes the
//! same way, from the same thread to the same thread, and so arrives after the order, in order.

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerEvent};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, RouterId, TransportId};
use super::link_ends::OnLink;
use super::producer::{Producer, ProducerMedia, ProducerOptions, ProducerSource};
use super::replica::{Replica, Versioned};
use super::router::Router;
use super::scores::Scores;
use super::worker::{WorkerState, enqueue};
use crate::Operation;
use crate::operation::ReplyTo;
use crate::pipe_link::Demand;

/// A producer that is piped: the two ends.
#[derive(Debug)]
#[non_exhaustive]
pub struct Piped {
    /// The consumer of it, on the router where it comes from.
    pub consumer: Consumer,
    /// The producer that it is on the other router.
    pub producer: Producer,
}

/// The far end of a pipe, as the consumer knows it that feeds it.
#[derive(Debug)]
pub(super) enum PipedTo {
    Router {
        router: RouterAddress,
        producer: ProducerId,
    },
    Process(OnLink),
}

/// The near end of a pipe, as the producer knows it that is fed.
#[derive(Debug)]
pub(super) struct PipedFrom {
    router: RouterAddress,
    /// None if it is known through another one of these.
    consumer: Option<ConsumerId>,
}

impl PipedTo {
    pub(super) fn new(router: RouterAddress, producer: ProducerId) -> Self {
        Self::Router { router, producer }
    }

    /// What it feeds, if that is in such a router of this process.
    pub(super) fn producer_in(&self, id: RouterId) -> Option<ProducerId> {
        match self {
            Self::Router { router, producer } => (router.id == id).then_some(*producer),
            Self::Process(_) => None,
        }
    }

    /// By which name it is known at the other end of such a link.
    pub(super) fn name_on(&self, link: TransportId) -> Option<u64> {
        match self {
            Self::Router { .. } => None,
            Self::Process(far_end) => far_end.name_on(link),
        }
    }

    /// Another process scores for itself what arrives there.
    pub(super) fn scores_changed(&self, scores: Versioned<Scores>) {
        if let Self::Router { router, producer } = self {
            let producer = *producer;
            router.post(move |router| router.piped_scores_changed(producer, scores));
        }
    }

    pub(super) fn source_changed(&self, paused: Versioned<bool>) {
        match self {
            Self::Router { router, producer } => {
                let producer = *producer;
                router.post(move |router| router.piped_source_changed(producer, paused));
            }
            Self::Process(far_end) => far_end.source_changed(paused),
        }
    }
}

impl Drop for PipedTo {
    /// However the consumer ends, a panic of its thread included, the producer that it feeds does.
    fn drop(&mut self) {
        match self {
            Self::Router { router, producer } => {
                let producer = *producer;
                router.post(move |router| {
                    // It may be closed already, for a reason of its own.
                    let _ = router.close_producer(producer, CloseReason::ProducerClosed);
                });
            }
            Self::Process(far_end) => far_end.source_closed(),
        }
    }
}

impl PipedFrom {
    /// What is wanted of it here has changed.
    pub(super) fn wants(&self, demand: Demand) {
        if let Some(consumer) = self.consumer {
            self.router
                .post(move |router| router.consumer_wants(consumer, demand));
        }
    }
}

impl Drop for PipedFrom {
    /// However the producer ends, or does not even come into being, the consumer that feeds it ends.
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer {
            self.router.post(move |router| {
                let _ = router.close_consumer(consumer, CloseReason::FarEndClosed);
            });
        }
    }
}

impl Router {
    /// Makes a producer of this router one of another router, too, of whichever worker.
    ///
    /// Whether it is paused, whether it is closed, and how well it arrives, is the same there as here,
    /// once nothing is under way. Piped to the same router again, it is the same pipe.
    ///
    /// mediasoup: `pipeToRouter`.
    pub fn pipe(&self, producer: ProducerId, to: &Self) -> Operation<Piped, ObjectError> {
        let (from, to) = (self.address().clone(), to.address().clone());
        enqueue(&self.address().worker, move |state, reply| {
            if let Err((reply, error)) = state.begin_pipe(from, producer, to, reply) {
                reply.send(Err(error));
            }
        })
    }
}

/// The near end of a pipe.
pub(super) struct NearEnd {
    pub(super) consumer: ConsumerId,
    /// The producer at the far end.
    pub(super) feeds: ProducerId,
    pub(super) is_new: bool,
    pub(super) paused: Versioned<bool>,
    pub(super) scores: Versioned<Scores>,
    pub(super) media: Option<ProducerMedia>,
    pub(super) events: Events<ConsumerEvent>,
}

/// What goes from the near end to the far end.
struct Order {
    to: RouterAddress,
    from: RouterId,
    producer: ProducerId,
    source: PipedFrom,
    is_new: bool,
    paused: Versioned<bool>,
    scores: Versioned<Scores>,
    /// What it sends arrives where it did, and goes from there to wherever it is consumed.
    media: Option<ProducerMedia>,
    /// The near end of it, for whoever asked.
    consumer: Consumer,
}

type Refused = (ReplyTo<Piped, ObjectError>, ObjectError);

impl WorkerState {
    fn begin_pipe(
        &mut self,
        from: RouterAddress,
        producer: ProducerId,
        to: RouterAddress,
        reply: ReplyTo<Piped, ObjectError>,
    ) -> Result<(), Refused> {
        if from.id == to.id {
            return Err((reply, ObjectError::SameRouter));
        }
        let router = match self.router(from.id) {
            Ok(router) => router,
            Err(error) => return Err((reply, error)),
        };
        let end = match router.pipe_consumer(producer, &to) {
            Ok(end) => end,
            Err(error) => return Err((reply, error)),
        };
        let order = Order {
            from: from.id,
            producer: end.feeds,
            consumer: Consumer::new(
                end.consumer,
                producer,
                from.clone(),
                end.paused.state,
                end.events,
            ),
            source: PipedFrom {
                router: from,
                // One that exists has one of these already.
                consumer: end.is_new.then_some(end.consumer),
            },
            is_new: end.is_new,
            paused: end.paused,
            scores: end.scores,
            media: end.media,
            to: to.clone(),
        };
        // If it is refused, the order is dropped, and closes the consumer; the reply settles.
        let _ = to
            .worker
            .post(move |state| reply.send(state.complete_pipe(order)));
        Ok(())
    }

    fn complete_pipe(&mut self, order: Order) -> Result<Piped, ObjectError> {
        let router = self.router(order.to.id)?;
        let options = ProducerOptions::new();
        let events = if order.is_new {
            let (sink, events) = EventSink::new();
            let transport = router.pipe_transport(order.from)?;
            let came_from = ProducerSource::Router {
                pipe: order.source,
                paused: Replica::of(order.paused),
                scores: Replica::of(order.scores),
                media: order.media,
            };
            router.add_producer(order.producer, transport, options, came_from, sink)?;
            events
        } else {
            // It may have been closed here, of which the near end has not heard yet.
            router
                .subscribe_to_producer(order.producer)
                .ok_or(ObjectError::ProducerClosed(order.producer))?
        };
        Ok(Piped {
            consumer: order.consumer,
            producer: Producer::new(order.producer, order.to, events),
        })
    }
}
