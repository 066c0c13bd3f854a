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
/// parking_lot's, behind a back-off. What takes time under contention is not the post but the cache
/// line that travels between the cores for each; a poster that is let alone for a microsecond makes
/// dozens of posts without that. parking_lot's own waiters yield to each other, which from four
/// posters on two cores moves a third as many tasks (see `docs/performance.md`).
#[cfg(not(loom))]
mod contended {
    use parking_lot::{Mutex, MutexGuard};

    /// Pauses of the processor, some ten nanoseconds each, before the second, third, … attempt. Few at
    /// first, for an owner that has seen a post before its poster is done.
    const BACK_OFF: [u32; 6] = [4, 32, 128, 256, 256, 256];

    #[derive(Debug, Default)]
    pub(crate) struct ContendedMutex<T>(Mutex<T>);

    impl<T> ContendedMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.try_lock() {
                Some(guard) => guard,
                None => self.lock_contended(),
            }
        }

        #[cold]
        fn lock_contended(&self) -> MutexGuard<'_, T> {
            for pauses in BACK_OFF {
                for _ in 0..pauses {
                    std::hint::spin_loop();
                }
                if let Some(guard) = self.0.try_lock() {
                    return guard;
                }
            }
            self.0.lock()
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
