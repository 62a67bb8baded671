//! What a TPM says when it does not do what is asked (`TPM_RC`, Part 2, 6.6).

use std::fmt;

/// Bit 7: the code is of format one, which says what it is about.
const FORMAT_ONE: u32 = 0x080;
/// Bit 6 of format one: it is about a parameter.
const PARAMETER: u32 = 0x040;
/// Bit 11 of format one, if it is not about a parameter: it is about a session, otherwise about a handle.
const SESSION: u32 = 0x800;
/// Bit 8: the code is of TPM 2.0. Bit 11 beside it: a warning.
const VERSION_2: u32 = 0x100;
const WARNING: u32 = 0x800;
/// Layers above a TPM put their number here: 0 is the TPM itself.
const LAYERS: u32 = 0xffff_f000;

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseCode(pub u32);

impl ResponseCode {
    /// `TPM_RC_SUCCESS`.
    pub const SUCCESS: Self = Self(0);
    const HANDLE: u32 = 0x08b;
    const AUTH_FAIL: u32 = 0x08e;
    const BAD_AUTH: u32 = 0x0a2;
    const INTEGRITY: u32 = 0x09f;
    const POLICY_FAIL: u32 = 0x09d;

    /// Whether the same command may succeed in a moment (`TPM_RC_RETRY`, `YIELDED`, `TESTING`, `NV_RATE`).
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self.0, 0x922 | 0x908 | 0x90a | 0x920)
    }

    pub(crate) const fn is_absent_handle(self) -> bool {
        // A resource manager answers for objects, a TPM also for indexes: both of the first handle.
        self.0 == Self::HANDLE | 0x100 || self.0 == 0x910
    }

    /// The code without what it is about.
    const fn base(self) -> u32 {
        if self.0 & FORMAT_ONE != 0 { self.0 & 0x0bf } else { self.0 }
    }

    /// Its name in the specification, without `TPM_RC_`.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        if self.0 & LAYERS != 0 {
            return None;
        }
        if self.0 & FORMAT_ONE != 0 {
            return lookup(FORMAT_ONE_NAMES, self.0 & 0x03f);
        }
        match self.0 & (VERSION_2 | WARNING) {
            VERSION_2 => lookup(VERSION_2_NAMES, self.0 & 0x07f),
            both if both == VERSION_2 | WARNING => lookup(WARNING_NAMES, self.0 & 0x07f),
            _ => None,
        }
    }

    /// What to do about it, if it is not for programmers to mend.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        Some(match self.base() {
            Self::AUTH_FAIL | Self::BAD_AUTH => {
                "the password of the hierarchy is another one: name the file that has it"
            }
            Self::INTEGRITY => "what was sent was not made for the keys of this TPM",
            Self::POLICY_FAIL => "the key is used by another policy than that of the TCG's templates",
            0x100 => "the TPM was not started (TPM2_Startup), which firmware or emulator must do",
            0x101 => "the TPM has failed its self-test and must be reset",
            0x120 => "the firmware has switched this off",
            0x902 | 0x903 | 0x905 => {
                "the TPM has no room for another key or session: use /dev/tpmrm0, which makes room, or flush what others left \
                 with tpm2_flushcontext"
            }
            0x921 => {
                "the TPM is locked because wrong passwords were given: wait, or reset it with tpm2_dictionarylockout"
            }
            0x14b => "the TPM has no room for another persistent object: remove one with tpm2_evictcontrol",
            _ => return None,
        })
    }
}

/// As in the specification: `TPM_RC_VALUE of parameter 2 (0x2c4)`.
impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "TPM_RC_{name}")?,
            None => f.write_str("an unknown response code")?,
        }
        if self.0 & LAYERS == 0 && self.0 & FORMAT_ONE != 0 {
            let (what, number) = match (self.0 & PARAMETER != 0, self.0 & SESSION != 0) {
                (true, _) => ("parameter", self.0 >> 8 & 0xf),
                (false, true) => ("session", self.0 >> 8 & 0x7),
                (false, false) => ("handle", self.0 >> 8 & 0x7),
            };
            if number != 0 {
                write!(f, " of {what} {number}")?;
            }
        }
        write!(f, " ({:#05x})", self.0)
    }
}

