//! Asynchronous operations, one after the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::future::{NoCurrentThread, spawn_local};

type Operation = Box<dyn FnOnce(Completion)>;

/// Runs operations strictly one after the other, though each may take its time: the next begins when
/// the one before it has said that it is complete.
///
/// What WebRTC's specification calls an operations chain; and the mutex that one otherwise adds by
/// hand around calls that must not overlap. It lives on one thread; clones are the same chain. An
/// operation begins at once if the chain is empty. Operations that are chained run also when all
/// handles to the chain are gone.
///
/// libwebrtc: `OperationsChain`.
///
/// ```
/// use rtc_thread::OperationsChain;
///
/// let chain = OperationsChain::new();
/// let (hand_over, taken) = std::sync::mpsc::channel();
/// chain.chain(move |completion| hand_over.send(completion).expect("it is taken below"));
/// chain.chain(|completion| {
///     println!("second");
///     completion.complete();
/// });
/// taken.recv()?.complete(); // now the second runs
/// assert!(chain.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct OperationsChain {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Operation>,
    /// An operation has begun and is not complete.
    is_busy: bool,
    /// Further up the stack, operations are being started.
    is_starting: bool,
    abandoned: u64,
    on_empty: Option<Rc<dyn Fn()>>,
}

impl OperationsChain {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation. It says that it is complete by means of the [`Completion`] that it is
    /// given, at once or later.
    ///
    /// # Panics
    ///
    /// With an operation that is started here; the others are started before the panic goes on.
    pub fn chain(&self, operation: impl FnOnce(Completion) + 'static) {
        self.state
            .borrow_mut()
            .waiting
            .push_back(Box::new(operation));
        self.start_waiting();
    }

    /// Adds an operation that is a future; it is complete when the future is. It runs on the current
    /// thread.
    ///
    /// # Errors
    ///
    /// The caller is on none of our threads.
    pub fn chain_future(
        &self,
        future: impl Future<Output = ()> + 'static,
    ) -> Result<(), NoCurrentThread> {
        if crate::current().is_none() {
            return Err(NoCurrentThread);
        }
        self.chain(move |completion| {
            let run = async move {
                future.await;
                completion.complete();
            };
            // It is on the thread that the chain is on. If the future panics, the completion is
            // dropped, and that is reported.
            drop(spawn_local(run));
        });
        Ok(())
    }

    /// Whether no operation waits or is under way.
    pub fn is_empty(&self) -> bool {
        let state = self.state.borrow();
        !state.is_busy && state.waiting.is_empty()
    }

    /// Calls this whenever the chain gets empty.
    pub fn on_empty(&self, callback: impl Fn() + 'static) {
        self.state.borrow_mut().on_empty = Some(Rc::new(callback));
    }

    /// How many operations have dropped their [`Completion`] unused. Each was logged as an error;
    /// the chain went on behind it.
    pub fn abandoned(&self) -> u64 {
        self.state.borrow().abandoned
    }

    /// Starts operations until one takes its time. A loop, since a chain of a thousand that complete
    /// at once must not be a stack of a thousand. One that panics does not keep the rest from being
    /// started; its panic goes on after that.
    fn start_waiting(&self) {
        let mut panic = None;
        loop {
            let mut state = self.state.borrow_mut();
            if state.is_busy || state.is_starting {
                break;
            }
            let Some(operation) = state.waiting.pop_front() else {
                break;
            };
            state.is_busy = true;
            state.is_starting = true;
            drop(state);
            let completion = Completion {
                chain: Some(self.clone()),
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| operation(completion)));
            self.state.borrow_mut().is_starting = false;
            if let Err(payload) = outcome {
                panic.get_or_insert(payload);
            }
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    fn completed(&self) {
        let mut state = self.state.borrow_mut();
        state.is_busy = false;
        let is_empty = state.waiting.is_empty();
        let on_empty = state.on_empty.clone();
        drop(state);
        if is_empty && let Some(on_empty) = on_empty {
            on_empty();
        }
        self.start_waiting();
    }
}

impl fmt::Debug for OperationsChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("OperationsChain")
            .field("waiting", &state.waiting.len())
            .field("is_busy", &state.is_busy)
            .finish_non_exhaustive()
    }
}

/// What an operation of an [`OperationsChain`] says that it is complete with. It cannot say so
/// twice; dropping it without saying so is a fault, which is reported.
#[must_use = "the chain waits for `complete`"]
pub struct Completion {
    chain: Option<OperationsChain>,
}

impl Completion {
    /// The operation is complete; the next one begins.
    pub fn complete(mut self) {
        if let Some(chain) = self.chain.take() {
            chain.completed();
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(chain) = self.chain.take() {
            tracing::error!("an operation was dropped before it was complete");
            chain.state.borrow_mut().abandoned += 1;
            chain.completed();
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion")
    }
}
