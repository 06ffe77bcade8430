//! The few things about sockets that glommio does not offer. The only `unsafe` of the program is
//! here and in `probe`.
#![expect(unsafe_code, reason = "raw descriptors of sockets whose owner is named at each use")]

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::net::TcpStream;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};

/// Borrows the descriptor of a stream.
fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns its descriptor and keeps it open for as long as it lives, and the
    // borrow cannot outlive the stream that it was made from.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Writes slices in one call without waiting; bytes written, or the error (`WouldBlock`, …).
pub(super) fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> std::io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut control = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(borrow(stream), slices, &mut control, flags)?)
}

/// Ends a direction, or both; a pending read hears of it.
pub(super) fn shut_down(stream: &TcpStream, how: Shutdown) {
    // An error means that the peer was quicker.
    let _ = rustix::net::shutdown(borrow(stream), how);
}

/// Bytes that were written but that the peer's kernel has not acknowledged.
pub(super) fn unacknowledged(stream: &TcpStream) -> std::io::Result<u64> {
    /// `SIOCOUTQ`, which for sockets has the value of `TIOCOUTQ`.
    const OUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: the request writes one `int`, which is what the getter holds.
    let request = unsafe { rustix::ioctl::Getter::<OUTQ, std::ffi::c_int>::new() };
    // SAFETY: the request fits a socket, and it changes nothing.
    let bytes = unsafe { rustix::ioctl::ioctl(borrow(stream), request) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// A second owner of the socket, to be taken to another thread.
pub(super) fn second_owner(stream: &TcpStream) -> std::io::Result<OwnedFd> {
    borrow(stream).try_clone_to_owned()
}

/// A stream of this thread's executor.
pub(super) fn adopt(socket: OwnedFd) -> TcpStream {
    // SAFETY: `into_raw_fd` gives up the sole ownership of an open socket; the stream has it then.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}
