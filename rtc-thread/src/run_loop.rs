//! What a thread does all day.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket_server::{MaxWait, ProcessIo, SocketServer};
use tracing::level_filters::LevelFilter;

use crate::current::CurrentScope;
use crate::delayed::due_after;
use crate::error::panic_message;
use crate::handle::ThreadHandle;
use crate::inbox::{Found, IfEmpty};
use crate::stats::SAMPLED_ONE_IN;
use crate::task_buffer::TaskBuffer;

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

/// What a thread does when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// It sleeps at once. Waking it takes the operating system some microseconds, and a post to it
    /// makes a system call.
    #[default]
    Park,
    /// It watches for posts, and looks at its sockets now and then, for so long before it sleeps. A
    /// post meanwhile is seen within a fraction of a microsecond and makes no system call; the price
    /// is a busy core. For threads that latency matters to, and cores that nobody else needs.
    SpinThenPark(Duration),
}

/// How a thread is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopOptions {
    pub(crate) budget: Budget,
    pub(crate) panic_policy: PanicPolicy,
    pub(crate) wait_strategy: WaitStrategy,
    pub(crate) slow_task_threshold: Option<Duration>,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            panic_policy: PanicPolicy::default(),
            wait_strategy: WaitStrategy::default(),
            slow_task_threshold: Some(Duration::from_millis(50)),
        }
    }
}

/// The loop of one thread. Each turn:
///
/// 1. delayed tasks that are due join the end of the FIFO;
/// 2. tasks run, until there are none or the [`Budget`] is used up;
/// 3. sockets are served: without blocking if there are tasks left, otherwise until something is
///    posted, the next delayed task is due, or a socket is ready.
///
/// libwebrtc: `Thread::ProcessMessages`.
pub(crate) struct RunLoop {
    scope: CurrentScope,
    handle: ThreadHandle,
    server: Rc<dyn SocketServer>,
    options: LoopOptions,
    batch: TaskBuffer,
    /// What the next turn does if it finds nothing.
    if_empty: IfEmpty,
    /// The latest reading of the clock.
    now: Instant,
    /// Tasks of the current batch that have been counted as run.
    counted: usize,
    /// So many tasks more are timed one by one, whatever it costs.
    suspicious_for: usize,
    slowest_reported: Duration,
}

/// Tasks that run between two looks at the clock in a long batch. A look costs more than a small
/// task.
const CHUNK: usize = 16;

/// The first tasks of a batch are timed one by one. A thread that is not flooded has no others.
const TIMED_EXACTLY: usize = 8;

/// So many tasks are timed one by one after a chunk with a slow one among them.
const SUSPICIOUS_FOR: usize = 10_000;

/// How long an owner that spins leaves its sockets alone.
const SPIN_POLL_INTERVAL: Duration = Duration::from_micros(20);

/// Why a loop has come back to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopEnd {
    /// The thread was told to quit, and has run what was ready.
    Quit,
    /// The time that the caller gave is over.
    TimeUp,
}

/// How a turn's tasks have ended.
enum Turn {
    /// There are more, but it is the sockets' turn.
    BudgetSpent,
    /// There are no more until then.
    Idle(Option<Instant>),
    /// There are no more, and will not be.
    Closed,
}

impl RunLoop {
    /// Makes the thread current. Dropped without [`end`](Self::end), it leaves the thread open.
    pub(crate) fn new(
        handle: ThreadHandle,
        server: Rc<dyn SocketServer>,
        options: LoopOptions,
    ) -> Self {
        let scope = CurrentScope::enter(handle.clone(), server.clone());
        let if_empty = Self::first_if_empty(options.wait_strategy);
        Self {
            scope,
            handle,
            server,
            slowest_reported: options.slow_task_threshold.unwrap_or(Duration::MAX),
            options,
            batch: TaskBuffer::new(),
            if_empty,
            now: Instant::now(),
            counted: 0,
            suspicious_for: 0,
        }
    }

    fn first_if_empty(strategy: WaitStrategy) -> IfEmpty {
        match strategy {
            WaitStrategy::Park => IfEmpty::Sleep,
            WaitStrategy::SpinThenPark(_) => IfEmpty::Spin,
        }
    }

