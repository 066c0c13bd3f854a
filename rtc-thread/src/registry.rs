//! All the threads there are.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use parking_lot::Mutex;

use crate::call::Call;
use crate::current;
use crate::delayed::Precision;
use crate::error::CallError;
use crate::handle::{ThreadHandle, ThreadId, WeakHandle};
use crate::task::Task;

static THREADS: Mutex<BTreeMap<ThreadId, WeakHandle>> = Mutex::new(BTreeMap::new());

pub(crate) fn add(thread: &ThreadHandle) {
    THREADS.lock().insert(thread.id(), thread.downgrade());
}

pub(crate) fn remove(id: ThreadId) {
    THREADS.lock().remove(&id);
}

/// All the threads of this process that anyone still has a handle to, oldest first: for tools that
/// look at their [`stats`](ThreadHandle::stats).
///
/// libwebrtc: `ThreadManager`.
pub fn threads() -> Vec<ThreadHandle> {
    let threads: Vec<_> = THREADS.lock().values().cloned().collect();
    // Outside of the lock, because a handle that is dropped as the last one takes it.
    threads.iter().filter_map(WeakHandle::upgrade).collect()
}

/// Why [`process_all_queued`] did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessError {
    /// It was called from within a task, whose thread would have to go on for that.
    WithinTask,
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("called from within a task")
    }
}

impl Error for ProcessError {}

/// Waits until every real thread of this process has run what is queued for it now, delayed tasks
/// that are due included. What these tasks post is not waited for.
///
/// A thread that is quitting, or does, is not waited for beyond that. A [wrapped
/// thread](crate::WrappedThread) runs its tasks here, if it is the caller's own; another one has to
/// be run by its owner meanwhile. Threads of a [simulation](crate::Simulation) are left out; it has
/// [`run_ready`](crate::Simulation::run_ready).
///
/// For tests and for orderly shutdowns. Blocks.
///
/// libwebrtc: `ThreadManager::ProcessAllMessageQueuesForTesting()`.
///
/// # Errors
///
/// It was called from within a task.
pub fn process_all_queued() -> Result<(), ProcessError> {
    let own = current();
    let own_loop = current::with_context(|context| context.wrapped_loop()).flatten();
    let mut own_loop = match (&own, &own_loop) {
        (None, _) => None,
        (Some(_), Some(own_loop)) => {
            let own_loop = own_loop.try_borrow_mut();
            Some(own_loop.map_err(|_| ProcessError::WithinTask)?)
        }
        (Some(_), None) => return Err(ProcessError::WithinTask),
    };
    let mut barriers: Vec<_> = threads()
        .into_iter()
        .filter(|thread| !thread.clock().is_simulated())
        .map(|thread| (thread.clone(), barrier(&thread)))
        .collect();
    while let Some((thread, barrier)) = barriers.pop() {
        let is_own = own.as_ref().is_some_and(|own| own.id() == thread.id());
        match (is_own, &mut own_loop) {
            (true, Some(own_loop)) => {
                let mut barrier = barrier;
                while let Err(pending) = barrier.try_take() {
                    barrier = pending;
                    if own_loop.run(Some(std::time::Instant::now())).is_err() {
                        break;
                    }
                }
            }
            // A thread that quits has dropped what it did not run.
            _ => match barrier.wait() {
                Ok(()) | Err(CallError::Quit) => {}
                Err(error) => tracing::warn!(thread = thread.name(), %error, "not waited for"),
            },
        }
    }
    Ok(())
}

/// A call behind everything that is queued and due: a delayed task without a delay.
fn barrier(thread: &ThreadHandle) -> Call<()> {
    let (reply, call) = crate::call::reply();
    let task = Task::new(move || reply.send(()));
    // Refused by a thread that has quit; the reply in it says so.
    drop(thread.post_delayed_task(std::time::Duration::ZERO, Precision::High, task));
    call
}
