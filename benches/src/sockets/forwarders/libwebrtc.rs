//! libwebrtc's `AsyncUDPSocket` on a `PhysicalSocketServer`.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Forwarder, ThreadInfo};
use crate::peers::libwebrtc::{RtcThread, start as start_thread};
use crate::peers::{Peer, on_thread};

#[repr(C)]
struct RtcForwarder {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn bench_rtc_forwarder_new(
        thread: *mut RtcThread,
        ports: *const u16,
        count: usize,
        port: *mut u16,
    ) -> *mut RtcForwarder;
    fn bench_rtc_forwarder_delete(thread: *mut RtcThread, forwarder: *mut RtcForwarder);
}

struct Socket {
    thread: *mut RtcThread,
    forwarder: *mut RtcForwarder,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: it is deleted once, before its thread: so the fields are in that order in `start`.
        unsafe { bench_rtc_forwarder_delete(self.thread, self.forwarder) }
    }
}

pub(crate) fn start(destinations: &[SocketAddr]) -> Result<Forwarder, String> {
    let peer = start_thread(true)?;
    let handle = peer.handle();
    let info = on_thread(&handle, |_| ThreadInfo::of_this_thread())?;
    let ports: Vec<u16> = destinations.iter().map(SocketAddr::port).collect();
    let (thread, mut port) = (handle.thread(), 0);
    // SAFETY: the thread exists, and the pointers are valid during the call.
    let forwarder =
        unsafe { bench_rtc_forwarder_new(thread, ports.as_ptr(), ports.len(), &raw mut port) };
    if forwarder.is_null() {
        return Err("libwebrtc cannot bind a socket".to_owned());
    }
    Ok(Forwarder {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        thread: info,
        _running: Box::new((Socket { thread, forwarder }, peer)),
    })
}
