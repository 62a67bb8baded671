//! The calls that there are.

use std::os::fd::OwnedFd;

use api::VmConfig;
use api::config::{DiskConfig, FsConfig, NetConfig, PmemConfig, VsockConfig};
use api::message::{
    Counters, PciDeviceInfo, VmInfo, VmRemoveDevice, VmResize, VmResizeDisk, VmmPingResponse,
};
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::openapi::{SchemaOf, schema_of};
use crate::control::{Action, NewDevice};

/// What the path of every call but the metrics begins with.
pub const BASE: &str = "/api/v1/";

/// Method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks.
    Get,
    /// Changes.
    Put,
}

impl Method {
    /// As HTTP spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
        }
    }
}

/// What comes with a call.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// The body.
    pub body: &'a [u8],
    /// Descriptors (`SCM_RIGHTS`).
    pub descriptors: Vec<OwnedFd>,
}

/// A request that means nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status code: 400 or 404.
    pub status: u16,
    /// Why, outermost reason first.
    pub reasons: Vec<String>,
}

/// What a call answers when it is carried out.
#[derive(Clone, Copy)]
pub(super) enum Answers {
    /// Nothing (204).
    Nothing,
    /// JSON (200).
    Json(SchemaOf),
    /// JSON (200), or nothing (204) while the VM is not booted.
    JsonOnceBooted(SchemaOf),
    /// Text (200).
    Text,
}

/// A call.
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: &'static str,
    /// What it does.
    pub summary: &'static str,
    pub(super) body: Option<SchemaOf>,
    pub(super) answers: Answers,
    /// Status codes of refusals besides 400, 429 and 500, which any call may answer.
    pub(super) refusals: &'static [u16],
    decode: fn(Request<'_>) -> Result<Action, Vec<String>>,
}

macro_rules! path {
    ($name:literal) => {
        concat!("/api/v1/", $name)
    };
}

