//! The sandbox's network: `lo`, a route that makes every address local, and the listeners of the keeper.

use super::{Step, StepError};
use crate::wire::Setup;
use oauth3_core::ListenerRole;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, recv, send, socket_with, sockopt};
use rustix::net::{RecvFlags, SendFlags};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

/// Waiting connections per listener.
const BACKLOG: i32 = 128;
/// Ports of the roles that have a fixed one.
const PLAIN_PORT: u16 = 80;
const DNS_PORT: u16 = 53;
/// Interface index of `lo` in a new network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Brings the network up and binds every listener.
pub(super) fn open(setup: &Setup) -> Result<Vec<(ListenerRole, OwnedFd)>, StepError> {
    bring_up()?;
    listeners(setup)
}

/// Binds every listener, in this order of roles.
pub(super) fn listeners(setup: &Setup) -> Result<Vec<(ListenerRole, OwnedFd)>, StepError> {
    let mut all = Vec::new();
    let everywhere = Ipv4Addr::UNSPECIFIED;
    let mut both = |role: ListenerRole, port: u16| -> Result<(), StepError> {
        all.push((role, stream(SocketAddr::from((everywhere, port)))?));
        // A machine without IPv6 has no route to catch either.
        if let Ok(fd) = stream(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))) {
            all.push((role, fd));
        }
        Ok(())
    };
    for &port in &setup.tls_ports {
        both(ListenerRole::Tls { port }, port)?;
    }
    if !setup.tls_ports.contains(&PLAIN_PORT) {
        both(ListenerRole::Plain, PLAIN_PORT)?;
    }
    all.push((ListenerRole::Proxy, stream(SocketAddr::from((Ipv4Addr::LOCALHOST, setup.proxy_port)))?));
    let names = new_socket(AddressFamily::INET, SocketType::DGRAM).step("name socket")?;
    bind(&names, &SocketAddr::from((everywhere, DNS_PORT))).step("bind the name socket")?;
    all.push((ListenerRole::Dns, names));
    Ok(all)
}

fn new_socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

pub(super) fn stream(address: SocketAddr) -> Result<OwnedFd, StepError> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let bound = || -> Result<OwnedFd, Errno> {
        let fd = new_socket(family, SocketType::STREAM)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        bind(&fd, &address)?;
        listen(&fd, BACKLOG)?;
        Ok(fd)
    };
    bound().step(&format!("listen on port {}", address.port()))
}

/// Sets `lo` up, and nothing else: there is no route to anywhere. The socket with which more can be set.
pub(super) fn bring_up_loopback() -> Result<OwnedFd, StepError> {
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = new_socket(AddressFamily::NETLINK, SocketType::RAW).step("network set-up socket")?;
    exchange(&socket, &link_up()).step("bring up lo")?;
    Ok(socket)
}

/// Sets `lo` up and routes everything to it (rtnetlink(7)).
fn bring_up() -> Result<(), StepError> {
    let socket = bring_up_loopback()?;
    exchange(&socket, &local_route(libc::AF_INET)).step("route every address to lo")?;
    match exchange(&socket, &local_route(libc::AF_INET6)) {
        // No IPv6 here at all: nothing to route.
        Err(Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::ACCESS | Errno::NODEV | Errno::INVAL) | Ok(()) => Ok(()),
        Err(errno) => Err(errno).step("route every IPv6 address to lo"),
    }
}

/// Length of `struct nlmsghdr`, in bytes.
const HEADER_BYTES: usize = 16;

/// One request with its header; asks for an acknowledgement.
fn request(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
    let length = (HEADER_BYTES + body.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]); // sequence and port: one question at a time
    bytes.extend_from_slice(body);
    bytes
}

/// `struct ifinfomsg`: family, kind, index, flags, change mask.
fn link_up() -> Vec<u8> {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let mut body = vec![0; 4];
    body.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    body.extend_from_slice(&up);
    body.extend_from_slice(&up);
    request(libc::RTM_NEWLINK, 0, &body)
}

/// `struct rtmsg` and the output interface: `local default dev lo`.
fn local_route(family: i32) -> Vec<u8> {
    let mut body = vec![
        family as u8,
        0, // destination length: everything
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_HOST,
        libc::RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    body.extend_from_slice(&8_u16.to_ne_bytes());
    body.extend_from_slice(&libc::RTA_OIF.to_ne_bytes());
    body.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    request(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body)
}

/// Sends one request and reads its acknowledgement: the error number after the header, 0 for success.
fn exchange(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    send(socket, bytes, SendFlags::empty())?;
    let mut answer = [0_u8; 512];
    let (count, _) = recv(socket, &mut answer[..], RecvFlags::empty())?;
    let code =
        answer.get(..count).and_then(|read| read.get(HEADER_BYTES..)?.first_chunk::<4>()).ok_or(Errno::BADMSG)?;
    match i32::from_ne_bytes(*code) {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code.saturating_neg())),
    }
}
