//! The threading core of libwebrtc, done in Rust.
//!
//! A real-time-communication stack is a handful of threads that talk to each other: one that the
//! application calls (*signaling*), one that decides (*worker*), one or more that move packets
//! (*network*). What they need of a runtime is not a work-stealing pool but something simpler and
//! stricter: a thread with a name, a FIFO of posted tasks, a heap of delayed tasks, and **one**
//! place where it waits for both its sockets and its posts. That is what libwebrtc calls
//! `Thread`, and what this crate is.
//!
//! ```
//! use rtc_thread::{Thread, ThreadBound};
//!
//! // A thread that decides, and one that can have sockets.
//! let worker = Thread::builder().name("worker").spawn()?;
//! let network = Thread::builder().name("network").with_sockets().spawn()?;
//!
//! // A value that lives on the network thread; it need not be `Send`.
//! let sent = ThreadBound::new(&network.handle(), Vec::new)?;
//!
//! // Fire and forget: the worker decides, the network thread does.
//! let to_network = sent.clone();
//! worker.post(move || {
//!     to_network.post(|sent: &mut Vec<&str>| sent.push("first")).expect("the network runs");
//! })?;
//!
//! // Ask and wait: after everything posted before it.
//! worker.blocking_call(|| ())?;
//! assert_eq!(1, sent.blocking_call(|sent| sent.len())?);
//!
//! // Ask and go on: enqueued now, awaited (in any executor) or waited for later, if at all.
//! let call = sent.call(|sent| sent.len());
//! assert_eq!(1, call.wait()?);
//!
//! // Ends both threads; what was posted has run.
//! worker.stop()?;
//! network.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The parts
//!
//! | here | what it is | libwebrtc |
//! |---|---|---|
//! | [`Thread`], [`Builder`] | a thread, as its owner sees it | `webrtc::Thread`, `Start`, `Stop` |
//! | [`WrappedThread`] | a thread that was there before | `WrapCurrent`, `ProcessMessages` |
//! | [`ThreadHandle`] | a thread, as everyone else sees it | `Thread*` |
//! | [`TaskQueue`], [`TaskQueueExt`] | anything one can post to | `TaskQueueBase` |
//! | [`Task`] | a closure on its way, stored inline | `absl::AnyInvocable<void() &&>` |
//! | [`ThreadHandle::post`] | append to the FIFO | `PostTask` |
//! | [`ThreadHandle::post_delayed`], [`DelayedTask`], [`Precision`] | run later, cancellable | `PostDelayedTask` |
//! | [`ThreadHandle::blocking_call`] | run there, wait here | `BlockingCall` |
//! | [`BlockingCallPolicy`], [`ForbidBlockingCalls`], [`CountBlockingCalls`] | who may wait for whom | `AllowInvokesToThread` and scopes |
//! | [`ThreadHandle::call`], [`Call`] | run there, result to come | none |
//! | [`reply`], [`Reply`] | a result to come, from whoever | none |
//! | [`ThreadHandle::spawn`], [`spawn_local`], [`sleep`], [`interval`] | futures on a thread | none |
//! | [`ThreadBound`] | a value that lives on one thread | the proxy macros of `pc/proxy.h` |
//! | [`current()`], [`socket_server()`] | the thread one is on | `Thread::Current()` |
//! | [`threads`], [`process_all_queued`] | all threads there are | `ThreadManager` |
//! | [`SafetyFlag`], [`ScopedSafety`] | tasks whose owner may be gone | `PendingTaskSafetyFlag`, `ScopedTaskSafety` |
//! | [`RepeatingTask`] | again and again | `RepeatingTaskHandle` |
//! | [`OperationsChain`] | asynchronous, one at a time | `OperationsChain` |
//! | [`SequenceChecker`] | a check of the thread, at run time | `SequenceChecker` |
//! | [`Event`] | something to wait for | `Event` |
//! | [`Clock`], [`now`], [`Simulation`] | time, real or virtual | `Clock`, `GlobalSimulatedTimeController` |
//! | [`ThreadStats`], [`TraceRecorder`] | a look inside | `TRACE_EVENT` |
//! | [`Budget`], [`WaitStrategy`], [`PanicPolicy`], [`Priority`] | how a thread runs | in part `TaskQueueFactory` |
//!
//! The wait itself, and the sockets, are the crate [`socket_server`](mod@::socket_server).
//!
//! # Guarantees
//!
//! Each is stated in full, and tested, at the item that gives it.
//!
//! - **Order.** Tasks of one poster run in the order in which they were posted; posts, calls and
//!   blocking calls share one FIFO. A post never runs inline.
//! - **Timers.** A delayed task is never early. Tasks run in the order of their due times, equal
//!   ones in posting order. A due task joins the end of the FIFO at the loop's next turn. One of
//!   low precision is late by at most the thread's [leeway](Builder::leeway) for that reason.
//! - **Wake-ups.** None is lost, and there is one for one sleep, however many posts.
//! - **Fairness.** A flood of tasks delays sockets by at most the thread's [`Budget`].
//! - **Where closures are dropped.** On their target thread, run or not; or they are handed back
//!   to the poster in the error. Never silently on the posting thread.
//! - **Blocking.** A cycle of threads that wait for each other is an error that names them, in
//!   every build. A call to a thread that quits is an error. A result is never made up.
//! - **Shutdown.** What was ready at [`quit`](ThreadHandle::quit) runs; what was not due does not;
//!   later posts come back. [`Thread::join`] returns the panic that ended a thread.
//! - **Cost.** A post of up to [`INLINE_CAPTURE_BYTES`] of captures allocates nothing once the
//!   queue has grown, and makes a system call only if the thread sleeps.
//!
//! # Not for
//!
//! CPU-bound work that should spread over cores (use a pool); posting from signal handlers (a post
//! takes a lock).

