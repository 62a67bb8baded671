//! secGear's requests, as its agents, its client and its web façade send them. All names are of the wire.

use serde::Deserialize;
use utoipa::ToSchema;

/// `POST /policy`: registers an appraisal policy.
#[derive(Deserialize, ToSchema)]
pub struct NewPolicy {
    /// The kind of environment; not used, as in secGear.
    #[serde(default)]
    #[allow(dead_code, reason = "of the wire")]
    pub tee: Option<String>,
    /// The policy's name, which ends in `.rego`.
    pub id: String,
    /// The Rego text in base64url without padding.
    pub policy: String,
}

/// `GET /policy`: reads an appraisal policy.
#[derive(Deserialize, ToSchema)]
pub struct PolicyName {
    /// The policy's name.
    pub policy_id: String,
}

/// `POST /reference`: registers reference values.
#[derive(Deserialize, ToSchema)]
pub struct NewReferences {
    /// A JSON object as text: name to value.
    pub refs: String,
}

/// Where a resource is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Whose it is; `oeas` if absent or empty.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Its path within the vendor.
    pub path: String,
}

/// Where a resource policy is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyLocation {
    /// Whose it is; `oeas` if absent or empty.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Its name, which ends in `.rego`.
    pub id: String,
}

/// `GET /resource/storage`, and with `POST` for clients that cannot send a body with GET.
#[derive(Deserialize, ToSchema)]
pub enum ReadResource {
    /// A resource, for the environment that the token is about.
    TeeGet {
        /// Which one.
        resource: Location,
    },
    /// The names of a vendor's resources.
    VendorGet {
        /// Whose.
        vendor: String,
    },
}

/// `POST /resource/storage`: changes a resource.
#[derive(Deserialize, ToSchema)]
pub struct ChangeResource {
    /// What is to be done.
    pub op: ResourceOperation,
    /// To which resource.
    pub resource: Location,
}

/// What can be done to a resource.
#[derive(Deserialize, ToSchema)]
pub enum ResourceOperation {
    /// Registers it.
    Add {
        /// The content, as text.
        content: String,
        /// The policies that must all allow its release, as `vendor/id.rego`.
        policy: Vec<String>,
    },
    /// Removes it.
    Delete,
    /// Gives it another content.
    Modify {
        /// The content, as text.
        content: String,
    },
    /// Adds policies to those that must allow its release.
    Bind {
        /// As `vendor/id.rego`.
        policy: Vec<String>,
    },
    /// Takes policies away.
    Unbind {
        /// As `vendor/id.rego`.
        policy: Vec<String>,
    },
}

/// `GET /resource/policy`: reads resource policies.
#[derive(Deserialize, ToSchema)]
#[allow(clippy::enum_variant_names, reason = "of the wire")]
pub enum ReadResourcePolicy {
    /// The text of one.
    GetOne {
        /// Which one.
        policy: PolicyLocation,
    },
    /// The names of all.
    GetAll,
    /// The names of a vendor's.
    GetAllInVendor {
        /// Whose.
        vendor: String,
    },
}

/// `POST /resource/policy`: changes resource policies.
#[derive(Deserialize, ToSchema)]
pub enum ChangeResourcePolicy {
    /// Registers one, or gives it another text.
    Add {
        /// Which one.
        policy: PolicyLocation,
        /// The Rego text itself.
        content: String,
    },
    /// Removes one.
    Delete {
        /// Which one.
        policy: PolicyLocation,
    },
    /// Removes a vendor's.
    ClearAll {
        /// Whose.
        vendor: String,
    },
}
