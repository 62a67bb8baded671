//! The development platform that vouches for a software Realm.

use std::path::Path;

use evidence::cca::SoftwareComponent;
use evidence::hash::{Digest, HashAlgorithm};
use p384::pkcs8::DecodePrivateKey;
use realm::soft::{LIFECYCLE, Platform, PlatformKey};
use serde::Serialize;

use crate::Error;
use api::config::{PlatformComponent, PlatformConfig};

/// Names every platform of this kind; a verifier knows it for what it is.
pub const IMPLEMENTATION_ID: [u8; 32] = *b"redoubt software realm\0\0\0\0\0\0\0\0\0\0";

/// First byte of an instance identifier (PSA attestation token, "instance ID").
const INSTANCE_ID_TYPE: u8 = 1;

/// Reads the platform's key and description.
///
/// # Errors
///
/// [`Error::NoPlatform`], [`Error::PlatformKey`], [`Error::PlatformField`] or [`Error::Device`].
pub fn load(config: Option<&PlatformConfig>) -> Result<Platform, Error> {
    let config = config.ok_or(Error::NoPlatform)?;
    let (key, key_digest) = read_key(&config.key)?;
    let instance_id = match &config.instance_id {
        Some(text) => instance_id(text)?,
        None => default_instance_id(&key_digest),
    };
    let components = match config.components.as_slice() {
        [] => vec![this_monitor(&key_digest)?],
        components => components.iter().map(component).collect::<Result<_, _>>()?,
    };
    Ok(Platform {
        implementation_id: IMPLEMENTATION_ID,
        instance_id,
        config: bytes("realm.platform.config", &config.config)?,
        components,
        key,
    })
}

/// What a verifier has to know of a development platform to find its trust anchor.
#[derive(Debug, Serialize)]
pub struct PlatformIdentity {
    /// Kind of platform, in hex.
    pub implementation_id: String,
    /// The one platform, in hex, unless its configuration says otherwise.
    pub instance_id: String,
    /// Lifecycle that its tokens carry.
    pub lifecycle: String,
}

impl PlatformIdentity {
    /// The identity that goes with the private key in `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] or [`Error::PlatformKey`].
    pub fn of(path: &Path) -> Result<Self, Error> {
        let (_, key_digest) = read_key(path)?;
        Ok(Self {
            implementation_id: hex::encode(IMPLEMENTATION_ID),
            instance_id: hex::encode(default_instance_id(&key_digest)),
            lifecycle: LIFECYCLE.to_string(),
        })
    }
}

/// The key in `path`, and the digest of its public half.
fn read_key(path: &Path) -> Result<(PlatformKey, Digest), Error> {
    let pem =
        std::fs::read_to_string(path).map_err(|source| unreadable("realm.platform.key", path, source))?;
    let key = match p384::ecdsa::SigningKey::from_pkcs8_pem(&pem) {
        Ok(key) => PlatformKey::P384(key),
        Err(source) => match p521::ecdsa::SigningKey::from_pkcs8_pem(&pem) {
            Ok(key) => PlatformKey::P521(key),
            Err(_) => return Err(Error::PlatformKey { path: path.into(), source }),
        },
    };
    let digest = HashAlgorithm::Sha256.digest(&key.public_point());
    Ok((key, digest))
}

fn instance_id(text: &str) -> Result<[u8; 33], Error> {
    let id: Result<[u8; 33], _> = bytes("realm.platform.instance_id", text)?.try_into();
    match id {
        Ok(id @ [INSTANCE_ID_TYPE, ..]) => Ok(id),
        _ => Err(Error::PlatformField {
            field: "realm.platform.instance_id",
            found: text.into(),
            expected: "33 bytes in hex, the first of them 01",
        }),
    }
}

fn default_instance_id(key_digest: &Digest) -> [u8; 33] {
    let mut id = [INSTANCE_ID_TYPE; 33];
    id[1..].copy_from_slice(key_digest.as_bytes());
    id
}

/// The software RMM is part of this program, so the program is what its platform has to account for.
fn this_monitor(signer: &Digest) -> Result<SoftwareComponent, Error> {
    let path = Path::new("/proc/self/exe");
    let program =
        std::fs::read(path).map_err(|source| unreadable("realm.platform.components", path, source))?;
    Ok(SoftwareComponent {
        kind: Some("SOFT-RMM".into()),
        measurement: HashAlgorithm::Sha256.digest(&program),
        version: Some(env!("CARGO_PKG_VERSION").into()),
        signer_id: *signer,
        hash: Some(HashAlgorithm::Sha256),
    })
}

fn component(config: &PlatformComponent) -> Result<SoftwareComponent, Error> {
    Ok(SoftwareComponent {
        kind: Some(config.component_type.clone()),
        measurement: digest("realm.platform.components.measurement", &config.measurement)?,
        version: Some(config.version.clone()),
        signer_id: digest("realm.platform.components.signer_id", &config.signer_id)?,
        hash: Some(HashAlgorithm::Sha256),
    })
}

fn digest(field: &'static str, text: &str) -> Result<Digest, Error> {
    let bytes = bytes(field, text)?;
    let expected = "32, 48 or 64 bytes in hex";
    Digest::from_slice(&bytes).ok_or_else(|| Error::PlatformField { field, found: text.into(), expected })
}

fn bytes(field: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text).map_err(|_| Error::PlatformField { field, found: text.into(), expected: "hex digits" })
}

fn unreadable(field: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Device { field, path: path.into(), source: source.into() }
}
