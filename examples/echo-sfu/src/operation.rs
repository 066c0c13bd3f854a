//! The future of an operation on the SFU.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use rtc_thread::{Call, CallError, Reply};

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

impl<T, E: From<CallError>> Future for Operation<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|result| result.unwrap_or_else(|error| Err(error.into())))
    }
}