mod blocking_call;
mod bound;
mod call;
mod clock;
mod current;
mod delayed;
mod error;
mod event;
mod future;
mod handle;
mod inbox;
mod operations_chain;
mod os;
mod permissions;
mod registry;
mod repeating;
mod run_loop;
mod safety;
mod sequence_checker;
mod simulation;
mod stats;
mod sync;
mod task;
mod task_buffer;
mod task_queue;
mod thread;
mod trace;
mod wait_for;
mod wrapped;

pub use bound::ThreadBound;
pub use call::{Call, Reply, reply};
pub use clock::{Clock, now};
pub use current::{current, socket_server};
pub use delayed::Precision;
pub use error::{CallError, JoinError, PostError, SpawnError, ThreadPanic, WaitCycle};
pub use event::{Event, Reset};
pub use future::{Interval, NoCurrentThread, Sleep, interval, sleep, sleep_until, spawn_local};
pub use handle::{DelayedTask, ThreadHandle, ThreadId};
pub use operations_chain::{Completion, OperationsChain};
pub use os::{Priority, RefusedSetting, Setting};
pub use permissions::{
    BlockingCallCount, BlockingCallPolicy, CountBlockingCalls, ForbidBlockingCalls,
};
pub use registry::{ProcessError, process_all_queued, threads};
pub use repeating::{Repeat, RepeatingTask};
pub use run_loop::{Budget, PanicPolicy, WaitStrategy};
pub use safety::{SafetyFlag, ScopedSafety};
pub use sequence_checker::{SequenceChecker, WrongSequence};
pub use simulation::{Exploration, Simulation};
pub use stats::{Histogram, SlowTask, ThreadStats};
pub use task::{INLINE_CAPTURE_BYTES, Task};
pub use task_queue::{TaskQueue, TaskQueueExt};
pub use thread::{Builder, Thread};
pub use trace::{AlreadyRecording, Trace, TraceRecorder};
pub use wrapped::WrappedThread;
