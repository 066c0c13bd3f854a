//! The workers, from the signaling thread's point of view: they may fail, and are replaced.

use std::fmt;
use std::time::Duration;

use rtc_thread::{Builder, SpawnError, Thread, ThreadBound};

use super::State;
use crate::network::NetworkThreads;
use crate::objects::{Router, Worker};
use crate::sfu::StartError;

/// From when a worker has failed until another one takes its place. A fault that comes back at once
/// does not keep the machine busy.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// Makes a thread for a worker.
pub(crate) type MakeThread = Box<dyn FnMut(Builder) -> Result<Thread, SpawnError> + Send>;

/// The workers.
pub(crate) struct Workers {
    make: MakeThread,
    networks: NetworkThreads,
    places: Vec<Place>,
    /// Those of workers that have taken another one's place. The first ones are the SFU's.
    replacements: Vec<Thread>,
}

#[derive(Debug)]
struct Place {
    worker: Worker,
    /// For those who want to see nobody but themselves. It is there as long as the worker is, and so
    /// tells when that fails.
    echo: Router,
    is_alive: bool,
}

impl Place {
    fn new(worker: Worker) -> Self {
        Self {
            echo: worker.begin_router(),
            worker,
            is_alive: true,
        }
    }
}

impl Workers {
    pub(crate) fn new(make: MakeThread, networks: NetworkThreads) -> Self {
        Self {
            make,
            networks,
            places: Vec::new(),
            replacements: Vec::new(),
        }
    }

    /// Adds a worker. Its thread is the caller's to end.
    pub(crate) fn start(&mut self) -> Result<Thread, StartError> {
        let (worker, thread) = self.make(self.places.len())?;
        self.places.push(Place::new(worker));
        Ok(thread)
    }

    fn make(&mut self, place: usize) -> Result<(Worker, Thread), StartError> {
        // A worker that has a fault takes its routers with it, and tells everyone.
        let thread = (self.make)(Thread::builder().name(format!("worker-{place}")))?;
        let worker = Worker::with_networks(&thread.handle(), self.networks.clone())?;
        Ok((worker, thread))
    }

    fn replace(&mut self, place: usize) -> Result<(), StartError> {
        let (worker, thread) = self.make(place)?;
        self.replacements.push(thread);
        self.places[place] = Place::new(worker);
        Ok(())
    }

    /// One of those that have not failed, by any number; none if all have.
    fn alive(&self, number: usize) -> Option<&Place> {
        let alive: Vec<_> = self.places.iter().filter(|own| own.is_alive).collect();
        let at = number.checked_rem(alive.len())?;
        Some(alive[at])
    }

    /// The worker for another room, of which there are so many: they are spread as they come.
    pub(super) fn for_room(&self, rooms: usize) -> Option<&Worker> {
        Some(&self.alive(rooms)?.worker)
    }

    /// The router for an echo.
    pub(super) fn for_echo(&self, number: u64) -> Option<&Router> {
        Some(&self.alive(number as usize)?.echo)
    }

    /// The worker for what links this process to others: any that has not failed.
    pub(super) fn for_hub(&self) -> Option<&Worker> {
        Some(&self.alive(0)?.worker)
    }

    /// All workers, whether or not they have failed.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Worker> {
        self.places.iter().map(|place| &place.worker)
    }

    /// Has the signaling thread told when they fail.
    pub(super) fn watch_all(&mut self, own: &ThreadBound<State>) {
        for place in 0..self.places.len() {
            self.watch(place, own);
        }
    }

    fn watch(&mut self, place: usize, own: &ThreadBound<State>) {
        let events = self.places[place].echo.events();
        events.hand_to(own, move |state, _| state.worker_failed(place));
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Workers").field(&self.places).finish()
    }
}

impl State {
    /// A worker has ended, and its rooms with it: their sessions hear of it for themselves. Rooms
    /// that are made from now on go to the others.
    fn worker_failed(&mut self, place: usize) {
        tracing::error!(worker = place, "a worker has failed, and will be replaced");
        self.workers.places[place].is_alive = false;
        self.replace_later(place);
    }

    fn replace_later(&self, place: usize) {
        if let Some(own) = &self.own {
            // Refused only while everything is shutting down.
            let _ = own.post_delayed(REPLACED_AFTER, move |state| state.replace_worker(place));
        }
    }

    fn replace_worker(&mut self, place: usize) {
        match (self.workers.replace(place), self.own.clone()) {
            (Ok(()), Some(own)) => self.workers.watch(place, &own),
            (Ok(()), None) => {}
            (Err(error), _) => {
                tracing::error!(%error, worker = place, "a worker cannot be replaced now");
                self.replace_later(place);
            }
        }
    }
}
