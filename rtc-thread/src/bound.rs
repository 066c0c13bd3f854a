//! Values that live on one thread.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::call::Call;
use crate::current;
use crate::error::{CallError, PostError};
use crate::handle::{DelayedTask, ThreadHandle};

/// A handle to a value that is created, used and dropped on one thread.
///
/// The handle is `Send`, `Sync` and cheap to clone; the value need be none of these. It is reached
/// only by closures that run on its thread, so "called on the wrong thread" is a type error. It is
/// dropped on its thread: when the last handle is dropped (after what was posted through it), or
/// when the thread ends, whichever comes first.
///
/// libwebrtc: the proxy macros of `pc/proxy.h`.
pub struct ThreadBound<T: 'static> {
    shared: Arc<Shared>,
    value: PhantomData<fn(T) -> T>,
}

struct Shared {
    thread: ThreadHandle,
    key: u64,
}

impl<T: 'static> ThreadBound<T> {
    /// Creates a value on a thread.
    ///
    /// The constructor is posted; the handle can be used at once, since whatever goes through it
    /// comes after.
    ///
    /// # Errors
    ///
    /// The thread has quit: the constructor is handed back.
    #[track_caller]
    pub fn new<F>(thread: &ThreadHandle, constructor: F) -> Result<Self, PostError>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let bound = Self::reserve(thread.clone());
        let key = bound.shared.key;
        thread.post(move || insert(key, constructor()))?;
        Ok(bound)
    }

    /// Binds an existing value to the current thread. `None`, and the value is dropped, if the
    /// caller is not on one of our threads.
    pub fn on_current(value: T) -> Option<Self> {
        let bound = Self::reserve(current()?);
        insert(bound.shared.key, value);
        Some(bound)
    }

    fn reserve(thread: ThreadHandle) -> Self {
        let key = next_object_key();
        Self {
            shared: Arc::new(Shared { thread, key }),
            value: PhantomData,
        }
    }

    /// The thread that the value lives on.
    pub fn thread(&self) -> &ThreadHandle {
        &self.shared.thread
    }

    /// Posts a closure that uses the value. See [`ThreadHandle::post`].
    ///
    /// If the value is gone by then, because its constructor panicked, the closure is dropped and a
    /// warning logged.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    #[track_caller]
    pub fn post<F>(&self, closure: F) -> Result<(), PostError>
    where
        F: FnOnce(&mut T) + Send + 'static,
    {
        let key = self.shared.key;
        self.shared.thread.post(move || {
            if let Err(error) = with_object(key, closure) {
                tracing::warn!(%error, "a posted closure did not run");
            }
        })
    }

    /// Posts a closure that uses the value when `delay` has passed. See
    /// [`ThreadHandle::post_delayed`].
    ///
    /// It does not keep the value alive: if the value is gone by then, the closure is dropped.
    ///
    /// # Errors
    ///
    /// The thread has quit: the task is handed back.
    #[track_caller]
    pub fn post_delayed<F>(&self, delay: Duration, closure: F) -> Result<DelayedTask, PostError>
    where
        F: FnOnce(&mut T) + Send + 'static,
    {
        let key = self.shared.key;
        self.shared.thread.post_delayed(delay, move || {
            if let Err(error) = with_object(key, closure) {
                tracing::debug!(%error, "a delayed closure did not run");
            }
        })
    }

    /// Enqueues a closure that uses the value, and returns a handle to its result. See
    /// [`ThreadHandle::call`].
    #[track_caller]
    pub fn call<F, R>(&self, closure: F) -> Call<R>
    where
        F: FnOnce(&mut T) -> R + Send + 'static,
        R: Send + 'static,
    {
        let key = self.shared.key;
        self.shared
            .thread
            .call_with(move || with_object(key, closure))
    }

    /// Runs a closure that uses the value, and waits for it. See [`ThreadHandle::blocking_call`].
    ///
    /// # Errors
    ///
    /// As there; and [`CallError::Gone`], or [`CallError::Reentrant`] if called, on the value's own
    /// thread, from within a closure that has the value already.
    ///
    /// # Panics
    ///
    /// If the closure panics.
    #[track_caller]
    pub fn blocking_call<F, R>(&self, closure: F) -> Result<R, CallError>
    where
        F: FnOnce(&mut T) -> R + Send,
        R: Send,
    {
        let key = self.shared.key;
        self.shared
            .thread
            .blocking_call(move || with_object(key, closure))?
    }
}

/// A name for an object of a thread; never given twice.
pub(crate) fn next_object_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn insert<T: 'static>(key: u64, value: T) {
    current::with_context(|context| context.insert_object(key, Rc::new(RefCell::new(value))));
}

/// Runs a closure on an object of the current thread.
fn with_object<T: 'static, R>(key: u64, closure: impl FnOnce(&mut T) -> R) -> Result<R, CallError> {
    let object = current::with_context(|context| context.object(key)).flatten();
    let object: Rc<RefCell<T>> = object
        .and_then(|object: Rc<dyn Any>| object.downcast().ok())
        .ok_or(CallError::Gone)?;
    let mut value = object.try_borrow_mut().map_err(|_| CallError::Reentrant)?;
    Ok(closure(&mut value))
}

impl Drop for Shared {
    fn drop(&mut self) {
        let key = self.key;
        // Refused if the thread has quit: it drops its objects itself.
        drop(self.thread.post(move || {
            // The value is dropped outside of the borrow of the table it was in.
            let object = current::with_context(|context| context.remove_object(key));
            drop(object);
        }));
    }
}

impl<T: 'static> Clone for ThreadBound<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            value: PhantomData,
        }
    }
}

impl<T: 'static> fmt::Debug for ThreadBound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBound")
            .field("type", &std::any::type_name::<T>())
            .field("thread", &self.shared.thread.name())
            .finish()
    }
}
