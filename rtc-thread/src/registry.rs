//! All the threads there are.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::call::Call;
use crate::current;
use crate::delayed::Precision;
use crate::handle::{ThreadHandle, ThreadId, WeakHandle};
use crate::permissions;
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
    /// It was called in a [`ForbidBlockingCalls`](crate::ForbidBlockingCalls) scope, and would have to
    /// wait.
    Forbidden,
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WithinTask => "called from within a task",
            Self::Forbidden => "the caller may not wait",
        })
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
/// It was called from within a task, or in a scope that forbids to wait.
///
/// # Panics
///
/// With a task of the caller's own wrapped thread, if that thread's policy is to end.
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
    if own_loop.is_none() && permissions::is_forbidden() {
        return Err(ProcessError::Forbidden);
    }
    let mut barriers: Vec<_> = threads()
        .into_iter()
        .filter(|thread| !thread.clock().is_simulated())
        .map(|thread| barrier(&thread))
        .collect();
    let Some(own_loop) = &mut own_loop else {
        for barrier in barriers {
            // A thread that quits has dropped what it did not run, the barrier included.
            let _ = barrier.wait();
        }
        return Ok(());
    };
    // The other threads may need this one to get on, so it runs its tasks meanwhile.
    loop {
        barriers = barriers
            .into_iter()
            .filter_map(|barrier| barrier.try_take().err())
            .collect();
        if barriers.is_empty() {
            return Ok(());
        }
        if let Err(panic) = own_loop.run(Some(Instant::now() + SLICE)) {
            own_loop.end();
            resume_unwind(panic);
        }
    }
}

/// How long the caller's own thread runs between two looks at the others.
const SLICE: Duration = Duration::from_millis(1);

/// A call behind everything that is queued and due: a delayed task without a delay.
fn barrier(thread: &ThreadHandle) -> Call<()> {
    let (reply, call) = crate::call::reply();
    let task = Task::new(move || reply.send(()));
    // Refused by a thread that has quit; the reply in it says so.
    drop(thread.post_delayed_task(Duration::ZERO, Precision::High, task));
    call.owed_by(thread.clone())
}
