//! Names becoming addresses.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use crate::registry::{Key, News, Registered, SharedRegistry};

/// What is called with the addresses of a name, on the thread that asked.
pub type OnResolved = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>)>;

/// A name that is being resolved. Dropping it gives up: nothing is called then.
///
/// libwebrtc: `AsyncDnsResolver`.
#[must_use = "dropping it gives up"]
pub struct Resolution {
    core: Rc<ResolutionCore>,
}

struct ResolutionCore {
    registry: SharedRegistry,
    key: Key,
    done: Cell<Option<OnResolved>>,
    outcome: RefCell<Option<io::Result<Vec<SocketAddr>>>>,
}

/// How a server delivers the outcome.
#[derive(Clone)]
pub(crate) struct Resolved(Weak<ResolutionCore>);

impl Resolution {
    pub(crate) fn new(registry: SharedRegistry, done: OnResolved) -> (Self, Resolved) {
        let key = registry.borrow_mut().reserve();
        let core = Rc::new(ResolutionCore {
            registry,
            key,
            done: Cell::new(Some(done)),
            outcome: RefCell::default(),
        });
        let weak = Rc::downgrade(&core);
        let registered: Weak<dyn Registered> = weak.clone();
        core.registry.borrow_mut().put(key, registered);
        (Self { core }, Resolved(weak))
    }
}

impl Resolved {
    /// Whether anybody still waits for the outcome.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// To be called on the server's thread. The one who asked hears of it in a wait.
    pub(crate) fn deliver(&self, outcome: io::Result<Vec<SocketAddr>>) {
        if let Some(core) = self.0.upgrade() {
            core.outcome.replace(Some(outcome));
            core.registry.borrow_mut().push_ready(core.key);
        }
    }
}

impl Registered for ResolutionCore {
    fn note(&self, _news: News) {}

    fn dispatch(self: Rc<Self>) {
        if let Some(outcome) = self.outcome.take()
            && let Some(done) = self.done.take()
        {
            done(outcome);
        }
    }
}

impl Drop for ResolutionCore {
    fn drop(&mut self) {
        self.registry.borrow_mut().remove(self.key);
    }
}

impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolution")
            .field("is_done", &self.core.outcome.borrow().is_some())
            .finish_non_exhaustive()
    }
}
