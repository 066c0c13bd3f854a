// Stands in for libgupnp-igd while tests run GStreamer's WHIP client, and finds no router.
//
// libnice, GStreamer's ICE library, links the real one, which asks by multicast for routers to
// configure: tests keep to this machine. Besides, on Debian 12 it drags in libsoup 3, beside which
// the client's own libsoup 2 refuses to run.

use std::ffi::c_void;
use std::ptr::null_mut;

/// Null means that there is no UPnP; none of the others is called after that.
#[unsafe(no_mangle)]
pub extern "C" fn gupnp_simple_igd_thread_new() -> *mut c_void {
    null_mut()
}

#[unsafe(no_mangle)]
pub extern "C" fn gupnp_simple_igd_get_type() -> usize {
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn gupnp_simple_igd_add_port() {}

#[unsafe(no_mangle)]
pub extern "C" fn gupnp_simple_igd_remove_port_local() {}
