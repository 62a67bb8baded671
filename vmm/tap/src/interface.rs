//! Properties of a network interface (netdevice(7)).

use std::io;
use std::net::Ipv4Addr;

use rustix::ioctl::Opcode;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::Error;
use crate::ioctl::{IFF_UP, Request, interface};

const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCSIFADDR: Opcode = 0x8916;
const SIOCSIFNETMASK: Opcode = 0x891c;
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCSIFHWADDR: Opcode = 0x8924;

/// Hardware type of `sockaddr.sa_family` for Ethernet (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;

/// What the host's side of an interface is to have; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Address and network mask.
    pub ip: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// Largest packet in bytes.
    pub mtu: Option<u16>,
}

pub(crate) fn configure(name: &str, address: &Address) -> Result<(), Error> {
    let refused = |action| move |source| Error::Refused { name: name.to_owned(), action, source };
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(|errno| refused("open a socket for it")(io::Error::from(errno)))?;
    let request = Request::new(name).ok_or_else(|| Error::Name { name: name.to_owned() })?;
    if let Some(mac) = address.mac {
        let mut value = ARPHRD_ETHER.to_ne_bytes().to_vec();
        value.extend_from_slice(&mac);
        interface::<SIOCSIFHWADDR>(&socket, request.with_value(&value))
            .map_err(refused("set its hardware address"))?;
    }
    if let Some((ip, mask)) = address.ip {
        interface::<SIOCSIFADDR>(&socket, request.with_value(&ipv4(ip)))
            .map_err(refused("set its address"))?;
        interface::<SIOCSIFNETMASK>(&socket, request.with_value(&ipv4(mask)))
            .map_err(refused("set its network mask"))?;
    }
    if let Some(mtu) = address.mtu {
        let value = i32::from(mtu).to_ne_bytes();
        interface::<SIOCSIFMTU>(&socket, request.with_value(&value)).map_err(refused("set its MTU"))?;
    }
    let flags = interface::<SIOCGIFFLAGS>(&socket, request).map_err(refused("read its flags"))?.flags();
    if flags & IFF_UP == 0 {
        interface::<SIOCSIFFLAGS>(&socket, request.with_flags(flags | IFF_UP))
            .map_err(refused("bring it up"))?;
    }
    Ok(())
}

/// A `struct sockaddr_in` without a port.
fn ipv4(ip: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    let [a, b] = AddressFamily::INET.as_raw().to_ne_bytes();
    let [c, d, e, f] = ip.octets();
    for (slot, byte) in bytes.iter_mut().zip([a, b, 0, 0, c, d, e, f]) {
        *slot = byte;
    }
    bytes
}
