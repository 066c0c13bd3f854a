//! Locks and atomics: parking_lot's and the standard library's, or loom's stand-ins, under which the
//! models in this crate explore every interleaving.

#[cfg(not(loom))]
pub(crate) use self::contended::ContendedMutex;
#[cfg(not(loom))]
pub(crate) use parking_lot::{Condvar, Mutex};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(loom)]
pub(crate) use self::model::{Condvar, Mutex, Mutex as ContendedMutex};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

/// The lock of the queues, the one that many posters want at the same time.
///
/// The standard library's, because parking_lot's moves half as many tasks from four posters on two
/// cores: its waiters yield and park where the standard library's spin on, in vain or not, for the
/// few nanoseconds that a post takes (see `docs/performance.md`).
#[cfg(not(loom))]
mod contended {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    #[derive(Debug, Default)]
    pub(crate) struct ContendedMutex<T>(Mutex<T>);

    impl<T> ContendedMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // Nothing of a user's runs under it. If something of ours has panicked there, the queue
            // is as good as before: every change of it is one call.
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// loom's lock and condition variable in parking_lot's clothes.
#[cfg(loom)]
mod model {
    use std::ops::{Deref, DerefMut};

    use loom::sync;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(
                self.0.lock().expect("models do not panic under a lock"),
            ))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("taken only while waiting")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("taken only while waiting")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(sync::Condvar);

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("taken only while waiting");
            guard.0 = Some(
                self.0
                    .wait(inner)
                    .expect("models do not panic under a lock"),
            );
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