    pub(crate) fn scope(&self) -> &CurrentScope {
        &self.scope
    }

    /// Runs until the thread is told to quit and has done what was ready, or the time is over. A
    /// panic is returned if the thread's policy is to end by it.
    pub(crate) fn run(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<LoopEnd, Box<dyn Any + Send>> {
        loop {
            // What was before, outside of the loop or in a task that panicked, is not the next task's.
            self.now = Instant::now();
            let payload = match catch_unwind(AssertUnwindSafe(|| self.turns(deadline))) {
                Ok(end) => return Ok(end),
                Err(payload) => payload,
            };
            self.count_ran();
            let message = panic_message(&*payload);
            tracing::error!(thread = self.handle.name(), message, "a task panicked");
            match self.options.panic_policy {
                PanicPolicy::End => return Err(payload),
                PanicPolicy::Continue => {}
                PanicPolicy::Abort => std::process::abort(),
            }
        }
    }

    /// Closes the thread, if it is not closed, and drops what is left of it: tasks that did not
    /// run, and the objects that lived on it.
    pub(crate) fn end(&mut self) {
        self.handle.quit();
        while let Some(task) = self.batch.pop() {
            drop_quietly(&self.handle, task);
        }
        self.scope.context().drop_everything();
    }

    fn turns(&mut self, deadline: Option<Instant>) -> LoopEnd {
        loop {
            let turn = self.run_tasks();
            let is_time_up = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match turn {
                Turn::Closed => return LoopEnd::Quit,
                Turn::BudgetSpent => self.poll(),
                Turn::Idle(_) if is_time_up => self.poll(),
                Turn::Idle(wake_at) if self.if_empty == IfEmpty::Spin => {
                    self.spin(wake_at, deadline);
                }
                Turn::Idle(wake_at) => self.sleep(wake_at, deadline),
            }
            if is_time_up {
                return LoopEnd::TimeUp;
            }
        }
    }

    /// Steps 1 and 2 of a turn.
    fn run_tasks(&mut self) -> Turn {
        let mut promoted = 0;
        if !self.batch.is_empty() {
            promoted = self.handle.inbox().promote_due(Instant::now);
        }
        let budget = self.options.budget;
        let mut ran = 0;
        let mut time_is_up_at = None;
        loop {
            if self.batch.is_empty() {
                let counters = self.handle.counters();
                let wants_sample = counters.batches.get().is_multiple_of(SAMPLED_ONE_IN);
                let inbox = self.handle.inbox();
                match inbox.take(&mut self.batch, self.if_empty, wants_sample, Instant::now) {
                    Found::Work {
                        promoted: due,
                        posted_at,
                    } => self.note_batch(promoted + due, posted_at),
                    Found::Nothing(wake_at) => return Turn::Idle(wake_at),
                    Found::Closed => return Turn::Closed,
                }
                promoted = 0;
            }
            // The latest reading is from before the turn's first task only if it had one already.
            if ran > 0 {
                let time_is_up_at =
                    *time_is_up_at.get_or_insert_with(|| due_after(self.now, budget.time));
                if ran >= budget.tasks || self.now >= time_is_up_at {
                    return Turn::BudgetSpent;
                }
            }
            ran += self.run_chunk();
        }
    }

    fn note_batch(&mut self, delayed: usize, posted_at: Option<Instant>) {
        self.if_empty = Self::first_if_empty(self.options.wait_strategy);
        self.counted = 0;
        let counters = self.handle.counters();
        counters.batches.add(1);
        counters.delayed_tasks.add(delayed as u64);
        counters.largest_batch.raise_to(self.batch.len() as u64);
        if let Some(posted_at) = posted_at {
            counters.queue_delay.record(posted_at.elapsed());
        }
    }

    /// Runs one task, or a few if there are many, and reads the clock.
    fn run_chunk(&mut self) -> usize {
        let is_timed_exactly = self.batch.taken() < TIMED_EXACTLY || self.suspicious_for > 0;
        let planned = if is_timed_exactly { 1 } else { CHUNK };
        let mut locations = [None; CHUNK];
        let is_traced = LevelFilter::current() >= LevelFilter::TRACE;
        for location in &mut locations[..planned] {
            *location = self.batch.next_location();
            match location {
                Some(posted_at) if is_traced => {
                    tracing::trace_span!("task", %posted_at).in_scope(|| self.batch.run_next());
                }
                _ => self.batch.run_next(),
            }
        }
        let ran = self.count_ran();
        self.suspicious_for = self.suspicious_for.saturating_sub(ran);
        let before = std::mem::replace(&mut self.now, Instant::now());
        let took = self.now - before;
        if is_timed_exactly {
            self.handle.counters().run_time.record(took);
        }
        if self
            .options
            .slow_task_threshold
            .is_some_and(|threshold| took >= threshold)
        {
            self.note_slow(&locations[..ran], took);
        }
        ran
    }

    /// Counts what has run since the last count.
    fn count_ran(&mut self) -> usize {
        let ran = self.batch.taken() - self.counted;
        self.counted = self.batch.taken();
        self.handle.counters().tasks.add(ran as u64);
        ran
    }

    #[cold]
    fn note_slow(&mut self, among: &[Option<&'static Location<'static>>], took: Duration) {
        for location in among.iter().flatten() {
            self.handle
                .counters()
                .note_slow(location, took, among.len() == 1);
        }
        if among.len() > 1 {
            // One of several. If it comes again, it is caught alone.
            self.suspicious_for = SUSPICIOUS_FOR;
        }
        if took >= self.slowest_reported
            && let Some(Some(last)) = among.last()
        {
            self.slowest_reported = took + Duration::from_nanos(1);
            tracing::warn!(
                thread = self.handle.name(),
                posted_at = %last,
                one_of = among.len(),
                ?took,
                "a task took long; reported again when one takes longer"
            );
        }
    }

    fn poll(&mut self) {
        self.handle.counters().polls.add(1);
        self.wait(MaxWait::Poll);
    }

    fn sleep(&mut self, wake_at: Option<Instant>, deadline: Option<Instant>) {
        self.handle.counters().waits.add(1);
        let until = match (wake_at, deadline) {
            (Some(wake_at), Some(deadline)) => Some(wake_at.min(deadline)),
            (wake_at, deadline) => wake_at.or(deadline),
        };
        self.wait(until.map_or(MaxWait::Forever, MaxWait::Until));
        self.if_empty = Self::first_if_empty(self.options.wait_strategy);
    }

    /// Watches for news. Whoever posts meanwhile finds an owner that is awake.
    fn spin(&mut self, wake_at: Option<Instant>, deadline: Option<Instant>) {
        let WaitStrategy::SpinThenPark(duration) = self.options.wait_strategy else {
            return;
        };
        self.now = Instant::now();
        let until = due_after(self.now, duration);
        let mut poll_at = self.now + SPIN_POLL_INTERVAL;
        loop {
            for _ in 0..64 {
                if self.handle.inbox().has_news() {
                    return;
                }
                std::hint::spin_loop();
            }
            // Also what a task that comes next is timed from: a reading after it has come would be in
            // its way.
            let now = Instant::now();
            self.now = now;
            if now >= until {
                self.if_empty = IfEmpty::Sleep;
                return;
            }
            if [wake_at, deadline]
                .into_iter()
                .flatten()
                .any(|at| now >= at)
            {
                return;
            }
            if now >= poll_at {
                self.poll();
                poll_at = now + SPIN_POLL_INTERVAL;
            }
        }
    }

    fn wait(&mut self, max_wait: MaxWait) {
        if let Err(error) = self.server.wait(max_wait, ProcessIo::Yes) {
            // A thread that silently ended here would leave everyone waiting. The pause keeps a
            // failure that lasts from taking a whole core.
            tracing::error!(thread = self.handle.name(), %error, "waiting failed, trying again");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.now = Instant::now();
    }
}

/// Runs drop code of the user's where a panic can only be logged.
pub(crate) fn drop_quietly<T>(thread: &ThreadHandle, value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        let message = panic_message(&*payload);
        tracing::error!(
            thread = thread.name(),
            message,
            "dropping a closure or an object panicked"
        );
    }
}
