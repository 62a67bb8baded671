//! A decoded Platform Token, with what policies and tokens are told of it.

use std::sync::{Arc, Mutex, PoisonError};

use evidence::token::{DecodeError, Signed};
use evidence::virtcca::PlatformClaims;

use super::claims::PlatformView;
use super::platform_software::ComponentResult;

/// A decoded Platform Token. That it is one says nothing about its signature.
pub struct DecodedPlatform {
    /// The token.
    pub signed: Signed<PlatformClaims>,
    /// A platform shows the same token until it starts anew, mostly to the same policies.
    last_view: Mutex<Option<Arc<PlatformView>>>,
}

impl DecodedPlatform {
    /// Reads a token.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { signed: PlatformClaims::decode_signed(bytes)?, last_view: Mutex::new(None) })
    }

    /// What is told of the platform if policies said this of its components: a view depends on nothing else.
    pub fn view(&self, results: &[ComponentResult]) -> Result<Arc<PlatformView>, serde_json::Error> {
        // A thread that panicked while it held the lock left a whole view or none.
        let mut last = self.last_view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = last.as_ref().filter(|view| view.results() == results) {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(PlatformView::new(&self.signed.claims, results)?);
        *last = Some(Arc::clone(&view));
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::super::platform_software::ComponentResult::{Accepted, Unchecked};
    use super::*;
    use crate::testing::VirtccaMint;
    use evidence::virtcca::VirtccaToken;

    #[test]
    fn a_view_is_kept_for_the_same_results_and_for_no_others() {
        let mint = VirtccaMint::new([0x5a; 64]);
        let signed = VirtccaToken::decode(&mint.token()).unwrap().platform.unwrap();
        let results = vec![Unchecked; signed.claims.components.len()];
        let platform = DecodedPlatform { signed, last_view: Mutex::new(None) };
        let first = platform.view(&results).unwrap();
        assert!(Arc::ptr_eq(&first, &platform.view(&results).unwrap()));
        let mut others = results.clone();
        others[1] = Accepted;
        let other = platform.view(&others).unwrap();
        assert_eq!(other.results(), others);
        assert_ne!(format!("{first:?}"), format!("{other:?}"));
        assert_eq!(format!("{first:?}"), format!("{:?}", platform.view(&results).unwrap()));
    }
}
