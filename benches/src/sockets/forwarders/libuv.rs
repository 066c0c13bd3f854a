//! libuv's `uv_udp_t`.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Forwarder, ThreadInfo};
use crate::peers::libuv::{Uv, start as start_loop};
use crate::peers::{Peer, on_thread};

#[repr(C)]
struct UvForwarder {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn bench_uv_forwarder_new(
        uv: *mut Uv,
        ports: *const u16,
        count: usize,
        port: *mut u16,
    ) -> *mut UvForwarder;
    fn bench_uv_forwarder_free(forwarder: *mut UvForwarder);
}

/// Freed when the loop has ended, which closes it.
struct Memory(*mut UvForwarder);

// SAFETY: it is only passed on, to be freed.
unsafe impl Send for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is freed once, after the loop: so the fields are in that order in `start`.
        unsafe { bench_uv_forwarder_free(self.0) }
    }
}

pub(crate) fn start(destinations: &[SocketAddr]) -> Result<Forwarder, String> {
    let peer = start_loop()?;
    let ports: Vec<u16> = destinations.iter().map(SocketAddr::port).collect();
    let (port, memory, thread) = on_thread(&peer.handle(), move |handle| {
        let mut port = 0;
        // SAFETY: this is the loop's thread, and the pointers are valid during the call.
        let forwarder = unsafe {
            bench_uv_forwarder_new(handle.uv(), ports.as_ptr(), ports.len(), &raw mut port)
        };
        if forwarder.is_null() {
            return Err("libuv cannot bind a socket".to_owned());
        }
        Ok((port, Memory(forwarder), ThreadInfo::of_this_thread()?))
    })?;
    Ok(Forwarder {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        thread,
        _running: Box::new((peer, memory)),
    })
}
