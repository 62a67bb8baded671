//! A stand-in for the attestation service: real TLS and HTTP on loopback, with the rules that matter to an agent.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::cca::{
    CcaToken, Lifecycle, PlatformClaims, PlatformProfile, RealmClaims, RealmKey, RealmProfile,
    SignatureAlgorithm, SoftwareComponent, Wrapper, sign, wrap,
};
use evidence::envelope::Evidence;
use evidence::hash::{Digest, HashAlgorithm};
use evidence::virtcca;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, COOKIE, SET_COOKIE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jose::{Curve, EphemeralKey, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{CertifiedKey, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::{Client, ServiceAddress};
use crate::collect::{self, CollectError, EvidenceSource, LogFiles, Places};
use crate::environment::{Environment, System};

pub const SERVER_NAME: &str = "as.redoubt";
/// When the tests take place, seconds since 1970.
pub const NOW: i64 = 1_800_000_000;
pub const SECRET: &str = "correct horse \"battery\" staple";

pub fn self_signed(name: &str) -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap()
}

/// A well-formed token for `challenge`; its signatures are not valid, which no agent checks.
pub fn token_for(challenge: &[u8; 64]) -> Vec<u8> {
    let hash = HashAlgorithm::Sha256;
    let digest = |byte| Digest::from_slice(&[byte; 32]).unwrap();
    // Only its form is looked at here.
    let rak = RealmKey::raw_p384(&[0x04; 97]).unwrap();
    let realm = RealmClaims {
        challenge: *challenge,
        profile: RealmProfile::Legacy,
        rpv: [0; 64],
        hash,
        rim: digest(0x11),
        rems: [Digest::zero(hash); 4],
        rak_hash: hash,
        rak,
    };
    let platform = PlatformClaims {
        profile: PlatformProfile::Legacy,
        nonce: hash.digest(realm.rak.claim_bytes()).as_bytes().to_vec(),
        implementation_id: [0x22; 32],
        instance_id: [1; 33],
        config: vec![0],
        lifecycle: Lifecycle(0x3003),
        components: vec![SoftwareComponent {
            kind: Some("BL".to_owned()),
            measurement: digest(0x33),
            version: None,
            signer_id: digest(0x44),
            hash: None,
        }],
        verification_service: None,
        hash,
    };
    let sign = |payload: Vec<u8>| {
        sign(&payload, SignatureAlgorithm::Es384, |_| Ok::<_, Infallible>(vec![0x55; 96])).unwrap()
    };
    wrap(Wrapper::Tag399, &sign(platform.encode()), &sign(realm.encode()))
}

/// The same for virtCCA, with a Platform Token.
pub fn virtcca_token_for(challenge: &[u8; 64]) -> Vec<u8> {
    let hash = HashAlgorithm::Sha256;
    let digest = |byte| Digest::from_slice(&[byte; 32]).unwrap();
    let key = virtcca::CvmKey::new([&[0x04; 1][..], &[0x66; 132]].concat()).unwrap();
    let platform = virtcca::PlatformClaims {
        profile: String::new(),
        challenge: hash.digest(key.claim_bytes()),
        implementation_id: [0x22; 32],
        instance_id: [1; 33],
        config: Vec::new(),
        lifecycle: Lifecycle(0x2000),
        components: vec![virtcca::SoftwareComponent {
            kind: "tf_bl2".to_owned(),
            measurement: digest(0x33),
            version: "1".to_owned(),
            signer_id: Vec::new(),
            hash: None,
        }],
        verification_service: String::new(),
        hash,
    };
    let cvm = virtcca::CvmClaims {
        challenge: *challenge,
        rpv: [0; 64],
        hash,
        key,
        rim: digest(0x11),
        rems: [Digest::zero(hash); 4],
        key_hash: hash,
    };
    let sign = |payload: Vec<u8>| {
        sign(&payload, SignatureAlgorithm::Es512, |_| Ok::<_, Infallible>(vec![0x55; 132])).unwrap()
    };
    virtcca::wrap(Some(&sign(platform.encode())), &sign(cvm.encode()))
}

/// A clock that stands still until it is set, and real randomness.
pub struct Clock(AtomicI64);

impl Default for Clock {
    fn default() -> Self {
        Self(AtomicI64::new(NOW))
    }
}

impl Clock {
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Environment for Clock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn random(&self, bytes: &mut [u8]) {
        System.random(bytes);
    }

    fn new_key(&self) -> EphemeralKey {
        EphemeralKey::generate(Curve::P256, &mut rand::rng())
    }
}

/// An evidence source inside the test.
pub struct FakeRealm;

impl EvidenceSource for FakeRealm {
    fn collect(&self, request: &collect::Request) -> Result<Evidence, CollectError> {
        Ok(Evidence::cca(token_for(&request.challenge)))
    }
}

/// A guest whose devices and logs would all be below `root`.
pub fn places_in(root: &Path) -> Places {
    Places {
        tsi: root.join("dev/tsi"),
        tsm_root: root.join("tsm/report"),
        device_certificate: root.join("device-certificate.pem"),
        logs: LogFiles {
            ima: root.join("ima"),
            ccel_table: root.join("CCEL"),
            ccel_data: root.join("data-CCEL"),
        },
    }
}

pub fn realm() -> Arc<dyn EvidenceSource> {
    Arc::new(FakeRealm)
}

/// What the service got.
pub struct Asked {
    pub path: String,
    pub cookie: Option<String>,
    pub bearer: Option<String>,
    pub body: Value,
}

/// What the service answers.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub cookie: Option<String>,
    pub body: Vec<u8>,
    /// Close the connection afterwards.
    pub close: bool,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, cookie: None, body: body.into(), close: false }
    }

    pub fn problem(status: u16, code: &str, step: Option<&str>) -> Self {
        let body = json!({"type": format!("urn:redoubt:problem:{code}"), "title": "refused", "status": status,
            "detail": "found something else", "code": code, "step": step});
        Self { status, ..Self::ok(body.to_string()) }
    }
}

