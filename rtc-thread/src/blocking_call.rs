//! Running a closure on another thread while the caller waits.
//!
//! The closure, its result and what it borrows stay on the caller's stack; the task that is posted
//! holds a pointer to them. What makes that sound is that the caller does not return before the
//! task has been run or dropped, and that the other side does not touch the caller's stack after
//! it has said so: what it says it with is shared ownership of the caller's [`Rendezvous`], which
//! every thread has one of and reuses. Whoever finds it in use makes another: in a simulation, many
//! threads block on one stack.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::Result as Outcome;

use crate::current::{self, current};
use crate::error::{CallError, WaitCycle};
use crate::handle::ThreadHandle;
use crate::permissions;
use crate::simulation;
use crate::sync::{Condvar, Mutex};
use crate::task::Task;
use crate::wait_for;

thread_local! {
    static SPARE: Cell<Option<Arc<Rendezvous>>> = const { Cell::new(None) };
}

/// Where a caller waits for the end of its call.
#[derive(Default)]
struct Rendezvous {
    settled: Mutex<bool>,
    changed: Condvar,
}

impl Rendezvous {
    fn wait(&self) {
        let mut settled = self.settled.lock();
        while !*settled {
            self.changed.wait(&mut settled);
        }
        *settled = false;
    }

    fn settle(&self) {
        *self.settled.lock() = true;
        self.changed.notify_one();
    }

    fn is_settled(&self) -> bool {
        *self.settled.lock()
    }
}

/// Tells the caller, when dropped, that its stack will not be touched any more.
struct Settlement {
    rendezvous: Arc<Rendezvous>,
    /// The caller, if it is one of our threads and therefore in the graph of waiting threads.
    waiter: Option<ThreadHandle>,
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if let Some(waiter) = &self.waiter {
            wait_for::remove(waiter);
        }
        self.rendezvous.settle();
    }
}

/// Ends the process if a panic would take away the stack that the other side works on.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        tracing::error!("a panic in the middle of a blocking call: the process cannot go on");
        std::process::abort();
    }
}

/// The part of a call that lies on the caller's stack.
struct Frame<F, R> {
    closure: Option<F>,
    outcome: Option<Outcome<R>>,
}

struct FramePointer<F, R>(*mut Frame<F, R>);

// SAFETY: the frame is used by one side at a time: by the caller before it posts and after it was
// told that the call is settled, by the target in between. The bounds let both parts of the frame
// change threads.
unsafe impl<F: Send, R: Send> Send for FramePointer<F, R> {}

impl<F: FnOnce() -> R, R> FramePointer<F, R> {
    /// # Safety
    ///
    /// The frame must be alive and not in use by anyone else.
    unsafe fn run(self) {
        // SAFETY: by contract.
        let frame = unsafe { &mut *self.0 };
        if let Some(closure) = frame.closure.take() {
            frame.outcome = Some(catch_unwind(AssertUnwindSafe(closure)));
        }
    }
}

impl ThreadHandle {
    /// Sees whether the caller may wait for the thread, and notes that it does. Returns the caller,
    /// if it is one of our threads; whoever ends its wait takes the note back.
    pub(crate) fn begin_wait(&self) -> Result<Option<Self>, CallError> {
        if permissions::is_forbidden() {
            return Err(CallError::Forbidden);
        }
        let Some(waiter) = current() else {
            return Ok(None);
        };
        if simulation::is_busy(self) {
            let names = vec![waiter.name().to_owned(), self.name().to_owned()];
            return Err(CallError::WouldDeadlock(WaitCycle::new(names)));
        }
        if !waiter.may_block_on(self) {
            return Err(CallError::Forbidden);
        }
        wait_for::add(&waiter, self).map_err(CallError::WouldDeadlock)?;
        Ok(Some(waiter))
    }

    /// Runs a closure on the thread, after everything posted to it before, and returns its result.
    /// On the thread itself the closure runs at once, before what is queued.
    ///
    /// The closure may borrow from the caller. Nothing is allocated, but once per calling thread.
    /// The caller blocks and meanwhile runs nothing else: neither tasks nor socket events. Whoever
    /// needs to go on uses [`call`](Self::call). May be called from any thread, ours or not.
    ///
    /// libwebrtc: `BlockingCall`.
    ///
    /// # Errors
    ///
    /// [`CallError::Quit`] if the thread has quit or drops the call unrun, while it ends;
    /// [`CallError::WouldDeadlock`] if the thread waits, directly or through others, for the
    /// caller; [`CallError::Forbidden`] if the caller may not wait for it. In all cases the closure
    /// has not run, and is dropped here.
    ///
    /// # Panics
    ///
    /// If the closure panics, the panic goes on in the caller. The thread is not affected.
    #[track_caller]
    pub fn blocking_call<F, R>(&self, closure: F) -> Result<R, CallError>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        if self.is_current() {
            permissions::count_inline();
            return Ok(closure());
        }
        permissions::count_blocking(|| self.blocking_call_elsewhere(closure))
    }

    fn blocking_call_elsewhere<F, R>(&self, closure: F) -> Result<R, CallError>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let waiter = self.begin_wait()?;
        if let Some(waiter) = &waiter {
            waiter.counters().blocking_calls_made.add(1);
        }
        // A thread-local destructor may call, too; it has none to spare.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let rendezvous = spare.unwrap_or_default();
        let settlement = Settlement {
            rendezvous: rendezvous.clone(),
            waiter,
        };
        let mut frame = Frame {
            closure: Some(closure),
            outcome: None,
        };
        let pointer = FramePointer(&raw mut frame);
        let run = move || {
            let pointer = pointer;
            let settlement = settlement;
            current::with_context(|context| {
                context.handle().counters().blocking_calls_received.add(1);
            });
            // SAFETY: the caller keeps the frame, and keeps away from it, until the settlement is
            // dropped, which is after this line.
            unsafe { pointer.run() };
            drop(settlement);
        };
        // SAFETY: what the task points to and its closure borrows outlives the task, because this
        // function does not return before the settlement in the task has been dropped: `wait` has
        // no other end, and an unwinding before that (out of the wake-up of somebody's socket server,
        // say) ends the process. `F` and `R` are `Send`.
        let task = unsafe { Task::new_unchecked(run) };
        let no_unwinding = AbortOnUnwind;
        // A refused task is dropped right here, and so settles the call.
        drop(self.post_task(task));
        simulation::run_until(self, || rendezvous.is_settled());
        rendezvous.wait();
        let _ = ManuallyDrop::new(no_unwinding);
        // Whoever settled the call may still be about to notify: it wakes nobody then, or somebody
        // who looks again.
        let _ = SPARE.try_with(|spare| spare.set(Some(rendezvous)));
        match frame.outcome {
            Some(Ok(result)) => Ok(result),
            Some(Err(panic)) => resume_unwind(panic),
            None => Err(CallError::Quit),
        }
    }
}

/// Every interleaving of a caller that waits and a target that settles the call.
#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn a_caller_always_hears_and_the_rendezvous_can_be_used_again() {
        loom::model(|| {
            let rendezvous = Arc::new(Rendezvous::default());
            for _ in 0..2 {
                let theirs = rendezvous.clone();
                let target = thread::spawn(move || theirs.settle());
                rendezvous.wait();
                assert!(!rendezvous.is_settled());
                target.join().unwrap();
            }
        });
    }
}
