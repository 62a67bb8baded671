//! One secret, once: key, challenge, evidence, attestation, release.

use std::sync::Arc;

use evidence::envelope::Dialect;
use jose::EphemeralKey;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::collect::{self, EvidenceSource, Request};
use crate::report::Measurements;
use crate::service::{self, ResourcePath};
use crate::{Error, Result};

/// What came of a fetch.
#[derive(Debug)]
pub struct Outcome {
    /// What this guest's own token says, as soon as there was one; it is told whatever the service decided.
    pub measurements: Option<Measurements>,
    /// The secret, or why there is none.
    pub secret: Result<Zeroizing<Vec<u8>>>,
}

/// Fetches a secret that the service releases to `key` only, once this guest is attested.
///
/// Use a new `key` each time: it is what ties the secret to this run of the guest.
pub async fn fetch(
    client: &Client,
    source: &Arc<dyn EvidenceSource>,
    dialect: Dialect,
    key: &EphemeralKey,
    resource: &ResourcePath,
) -> Outcome {
    let mut measurements = None;
    let secret = release(client, source, dialect, key, resource, &mut measurements).await;
    Outcome { measurements, secret }
}

async fn release(
    client: &Client,
    source: &Arc<dyn EvidenceSource>,
    dialect: Dialect,
    key: &EphemeralKey,
    resource: &ResourcePath,
    measurements: &mut Option<Measurements>,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut connection = client.connect().await?;
    let challenge = service::challenge(&mut connection, &key.public_jwk().thumbprint()).await?;
    tracing::info!("challenge received; it carries this agent's key");
    let evidence = collect::collect(source, Request { challenge: *challenge.bytes(), ima: false }).await?;
    *measurements = Measurements::of(&evidence);
    tracing::info!("evidence collected");
    let text = evidence.to_json_as(dialect);
    let token = service::attest(&mut connection, &challenge, &text, None, Some(key.public_jwk())).await?;
    tracing::info!("attested");
    let sealed = service::resource(&mut connection, &token, resource).await?;
    tracing::info!(%resource, "sealed secret received");
    key.decrypt(&sealed).map_err(Error::Unseal)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use evidence::envelope::Evidence;
    use jose::Curve;
    use serde_json::json;

    use super::*;
    use crate::collect::CollectError;
    use crate::report::{Report, Verdict, chain};
    use crate::testing::{
        Asked, FakeService, Honest, Reply, SECRET, SERVER_NAME, places_in, realm, self_signed,
    };

    async fn fetch_with(client: &Client) -> Outcome {
        let key = EphemeralKey::generate(Curve::P384, &mut rand::rng());
        fetch(client, &realm(), Dialect::Compact, &key, &"demo/disk/key".parse().unwrap()).await
    }

    async fn fetch_from(answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static) -> Outcome {
        fetch_with(&FakeService::start(answer).await.client()).await
    }

    /// An otherwise honest service that answers `path` with `reply`.
    async fn fetch_with_reply(path: &'static str, reply: Reply) -> Outcome {
        fetch_from(move |asked, honest| if asked.path == path { reply.clone() } else { honest.answer(asked) })
            .await
    }

    fn error(outcome: Outcome) -> Error {
        outcome.secret.expect_err("a secret was had")
    }

    #[tokio::test]
    async fn gets_the_secret_of_an_honest_service() {
        let outcome = fetch_from(|asked, honest| honest.answer(asked)).await;
        assert_eq!(outcome.secret.unwrap().as_slice(), SECRET.as_bytes());
        assert_eq!(outcome.measurements.unwrap().rim.to_string(), "11".repeat(32));
    }

    #[tokio::test]
    async fn carries_on_when_the_service_closes_the_connection_between_requests() {
        let outcome = fetch_from(|asked, honest| Reply { close: true, ..honest.answer(asked) }).await;
        assert_eq!(outcome.secret.unwrap().as_slice(), SECRET.as_bytes());
    }

    #[tokio::test]
    async fn refuses_a_service_with_another_certificate() {
        let service = FakeService::start(|_, _| panic!("the service was asked")).await;
        let other = self_signed(SERVER_NAME).cert.der().clone();
        let error = error(fetch_with(&service.client_trusting(other, SERVER_NAME)).await);
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(chain(&error).contains("--service-cert"), "{}", chain(&error));
    }

    #[tokio::test]
    async fn refuses_a_certificate_for_another_name() {
        let service = FakeService::start(|_, _| panic!("the service was asked")).await;
        let error =
            error(fetch_with(&service.client_trusting(service.certificate.clone(), "other.redoubt")).await);
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn refuses_to_speak_an_older_tls() {
        let answer = |_: &Asked, _: &Honest| panic!("the service was asked");
        let service = FakeService::start_tls(answer, &[&rustls::version::TLS12]).await;
        let error = error(fetch_with(&service.client()).await);
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn says_where_it_found_nobody() {
        let service = FakeService::start(|_, _| Reply::ok("")).await;
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let client = FakeService { address: free, ..service }.client();
        let error = error(fetch_with(&client).await);
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert!(chain(&error).contains(&format!("https://{free}")), "{}", chain(&error));
    }

    #[tokio::test]
    async fn refuses_to_attest_a_key_that_is_not_its_own() {
        for user_data in [vec![9; 32], vec![], vec![9; 31]] {
            let outcome = fetch_from(move |asked, honest| match asked.path.as_str() {
                "/challenge" => {
                    let body = json!({ "user_data": user_data });
                    honest.answer(&Asked { body, path: "/challenge".to_owned(), cookie: None, bearer: None })
                }
                other => panic!("{other} was asked after a foreign challenge"),
            })
            .await;
            assert!(outcome.measurements.is_none(), "evidence was collected");
            assert!(matches!(error(outcome), Error::ForeignChallenge));
        }
    }

    #[tokio::test]
    async fn refuses_a_challenge_with_its_key_in_another_place() {
        let outcome = fetch_from(|asked, _| {
            let mut bytes: Vec<u8> = serde_json::from_value(asked.body["user_data"].clone()).unwrap();
            bytes.extend([0; 32]);
            Reply::ok(json!(URL_SAFE_NO_PAD.encode(bytes)).to_string())
        })
        .await;
        assert!(matches!(error(outcome), Error::ForeignChallenge));
    }

    #[tokio::test]
    async fn reports_a_refused_attestation_with_code_and_step() {
        let reply = Reply::problem(403, "rim_mismatch", Some("reference_values"));
        let outcome = fetch_with_reply("/attestation", reply).await;
        let report = Report::new(&outcome);
        assert_eq!(report.verdict, Verdict::Refused);
        assert_eq!(report.exit_code(), 2);
        assert_eq!(report.code.as_deref(), Some("rim_mismatch"));
        assert_eq!(report.step.as_deref(), Some("reference_values"));
        assert!(report.measurements.is_some());
    }

    #[tokio::test]
    async fn reports_a_refused_release() {
        let outcome = fetch_with_reply("/resource/storage", Reply::problem(403, "policy_denied", None)).await;
        assert_eq!(Report::new(&outcome).code.as_deref(), Some("policy_denied"));
    }

    #[tokio::test]
    async fn a_failure_of_the_service_is_not_a_refusal() {
        for reply in [
            Reply::problem(500, "internal", None),
            Reply::problem(503, "store_unavailable", Some("reference_values")),
            Reply::problem(429, "challenges_exhausted", None),
            Reply { status: 403, ..Reply::ok("forbidden") },
            Reply { status: 204, ..Reply::ok("") },
            Reply { status: 302, ..Reply::ok("") },
        ] {
            let outcome = fetch_with_reply("/attestation", reply).await;
            let report = Report::new(&outcome);
            assert_eq!((report.verdict, report.exit_code()), (Verdict::Error, 1), "{report:?}");
            assert!(report.detail.is_some());
        }
    }

    #[tokio::test]
    async fn reads_no_more_than_an_answer_may_have() {
        for path in ["/challenge", "/attestation", "/resource/storage"] {
            let outcome = fetch_with_reply(path, Reply::ok(vec![b'a'; 2 * jose::MAX_COMPACT_LEN])).await;
            let error = error(outcome);
            assert!(error.to_string().contains("the answer is over"), "{path}: {error}");
        }
    }

    #[tokio::test]
    async fn refuses_malformed_answers() {
        let long_token = format!("a.b.{}", "c".repeat(16 * 1024));
        for (path, body) in [
            ("/challenge", ""),
            ("/challenge", "{"),
            ("/challenge", "{\"challenge\":\"AAAA\"}"),
            ("/challenge", "\"AAAA\""),
            ("/challenge", "\"****\""),
            ("/attestation", ""),
            ("/attestation", "{\"token\":\"a.b.c\"}"),
            ("/attestation", "a.b"),
            ("/attestation", "a.b.c\r\nX-Injected: 1"),
            ("/attestation", "\u{fffd}.b.c"),
            ("/attestation", &long_token),
            ("/resource/storage", "not json"),
            ("/resource/storage", "[1,2]"),
        ] {
            let error = error(fetch_with_reply(path, Reply::ok(body)).await);
            assert!(matches!(error, Error::Interface { .. }), "{path} {body:?}: {error:?}");
            assert!(error.to_string().contains(path), "{error}");
        }
    }

    #[tokio::test]
    async fn refuses_a_session_cookie_that_would_smuggle_headers() {
        for value in ["", "a b", "a=b", &"a".repeat(200)] {
            let cookie = format!("oeas-session-id={value}; Path=/");
            let outcome = fetch_from(move |asked, honest| {
                let honest = honest.answer(asked);
                Reply { cookie: Some(cookie.clone()), ..honest }
            })
            .await;
            let error = error(outcome);
            assert!(error.to_string().contains("cookie"), "{value:?}: {error}");
        }
    }

    #[tokio::test]
    async fn refuses_a_secret_that_is_in_clear_or_sealed_to_another_key() {
        let other = EphemeralKey::generate(Curve::P384, &mut rand::rng());
        let sealed = jose::encrypt(other.public_jwk(), b"secret", &mut rand::rng()).unwrap();
        for text in ["secret in clear", "", &sealed] {
            let reply = Reply::ok(json!(text).to_string());
            let error = error(fetch_with_reply("/resource/storage", reply).await);
            assert!(matches!(error, Error::Unseal(_)), "{text}: {error:?}");
        }
    }

    #[tokio::test]
    async fn hands_in_a_token_that_it_cannot_decode_itself() {
        struct OddRealm(Mutex<usize>);
        impl EvidenceSource for OddRealm {
            fn collect(&self, _: &Request) -> std::result::Result<Evidence, CollectError> {
                *self.0.lock().unwrap() += 1;
                Ok(Evidence::cca(b"not a token".to_vec()))
            }
        }
        let service = FakeService::start(|asked, honest| match asked.path.as_str() {
            "/attestation" => Reply::problem(403, "token_malformed", Some("decode")),
            _ => honest.answer(asked),
        })
        .await;
        let key = EphemeralKey::generate(Curve::P384, &mut rand::rng());
        let source: Arc<dyn EvidenceSource> = Arc::new(OddRealm(Mutex::default()));
        let outcome =
            fetch(&service.client(), &source, Dialect::Compact, &key, &"demo/disk/key".parse().unwrap())
                .await;
        let report = Report::new(&outcome);
        assert_eq!((report.verdict, report.code.as_deref()), (Verdict::Refused, Some("token_malformed")));
        assert!(report.measurements.is_none());
    }

    #[tokio::test]
    async fn tells_why_there_is_no_evidence() {
        let service = FakeService::start(|asked, honest| honest.answer(asked)).await;
        let directory = tempfile::tempdir().unwrap();
        let source: Arc<dyn EvidenceSource> = Arc::new(collect::Guest::new(places_in(directory.path())));
        let key = EphemeralKey::generate(Curve::P384, &mut rand::rng());
        let outcome =
            fetch(&service.client(), &source, Dialect::Compact, &key, &"demo/disk/key".parse().unwrap())
                .await;
        let report = Report::new(&outcome);
        assert_eq!(report.verdict, Verdict::Error);
        assert!(report.detail.unwrap().contains("mount -t configfs"));
    }

    #[tokio::test]
    async fn gives_up_on_a_silent_service() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = crate::client::ServiceAddress::Tcp { host: "127.0.0.1".to_owned(), port };
        let certificate = self_signed(SERVER_NAME).cert.der().clone();
        let limit = std::time::Duration::from_millis(50);
        let client = Client::new(address, SERVER_NAME, vec![certificate], limit).unwrap();
        let error = error(fetch_with(&client).await);
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    }
}
