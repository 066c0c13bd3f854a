//! The thread one is on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::rc::Rc;

use socket_server::SocketServer;

use crate::handle::{ThreadHandle, ThreadId};

thread_local! {
    /// Apart from the context, because it is asked for on every post and must be cheap.
    static ID: Cell<Option<ThreadId>> = const { Cell::new(None) };
    static CONTEXT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// What belongs to the thread that runs, and to no other.
pub(crate) struct Context {
    handle: ThreadHandle,
    server: Rc<dyn SocketServer>,
    /// The values of the thread's [`ThreadBound`](crate::ThreadBound)s, by key.
    objects: RefCell<HashMap<u64, Rc<dyn Any>>>,
}

/// The thread that the caller runs on, if it is one of ours.
///
/// libwebrtc: `Thread::Current()`.
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
    pub(crate) fn insert_object(&self, key: u64, object: Rc<dyn Any>) {
        self.objects.borrow_mut().insert(key, object);
    }

    pub(crate) fn object(&self, key: u64) -> Option<Rc<dyn Any>> {
        self.objects.borrow().get(&key).cloned()
    }

    pub(crate) fn remove_object(&self, key: u64) -> Option<Rc<dyn Any>> {
        self.objects.borrow_mut().remove(&key)
    }

    /// Drops all objects, those included that the dropping of others adds.
    pub(crate) fn drop_objects(&self) {
        loop {
            let objects = std::mem::take(&mut *self.objects.borrow_mut());
            if objects.is_empty() {
                break;
            }
            drop(objects);
        }
    }
}

/// Makes a thread current for as long as it lives.
pub(crate) struct CurrentScope {
    context: Rc<Context>,
    not_send: PhantomData<*const ()>,
}

impl CurrentScope {
    pub(crate) fn enter(handle: ThreadHandle, server: Rc<dyn SocketServer>) -> Self {
        let context = Rc::new(Context {
            handle,
            server,
            objects: RefCell::default(),
        });
        ID.set(Some(context.handle.id()));
        CONTEXT.set(Some(context.clone()));
        Self {
            context,
            not_send: PhantomData,
        }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for CurrentScope {
    fn drop(&mut self) {
        ID.set(None);
        CONTEXT.set(None);
    }
}
