//! The system calls that carry datagrams, on Linux.
//!
//! Written here because no crate has them as they are needed. quinn-udp, which serves the other
//! platforms, gives the kernel too little room for what it says of a datagram, so that of those that
//! arrive coalesced the ECN mark is lost; it sends the code point 0 whatever the socket's; and it
//! does not tell of truncation. nix allocates for each message, and does not reset its headers
//! between calls.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::{Duration, SystemTime};

use libc::{c_int, cmsghdr, msghdr};

use crate::ecn::Ecn;
use crate::envelope::Transmit;
use crate::recv_batch::{Arrival, RecvBatch};

/// What one call takes at most: as many as a batch has.
const MAX_MESSAGES: usize = 32;
/// Room for what the kernel says of a datagram: a timestamp (32 bytes with the header), the segment
/// size (24), the address it came to (40 at most), the traffic class (24), the drop count (24); twice
/// on dual-stack sockets, some of it.
const CONTROL_BYTES: usize = 256;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

/// Sets an option that is an integer.
pub(super) fn set_int_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told, from a value that is there.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an option that is an integer.
pub(super) fn int_option(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most as many bytes as it is told, to a value that is there.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if outcome == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a receive call has brought.
pub(super) struct Received {
    /// Whether there were fewer than could have been taken: there are none left.
    pub(super) is_drained: bool,
    /// How many datagrams the kernel has dropped since the socket was opened, if it says.
    pub(super) drops: Option<u32>,
}

/// Receives as many datagrams as a batch is prepared for.
pub(super) fn recv(socket: BorrowedFd<'_>, batch: &mut RecvBatch) -> io::Result<Received> {
    let asked = batch.prepare().min(MAX_MESSAGES);
    let mut names = [MaybeUninit::<libc::sockaddr_in6>::uninit(); MAX_MESSAGES];
    let mut controls = [Control([MaybeUninit::uninit(); CONTROL_BYTES]); MAX_MESSAGES];
    let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_MESSAGES];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_MESSAGES];
    let mut prepared = 0;
    for (n, (buffer, _)) in batch.buffers().take(asked).enumerate() {
        let piece = pieces[n].write(libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        });
        // SAFETY: all zero is a value of this structure of integers and pointers.
        let mut header: msghdr = unsafe { zeroed() };
        header.msg_name = names[n].as_mut_ptr().cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        header.msg_iov = piece;
        header.msg_iovlen = 1;
        header.msg_control = controls[n].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
        messages[n].write(libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
        prepared = n + 1;
    }
    let received = retry_if_interrupted(|| {
        // SAFETY: the first `prepared` messages are initialised, and what they point to is on this
        // stack, or in the batch, which is borrowed; the lengths are those of what is pointed to.
        unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                prepared as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            ) as isize
        }
    })?;
    let mut drops = None;
    for (n, (_, arrival)) in batch.buffers().take(received).enumerate() {
        // SAFETY: initialised above, and filled in by the kernel.
        let message = unsafe { messages[n].assume_init_ref() };
        let header = &message.msg_hdr;
        *arrival = Arrival {
            len: message.msg_len as usize,
            is_truncated: header.msg_flags & libc::MSG_TRUNC != 0,
            ..Arrival::default()
        };
        if let Some(source) = source_of(&names[n], header.msg_namelen) {
            arrival.source = source;
        }
        // SAFETY: the control messages are those that the kernel wrote into `controls[n]`, of which
        // `msg_controllen` says how many there are.
        unsafe { read_control(header, arrival, &mut drops) };
    }
    batch.set_filled(received, asked);
    Ok(Received {
        is_drained: received < prepared,
        drops,
    })
}

/// Sends a datagram, or a run of them in one call.
pub(super) fn send(socket: BorrowedFd<'_>, transmit: &Transmit<'_>) -> io::Result<()> {
    let envelope = &transmit.envelope;
    let (name, name_len) = name_of(envelope.destination);
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut piece = libc::iovec {
        iov_base: transmit.contents.as_ptr().cast_mut().cast(),
        iov_len: transmit.contents.len(),
    };
    // SAFETY: all zero is a value of this structure of integers and pointers.
    let mut header: msghdr = unsafe { zeroed() };
    header.msg_name = ptr::from_ref(&name).cast_mut().cast();
    header.msg_namelen = name_len;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    let mut writer = ControlWriter {
        control: &mut control,
        used: 0,
    };
    let dscp = envelope.dscp.map_or(0, |dscp| dscp.bits());
    let tos = c_int::from(dscp << 2 | Ecn::bits(envelope.ecn));
    // Without one, that of the socket holds.
    if tos != 0 {
        let to = envelope.destination.ip().to_canonical();
        // To a socket at a mapped address, `::` is an address of IPv4. Each family passes over what
        // is for the other.
        if to.is_ipv4() || to.is_unspecified() {
            writer.push(libc::IPPROTO_IP, libc::IP_TOS, tos);
        }
        if to.is_ipv6() {
            writer.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos);
        }
    }
    if let Some(segment_bytes) = transmit.segment_bytes {
        let segment_bytes = u16::try_from(segment_bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment_bytes);
    }
    match (envelope.source_ip, envelope.destination) {
        (None, _) => {}
        // The kernel finds out only in some of these cases, and else sends from where it likes.
        (Some(from), to) if from.to_canonical().is_ipv4() != to.ip().to_canonical().is_ipv4() => {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        (Some(ip), SocketAddr::V4(_)) if let IpAddr::V4(ip) = ip.to_canonical() => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr(ip),
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            writer.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        // An IPv6 socket knows an IPv4 address in its mapped form.
        (Some(ip), _) => {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: in6_addr(ip),
                ipi6_ifindex: 0,
            };
            writer.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    let used = writer.used;
    if used > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = used as _;
    }
    retry_if_interrupted(|| {
        // SAFETY: what the header points to is on this stack, or in `transmit`, and is as long as
        // the header says. The kernel does not write to it.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT) }
    })?;
    Ok(())
}

