//! The platforms of one run: keys of the genuine ones and of impostors, and the authorities of virtCCA's devices.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::openssl::{self, Certificate, Curve, OF_A_DEVICE, OF_AN_AUTHORITY};
use super::scenario::RealmKind;

/// The root's name, which the demo's policy knows.
const ROOT: &str = "Redoubt demo root";

const SUB_AUTHORITY: &str = "Redoubt demo sub CA";

const DEVICE: &str = "Redoubt demo device";

/// How often the impostor's certificate is made until it is as long as the genuine one. Signatures differ in length by a few
/// bytes, which PEM mostly hides.
const TRIES: usize = 200;

/// What was made.
pub struct Devices {
    /// Certificates of the authorities, in PEM.
    pub authorities: PathBuf,
    /// The genuine device's certificate.
    pub certificate: PathBuf,
    /// What an impostor certified itself with: the same names, other keys, and as many bytes.
    pub self_made_certificate: PathBuf,
}

/// An authority whose certificate and key lie beside each other.
struct Authority {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn make(directory: &Path, file: &str, subject: &str, issuer: Option<&Self>) -> Result<Self> {
        let made = Self {
            certificate: directory.join(file).with_extension("pem"),
            key: directory.join(file).with_extension("key"),
        };
        openssl::private_key(Curve::P521, &made.key)?;
        let issuer = issuer.map(|it| (it.certificate.as_path(), it.key.as_path()));
        let (extensions, curve) = (OF_AN_AUTHORITY, Curve::P521);
        Certificate { subject, extensions, key: &made.key, issuer, curve }.write(&made.certificate)?;
        Ok(made)
    }

    /// A root and a sub CA below it.
    fn chain(directory: &Path, name: &str) -> Result<(Self, Self)> {
        let root = Self::make(directory, &format!("{name}-root"), ROOT, None)?;
        let sub = Self::make(directory, &format!("{name}-sub"), SUB_AUTHORITY, Some(&root))?;
        Ok((root, sub))
    }

    /// Certifies a device's key.
    fn certify(&self, key: &Path, to: &Path) -> Result<()> {
        let issuer = Some((self.certificate.as_path(), self.key.as_path()));
        let (extensions, curve) = (OF_A_DEVICE, Curve::P521);
        Certificate { subject: DEVICE, extensions, key, issuer, curve }.write(to)
    }
}

impl Devices {
    /// Makes everything: what VMMs read under `shared`, the rest under `private`.
    pub fn make(private: &Path, shared: &Path) -> Result<Self> {
        for (realm, curve) in [(RealmKind::Soft, Curve::P384), (RealmKind::SoftVirtcca, Curve::P521)] {
            openssl::private_key(curve, &shared.join(realm.platform_key()))?;
            openssl::private_key(curve, &shared.join(realm.impostor_key()))?;
        }
        let devices = Self {
            authorities: private.join("authorities.pem"),
            certificate: private.join("device.pem"),
            self_made_certificate: private.join("impostor.pem"),
        };
        let (root, sub) = Authority::chain(private, "genuine")?;
        let bundle = [read(&root.certificate)?, read(&sub.certificate)?].concat();
        fs::write(&devices.authorities, bundle)
            .with_context(|| format!("cannot write {}", devices.authorities.display()))?;
        let kind = RealmKind::SoftVirtcca;
        sub.certify(&shared.join(kind.platform_key()), &devices.certificate)?;

        let (_, own_sub) = Authority::chain(private, "impostor")?;
        let wanted = read(&devices.certificate)?.len();
        for _ in 0..TRIES {
            own_sub.certify(&shared.join(kind.impostor_key()), &devices.self_made_certificate)?;
            if read(&devices.self_made_certificate)?.len() == wanted {
                return Ok(devices);
            }
        }
        bail!("no certificate of the impostor was as long as the device's, {wanted} bytes; run it again")
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
