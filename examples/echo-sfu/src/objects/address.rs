//! Where a router is.

use rtc_thread::ThreadBound;

use super::error::ObjectError;
use super::id::RouterId;
use super::router::RouterState;
use super::worker::{WorkerState, enqueue, enqueue_on_router};
use crate::Operation;
use crate::operation::ReplyTo;

/// A router, wherever it is.
#[derive(Debug, Clone)]
pub(crate) struct RouterAddress {
    pub(super) id: RouterId,
    pub(super) worker: ThreadBound<WorkerState>,
}

impl RouterAddress {
    /// Has the router's thread do something, if the router is still there by then. If its worker is
    /// closed, it is, and all its objects with it.
    pub(crate) fn post(&self, act: impl FnOnce(&mut RouterState) + Send + 'static) {
        let id = self.id;
        let _ = self.worker.post(move |state| {
            if let Ok(router) = state.router(id) {
                act(router);
            }
        });
    }

    /// Enqueues an operation on the router.
    pub(super) fn enqueue<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut RouterState) -> Result<T, ObjectError> + Send + 'static,
    ) -> Operation<T, ObjectError> {
        enqueue_on_router(&self.worker, self.id, operation)
    }

    /// Enqueues an operation on the router that ends on another thread, or later.
    pub(super) fn enqueue_with_reply<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut RouterState, ReplyTo<T, ObjectError>) + Send + 'static,
    ) -> Operation<T, ObjectError> {
        let id = self.id;
        enqueue(&self.worker, move |state, reply| match state.router(id) {
            Ok(router) => operation(router, reply),
            Err(error) => reply.send(Err(error)),
        })
    }
}
