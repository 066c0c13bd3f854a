//! The future of an operation on the SFU.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use rtc_thread::{Call, CallError, Reply, ThreadBound};

use crate::ApiError;

/// An operation that has been enqueued, and its result to come.
///
/// It takes effect in the order in which it was called, whether or not it is awaited; dropping it
/// cancels nothing. It can be awaited in any executor.
#[derive(Debug)]
#[must_use = "the operation takes place all the same; drop it with `let _ =` if its result is of no interest"]
pub struct Operation<T, E = ApiError>(Call<Result<T, E>>);

/// Where the result of an operation is to be sent, by whichever thread ends it.
pub(crate) type ReplyTo<T, E = ApiError> = Reply<Result<T, E>>;

impl<T, E: From<CallError>> Operation<T, E> {
    pub(crate) fn new() -> (ReplyTo<T, E>, Self) {
        let (reply, call) = rtc_thread::reply();
        (reply, Self(call))
    }

    /// Blocks until the result is there. Not for use on a thread of an async runtime.
    ///
    /// # Errors
    ///
    /// What the operation failed with.
    pub fn wait(self) -> Result<T, E> {
        self.0.wait().unwrap_or_else(|error| Err(error.into()))
    }

    /// The result, if it is there already; the operation, if not.
    ///
    /// # Errors
    ///
    /// The operation itself.
    pub fn try_take(self) -> Result<Result<T, E>, Self> {
        match self.0.try_take() {
            Ok(result) => Ok(result.unwrap_or_else(|error| Err(error.into()))),
            Err(call) => Err(Self(call)),
        }
    }
}

impl<T: Send + 'static, E: From<CallError> + Send + 'static> Operation<T, E> {
    /// Has the result handled on a thread, when it is there.
    pub fn hand_to<S: 'static>(
        self,
        target: &ThreadBound<S>,
        handle: impl FnOnce(&mut S, Result<T, E>) + Send + 'static,
    ) {
        let hand_over = HandOver {
            pending: Mutex::new(Some((self, handle))),
            target: target.clone(),
        };
        Arc::new(hand_over).wake();
    }
}

/// Passes a result on to a thread, from within whatever thread it comes from.
struct HandOver<S: 'static, T, E, F> {
    pending: Mutex<Option<(Operation<T, E>, F)>>,
    target: ThreadBound<S>,
}

impl<S, T, E, F> Wake for HandOver<S, T, E, F>
where
    S: 'static,
    T: Send + 'static,
    E: From<CallError> + Send + 'static,
    F: FnOnce(&mut S, Result<T, E>) + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut pending = self.pending.lock();
        let Some((mut operation, handle)) = pending.take() else {
            return;
        };
        match Pin::new(&mut operation).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => *pending = Some((operation, handle)),
            Poll::Ready(result) => {
                // A thread that has quit wants to know no more.
                let _ = self.target.post(move |state| handle(state, result));
            }
        }
    }
}

impl<T, E: From<CallError>> Future for Operation<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|result| result.unwrap_or_else(|error| Err(error.into())))
    }
}
