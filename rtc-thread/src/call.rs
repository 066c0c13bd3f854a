//! Running a closure on another thread and getting the result when it is there.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

use crate::error::{CallError, WaitCycle, panic_message};
use crate::handle::ThreadHandle;
use crate::permissions;
use crate::simulation::{self, Outcome};
use crate::wait_for;

/// A result that another thread owes.
///
/// The call it stands for was enqueued when it was made. Dropping the handle cancels nothing,
/// awaiting it starts nothing. It is a [`Future`] for any executor, and [`wait`](Self::wait) serves
/// a plain thread.
///
/// libwebrtc has no counterpart: there the choice is between `BlockingCall` and a pair of posts.
#[must_use = "the call runs all the same; drop the handle with `let _ =` if its result is of no interest"]
pub struct Call<R> {
    shared: Arc<Shared<R>>,
    /// Who owes the result, if it is known, for the deadlock check of [`Call::wait`].
    debtor: Option<ThreadHandle>,
}

/// The other end of a [`Call`]: whoever holds it owes the result.
///
/// Dropped without a result, it gives [`CallError::Quit`]; so nobody waits for ever for a thread
/// that dropped the task that held it.
pub struct Reply<R> {
    shared: Arc<Shared<R>>,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    settled: Condvar,
}

enum State<R> {
    Pending(Waiter),
    Settled(Result<R, CallError>),
    Taken,
}

enum Waiter {
    None,
    Task(Waker),
    /// A blocked thread; ours if it is named.
    Thread(Option<ThreadHandle>),
}

/// A call without a closure: what is sent into the [`Reply`] comes out of the [`Call`].
///
/// For operations that end on another thread than the one they were started on, or later.
pub fn reply<R>() -> (Reply<R>, Call<R>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::Pending(Waiter::None)),
        settled: Condvar::new(),
    });
    let reply = Reply {
        shared: shared.clone(),
    };
    let call = Call {
        shared,
        debtor: None,
    };
    (reply, call)
}

impl<R> Reply<R> {
    /// Settles the call with a result.
    pub fn send(self, result: R) {
        self.shared.settle(Ok(result));
    }

    /// Settles the call with an error.
    pub fn fail(self, error: CallError) {
        self.shared.settle(Err(error));
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        self.shared.settle(Err(CallError::Quit));
    }
}

impl<R> Shared<R> {
    /// Gives the result, if none was given before.
    fn settle(&self, result: Result<R, CallError>) {
        let mut state = self.state.lock();
        let State::Pending(waiter) = &mut *state else {
            return;
        };
        let waiter = std::mem::replace(waiter, Waiter::None);
        if let Waiter::Thread(Some(thread)) = &waiter {
            wait_for::remove(thread);
        }
        *state = State::Settled(result);
        drop(state);
        match waiter {
            Waiter::None => {}
            Waiter::Task(waker) => waker.wake(),
            Waiter::Thread(_) => {
                self.settled.notify_one();
            }
        }
    }
}

impl<R> Call<R> {
    /// A call that is settled from the start.
    pub fn ready(result: Result<R, CallError>) -> Self {
        let (reply, call) = reply();
        reply.shared.settle(result);
        call
    }

    /// Blocks the calling thread until the result is there. On one of our threads, nothing else
    /// runs meanwhile.
    ///
    /// # Errors
    ///
    /// What the call failed with; [`CallError::WouldDeadlock`] if the result is not there yet and
    /// would have to come from the calling thread itself, or from one that waits for it; or
    /// [`CallError::Forbidden`] if it is not there yet and the caller may not wait for it. The call
    /// stays enqueued in these cases.
    pub fn wait(self) -> Result<R, CallError> {
        let mut state = self.shared.state.lock();
        if let State::Pending(slot) = &mut *state {
            let waiter = match &self.debtor {
                Some(debtor) => debtor.begin_wait()?,
                None if permissions::is_forbidden() => return Err(CallError::Forbidden),
                None => None,
            };
            *slot = Waiter::Thread(waiter);
            drop(state);
            self.simulate_until_settled()?;
            state = self.shared.state.lock();
        }
        while let State::Pending(_) = &*state {
            self.shared.settled.wait(&mut state);
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Settled(result) => result,
            State::Pending(_) | State::Taken => unreachable!("only one call handle takes it"),
        }
    }

