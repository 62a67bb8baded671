//! What signers of reference values sign.

use serde::Deserialize;
use service_kit::problem::Problem;
use verifier::logs::{BootReferences, ImaReferences, RuntimePolicy, RuntimePolicyError};

use super::known::reference;
use crate::api::{certs, name};
use crate::appraise::signed;
use crate::auth::Caller;
use crate::model::{AttesterType, CertType, KnownFile, KnownRealm};
use crate::service::Service;

/// Longest path, in bytes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Most patterns of paths that a set may exclude.
const MAX_EXCLUDED: usize = 256;
/// Most keys of signers of files in a set.
const MAX_SIGNERS: usize = 32;

/// What signers sign.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "referenceValues", default)]
    files: Vec<KnownFile>,
    ima: Option<ImaReferences>,
    boot: Option<BootReferences>,
    /// Of keylime.
    #[serde(rename = "runtimePolicy")]
    runtime_policy: Option<RuntimePolicy>,
    #[serde(default)]
    realms: Vec<KnownRealm>,
}

/// What was signed, in the form in which it is kept.
pub struct Signed {
    pub files: Vec<KnownFile>,
    pub ima: Option<ImaReferences>,
    pub boot: Option<BootReferences>,
    pub realms: Vec<KnownRealm>,
}

/// What a JWT says that a signer of the tenant has signed, about attesters of the type `kind`.
pub async fn signed(
    service: &Service,
    caller: &Caller,
    kind: AttesterType,
    jwt: &str,
) -> Result<Signed, Problem> {
    let expected = match kind {
        AttesterType::TpmIma => "referenceValues, ima or runtimePolicy",
        AttesterType::TpmBoot => "boot",
        AttesterType::VirtCca => "realms, and perhaps referenceValues, ima or runtimePolicy for their files",
    };
    let signers = certs::signers(service, &caller.tenant, CertType::Refvalue).await?;
    let payload: Payload = signed::open(jwt, &signers, service.now())
        .map_err(|error| Problem::bad_request("signature_invalid", error.to_string()))?;
    payload.files.iter().try_for_each(check)?;
    payload.realms.iter().try_for_each(check_realm)?;
    let mut ima = payload.ima.unwrap_or_default();
    if let Some(policy) = payload.runtime_policy {
        let read: ImaReferences = policy.try_into().map_err(|error| {
            Problem::bad_request("ref_value_invalid", RuntimePolicyError::to_string(&error))
        })?;
        ima.extend(&read);
    }
    check_ima(&ima)?;
    let ima = Some(ima).filter(|ima| !ima.is_empty());
    let signed = Signed { files: payload.files, ima, boot: payload.boot, realms: payload.realms };
    let (files, boot) = (!signed.files.is_empty() || signed.ima.is_some(), signed.boot.is_some());
    let realms = !signed.realms.is_empty();
    let fits = match kind {
        AttesterType::TpmIma => files && !boot && !realms,
        AttesterType::TpmBoot => boot && !files && !realms,
        AttesterType::VirtCca => realms && !boot,
    };
    if !fits {
        return Err(Problem::bad_request(
            "ref_value_invalid",
            format!("the payload of reference values for {kind} has {expected}"),
        ));
    }
    Ok(signed)
}

fn check_realm(realm: &KnownRealm) -> Result<(), Problem> {
    name("the name of a realm", &realm.name)?;
    match &realm.rpv {
        Some(rpv) if rpv.0.len() != 64 => Err(Problem::bad_request(
            "ref_value_invalid",
            format!("realm {}: rpv has {} bytes, expected 64 in hexadecimal", realm.name, rpv.0.len()),
        )),
        _ => Ok(()),
    }
}

/// Each of these is looked at for each entry that is not known otherwise.
fn check_ima(ima: &ImaReferences) -> Result<(), Problem> {
    for (member, found, most) in [
        ("exclude", ima.exclude.len(), MAX_EXCLUDED),
        ("signers", ima.signers.len(), MAX_SIGNERS),
        ("ignored_buffers", ima.ignored_buffers.len(), MAX_EXCLUDED),
    ] {
        if found > most {
            return Err(Problem::bad_request(
                "ref_value_invalid",
                format!("{member} has {found} members, expected at most {most}"),
            ));
        }
    }
    Ok(())
}

fn check(file: &KnownFile) -> Result<(), Problem> {
    let path = (1..=MAX_PATH).contains(&file.path.len()) && !file.path.contains('\0');
    if path && reference(file).is_some() {
        return Ok(());
    }
    let shown: String = file.path.chars().take(200).collect();
    Err(Problem::bad_request(
        "ref_value_invalid",
        format!(
            "{shown:?}: expected fileName with at most {MAX_PATH} bytes, and sha256 with 64 hexadecimal digits"
        ),
    ))
}
