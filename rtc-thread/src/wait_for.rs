//! Who waits for whom, now: the check that turns a deadlock into an error.
//!
//! One edge per thread that is blocked on another, kept only while the other still owes the
//! answer. Whoever is about to wait follows the edges from its target; if they lead back, waiting
//! would never end. Unlike libwebrtc's check this one is on in every build, and an edge does not
//! outlive its call, so that A calling B at start-up and B calling A at shutdown is no accusation.
//!
//! One lock for the whole process: it is taken twice per blocking call, for some tens of
//! nanoseconds, where the call itself costs two thread switches.

use parking_lot::Mutex;

use crate::error::WaitCycle;
use crate::handle::ThreadHandle;

static EDGES: Mutex<Vec<Edge>> = Mutex::new(Vec::new());

struct Edge {
    waiter: ThreadHandle,
    target: ThreadHandle,
}

/// Records that `waiter` waits for `target`, unless that would close a cycle.
pub(crate) fn add(waiter: &ThreadHandle, target: &ThreadHandle) -> Result<(), WaitCycle> {
    let mut edges = EDGES.lock();
    if chain(&edges, target).any(|thread| thread.id() == waiter.id()) {
        let between = chain(&edges, target).take_while(|thread| thread.id() != waiter.id());
        let names = std::iter::once(waiter)
            .chain(between)
            .map(|thread| thread.name().to_owned())
            .collect();
        return Err(WaitCycle::new(names));
    }
    edges.push(Edge {
        waiter: waiter.clone(),
        target: target.clone(),
    });
    Ok(())
}

/// A thread, the one it waits for, the one that waits for, and so on. It ends, because no edge was
/// ever added that closed a cycle.
fn chain<'a>(edges: &'a [Edge], first: &'a ThreadHandle) -> impl Iterator<Item = &'a ThreadHandle> {
    std::iter::successors(Some(first), |at| {
        edges
            .iter()
            .find(|edge| edge.waiter.id() == at.id())
            .map(|edge| &edge.target)
    })
}

/// Takes the edge of `waiter` back. Called by the side that owes the answer, before it gives it:
/// were it left to the waiter, the target could call back before the waiter has woken, and be
/// accused of a deadlock that is not there.
pub(crate) fn remove(waiter: &ThreadHandle) {
    let mut edges = EDGES.lock();
    let removed = edges
        .iter()
        .position(|edge| edge.waiter.id() == waiter.id())
        .map(|at| edges.swap_remove(at));
    drop(edges);
    drop(removed);
}
