//! What a thread does all day.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket_server::{MaxWait, ProcessIo, SocketServer};

use crate::current::CurrentScope;
use crate::error::panic_message;
use crate::handle::ThreadHandle;
use crate::inbox::Found;
use crate::task::Task;

/// How long a thread runs tasks before it looks at its sockets: until either limit is reached.
///
/// Both limits are checked every 16 tasks, and no task is interrupted; so a flood of posts delays
/// socket events by at most the budget, plus the run time of 32 tasks.
///
/// libwebrtc has no such thing: its threads look at their sockets when the queue is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Run at most this many tasks.
    pub tasks: usize,
    /// Run tasks for at most this long.
    pub time: Duration,
}

impl Default for Budget {
    /// 1,024 tasks or one millisecond.
    fn default() -> Self {
        Self {
            tasks: 1024,
            time: Duration::from_millis(1),
        }
    }
}

/// What a thread does when one of its tasks or socket handlers panics.
///
/// Panics in [`blocking_call`](ThreadHandle::blocking_call) and [`call`](ThreadHandle::call) are
/// not the thread's: they are handed to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The thread ends: tasks that wait are dropped unrun, blocked callers get an error, posts are
    /// refused, and [`Thread::join`](crate::Thread::join) returns the panic.
    #[default]
    End,
    /// The panic is logged; the thread goes on with the next task.
    Continue,
    /// The process is aborted.
    Abort,
}

/// The loop of one thread. Each turn:
///
/// 1. delayed tasks that are due join the end of the FIFO;
/// 2. tasks run, until there are none or the [`Budget`] is used up;
/// 3. sockets are served: without blocking if there are tasks left, otherwise until something is
///    posted, the next delayed task is due, or a socket is ready.
///
/// libwebrtc: `Thread::ProcessMessages(kForever)`.
pub(crate) struct RunLoop {
    handle: ThreadHandle,
    server: Rc<dyn SocketServer>,
    budget: Budget,
    panic_policy: PanicPolicy,
    batch: VecDeque<Task>,
}

/// Reading the clock costs about as much as running a small task.
const TASKS_PER_CLOCK_READING: usize = 16;

/// How much of its budget a turn has used.
#[derive(Default)]
struct Spent {
    tasks: usize,
    deadline: Option<Instant>,
}

impl Spent {
    /// Most turns find a few tasks and then none: they never come here a second time, and do
    /// without the clock.
    fn is_over(&mut self, budget: &Budget) -> bool {
        if self.tasks == 0 {
            return false;
        }
        let now = Instant::now();
        self.tasks >= budget.tasks || now >= *self.deadline.get_or_insert(now + budget.time)
    }
}

impl RunLoop {
    pub(crate) fn new(
        handle: ThreadHandle,
        server: Rc<dyn SocketServer>,
        budget: Budget,
        panic_policy: PanicPolicy,
    ) -> Self {
        Self {
            handle,
            server,
            budget,
            panic_policy,
            batch: VecDeque::new(),
        }
    }

    /// Runs until the thread is told to quit and has done what was ready, or until a panic ends it.
    /// On return nothing of the thread's is left but the handle.
    pub(crate) fn run(mut self) -> Result<(), Box<dyn Any + Send>> {
        let scope = CurrentScope::enter(self.handle.clone(), self.server.clone());
        let outcome = self.run_until_quit();
        // Closed already, unless it was a panic. From here on nothing can be added.
        self.handle.quit();
        self.drop_quietly("a task that did not run", |this| this.batch.clear());
        for task in self.handle.inbox().take_rest() {
            self.drop_quietly("a task that did not run", |_| drop(task));
        }
        self.drop_quietly("an object of the thread", |_| {
            scope.context().drop_objects();
        });
        outcome
    }

    fn run_until_quit(&mut self) -> Result<(), Box<dyn Any + Send>> {
        loop {
            let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.turns())) else {
                return Ok(());
            };
            let message = panic_message(&*payload);
            tracing::error!(thread = self.handle.name(), message, "a task panicked");
            match self.panic_policy {
                PanicPolicy::End => return Err(payload),
                PanicPolicy::Continue => {}
                PanicPolicy::Abort => std::process::abort(),
            }
        }
    }

    /// Turns until closed and drained.
    fn turns(&mut self) {
        while let Some(max_wait) = self.run_tasks() {
            if let Err(error) = self.server.wait(max_wait, ProcessIo::Yes) {
                // A thread that silently ended here would leave everyone waiting. The pause keeps
                // a failure that lasts from taking a whole core.
                tracing::error!(thread = self.handle.name(), %error, "waiting failed, trying again");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Steps 1 and 2 of a turn. `None` if the thread is closed and has nothing left to run.
    fn run_tasks(&mut self) -> Option<MaxWait> {
        if !self.batch.is_empty() {
            self.handle.inbox().promote_due();
        }
        let mut spent = Spent::default();
        loop {
            if self.batch.is_empty() {
                match self.handle.inbox().take(&mut self.batch) {
                    Found::Work => {}
                    Found::Nothing(None) => return Some(MaxWait::Forever),
                    Found::Nothing(Some(due)) => return Some(MaxWait::Until(due)),
                    Found::Closed => return None,
                }
            }
            if spent.is_over(&self.budget) {
                return Some(MaxWait::Poll);
            }
            for _ in 0..TASKS_PER_CLOCK_READING {
                let Some(task) = self.batch.pop_front() else {
                    break;
                };
                spent.tasks += 1;
                task.run();
            }
        }
    }

    /// Runs drop code of the user's at the end of the thread, when a panic can only be logged.
    fn drop_quietly(&mut self, what: &str, drop: impl FnOnce(&mut Self)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(self))) {
            let message = panic_message(&*payload);
            tracing::error!(
                thread = self.handle.name(),
                message,
                "dropping {what} panicked"
            );
        }
    }
}
