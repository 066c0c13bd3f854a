//! The thread one is on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::{Rc, Weak};

use socket_server::SocketServer;

use crate::handle::{ThreadHandle, ThreadId};
use crate::run_loop::{RunLoop, drop_quietly};

thread_local! {
    /// Apart from the context, because it is asked for on every post and must be cheap.
    static ID: Cell<Option<ThreadId>> = const { Cell::new(None) };
    static CONTEXT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// What belongs to the thread that runs, and to no other.
pub(crate) struct Context {
    handle: ThreadHandle,
    server: Rc<dyn SocketServer>,
    /// Values that live on the thread, by key, which is the order in which they go at its end: those of [`ThreadBound`](crate::ThreadBound)s, and
    /// spawned futures.
    objects: RefCell<BTreeMap<u64, Rc<dyn Any>>>,
    /// The loop of a wrapped thread, which may be run from outside a task.
    wrapped_loop: RefCell<Weak<RefCell<RunLoop>>>,
}

/// The thread that the caller runs on, if it is one of ours.
///
/// libwebrtc: `Thread::Current()`, `TaskQueueBase::Current()`.
pub fn current() -> Option<ThreadHandle> {
    with_context(|context| context.handle.clone())
}

/// The socket server of the current thread: where its sockets are made.
///
/// `None` on a thread that is not ours. On a thread without sockets it is the
/// [`NullSocketServer`](socket_server::NullSocketServer), which refuses to make any.
///
/// libwebrtc: `Thread::Current()->socketserver()`.
pub fn socket_server() -> Option<Rc<dyn SocketServer>> {
    with_context(|context| context.server.clone())
}

pub(crate) fn id() -> Option<ThreadId> {
    // A thread-local destructor may post.
    ID.try_with(Cell::get).ok().flatten()
}

pub(crate) fn with_context<R>(f: impl FnOnce(&Context) -> R) -> Option<R> {
    let context = CONTEXT
        .try_with(|context| context.borrow().clone())
        .ok()
        .flatten()?;
    Some(f(&context))
}

impl Context {
    pub(crate) fn new(handle: ThreadHandle, server: Rc<dyn SocketServer>) -> Self {
        Self {
            handle,
            server,
            objects: RefCell::default(),
            wrapped_loop: RefCell::default(),
        }
    }

    pub(crate) fn handle(&self) -> &ThreadHandle {
        &self.handle
    }

    pub(crate) fn server(&self) -> &Rc<dyn SocketServer> {
        &self.server
    }

    pub(crate) fn insert_object(&self, key: u64, object: Rc<dyn Any>) {
        self.objects.borrow_mut().insert(key, object);
    }

    pub(crate) fn object(&self, key: u64) -> Option<Rc<dyn Any>> {
        self.objects.borrow().get(&key).cloned()
    }

    pub(crate) fn remove_object(&self, key: u64) -> Option<Rc<dyn Any>> {
        self.objects.borrow_mut().remove(&key)
    }

    /// All the objects there are.
    pub(crate) fn objects(&self) -> Vec<Rc<dyn Any>> {
        self.objects.borrow().values().cloned().collect()
    }

    pub(crate) fn set_wrapped_loop(&self, run_loop: Weak<RefCell<RunLoop>>) {
        *self.wrapped_loop.borrow_mut() = run_loop;
    }

    pub(crate) fn wrapped_loop(&self) -> Option<Rc<RefCell<RunLoop>>> {
        self.wrapped_loop.borrow().upgrade()
    }

    /// For the end of a closed thread: drops the tasks that wait, and all objects, those included
    /// that the dropping of others adds.
    pub(crate) fn drop_everything(&self) {
        for task in self.handle.inbox().take_rest() {
            drop_quietly(&self.handle, task);
        }
        loop {
            let objects = std::mem::take(&mut *self.objects.borrow_mut());
            if objects.is_empty() {
                break;
            }
            for object in objects.into_values() {
                drop_quietly(&self.handle, object);
            }
        }
    }
}

/// Makes a thread current for as long as it lives, and the one before it after that.
pub(crate) struct CurrentScope {
    context: Rc<Context>,
    before: Option<Rc<Context>>,
    not_send: PhantomData<*const ()>,
}

impl CurrentScope {
    pub(crate) fn enter(handle: ThreadHandle, server: Rc<dyn SocketServer>) -> Self {
        Self::enter_context(Rc::new(Context::new(handle, server)))
    }

    pub(crate) fn enter_context(context: Rc<Context>) -> Self {
        ID.set(Some(context.handle.id()));
        let before = CONTEXT.replace(Some(context.clone()));
        Self {
            context,
            before,
            not_send: PhantomData,
        }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for CurrentScope {
    fn drop(&mut self) {
        let before = self.before.take();
        // A scope that is itself in a thread-local may outlive these.
        let _ = ID.try_with(|id| id.set(before.as_ref().map(|context| context.handle.id())));
        let _ = CONTEXT.try_with(|context| context.replace(before));
    }
}
