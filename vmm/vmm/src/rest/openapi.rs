//! The OpenAPI document, made of the table of calls.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{
    Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    ResponsesBuilder, ServerBuilder,
};

use super::calls::{Answers, CALLS, Call, Method};

/// Schemas by name.
pub(super) type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Puts the schema of a type, and those that it refers to, into the list, and refers to it.
pub(super) type SchemaOf = fn(&mut Schemas) -> Ref;

/// [`SchemaOf`] a type.
pub(super) fn schema_of<T: ToSchema>(schemas: &mut Schemas) -> Ref {
    let mut found = Vec::new();
    T::schemas(&mut found);
    schemas.extend(found);
    schemas.insert(T::name().into(), T::schema());
    Ref::from_schema_name(T::name())
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
/// Name of the schema of refusals.
const ERRORS: &str = "Errors";

/// The OpenAPI document of the interface.
#[must_use]
pub fn document() -> OpenApi {
    let mut schemas = Schemas::new();
    let reasons = ArrayBuilder::new()
        .items(ObjectBuilder::new().schema_type(Type::String))
        .description(Some("Why the request was refused, outermost reason first."));
    schemas.insert(ERRORS.into(), RefOr::T(reasons.into()));
    let mut paths = PathsBuilder::new();
    for call in &CALLS {
        let method = match call.method {
            Method::Get => HttpMethod::Get,
            Method::Put => HttpMethod::Put,
        };
        paths = paths.path(call.path, PathItem::new(method, operation(call, &mut schemas)));
    }
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("redoubt-vmm")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "One VM, directed over a Unix socket. Compatible with Cloud Hypervisor's v1 interface.",
        ))
        .license(Some(license));
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas {
        components = components.schema(name, schema);
    }
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("http://localhost").build()]))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

fn operation(call: &Call, schemas: &mut Schemas) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .summary(Some(call.summary))
        .operation_id(Some(call.path.trim_start_matches(super::BASE).trim_start_matches('/')));
    if let Some(body) = call.body {
        let body = RequestBodyBuilder::new()
            .content(JSON, Content::new(Some(body(schemas))))
            .required(Some(utoipa::openapi::Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    let mut responses = ResponsesBuilder::new();
    let nothing = || ResponseBuilder::new().description("It is done.").build();
    let with = |kind: &str, schema: Ref| {
        ResponseBuilder::new().description("The answer.").content(kind, Content::new(Some(schema))).build()
    };
    match call.answers {
        Answers::Nothing => responses = responses.response("204", nothing()),
        Answers::Json(schema) => responses = responses.response("200", with(JSON, schema(schemas))),
        Answers::JsonOnceBooted(schema) => {
            responses = responses.response("200", with(JSON, schema(schemas))).response("204", nothing());
        }
        Answers::Text => {
            let text = ObjectBuilder::new().schema_type(Type::String).build();
            let content = Content::new(Some(RefOr::T(Schema::Object(text))));
            let answer = ResponseBuilder::new().description("The answer.").content(TEXT, content).build();
            responses = responses.response("200", answer);
        }
    }
    let mut codes: Vec<u16> = [400, 429, 500].into_iter().chain(call.refusals.iter().copied()).collect();
    codes.sort_unstable();
    for code in codes {
        let refusal = ResponseBuilder::new()
            .description(meaning(code))
            .content(JSON, Content::new(Some(Ref::from_schema_name(ERRORS))));
        responses = responses.response(code.to_string(), refusal.build());
    }
    operation.responses(responses.build())
}

const fn meaning(code: u16) -> &'static str {
    match code {
        400 => "The request cannot be understood, or the configuration cannot be used.",
        404 => "There is no VM, or no such device.",
        409 => "Another device has this name.",
        429 => "Too many requests wait; try again.",
        _ => "It cannot be done, in this state or at all, or it was tried and failed.",
    }
}