/// A call that comes without a body.
const fn plain(
    method: Method,
    path: &'static str,
    summary: &'static str,
    answers: Answers,
    refusals: &'static [u16],
    decode: fn(Request<'_>) -> Result<Action, Vec<String>>,
) -> Call {
    Call { method, path, summary, body: None, answers, refusals, decode }
}

/// A call with a body.
const fn with_body<T: ToSchema>(
    path: &'static str,
    summary: &'static str,
    answers: Answers,
    refusals: &'static [u16],
    decode: fn(Request<'_>) -> Result<Action, Vec<String>>,
) -> Call {
    Call { method: Method::Put, path, summary, body: Some(schema_of::<T>), answers, refusals, decode }
}

const DEVICE: Answers = Answers::JsonOnceBooted(schema_of::<PciDeviceInfo>);

/// Every call.
pub(super) static CALLS: [Call; 21] = [
    plain(
        Method::Get,
        path!("vmm.ping"),
        "Says that the VMM is there, and which one it is.",
        Answers::Json(schema_of::<VmmPingResponse>),
        &[],
        |request| no_body(&request, Action::Ping),
    ),
    plain(
        Method::Put,
        path!("vmm.shutdown"),
        "Ends the VMM, and with it the VM.",
        Answers::Nothing,
        &[],
        |request| no_body(&request, Action::ShutdownVmm),
    ),
    plain(
        Method::Get,
        path!("vm.info"),
        "Says what the VM is made of and what it does.",
        Answers::Json(schema_of::<VmInfo>),
        &[404],
        |request| no_body(&request, Action::Info),
    ),
    plain(
        Method::Get,
        path!("vm.counters"),
        "Counts what devices have done and why vCPUs came back from the guest, while the VM is booted.",
        Answers::Json(schema_of::<CountersSchema>),
        &[404],
        |request| no_body(&request, Action::Counters),
    ),
    with_body::<VmConfig>(
        path!("vm.create"),
        "Says what the VM is to be made of. A field that is not known or cannot be used is named in the refusal.",
        Answers::Nothing,
        &[409],
        |request| json(&request).map(|config| Action::Create(Box::new(config))),
    ),
    plain(
        Method::Put,
        path!("vm.delete"),
        "Forgets the VM; shuts it down first. Does nothing when there is none.",
        Answers::Nothing,
        &[],
        |request| no_body(&request, Action::Delete),
    ),
    plain(
        Method::Put,
        path!("vm.boot"),
        "Launches the VM. A Realm is measured first.",
        Answers::Nothing,
        &[404],
        |request| no_body(&request, Action::Boot),
    ),
    plain(
        Method::Put,
        path!("vm.pause"),
        "Makes vCPUs and devices stand still.",
        Answers::Nothing,
        &[404],
        |request| no_body(&request, Action::Pause),
    ),
    plain(Method::Put, path!("vm.resume"), "Lets them go on.", Answers::Nothing, &[404], |request| {
        no_body(&request, Action::Resume)
    }),
    plain(
        Method::Put,
        path!("vm.shutdown"),
        "Stops the VM without asking the guest; it can be booted again.",
        Answers::Nothing,
        &[404],
        |request| no_body(&request, Action::Shutdown),
    ),
    plain(
        Method::Put,
        path!("vm.reboot"),
        "Launches the VM anew without asking the guest.",
        Answers::Nothing,
        &[404],
        |request| no_body(&request, Action::Reboot),
    ),
    plain(
        Method::Put,
        path!("vm.power-button"),
        "Asks the guest to shut down, on a board with a power button.",
        Answers::Nothing,
        &[404],
        |request| no_body(&request, Action::PowerButton),
    ),
    with_body::<VmResize>(
        path!("vm.resize"),
        "Changes the size of the balloon. The number of vCPUs and the size of memory are fixed.",
        Answers::Nothing,
        &[404],
        |request| json(&request).map(Action::Resize),
    ),
    with_body::<VmResizeDisk>(
        path!("vm.resize-disk"),
        "Tells the guest that a disk has another size.",
        Answers::Nothing,
        &[404],
        |request| json(&request).map(Action::ResizeDisk),
    ),
    with_body::<DiskConfig>(path!("vm.add-disk"), "Adds a disk.", DEVICE, &[404, 409], |request| {
        json(&request).map(|disk| Action::AddDevice(NewDevice::Disk(Box::new(disk))))
    }),
    with_body::<NetConfig>(
        path!("vm.add-net"),
        "Adds a network interface. Open queues of its tap device come with the request (SCM_RIGHTS), one for each pair.",
        DEVICE,
        &[404, 409],
        |request| {
            let Request { body, descriptors } = request;
            let net = json(&Request { body, descriptors: Vec::new() })?;
            Ok(Action::AddDevice(NewDevice::Net(Box::new(net), descriptors)))
        },
    ),
    with_body::<FsConfig>(
        path!("vm.add-fs"),
        "Adds a directory of the host, served by a virtiofsd.",
        DEVICE,
        &[404, 409],
        |request| json(&request).map(|fs| Action::AddDevice(NewDevice::Fs(fs))),
    ),
    with_body::<PmemConfig>(
        path!("vm.add-pmem"),
        "Adds persistent memory.",
        DEVICE,
        &[404, 409],
        |request| json(&request).map(|pmem| Action::AddDevice(NewDevice::Pmem(pmem))),
    ),
    with_body::<VsockConfig>(
        path!("vm.add-vsock"),
        "Adds the socket between guest and host.",
        DEVICE,
        &[404, 409],
        |request| json(&request).map(|vsock| Action::AddDevice(NewDevice::Vsock(vsock))),
    ),
    with_body::<VmRemoveDevice>(
        path!("vm.remove-device"),
        "Removes a device. The event `device-removed` tells when it is gone.",
        Answers::Nothing,
        &[404],
        |request| json(&request).map(Action::RemoveDevice),
    ),
    plain(
        Method::Get,
        "/metrics",
        "The counters, and the state of the VM, in the text format of Prometheus.",
        Answers::Text,
        &[],
        |request| no_body(&request, Action::Metrics),
    ),
];

/// Counters by device and name.
#[derive(ToSchema)]
#[schema(as = VmCounters)]
#[expect(dead_code, reason = "a name for a map in the OpenAPI document")]
struct CountersSchema(Counters);

/// The call at `path`.
///
/// # Errors
///
/// [`Refusal`]: 404 where there is none, 400 where its method is another.
pub(super) fn find(method: &str, path: &str) -> Result<&'static Call, Refusal> {
    let Some(call) = CALLS.iter().find(|call| call.path == path) else {
        let shown: String = path.chars().take(200).collect();
        return Err(Refusal { status: 404, reasons: vec![format!("{shown}: this VMM has no such call")] });
    };
    if call.method.name() == method {
        return Ok(call);
    }
    let shown: String = method.chars().take(20).collect();
    let reason = format!("{path}: found {shown}, expected {}", call.method.name());
    Err(Refusal { status: 400, reasons: vec![reason] })
}

impl Call {
    /// What `request` asks for.
    ///
    /// # Errors
    ///
    /// [`Refusal`] with status 400, which names the field.
    pub(super) fn decode(&self, request: Request<'_>) -> Result<Action, Refusal> {
        (self.decode)(request).map_err(|reasons| {
            let outer = format!("{}: the request cannot be understood", self.path);
            Refusal { status: 400, reasons: std::iter::once(outer).chain(reasons).collect() }
        })
    }
}

/// What a request means.
///
/// # Errors
///
/// [`Refusal`].
pub fn decode(method: &str, path: &str, request: Request<'_>) -> Result<Action, Refusal> {
    find(method, path)?.decode(request)
}

fn no_body(request: &Request<'_>, action: Action) -> Result<Action, Vec<String>> {
    no_descriptors(request)?;
    if request.body.is_empty() {
        Ok(action)
    } else {
        Err(vec![format!("found a body of {} bytes, expected none", request.body.len())])
    }
}

fn json<T: DeserializeOwned>(request: &Request<'_>) -> Result<T, Vec<String>> {
    no_descriptors(request)?;
    if request.body.is_empty() {
        return Err(vec!["found no body, expected JSON".into()]);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(request.body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        vec![if path == "." { inner.to_string() } else { format!("{path}: {inner}") }]
    })?;
    deserializer.end().map_err(|error| vec![error.to_string()])?;
    Ok(value)
}

fn no_descriptors(request: &Request<'_>) -> Result<(), Vec<String>> {
    match request.descriptors.len() {
        0 => Ok(()),
        count => {
            Err(vec![format!("found {count} file descriptors, expected none: only vm.add-net takes them")])
        }
    }
}
