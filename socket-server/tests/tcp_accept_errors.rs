//! Connections that cannot be accepted at the moment: conformance item 28. A test binary of its own,
//! because running out of descriptors hurts everybody in the process.

mod worlds;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use socket_server::{TcpListener, TcpState};

use worlds::tcp::{Event, OnIncoming, Peer, connect, listen};
use worlds::{World, in_physical_worlds, in_virtual_worlds};

/// What has come of the calls of a listener's handler.
#[derive(Default)]
struct Calls {
    accepted: RefCell<Vec<Peer>>,
    errors: Cell<usize>,
    calls: Cell<usize>,
}

fn accept_and_count(listener: &TcpListener) -> Rc<Calls> {
    let calls = Rc::<Calls>::default();
    let to = calls.clone();
    listener.set_handler(OnIncoming(move |listener: &TcpListener| {
        to.calls.set(to.calls.get() + 1);
        loop {
            match listener.accept() {
                Ok(socket) => to.accepted.borrow_mut().push(Peer::new(socket)),
                Err(error) => {
                    let is_over = error.kind() == std::io::ErrorKind::WouldBlock;
                    to.errors.set(to.errors.get() + usize::from(!is_over));
                    break;
                }
            }
        }
    }));
    calls
}

/// Connects while nothing can be accepted; `relieve` ends that.
fn is_accepted_later(world: &World, exhaust: impl Fn(), relieve: impl Fn()) {
    let listener = listen(world);
    let calls = accept_and_count(&listener);
    let client = connect(world, listener.local_addr());
    exhaust();
    let since = Instant::now();
    world.wait_until("it cannot be accepted", || calls.errors.get() > 0);
    world.wait_until("the client is connected all the same", || {
        client.socket.state() == TcpState::Connected
    });
    assert!(calls.accepted.borrow().is_empty());
    if world.is_physical() {
        world.wait_until("it is tried again", || calls.errors.get() >= 4);
        let tenths = since.elapsed().as_millis() / 100;
        let tries = calls.calls.get();
        assert!(
            tries as u128 <= tenths + 1,
            "{tries} in {tenths} tenths of a second"
        );
    }
    relieve();
    world.wait_until("it is accepted", || calls.accepted.borrow().len() == 1);
    let server = calls.accepted.borrow_mut().remove(0);
    client.socket.send(b"at last").unwrap();
    world.wait_until("it arrives", || server.log.data() == b"at last");
    assert_eq!(vec![Event::Connected], client.log.events());
    // Others are accepted at once.
    let errors = calls.errors.get();
    let _next = connect(world, listener.local_addr());
    world.wait_until("it is accepted", || calls.accepted.borrow().len() == 1);
    assert_eq!(errors, calls.errors.get());
}

#[test]
fn item_28_a_virtual_accept_that_fails_works_later() {
    in_virtual_worlds(|world| {
        let [_, host] = world.hosts();
        is_accepted_later(world, || host.fail_next_accept(), || {});
    });
}

/// Set in the process that has few descriptors.
#[cfg(unix)]
const FEW: &str = "SOCKET_TEST_WITH_FEW_DESCRIPTORS";

#[cfg(unix)]
#[test]
fn item_28_an_accept_without_descriptors_works_later_and_does_not_keep_the_thread_busy() {
    if std::env::var_os(FEW).is_some() {
        return with_few_descriptors();
    }
    // The limit is a process's, and others here need theirs: a shell sets it for another process.
    let this =
        "item_28_an_accept_without_descriptors_works_later_and_does_not_keep_the_thread_busy";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(FEW, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

#[cfg(unix)]
fn with_few_descriptors() {
    in_physical_worlds(|world| {
        let hoard = RefCell::new(Vec::new());
        let exhaust = || {
            while let Ok(file) = std::fs::File::open("/dev/null") {
                hoard.borrow_mut().push(file);
                assert!(hoard.borrow().len() < 1000, "there is no limit");
            }
        };
        is_accepted_later(world, exhaust, || hoard.borrow_mut().clear());
    });
}