/// The rules of an honest service: challenges serve once and with their cookie, keys must be in the challenge,
/// secrets go out sealed to the key.
#[derive(Clone)]
pub struct Honest {
    challenges: Arc<Mutex<HashMap<String, String>>>,
    keys: Arc<Mutex<HashMap<String, Option<Jwk>>>>,
    signing_key: Arc<KeyPair>,
    verdict: bool,
}

impl Default for Honest {
    fn default() -> Self {
        let signing_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        Self {
            challenges: Arc::default(),
            keys: Arc::default(),
            signing_key: Arc::new(signing_key),
            verdict: true,
        }
    }
}

impl Honest {
    /// The same service, whose tokens carry this verdict.
    pub fn with_verdict(&self, verdict: bool) -> Self {
        Self { verdict, ..self.clone() }
    }

    pub fn answer(&self, asked: &Asked) -> Reply {
        match asked.path.as_str() {
            "/challenge" => self.challenge(&asked.body),
            "/attestation" => self.attestation(asked),
            "/resource/storage" => self.resource(asked),
            "/.well-known/jwks.json" => {
                let jwk = Jwk::from_sec1(Curve::P384, self.signing_key.public_key_raw()).unwrap();
                Reply::ok(json!({ "keys": [jwk] }).to_string())
            }
            other => panic!("path {other}"),
        }
    }

    fn sign(&self, nonce: &str) -> String {
        let claims = json!({"iss": "fake", "nbf": NOW, "exp": NOW + 300, "nonce": nonce,
            "jti": hex::encode(rand::random::<[u8; 8]>()), "tee": "cca", "tcb_status": {},
            "evaluation_reports": {"eval_result": self.verdict}});
        let key = EncodingKey::from_ec_der(self.signing_key.serialized_der());
        jsonwebtoken::encode(&Header::new(Algorithm::ES384), &claims, &key).unwrap()
    }

