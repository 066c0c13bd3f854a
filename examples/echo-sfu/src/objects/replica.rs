//! State at its source, and copies of it elsewhere.

/// A state, and how many changes it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versioned<S> {
    pub(super) version: u64,
    pub(super) state: S,
}

/// State where it is decided.
#[derive(Debug)]
pub(super) struct Source<S>(Versioned<S>);

impl<S: Copy + Eq> Source<S> {
    pub(super) const fn new(state: S) -> Self {
        Self(Versioned { version: 0, state })
    }

    /// The state as it is now: what a new copy begins with.
    pub(super) const fn current(&self) -> Versioned<S> {
        self.0
    }

    /// Changes the state. What is returned is to be sent to all who have a copy; `None` if nothing
    /// has changed.
    pub(super) fn set(&mut self, state: S) -> Option<Versioned<S>> {
        if state == self.0.state {
            return None;
        }
        self.0 = Versioned {
            version: self.0.version + 1,
            state,
        };
        Some(self.0)
    }
}

/// A copy of a state that is decided elsewhere.
#[derive(Debug)]
pub(super) struct Replica<S>(Versioned<S>);

impl<S: Copy + Eq> Replica<S> {
    /// A copy of what the source was when the copy was ordered.
    pub(super) const fn of(source: Versioned<S>) -> Self {
        Self(source)
    }

    pub(super) const fn state(&self) -> S {
        self.0.state
    }

    pub(super) const fn version(&self) -> u64 {
        self.0.version
    }

    /// The source has changed. False if that was known already.
    pub(super) fn apply(&mut self, newer: Versioned<S>) -> bool {
        let is_newer = newer.version > self.0.version;
        if is_newer {
            self.0 = newer;
        }
        is_newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_source_and_does_not_go_back() {
        let mut source = Source::new(false);
        let mut copy = Replica::of(source.current());
        assert_eq!(None, source.set(false));
        let first = source.set(true).unwrap();
        let second = source.set(false).unwrap();
        assert!(copy.apply(first) && copy.state());
        assert!(copy.apply(second) && !copy.state());
        assert!(!copy.apply(first) && !copy.state());
        assert!(!copy.apply(source.current()));
    }
}
