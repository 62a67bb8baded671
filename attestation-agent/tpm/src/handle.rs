//! What commands are about: hierarchies, keys, sessions and indexes (Part 2, 7).

use std::fmt;

use zeroize::Zeroizing;

/// Something in a TPM (`TPM_HANDLE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

impl Handle {
    /// The owner hierarchy (`TPM_RH_OWNER`).
    pub const OWNER: Self = Self(0x4000_0001);
    /// Nothing (`TPM_RH_NULL`).
    pub const NULL: Self = Self(0x4000_0007);
    /// Authorisation by a password (`TPM_RS_PW`).
    pub const PASSWORD: Self = Self(0x4000_0009);
    /// The endorsement hierarchy (`TPM_RH_ENDORSEMENT`).
    pub const ENDORSEMENT: Self = Self(0x4000_000b);

    /// Whether it is that of a persistent object which the owner may make: 0x81000000 to 0x817fffff.
    #[must_use]
    pub const fn is_persistent_of_owner(self) -> bool {
        self.0 >> 23 == 0x8100_0000 >> 23
    }
}

/// Hexadecimal, as tpm2-tools take it.
impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Password of a hierarchy; empty on most machines.
#[derive(Clone, Default)]
pub struct Auth(Zeroizing<Vec<u8>>);

impl Auth {
    /// This password.
    #[must_use]
    pub const fn new(password: Zeroizing<Vec<u8>>) -> Self {
        Self(password)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}
