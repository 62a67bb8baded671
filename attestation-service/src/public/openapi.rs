//! The OpenAPI document of the public plane, made of the routes themselves.

use axum::Json;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};

/// What is around the routes.
pub fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("attestation-service")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Attestation of confidential VMs and release of secrets. Compatible with secGear's attestation service and \
             with Trustee's key-broker protocol.",
        ))
        .license(Some(license));
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let session = ApiKey::Cookie(ApiKeyValue::new(super::kbs::SESSION_COOKIE));
    let components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(token))
        .security_scheme("session", SecurityScheme::ApiKey(session));
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub async fn document() -> Json<OpenApi> {
    Json(super::described().into_openapi())
}
