use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use jose::{ClaimsError, Curve, Jwk, TokenKeys};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{CertificateParams, CustomExtension};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::attester::Future;
use crate::{Appraiser, Attestation, Extension, Flow, Passports, binding};

const NOW: i64 = 1_800_000_000;

#[derive(Debug)]
struct Fixed(AtomicI64);

impl Clock for Fixed {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn clock() -> Arc<dyn Clock> {
    clock_at(NOW)
}

fn clock_at(now: i64) -> Arc<dyn Clock> {
    Arc::new(Fixed(AtomicI64::new(now)))
}

/// An attestation service that issues a token for whatever challenge it is given.
struct Issuer {
    key: rcgen::KeyPair,
    change: fn(&mut Value),
    asked: AtomicUsize,
}

impl Issuer {
    fn new() -> Arc<Self> {
        Self::changing(|_| {})
    }

    /// One whose claims are changed before they are signed.
    fn changing(change: fn(&mut Value)) -> Arc<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        Arc::new(Self { key, change, asked: AtomicUsize::new(0) })
    }

    fn token(&self, challenge: &str) -> String {
        let mut claims = json!({"iss": "as", "nbf": NOW, "exp": NOW + 300, "nonce": challenge,
            "tcb_status": {"vcca.cvm.challenge": hex::encode(URL_SAFE_NO_PAD.decode(challenge).unwrap())},
            "evaluation_reports": {"eval_result": true}});
        (self.change)(&mut claims);
        let key = EncodingKey::from_ec_der(self.key.serialized_der());
        jsonwebtoken::encode(&Header::new(Algorithm::ES384), &claims, &key).unwrap()
    }

    /// Believes this issuer's tokens.
    fn policy(&self) -> Policy {
        let jwk = Jwk::from_sec1(Curve::P384, self.key.public_key_raw()).unwrap();
        let keys = TokenKeys::from_jwks(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        Policy::default().with_passports(Passports { keys, issuer: Some("as".to_owned()), audience: None })
    }
}

/// The prover's side of the issuer: tokens for challenges that begin with the nonce, or with 0x11.
impl Attester for Issuer {
    fn flow(&self) -> Flow {
        Flow::Passport
    }

    fn attest(&self, user_data: [u8; 32], nonce: Option<[u8; 32]>) -> Future<'_, Result<Attestation, Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let challenge = URL_SAFE_NO_PAD.encode([nonce.unwrap_or([0x11; 32]), user_data].concat());
        let quote = self.token(&challenge);
        Box::pin(async { Ok(Attestation { challenge, quote }) })
    }
}

/// A prover with evidence instead.
struct Evidence;

impl Attester for Evidence {
    fn flow(&self) -> Flow {
        Flow::Background
    }

    fn attest(&self, user_data: [u8; 32], nonce: Option<[u8; 32]>) -> Future<'_, Result<Attestation, Error>> {
        let challenge = URL_SAFE_NO_PAD.encode([nonce.unwrap_or([0x11; 32]), user_data].concat());
        Box::pin(async { Ok(Attestation { challenge, quote: "{\"tee\":\"virtcca\"}".to_owned() }) })
    }
}

/// A verifier of evidence: accepts it with this verdict, for the challenge it is asked about or for a fixed one.
struct Verifier {
    verdict: bool,
    challenge: Option<String>,
}

impl Appraiser for Verifier {
    fn appraise<'a>(
        &'a self,
        challenge: &'a str,
        _: &'a str,
    ) -> Future<'a, Result<Map<String, Value>, Error>> {
        let nonce = self.challenge.as_deref().unwrap_or(challenge);
        let claims = json!({"nonce": nonce, "evaluation_reports": {"eval_result": self.verdict}});
        Box::pin(async move { Ok(claims.as_object().unwrap().clone()) })
    }
}

fn acceptor(attester: Arc<dyn Attester>) -> Acceptor {
    Acceptor::new(attester, Duration::from_secs(300), clock()).unwrap()
}

/// What both ends make of a connection; a message goes from client to server if both accept.
async fn meet(
    server: &Acceptor,
    policy: &Policy,
    identity: Option<&Identity>,
    clock: Arc<dyn Clock>,
) -> (Result<Option<Verdict>, Error>, Result<Option<Verdict>, Error>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let client = async {
        let mut attested = connect(near, policy, identity, clock).await?;
        attested.stream.write_all(b"hello").await.map_err(Error::Handshake)?;
        attested.stream.shutdown().await.map_err(Error::Handshake)?;
        Ok(attested.peer)
    };
    let server = async {
        let mut attested = server.accept(far).await?;
        let mut said = String::new();
        attested.stream.read_to_string(&mut said).await.map_err(Error::Handshake)?;
        assert_eq!(said, "hello");
        Ok(attested.peer)
    };
    tokio::join!(client, server)
}

