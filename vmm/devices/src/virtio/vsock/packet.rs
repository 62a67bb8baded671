//! The packet header (virtio 1.2, 5.10.6; Linux `struct virtio_vsock_hdr`).
//!
//! virtio-vsock's packet type wants header and data each contiguous, in two descriptors at most; Linux's zero-copy sends
//! use more. So packets are read and written through the chain, which has no such limit.

/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 44;

/// CID of the host (virtio 1.2, 5.10.4).
pub(super) const HOST_CID: u64 = 2;

/// `type` of stream sockets.
pub(super) const TYPE_STREAM: u16 = 1;

/// Will not receive any more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// Will not send any more.
pub(super) const SHUTDOWN_SEND: u32 = 2;
/// Neither.
pub(super) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// `op` of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
    Unknown(u16),
}

impl From<u16> for Operation {
    fn from(op: u16) -> Self {
        match op {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }
}

impl From<Operation> for u16 {
    fn from(op: Operation) -> Self {
        match op {
            Operation::Request => 1,
            Operation::Response => 2,
            Operation::Reset => 3,
            Operation::Shutdown => 4,
            Operation::Data => 5,
            Operation::CreditUpdate => 6,
            Operation::CreditRequest => 7,
            Operation::Unknown(other) => other,
        }
    }
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Length of the data behind the header.
    pub(super) len: u32,
    pub(super) socket_type: u16,
    pub(super) op: Operation,
    pub(super) flags: u32,
    /// The sender's receive buffer in bytes.
    pub(super) buf_alloc: u32,
    /// Bytes that the sender has taken out of its receive buffer so far, wrapping.
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut rest = bytes.as_slice();
        let src_cid = u64::from_le_bytes(take(&mut rest));
        let dst_cid = u64::from_le_bytes(take(&mut rest));
        Self {
            src_cid,
            dst_cid,
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            socket_type: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)).into(),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&self.src_cid.to_le_bytes());
        bytes.extend_from_slice(&self.dst_cid.to_le_bytes());
        bytes.extend_from_slice(&self.src_port.to_le_bytes());
        bytes.extend_from_slice(&self.dst_port.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.socket_type.to_le_bytes());
        bytes.extend_from_slice(&u16::from(self.op).to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.buf_alloc.to_le_bytes());
        bytes.extend_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }
}

/// The first `N` bytes; zeroes past the end, which a header never reaches.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let Some((head, rest)) = bytes.split_first_chunk() else { return [0; N] };
    *bytes = rest;
    *head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_layout_of_the_standard() {
        let bytes: [u8; HEADER_LEN] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let header = Header::decode(&bytes);
        assert_eq!(header.dst_cid, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(header.dst_port, 0x1716_1514);
        assert_eq!(header.len, 0x1b1a_1918);
        assert_eq!((header.socket_type, header.op), (0x1d1c, Operation::Unknown(0x1f1e)));
        assert_eq!(header.fwd_cnt, 0x2b2a_2928);
        assert_eq!(header.encode(), bytes);
    }

    #[test]
    fn operations_keep_their_numbers() {
        for op in 0..10 {
            assert_eq!(u16::from(Operation::from(op)), op);
        }
    }
}
