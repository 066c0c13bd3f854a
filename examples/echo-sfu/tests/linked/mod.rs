//! Two processes, or two routers as if of two processes, and a pipe between them. A test that needs
//! another process runs itself as that, told by the environment where to connect to.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::net::SocketAddr;
use std::process::Command;

use echo_sfu::PipeSecret;
use echo_sfu::objects::{
    PipeListener, PipeListenerEvent, PlainTransportOptions, Producer, ProducerOptions, RemotePipe,
    RemotePipeEvent,
};

use crate::plain_rtp::{Place, place, vp8};
use crate::support::process::Process;
use crate::support::wait::wait_for;

const CONNECT_TO: &str = "PROCESS_PIPE_CONNECT_TO";

pub(crate) fn secret() -> PipeSecret {
    PipeSecret::new(b"known to both of the processes").unwrap()
}

pub(crate) fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn listen(place: &Place) -> PipeListener {
    place
        .router
        .listen_for_pipes(local(), secret())
        .wait()
        .unwrap()
}

#[track_caller]
pub(crate) fn accept(place: &Place, listener: &mut PipeListener) -> RemotePipe {
    let id = wait_for("a process connects", || {
        match listener.events().try_next() {
            Some(PipeListenerEvent::Connected(id)) => Ok(id),
            other => Err(other),
        }
    });
    place.router.remote_pipe(id).wait().unwrap()
}

/// A producer that is piped to here, and what is said about it.
#[track_caller]
pub(crate) fn produced(place: &Place, pipe: &mut RemotePipe) -> (Producer, String) {
    let (id, label) = wait_for("a producer is piped", || match pipe.events().try_next() {
        Some(RemotePipeEvent::Produced {
            producer, label, ..
        }) => Ok((producer, label.to_string())),
        other => Err(other),
    });
    (place.router.producer(id).wait().unwrap(), label)
}

/// The same test, in another process.
pub(crate) fn another_process(test: &str, connect_to: SocketAddr) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CONNECT_TO, connect_to.to_string());
    Process::start("the other process", &mut command)
}

/// Where to connect to, if this is the other process of a test.
pub(crate) fn other_end() -> Option<SocketAddr> {
    Some(std::env::var(CONNECT_TO).ok()?.parse().unwrap())
}

pub(crate) fn connect(to: SocketAddr) -> (Place, RemotePipe) {
    let place = place(1);
    let pipe = place.router.connect_pipe(to, secret()).wait().unwrap();
    (place, pipe)
}

/// Two routers that are linked as if they were of two processes, and a producer on the first.
pub(crate) struct Linked {
    pub(crate) near: Place,
    pub(crate) far: Place,
    pub(crate) near_pipe: RemotePipe,
    pub(crate) far_pipe: RemotePipe,
    pub(crate) source: Producer,
}

pub(crate) fn linked() -> Linked {
    let (near, far) = (place(1), place(2));
    let mut listener = listen(&far);
    let to = listener.local_address();
    let near_pipe = near.router.connect_pipe(to, secret()).wait().unwrap();
    let far_pipe = accept(&far, &mut listener);
    let options = PlainTransportOptions::default();
    let transport = near.router.create_plain_transport(options).wait().unwrap();
    let source = transport.produce(vp8(1), ProducerOptions::new());
    Linked {
        source: source.wait().unwrap(),
        near,
        far,
        near_pipe,
        far_pipe,
    }
}