    fn challenge(&self, body: &Value) -> Reply {
        let mut bytes = rand::random::<[u8; 32]>().to_vec();
        bytes.extend(serde_json::from_value::<Vec<u8>>(body["user_data"].clone()).unwrap());
        let challenge = URL_SAFE_NO_PAD.encode(bytes);
        let id = hex::encode(rand::random::<[u8; 16]>());
        self.challenges.lock().unwrap().insert(challenge.clone(), format!("oeas-session-id={id}"));
        let cookie = Some(format!("oeas-session-id={id}; Path=/; HttpOnly"));
        Reply { cookie, ..Reply::ok(json!(challenge).to_string()) }
    }

    fn attestation(&self, asked: &Asked) -> Reply {
        let text = asked.body["challenge"].as_str().unwrap();
        let Some(cookie) = self.challenges.lock().unwrap().remove(text) else {
            return Reply::problem(409, "challenge_used", None);
        };
        assert_eq!(asked.cookie.as_ref(), Some(&cookie));
        let mut challenge = URL_SAFE_NO_PAD.decode(text).unwrap();
        challenge.resize(64, 0);
        let envelope = URL_SAFE_NO_PAD.decode(asked.body["evidence"].as_str().unwrap()).unwrap();
        let Evidence::Cca(evidence) = Evidence::from_json(&envelope).unwrap() else { panic!() };
        if CcaToken::decode(&evidence.token).unwrap().realm.claims.challenge[..] != challenge[..] {
            return Reply::problem(403, "nonce_mismatch", Some("nonce"));
        }
        let key: Option<Jwk> =
            asked.body.get("tee_key").map(|key| serde_json::from_value(key.clone()).unwrap());
        if key.as_ref().is_some_and(|key| key.thumbprint()[..] != challenge[32..]) {
            return Reply::problem(403, "tee_key_unbound", Some("binding"));
        }
        let token = self.sign(text);
        self.keys.lock().unwrap().insert(format!("Bearer {token}"), key);
        Reply::ok(token)
    }

    fn resource(&self, asked: &Asked) -> Reply {
        assert_eq!(asked.body["TeeGet"]["resource"], json!({"vendor": "demo", "path": "disk/key"}));
        match self.keys.lock().unwrap().get(asked.bearer.as_ref().unwrap()) {
            Some(Some(key)) => {
                let sealed = jose::encrypt(key, SECRET.as_bytes(), &mut rand::rng()).unwrap();
                Reply::ok(json!(sealed).to_string())
            }
            Some(None) => Reply::problem(403, "no_bound_key", None),
            None => Reply::problem(401, "token_invalid", None),
        }
    }
}

/// A running service; it ends with the test's runtime.
pub struct FakeService {
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
}

impl FakeService {
    /// Starts a service that answers with `answer`.
    pub async fn start(answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_tls(answer, &[&rustls::version::TLS13]).await
    }

    pub async fn start_tls(
        answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let CertifiedKey { cert, signing_key } = self_signed(SERVER_NAME);
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new((answer, Honest::default()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move {
                    // Clients that do not trust the service break off here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| {
                        let state = state.clone();
                        async move {
                            let asked = read(request).await;
                            Ok::<_, Infallible>(write(&state.0(&asked, &state.1)))
                        }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, certificate: cert.der().clone() }
    }

    /// A client that trusts this service.
    pub fn client(&self) -> Client {
        self.client_trusting(self.certificate.clone(), SERVER_NAME)
    }

    pub fn client_trusting(&self, certificate: CertificateDer<'static>, server_name: &str) -> Client {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        let address = ServiceAddress::Tcp { host, port };
        Client::new(address, server_name, vec![certificate], Duration::from_secs(20)).unwrap()
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (cookie, bearer, path) = (text(COOKIE), text(AUTHORIZATION), request.uri().path().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Asked { path, cookie, bearer, body: serde_json::from_slice(&body).unwrap_or_default() }
}

fn write(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(reply.status);
    if let Some(cookie) = &reply.cookie {
        response = response.header(SET_COOKIE, cookie);
    }
    if reply.close {
        response = response.header(CONNECTION, "close");
    }
    response.body(Full::new(Bytes::from(reply.body.clone()))).unwrap()
}
