//! Names of objects, within a process; never used twice.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            pub(crate) fn next() -> Self {
                static NEXT: AtomicU64 = AtomicU64::new(1);
                Self(NEXT.fetch_add(1, Ordering::Relaxed))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A router.
    RouterId
}
id! {
    /// A transport.
    TransportId
}
id! {
    /// A producer.
    ProducerId
}
id! {
    /// A consumer.
    ConsumerId
}
id! {
    /// A data producer.
    DataProducerId
}
id! {
    /// A data consumer.
    DataConsumerId
}
id! {
    /// An observer.
    ObserverId
}

impl TransportId {
    /// They are given out one by one.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

impl ConsumerId {
    /// They are given out one by one.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}
