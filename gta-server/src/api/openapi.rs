//! The OpenAPI document of the interface, made of the routes themselves.

use std::sync::LazyLock;

use axum::Json;
use service_kit::problem::ProblemDocument;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Ref,
    RefOr, ResponseBuilder, SecurityRequirement, ServerBuilder,
};

use super::BASE;

const PROBLEM: &str = "application/problem+json";

/// What is around the routes.
pub fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("gta-server")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Global Trust Authority: attests machines with TPMs for many tenants. Compatible on the wire with \
             openEuler's.",
        ))
        .license(Some(license));
    let header = |name: &str, text: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text)))
    };
    let components = ComponentsBuilder::new()
        .security_scheme("tenant", header("User-Id", "The tenant"))
        .security_scheme(
            "key",
            header("API-Key", "A key of this tenant, whose role says what its holder may do"),
        )
        .security_scheme(
            "token",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .bearer_format("JWT")
                    .description(Some(
                        "A token of an OpenID Connect issuer that the operator believes; who it names must be an identity of \
                         this tenant, whose role says what it may do",
                    ))
                    .build(),
            ),
        )
        .security_scheme(
            "certificate",
            SecurityScheme::MutualTls {
                description: Some(
                    "A client certificate of an authority that the operator believes; who it names must be an identity of this \
                     tenant"
                        .to_owned(),
                ),
                deprecated: None,
                extensions: None,
            },
        )
        .schema_from::<ProblemDocument>();
    let server = ServerBuilder::new().url(BASE).build();
    OpenApiBuilder::new().info(info).servers(Some([server])).components(Some(components.build())).build()
}

/// Every route with what all have in common: a name, the caller's key, and problem documents.
pub fn complete() -> OpenApi {
    let mut document = super::described().into_openapi();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete_operation(path, method, operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, post, put, delete, .. } = item;
    let all = [("get", get), ("post", post), ("put", put), ("delete", delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn complete_operation(path: &str, method: &str, operation: &mut Operation) {
    operation.operation_id = Some(format!("{method}{}", path.replace(['/', '.'], "_")));
    operation.security.get_or_insert_with(|| {
        let with = |scheme| SecurityRequirement::new("tenant", [""; 0]).add(scheme, [""; 0]);
        vec![with("key"), with("token"), with("certificate")]
    });
    let problem = || ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDocument"))).build();
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && !status.starts_with('2')
        {
            response.content.insert(PROBLEM.to_owned(), problem().into());
        }
    }
    let other = ResponseBuilder::new().description("What is wrong with the request, or with the service");
    responses.insert("default".to_owned(), other.content(PROBLEM, problem()).build().into());
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", security(()), responses((status = 200, body = Object)))]
pub async fn document() -> Json<&'static OpenApi> {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(complete);
    Json(&*DOCUMENT)
}