    /// If the result may come from simulated threads, runs them until it is there.
    fn simulate_until_settled(&self) -> Result<(), CallError> {
        let debtor = self.debtor.as_ref();
        if debtor.is_some_and(|debtor| !debtor.clock().is_simulated()) {
            return Ok(());
        }
        let is_settled = || !matches!(&*self.shared.state.lock(), State::Pending(_));
        if simulation::run_until_any(None, is_settled) != Some(Outcome::Stuck) {
            return Ok(());
        }
        let mut state = self.shared.state.lock();
        if let State::Pending(slot) = &mut *state
            && let Waiter::Thread(Some(waiter)) = std::mem::replace(slot, Waiter::None)
        {
            wait_for::remove(&waiter);
        }
        let names = debtor.iter().map(|debtor| debtor.name().to_owned());
        Err(CallError::WouldDeadlock(WaitCycle::new(names.collect())))
    }

    /// Says who owes the result.
    pub(crate) fn owed_by(mut self, debtor: ThreadHandle) -> Self {
        self.debtor = Some(debtor);
        self
    }

    /// The result, if it is there already.
    ///
    /// # Errors
    ///
    /// The call itself, if the result is not there.
    pub fn try_take(self) -> Result<Result<R, CallError>, Self> {
        let mut state = self.shared.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Settled(result) => Ok(result),
            pending => {
                *state = pending;
                drop(state);
                Err(self)
            }
        }
    }
}

impl<R> Future for Call<R> {
    type Output = Result<R, CallError>;

    /// # Panics
    ///
    /// If polled again after it gave its result.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state.lock();
        match &mut *state {
            State::Pending(waiter) => {
                let old = match waiter {
                    Waiter::Task(waker) if waker.will_wake(context.waker()) => None,
                    waiter => {
                        let new = Waiter::Task(context.waker().clone());
                        Some(std::mem::replace(waiter, new))
                    }
                };
                drop(state);
                drop(old);
                Poll::Pending
            }
            State::Settled(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Settled(result) => Poll::Ready(result),
                State::Pending(_) | State::Taken => unreachable!("matched just now"),
            },
            State::Taken => panic!("a call was polled after it gave its result"),
        }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.shared.state.lock() {
            State::Pending(_) => "pending",
            State::Settled(_) => "settled",
            State::Taken => "taken",
        };
        f.debug_struct("Call")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl ThreadHandle {
    /// Enqueues a closure on the thread, now, and returns a handle to its result.
    ///
    /// The order of calls and posts of one caller is the order in which they were made, whether or
    /// not anyone awaits them. Allocates once, for the result.
    ///
    /// If the closure panics, the handle gets [`CallError::Panicked`] and the thread is not
    /// affected. If the thread quits first, the handle gets [`CallError::Quit`].
    #[track_caller]
    pub fn call<F, R>(&self, closure: F) -> Call<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.call_with(move || Ok(closure()))
    }

    /// As [`call`](Self::call), for a closure that can fail to reach its object.
    #[track_caller]
    pub(crate) fn call_with<F, R>(&self, closure: F) -> Call<R>
    where
        F: FnOnce() -> Result<R, CallError> + Send + 'static,
        R: Send + 'static,
    {
        let (reply, call) = reply();
        // A refused task is dropped with the reply in it, and so settles the call.
        drop(self.post(move || {
            let outcome = catch_unwind(AssertUnwindSafe(closure));
            reply.shared.settle(outcome.unwrap_or_else(|payload| {
                let message = panic_message(&*payload).to_owned();
                tracing::error!(message, "a called closure panicked");
                Err(CallError::Panicked(message))
            }));
        }));
        call.owed_by(self.clone())
    }
}