fn retry_if_interrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let outcome = call();
        if let Ok(outcome) = usize::try_from(outcome) {
            return Ok(outcome);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Writes control messages one behind the other.
struct ControlWriter<'a> {
    control: &'a mut Control,
    used: usize,
}

impl ControlWriter<'_> {
    fn push<T: Copy>(&mut self, level: c_int, kind: c_int, value: T) {
        // SAFETY: arithmetic.
        let (space, len) = unsafe {
            (
                libc::CMSG_SPACE(size_of::<T>() as _) as usize,
                libc::CMSG_LEN(size_of::<T>() as _) as usize,
            )
        };
        let Some(room) = self.control.0.get_mut(self.used..self.used + space) else {
            unreachable!("the buffer has room for one message of each kind");
        };
        // What the kernel skips between messages it may look at all the same.
        room.fill(MaybeUninit::new(0));
        let header = room.as_mut_ptr().cast::<cmsghdr>();
        // SAFETY: `room` begins aligned, because the buffer does and `CMSG_SPACE` keeps to it, and it
        // is long enough for the header and the value.
        unsafe {
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.used += space;
    }
}

/// Notes what the kernel says of a message.
///
/// # Safety
///
/// The header's control messages must be as the kernel has written them.
unsafe fn read_control(header: &msghdr, arrival: &mut Arrival, drops: &mut Option<u32>) {
    /// The value of a message; none if the message is too short for it, as the last one may be if
    /// there was no room.
    ///
    /// # Safety
    ///
    /// The message must be one that the kernel has written, as long as it says.
    unsafe fn value<T: Copy>(message: *const cmsghdr) -> Option<T> {
        // SAFETY: the header is there; the value is, if the length says so. No alignment is asked
        // for, and the types are integers and structures of them.
        unsafe {
            let len = libc::CMSG_LEN(size_of::<T>() as _) as usize;
            #[allow(
                clippy::unnecessary_cast,
                reason = "with some C libraries it is shorter"
            )]
            let is_whole = (*message).cmsg_len as usize >= len;
            is_whole.then(|| libc::CMSG_DATA(message).cast::<T>().read_unaligned())
        }
    }
    // SAFETY: the walk stays within what the kernel wrote, and each kind of message is of the type
    // that the kernel's interface says.
    unsafe {
        let mut message: *const cmsghdr = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    arrival.received_at = value::<libc::timespec>(message).and_then(since_epoch);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    *drops = value(message).or(*drops);
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let stride = value::<c_int>(message).unwrap_or(0);
                    arrival.stride = usize::try_from(stride).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => arrival.tos = value(message).unwrap_or(0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    arrival.tos = value::<c_int>(message).unwrap_or(0) as u8;
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    if let Some(info) = value::<libc::in_pktinfo>(message) {
                        let ip = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                        arrival.local_ip.get_or_insert(ip.into());
                    }
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    if let Some(info) = value::<libc::in6_pktinfo>(message) {
                        let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                        arrival.local_ip = Some(ip.into());
                    }
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

fn since_epoch(time: libc::timespec) -> Option<SystemTime> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(ip.octets()),
    }
}

fn in6_addr(ip: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: ip.octets(),
    }
}

/// An address in the kernel's form; an IPv4 one takes the beginning of it.
fn name_of(address: SocketAddr) -> (libc::sockaddr_in6, libc::socklen_t) {
    match address {
        SocketAddr::V6(address) => (
            libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: in6_addr(*address.ip()),
                sin6_scope_id: address.scope_id(),
            },
            size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        ),
        SocketAddr::V4(address) => (
            // Family and port are where an IPv4 name has them, and its address is where this one has
            // the flow label.
            libc::sockaddr_in6 {
                sin6_family: libc::AF_INET as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: in_addr(*address.ip()).s_addr,
                sin6_addr: in6_addr(Ipv6Addr::UNSPECIFIED),
                sin6_scope_id: 0,
            },
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        ),
    }
}

/// The source of a message, if the kernel gave one that is an IP address.
fn source_of(name: &MaybeUninit<libc::sockaddr_in6>, len: libc::socklen_t) -> Option<SocketAddr> {
    let len = len as usize;
    if len < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: the kernel has written at least an IPv4 name, which begins like this one and is no
    // longer; its plain integers may be read in whatever form they are.
    let v4 = unsafe { name.as_ptr().cast::<libc::sockaddr_in>().read() };
    match c_int::from(v4.sin_family) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the kernel has written all of it.
            let v6 = unsafe { name.assume_init_ref() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

const _: () = {
    // What `name_of` says of the two forms.
    use std::mem::offset_of;
    assert!(offset_of!(libc::sockaddr_in, sin_port) == offset_of!(libc::sockaddr_in6, sin6_port));
    assert!(
        offset_of!(libc::sockaddr_in, sin_addr) == offset_of!(libc::sockaddr_in6, sin6_flowinfo)
    );
    // A pointer to the header is aligned if the buffer is.
    assert!(align_of::<cmsghdr>() <= align_of::<Control>());
};