/// Why a client refuses the server.
async fn refusal(server: &Acceptor, policy: &Policy) -> Error {
    let (client, server) = meet(server, policy, None, clock()).await;
    assert!(server.is_err(), "the server had a connection");
    client.unwrap_err()
}

/// A server that presents a certificate of the test's making.
async fn refusal_of(identity: Identity, policy: &Policy) -> Error {
    let mut server = acceptor(Issuer::new());
    server.identity = Mutex::new(Some((identity, i64::MAX)));
    refusal(&server, policy).await
}

fn params(flow: Flow, challenge: &str, quote: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 10).unwrap();
    params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + 10).unwrap();
    let value = Extension::new(challenge, quote).unwrap().encode();
    params.custom_extensions = vec![CustomExtension::from_oid_content(flow.oid(), value)];
    params
}

fn identity(key: &KeyPair, params: &CertificateParams) -> Identity {
    Identity::from_parts(key, vec![params.self_signed(&key.0).unwrap().der().clone()]).unwrap()
}

fn challenge_for(key: &KeyPair) -> String {
    URL_SAFE_NO_PAD.encode([[0x11; 32], binding::user_data(&key.spki())].concat())
}

/// A good certificate with one thing changed.
async fn refusal_with(change: impl Fn(&mut CertificateParams)) -> Error {
    let (issuer, key) = (Issuer::new(), KeyPair::generate().unwrap());
    let challenge = challenge_for(&key);
    let mut params = params(Flow::Passport, &challenge, &issuer.token(&challenge));
    change(&mut params);
    refusal_of(identity(&key, &params), &issuer.policy()).await
}

#[tokio::test]
async fn both_ends_prove_themselves_with_tokens() {
    let (issuer, key) = (Issuer::new(), KeyPair::generate().unwrap());
    let server = acceptor(issuer.clone()).with_clients(issuer.policy());
    let lifetime = Duration::from_secs(60);
    let own = Identity::attest(&key, issuer.as_ref(), None, NOW, lifetime).await.unwrap();
    let (client, server) = meet(&server, &issuer.policy(), Some(&own), clock()).await;
    assert_eq!(client.unwrap().unwrap().claims["iss"], "as");
    assert_eq!(server.unwrap().unwrap().flow, Flow::Passport);
}

#[tokio::test]
async fn t14_a_certificate_with_someone_elses_token_is_refused() {
    let issuer = Issuer::new();
    let (thief, victim) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let stolen = issuer.token(&challenge_for(&victim));
    // With a challenge of its own, which secGear's verifier takes:
    let own = params(Flow::Passport, &challenge_for(&thief), &stolen);
    let error = refusal_of(identity(&thief, &own), &issuer.policy()).await;
    assert!(matches!(error, Error::Claims(ClaimsError::ForeignChallenge)), "{error:?}");
    // And with the victim's:
    let copied = params(Flow::Passport, &challenge_for(&victim), &stolen);
    let error = refusal_of(identity(&thief, &copied), &issuer.policy()).await;
    assert!(matches!(error, Error::KeyNotBound), "{error:?}");
}

#[tokio::test]
async fn a_copied_certificate_is_worth_nothing_without_its_key() {
    let issuer = Issuer::new();
    let (thief, victim) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let challenge = challenge_for(&victim);
    let params = params(Flow::Passport, &challenge, &issuer.token(&challenge));
    let certificate: CertificateDer<'static> = params.self_signed(&victim.0).unwrap().der().clone();
    let stolen = Identity::from_parts(&thief, vec![certificate]).unwrap();
    let error = refusal_of(stolen, &issuer.policy()).await;
    assert!(matches!(error, Error::Handshake(_)), "{error:?}");
}

#[tokio::test]
async fn refuses_certificates_of_another_time() {
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let error = refusal_with(|params| params.not_after = at(NOW - 1)).await;
    assert!(matches!(error, Error::SelfSignature(_)), "{error:?}");
    let error = refusal_with(|params| params.not_before = at(NOW + 1)).await;
    assert!(matches!(error, Error::SelfSignature(_)), "{error:?}");
}

