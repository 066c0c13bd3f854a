//! A worker: a thread that owns routers.

use std::collections::BTreeMap;
use std::sync::Arc;

use rtc_thread::{PostError, ThreadBound, ThreadHandle};
use serde::Serialize;

use super::address::RouterAddress;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink};
use super::id::RouterId;
use super::router::{MAX_MEMBERS, Router, RouterEvent, RouterState};
use crate::Operation;
use crate::network::NetworkThreads;
use crate::operation::ReplyTo;
use crate::stats::{Gather, ThreadReport, WorkerStats};

/// A thread that owns routers: it decides, and touches no packet.
///
/// mediasoup: `Worker`, which is a process.
#[derive(Debug, Clone)]
pub struct Worker {
    state: ThreadBound<WorkerState>,
}

/// How many objects a worker has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its routers.
    pub routers: usize,
    /// The transports of all its routers, the ends of pipes included.
    pub transports: usize,
    /// Their producers.
    pub producers: usize,
    /// Their consumers.
    pub consumers: usize,
}

/// What a worker's thread has. When the thread ends, for whatever reason, it is dropped, and those
/// who depend on it are told.
#[derive(Debug)]
pub(crate) struct WorkerState {
    networks: NetworkThreads,
    routers: BTreeMap<RouterId, RouterState>,
    is_closed: bool,
}

impl Worker {
    /// A worker on this thread, without a network: its media stays with the application.
    ///
    /// # Errors
    ///
    /// The thread has quit.
    pub fn new(thread: &ThreadHandle) -> Result<Self, PostError> {
        Self::with_networks(thread, NetworkThreads::default())
    }

    /// A worker on this thread, whose media is moved by these threads. Several workers may have the
    /// same.
    ///
    /// # Errors
    ///
    /// The thread has quit.
    pub fn with_networks(
        thread: &ThreadHandle,
        networks: NetworkThreads,
    ) -> Result<Self, PostError> {
        let state = ThreadBound::new(thread, move || WorkerState {
            networks,
            routers: BTreeMap::new(),
            is_closed: false,
        })?;
        Ok(Self { state })
    }

    /// Creates a router.
    pub fn create_router(&self) -> Operation<Router, ObjectError> {
        let worker = self.state.clone();
        enqueue(&self.state, move |state, reply| {
            reply.send(state.create_router(worker));
        })
    }

    /// Creates a router that can be used before it is there: what is called on it comes after. If it
    /// is refused, it is closed from the start.
    pub(crate) fn begin_router(&self) -> Router {
        let (worker, id) = (self.state.clone(), RouterId::next());
        let (sink, events) = EventSink::new();
        // Refused, too, if the worker is closed.
        let _ = worker.post(move |state| drop(state.add_router(id, sink)));
        Router::new(RouterAddress { id, worker }, events)
    }

    /// Has it add what it knows.
    pub(crate) fn gather(&self, place: usize, gather: &Arc<Gather>) {
        let (gather, thread) = (gather.clone(), self.state.thread().name().to_owned());
        // A worker that has ended knows nothing any more.
        let _ = self.state.post(move |state| {
            let routers = state.routers.iter().map(|(id, router)| router.stats(*id));
            let stats = WorkerStats {
                thread,
                totals: state.status(),
                routers: routers.collect(),
            };
            gather.add_worker(place, stats);
        });
    }

    pub(crate) fn report(&self) -> ThreadReport {
        ThreadReport::of(self.state.thread())
    }

    /// What it has when the operation takes effect.
    pub fn status(&self) -> Operation<WorkerStatus, ObjectError> {
        enqueue(&self.state, |state, reply| reply.send(Ok(state.status())))
    }

    /// Closes the worker, and all its routers.
    pub fn close(&self) -> Operation<(), ObjectError> {
        enqueue(&self.state, |state, reply| {
            state.close();
            reply.send(Ok(()));
        })
    }
}

/// Enqueues an operation on a worker's thread.
pub(super) fn enqueue<T: Send + 'static>(
    worker: &ThreadBound<WorkerState>,
    operation: impl FnOnce(&mut WorkerState, ReplyTo<T, ObjectError>) + Send + 'static,
) -> Operation<T, ObjectError> {
    let (reply, pending) = Operation::new();
    // A refused operation is dropped with its reply, and so settles: the worker is closed.
    let _ = worker.post(move |state| operation(state, reply));
    pending
}

/// Enqueues an operation on one of a worker's routers.
pub(super) fn enqueue_on_router<T: Send + 'static>(
    worker: &ThreadBound<WorkerState>,
    router: RouterId,
    operation: impl FnOnce(&mut RouterState) -> Result<T, ObjectError> + Send + 'static,
) -> Operation<T, ObjectError> {
    enqueue(worker, move |state, reply| {
        reply.send(state.router(router).and_then(operation));
    })
}

impl WorkerState {
    fn create_router(&mut self, worker: ThreadBound<Self>) -> Result<Router, ObjectError> {
        let (id, (sink, events)) = (RouterId::next(), EventSink::new());
        self.add_router(id, sink)?;
        Ok(Router::new(RouterAddress { id, worker }, events))
    }

    fn add_router(
        &mut self,
        id: RouterId,
        events: EventSink<RouterEvent>,
    ) -> Result<(), ObjectError> {
        if self.is_closed {
            return Err(ObjectError::WorkerClosed);
        }
        if self.routers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let router = RouterState::new(self.networks.clone(), events);
        self.routers.insert(id, router);
        Ok(())
    }

    pub(super) fn router(&mut self, id: RouterId) -> Result<&mut RouterState, ObjectError> {
        if self.is_closed {
            return Err(ObjectError::WorkerClosed);
        }
        self.routers
            .get_mut(&id)
            .ok_or(ObjectError::RouterClosed(id))
    }

    pub(super) fn close_router(&mut self, id: RouterId, reason: CloseReason) {
        if let Some(mut router) = self.routers.remove(&id) {
            router.close(reason);
        }
    }

    fn status(&self) -> WorkerStatus {
        let mut status = WorkerStatus::default();
        for router in self.routers.values() {
            let (transports, producers, consumers) = router.sizes();
            status.routers += 1;
            status.transports += transports;
            status.producers += producers;
            status.consumers += consumers;
        }
        status
    }

    fn close(&mut self) {
        self.is_closed = true;
        while let Some((_, mut router)) = self.routers.pop_first() {
            router.close(CloseReason::WorkerClosed);
        }
    }
}

impl Drop for WorkerState {
    fn drop(&mut self) {
        self.close();
    }
}