fn lookup(names: &[(u32, &'static str)], number: u32) -> Option<&'static str> {
    names.iter().find_map(|(found, name)| (*found == number).then_some(*name))
}

const FORMAT_ONE_NAMES: &[(u32, &str)] = &[
    (0x01, "ASYMMETRIC"),
    (0x02, "ATTRIBUTES"),
    (0x03, "HASH"),
    (0x04, "VALUE"),
    (0x05, "HIERARCHY"),
    (0x07, "KEY_SIZE"),
    (0x08, "MGF"),
    (0x09, "MODE"),
    (0x0a, "TYPE"),
    (0x0b, "HANDLE"),
    (0x0c, "KDF"),
    (0x0d, "RANGE"),
    (0x0e, "AUTH_FAIL"),
    (0x0f, "NONCE"),
    (0x10, "PP"),
    (0x12, "SCHEME"),
    (0x15, "SIZE"),
    (0x16, "SYMMETRIC"),
    (0x17, "TAG"),
    (0x18, "SELECTOR"),
    (0x1a, "INSUFFICIENT"),
    (0x1b, "SIGNATURE"),
    (0x1c, "KEY"),
    (0x1d, "POLICY_FAIL"),
    (0x1f, "INTEGRITY"),
    (0x20, "TICKET"),
    (0x21, "RESERVED_BITS"),
    (0x22, "BAD_AUTH"),
    (0x23, "EXPIRED"),
    (0x24, "POLICY_CC"),
    (0x25, "BINDING"),
    (0x26, "CURVE"),
    (0x27, "ECC_POINT"),
];

const VERSION_2_NAMES: &[(u32, &str)] = &[
    (0x00, "INITIALIZE"),
    (0x01, "FAILURE"),
    (0x03, "SEQUENCE"),
    (0x0b, "PRIVATE"),
    (0x19, "HMAC"),
    (0x20, "DISABLED"),
    (0x21, "EXCLUSIVE"),
    (0x24, "AUTH_TYPE"),
    (0x25, "AUTH_MISSING"),
    (0x26, "POLICY"),
    (0x27, "PCR"),
    (0x28, "PCR_CHANGED"),
    (0x2d, "UPGRADE"),
    (0x2e, "TOO_MANY_CONTEXTS"),
    (0x2f, "AUTH_UNAVAILABLE"),
    (0x30, "REBOOT"),
    (0x31, "UNBALANCED"),
    (0x42, "COMMAND_SIZE"),
    (0x43, "COMMAND_CODE"),
    (0x44, "AUTHSIZE"),
    (0x45, "AUTH_CONTEXT"),
    (0x46, "NV_RANGE"),
    (0x47, "NV_SIZE"),
    (0x48, "NV_LOCKED"),
    (0x49, "NV_AUTHORIZATION"),
    (0x4a, "NV_UNINITIALIZED"),
    (0x4b, "NV_SPACE"),
    (0x4c, "NV_DEFINED"),
    (0x50, "BAD_CONTEXT"),
    (0x51, "CPHASH"),
    (0x52, "PARENT"),
    (0x53, "NEEDS_TEST"),
    (0x54, "NO_RESULT"),
    (0x55, "SENSITIVE"),
];

const WARNING_NAMES: &[(u32, &str)] = &[
    (0x01, "CONTEXT_GAP"),
    (0x02, "OBJECT_MEMORY"),
    (0x03, "SESSION_MEMORY"),
    (0x04, "MEMORY"),
    (0x05, "SESSION_HANDLES"),
    (0x06, "OBJECT_HANDLES"),
    (0x07, "LOCALITY"),
    (0x08, "YIELDED"),
    (0x09, "CANCELED"),
    (0x0a, "TESTING"),
    (0x10, "REFERENCE_H0"),
    (0x11, "REFERENCE_H1"),
    (0x12, "REFERENCE_H2"),
    (0x18, "REFERENCE_S0"),
    (0x19, "REFERENCE_S1"),
    (0x1a, "REFERENCE_S2"),
    (0x20, "NV_RATE"),
    (0x21, "LOCKOUT"),
    (0x22, "RETRY"),
    (0x23, "NV_UNAVAILABLE"),
];

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What tpm2-tools say of a code, unless they do not know it.
    fn decoded(code: u32) -> Option<String> {
        let output = Command::new("tpm2_rc_decode").arg(format!("{code:#x}")).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let unknown = said.contains("(null)") || said == format!("tpm:{code:#X}").replace("0X", "0x");
        (!unknown).then_some(said)
    }

    #[test]
    fn knows_the_codes_that_tpm2_tools_know() {
        for (format, numbers) in [(FORMAT_ONE, 0x40), (VERSION_2, 0x80), (VERSION_2 | WARNING, 0x80)] {
            for code in (0..numbers).map(|number| format | number) {
                let known = ResponseCode(code).name().is_some();
                assert!(!known || decoded(code).is_some(), "{code:#x}");
            }
        }
        for (code, words) in [
            (0x08e, "authorization HMAC check failed"),
            (0x0a2, "authorization failure without DA"),
            (0x09f, "integrity check failed"),
            (0x09d, "policy check failed"),
            (0x902, "out of memory for object contexts"),
            (0x903, "out of memory for session contexts"),
            (0x905, "out of session handles"),
            (0x921, "in DA lockout mode"),
            (0x922, "not able to start the command"),
            (0x120, "disabled"),
            (0x14b, "insufficient space"),
        ] {
            let said = decoded(code).unwrap();
            assert!(said.contains(words), "{code:#x}: {said}");
        }
    }

    #[test]
    fn says_what_it_is_about() {
        for (code, text) in [
            (0x2c4, "TPM_RC_VALUE of parameter 2 (0x2c4)"),
            (0x18b, "TPM_RC_HANDLE of handle 1 (0x18b)"),
            (0x98e, "TPM_RC_AUTH_FAIL of session 1 (0x98e)"),
            (0x08e, "TPM_RC_AUTH_FAIL (0x08e)"),
            (0x100, "TPM_RC_INITIALIZE (0x100)"),
            (0x902, "TPM_RC_OBJECT_MEMORY (0x902)"),
            (0x922, "TPM_RC_RETRY (0x922)"),
            (0x7ff, "an unknown response code of parameter 7 (0x7ff)"),
            (0x000b_0001, "an unknown response code (0xb0001)"),
        ] {
            assert_eq!(ResponseCode(code).to_string(), text);
        }
    }

    #[test]
    fn advises_by_what_failed_and_not_by_where() {
        let advice = |code| ResponseCode(code).advice().unwrap_or_default();
        assert!(advice(0x98e).contains("password") && advice(0x9a2).contains("password"));
        assert!(advice(0x902).contains("/dev/tpmrm0"));
        assert!(advice(0x1df).contains("not made for the keys"));
        assert_eq!(advice(0x18b), "");
        assert!(ResponseCode(0x922).is_transient() && !ResponseCode(0x921).is_transient());
    }
}