#[tokio::test]
async fn refuses_a_certificate_that_its_key_did_not_sign() {
    let (issuer, key, other) = (Issuer::new(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let challenge = challenge_for(&key);
    let params = params(Flow::Passport, &challenge, &issuer.token(&challenge));
    let signed_by_other =
        params.signed_by(&key.0, &rcgen::Issuer::from_params(&params, &other.0)).unwrap().der().clone();
    let identity = Identity::from_parts(&key, vec![signed_by_other]).unwrap();
    let error = refusal_of(identity, &issuer.policy()).await;
    assert!(matches!(error, Error::SelfSignature(_)), "{error:?}");
}

#[tokio::test]
async fn refuses_certificates_that_come_with_others() {
    let (issuer, key, other) = (Issuer::new(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let challenge = challenge_for(&key);
    let params = params(Flow::Passport, &challenge, &issuer.token(&challenge));
    let own = params.self_signed(&key.0).unwrap().der().clone();
    let another = CertificateParams::default().self_signed(&other.0).unwrap().der().clone();
    for (others, found) in [(vec![], 0), (vec![another.clone()], 1), (vec![own.clone(), another], 2)] {
        let chain = [vec![own.clone()], others].concat();
        let identity = Identity::from_parts(&key, chain).unwrap();
        let mut server = acceptor(issuer.clone());
        server.identity = Mutex::new(Some((identity, i64::MAX)));
        let (client, _) = meet(&server, &issuer.policy(), None, clock()).await;
        match client {
            Ok(_) => assert_eq!(found, 0),
            Err(error) => assert!(matches!(error, Error::Chain { found: n } if n == found), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn refuses_certificates_without_or_with_several_attestations() {
    let error = refusal_with(|params| params.custom_extensions.clear()).await;
    assert!(matches!(error, Error::Extensions { found: 0 }), "{error:?}");
    let error = refusal_with(|params| {
        let other = Flow::Background.oid();
        params.custom_extensions.push(CustomExtension::from_oid_content(other, b"{}".to_vec()));
    })
    .await;
    assert!(matches!(error, Error::Extensions { found: 2 }), "{error:?}");
    let error = refusal_with(|params| {
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(Flow::Passport.oid(), b"{".to_vec())];
    })
    .await;
    assert!(matches!(error, Error::Extension(_)), "{error:?}");
}

#[tokio::test]
async fn refuses_tokens_that_do_not_hold() {
    async fn refused(change: fn(&mut Value)) -> Error {
        let issuer = Issuer::changing(change);
        refusal(&acceptor(issuer.clone()), &issuer.policy()).await
    }
    let verdict = refused(|claims| claims["evaluation_reports"]["eval_result"] = json!(false)).await;
    assert!(matches!(verdict, Error::Claims(ClaimsError::Verdict)), "{verdict:?}");
    let verdict = refused(|claims| claims["evaluation_reports"] = json!(null)).await;
    assert!(matches!(verdict, Error::Claims(ClaimsError::Verdict)), "{verdict:?}");
    let issuer = refused(|claims| claims["iss"] = json!("other")).await;
    assert!(matches!(issuer, Error::Token(_)), "{issuer:?}");
    let expired = refused(|claims| claims["exp"] = json!(NOW)).await;
    assert!(matches!(expired, Error::Token(_)), "{expired:?}");
    let status = refused(|claims| claims["tcb_status"]["vcca.cvm.challenge"] = json!("00")).await;
    assert!(matches!(status, Error::Claims(ClaimsError::ForeignChallenge)), "{status:?}");
    let silent = refused(|claims| {
        claims.as_object_mut().unwrap().remove("nonce");
        claims["tcb_status"] = json!({});
    })
    .await;
    assert!(matches!(silent, Error::Claims(ClaimsError::NoChallenge)), "{silent:?}");
    let forged = refusal(&acceptor(Issuer::new()), &Issuer::new().policy()).await;
    assert!(matches!(forged, Error::Token(_)), "{forged:?}");
}

#[tokio::test]
async fn a_token_that_names_a_key_is_for_that_key_only() {
    let issuer = Issuer::changing(|claims| {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        claims["cnf"] = json!({"jwk": Jwk::from_sec1(Curve::P384, other.public_key_raw()).unwrap()});
    });
    let error = refusal(&acceptor(issuer.clone()), &issuer.policy()).await;
    assert!(matches!(error, Error::ForeignKey), "{error:?}");
    let unreadable = Issuer::changing(|claims| claims["cnf"] = json!({"jkt": "thumbprint"}));
    let error = refusal(&acceptor(unreadable.clone()), &unreadable.policy()).await;
    assert!(matches!(error, Error::ForeignKey), "{error:?}");
}

#[tokio::test]
async fn a_nonce_makes_the_server_attest_its_key_anew() {
    let issuer = Issuer::new();
    let server = acceptor(issuer.clone());
    for nonce in [[1; 32], [2; 32]] {
        let policy = issuer.policy().with_nonce(nonce);
        let (client, _) = meet(&server, &policy, None, clock()).await;
        let claimed = client.unwrap().unwrap().claims["nonce"].clone();
        let bytes = URL_SAFE_NO_PAD.decode(claimed.as_str().unwrap()).unwrap();
        assert_eq!(bytes[..32], nonce);
    }
    for _ in 0..3 {
        meet(&server, &issuer.policy(), None, clock()).await.0.unwrap();
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 3, "one attestation serves clients without a nonce");
}

#[tokio::test]
async fn refuses_a_certificate_for_another_nonce() {
    let (issuer, key) = (Issuer::new(), KeyPair::generate().unwrap());
    // A client's certificate was made before the server's nonce was known.
    let server = acceptor(issuer.clone()).with_clients(issuer.policy().with_nonce([9; 32]));
    let lifetime = Duration::from_secs(60);
    let stale = Identity::attest(&key, issuer.as_ref(), None, NOW, lifetime).await.unwrap();
    let (_, refused) = meet(&server, &issuer.policy(), Some(&stale), clock()).await;
    assert!(matches!(refused, Err(Error::NonceMismatch)));
    let nonce = Some([9; 32]);
    let fresh = Identity::attest(&key, issuer.as_ref(), nonce, NOW, lifetime).await.unwrap();
    let (_, accepted) = meet(&server, &issuer.policy(), Some(&fresh), clock()).await;
    assert!(accepted.unwrap().is_some());
}

#[tokio::test]
async fn a_client_that_proves_nothing_is_refused_when_it_must() {
    let issuer = Issuer::new();
    let server = acceptor(issuer.clone()).with_clients(issuer.policy());
    let (_, server) = meet(&server, &issuer.policy(), None, clock()).await;
    assert!(server.is_err());
}

fn appraising(verdict: bool, challenge: Option<String>) -> Policy {
    Policy::default().with_appraiser(Arc::new(Verifier { verdict, challenge }))
}

#[tokio::test]
async fn evidence_is_appraised_before_anything_is_said() {
    let server = acceptor(Arc::new(Evidence));
    let (client, _) = meet(&server, &appraising(true, None), None, clock()).await;
    assert_eq!(client.unwrap().unwrap().flow, Flow::Background);
    let error = refusal(&server, &appraising(false, None)).await;
    assert!(matches!(error, Error::Claims(ClaimsError::Verdict)), "{error:?}");
    let other = Some(URL_SAFE_NO_PAD.encode([5; 64]));
    let error = refusal(&server, &appraising(true, other)).await;
    assert!(matches!(error, Error::Claims(ClaimsError::ForeignChallenge)), "{error:?}");
}

#[tokio::test]
async fn what_is_not_accepted_is_refused() {
    let issuer = Issuer::new();
    for (server, policy) in [
        (acceptor(Arc::new(Evidence)), issuer.policy()),
        (acceptor(issuer.clone()), appraising(true, None)),
        (acceptor(issuer.clone()), Policy::default()),
        (acceptor(Arc::new(Evidence)), Policy::default()),
    ] {
        let error = refusal(&server, &policy).await;
        assert!(matches!(error, Error::Flow { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_caller_decides_which_peers_it_wants() {
    let issuer = Issuer::new();
    let policy = issuer.policy().with_wanted(|claims| match claims.get("tee") {
        Some(tee) if tee == "virtcca" => Ok(()),
        _ => Err("it is not on virtCCA".to_owned()),
    });
    let error = refusal(&acceptor(issuer.clone()), &policy).await;
    assert!(error.to_string().contains("virtCCA"), "{error}");
}

#[test]
fn no_change_of_a_byte_of_a_certificate_goes_unnoticed() {
    let (issuer, key) = (Issuer::new(), KeyPair::generate().unwrap());
    let challenge = challenge_for(&key);
    let good = params(Flow::Passport, &challenge, &issuer.token(&challenge)).self_signed(&key.0).unwrap();
    let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let check = |bytes: &[u8]| crate::Presented::check(&CertificateDer::from(bytes), now);
    check(good.der()).unwrap();
    for index in 0..good.der().len() {
        let mut changed = good.der().to_vec();
        changed[index] ^= 1 << (index % 8);
        assert!(check(&changed).is_err(), "byte {index}");
        assert!(check(&good.der()[..index]).is_err(), "cut at {index}");
    }
    assert!(check(&[good.der(), &b"x"[..]].concat()).is_err(), "bytes after it");
}
