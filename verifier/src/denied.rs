//! Keys whose private half is published. Whoever trusts one of them trusts everybody.

use crate::key::PublicKey;

/// A published key: who published it, and its affine coordinates in hexadecimal.
struct PublishedKey {
    name: &'static str,
    x: &'static str,
    y: &'static str,
}

const PUBLISHED: [PublishedKey; 2] = [
    PublishedKey {
        name: "the CCA platform attestation key of the TF-M and FVP samples",
        x: "212867c52e2b9508b0a420a90560f394d2dfaa21bdd7514ff1a901afe7e1f78bb11d4e66f8a8a38afa76af6a31c4de8c",
        y: "84ce2dafc9964258b53fad718774f45620d111b176e8318e1187db0235a318d37ba597fee80e0e4c762a12bcb3ea6ed4",
    },
    PublishedKey {
        name: "the Realm attestation key built into TF-A for FVP and QEMU",
        x: "76f988091be585ed41801aecfab858548c63057e16b0e676120bbd0d2f9c29e056c5d41a0130eb9c21517899dc23146b",
        y: "28e1b062bd3ea4b315fd219f1cbb528cb6e74ca49be16773734f61a1ca61031b2bbf3d918f2f94ffc4228e50919544ae",
    },
];

/// The key's private half is public.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this key is {name}: its private half is public, so anyone can sign with it; register the platform's own key"
)]
pub struct DeniedKey {
    name: &'static str,
}

/// Checks a key of a trust anchor, when it is registered and each time it is used.
///
/// # Errors
/// [`DeniedKey`] if the key is on the built-in list.
pub fn check(key: &PublicKey) -> Result<(), DeniedKey> {
    check_point(key.sec1_point())
}

/// Checks the uncompressed SEC1 point of a key.
///
/// # Errors
/// [`DeniedKey`] if the key is on the built-in list.
pub fn check_point(point: &[u8]) -> Result<(), DeniedKey> {
    let point = hex::encode(point);
    let denied = PUBLISHED.iter().find(|key| {
        point.strip_prefix("04").and_then(|xy| xy.strip_prefix(key.x)).is_some_and(|y| y == key.y)
    });
    denied.map_or(Ok(()), |key| Err(DeniedKey { name: key.name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_key_is_denied_and_lies_on_its_curve() {
        for key in &PUBLISHED {
            let point = hex::decode(format!("04{}{}", key.x, key.y)).unwrap();
            let parsed = PublicKey::from_sec1(&point).unwrap();
            assert_eq!(check(&parsed), Err(DeniedKey { name: key.name }));
        }
    }
}
