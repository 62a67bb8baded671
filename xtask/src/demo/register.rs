//! What the service is told: whom to trust, what to expect, what to release.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::devices::Devices;
use super::openssl;
use super::scenario::RealmKind;
use super::service::Service;
use super::stage::Platform;

/// Name that the demo's policies know the development platform, and the devices' authority, by.
const TRUSTED: &str = "demo-platform";

/// The secret's name at the service.
pub const RESOURCE: &str = "demo/greeting";

/// Tells the service everything. `policies` and `shared` are directories; what is written goes to `private`.
pub struct Registration<'a> {
    pub policies: &'a Path,
    pub private: &'a Path,
    pub shared: &'a Path,
    pub platform: &'a Platform,
    pub devices: &'a Devices,
    /// Names and measurements of the guests that are expected.
    pub rims: &'a [(&'a str, &'a str)],
    pub secret: &'a str,
}

impl Registration<'_> {
    pub fn register(&self, service: &Service) -> Result<()> {
        self.trust(service)?;
        for (name, rim) in self.rims {
            service.admin(&["reference", "add", "--name", name, "--rim", rim])?;
        }
        self.policies(service)?;
        let secret_file = self.private.join("greeting");
        fs::write(&secret_file, self.secret)
            .with_context(|| format!("cannot write {}", secret_file.display()))?;
        let policy = ["--policy", "oeas/affirming.rego"];
        service.admin(
            &[["resource", "add", RESOURCE, "--file", &text(&secret_file)].as_slice(), &policy].concat(),
        )
    }

    /// A CCA platform by its key, virtCCA's devices by who certifies them.
    fn trust(&self, service: &Service) -> Result<()> {
        let public_key = self.private.join("platform.pub.pem");
        openssl::public_key(&self.shared.join(RealmKind::Soft.platform_key()), &public_key)?;
        service.admin(&[
            "trust-anchor",
            "add",
            "--name",
            TRUSTED,
            "--development",
            "--implementation-id",
            &self.platform.implementation_id,
            "--instance-id",
            &self.platform.instance_id,
            "--key",
            &text(&public_key),
        ])?;
        service.admin(&["trust-bundle", "add", "--name", TRUSTED, "--pem", &text(&self.devices.authorities)])
    }

    /// In place of the built-in policies, which refuse development platforms.
    fn policies(&self, service: &Service) -> Result<()> {
        let policies = [
            ("default_cca.rego", "demo_cca.rego", "--exceptions", "demo_cca.exceptions.json"),
            ("default_vcca.rego", "demo_virtcca.rego", "--rules", "demo_virtcca.rules.json"),
        ];
        for (id, rego, option, file) in policies {
            let (rego, file) = (text(&self.policies.join(rego)), text(&self.policies.join(file)));
            service.admin(&["policy", "add", "--id", id, "--rego", &rego, option, &file])?;
        }
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
