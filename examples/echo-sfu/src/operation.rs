//! The future of an operation on the SFU.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use rtc_thread::{Call, Reply};

use crate::ApiError;

/// An operation that has been enqueued, and its result to come.
///
/// It takes effect in the order in which it was called, whether or not it is awaited; dropping it
/// cancels nothing. It can be awaited in any executor.
#[derive(Debug)]
#[must_use = "the operation takes place all the same; drop it with `let _ =` if its result is of no interest"]
pub struct Operation<T>(Call<Result<T, ApiError>>);

/// Where the result of an operation is to be sent, by whichever thread ends it.
pub(crate) type ReplyTo<T> = Reply<Result<T, ApiError>>;

impl<T> Operation<T> {
    pub(crate) fn new() -> (ReplyTo<T>, Self) {
        let (reply, call) = rtc_thread::reply();
        (reply, Self(call))
    }

    /// Blocks until the result is there. Not for use on a thread of an async runtime.
    ///
    /// # Errors
    ///
    /// What the operation failed with.
    pub fn wait(self) -> Result<T, ApiError> {
        self.0.wait().unwrap_or_else(|error| Err(error.into()))
    }
}

impl<T> Future for Operation<T> {
    type Output = Result<T, ApiError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|result| result.unwrap_or_else(|error| Err(error.into())))
    }
}
