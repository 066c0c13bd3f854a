//! Options of UDP that the standard library does not set.

use std::ffi::{c_int, c_void};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Every send is a train of datagrams of this size; the last may be shorter.
pub(crate) fn segment(socket: &UdpSocket, bytes: usize) -> Result<(), String> {
    set(socket, libc::UDP_SEGMENT, bytes as c_int).map_err(|error| format!("UDP_SEGMENT: {error}"))
}

/// Lets the kernel hand out as one what it has coalesced.
pub(crate) fn coalesce(socket: &UdpSocket) -> Result<(), String> {
    set(socket, libc::UDP_GRO, 1).map_err(|error| format!("UDP_GRO: {error}"))
}

fn set(socket: &UdpSocket, option: c_int, value: c_int) -> std::io::Result<()> {
    // SAFETY: these options are an int, and there is one.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            (&raw const value).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
