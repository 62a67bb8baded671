//! A tenant who writes, and remembers what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::pair::{Client, Pair, Reply};
use crate::support::Machine;
use verifier::testing::Authority;

/// Most policies at once, of which a tenant may have 30.
const POLICIES: usize = 8;
/// Names of nodes, which come and go.
const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];
/// A node that never is.
const NOBODY: &str = "nobody";

/// What is registered: by path and name, how it is shown.
type Documents = BTreeMap<(&'static str, String), Shown>;

#[derive(Clone, Debug, PartialEq)]
struct Shown {
    id: String,
    version: i64,
    text: String,
}

/// A change whose answer did not come: all of it is there, or nothing.
struct Unsure {
    before: Documents,
    after: Documents,
}

/// The tenant.
pub struct Tenant {
    name: String,
    client: Client,
    machine: Machine,
    random: StdRng,
    names: u32,
    documents: Documents,
    unsure: Vec<Unsure>,
    /// Nonces that were given out, and not used.
    fresh: Vec<String>,
    /// Nonces that were used.
    spent: Vec<String>,
    /// Nonces with which evidence was sent that nobody answered.
    open: Vec<String>,
    tokens: Vec<String>,
    /// How many requests were acknowledged, of all tenants.
    acknowledged: Arc<AtomicUsize>,
}

impl Tenant {
    /// A new tenant of the server.
    pub fn new(
        pair: &Pair,
        name: String,
        maker: &Authority,
        seed: u64,
        acknowledged: Arc<AtomicUsize>,
    ) -> Self {
        let client = Client::new(pair.run(&["add-tenant", &name]));
        Self {
            client,
            machine: Machine::new("machine", maker),
            random: StdRng::seed_from_u64(seed),
            name,
            names: 0,
            documents: Documents::new(),
            unsure: Vec::new(),
            fresh: Vec::new(),
            spent: Vec::new(),
            open: Vec::new(),
            tokens: Vec::new(),
            acknowledged,
        }
    }

    /// Writes until no instance answers.
    pub async fn write(mut self, pair: &Pair) -> Self {
        loop {
            let answered = match self.random.random_range(0..12) {
                0..=2 => self.add_policy(pair).await,
                3 => self.replace_policy(pair).await,
                4 => self.delete(pair, "/policy").await,
                5 | 6 => self.pin(pair).await,
                7 => self.delete(pair, "/node").await,
                8 => self.take_nonce(pair).await,
                9 => self.spend(pair).await,
                _ => self.attest(pair).await,
            };
            if answered.is_none() {
                return self;
            }
        }
    }

    fn of(&self, path: &'static str) -> Documents {
        let of_path = |((of, _), _): &(&(&str, String), &Shown)| *of == path;
        self.documents.iter().filter(of_path).map(|(key, shown)| (key.clone(), shown.clone())).collect()
    }

    async fn ask(&mut self, pair: &Pair, method: Method, path: &str, body: &Value) -> Reply {
        let first = self.random.random_range(0..2);
        self.client.ask(pair, first, method, path, body).await
    }

    /// Asks for a change from `before` to `after`; gives what was answered, if it was made.
    async fn change(
        &mut self,
        pair: &Pair,
        (method, path): (Method, &str),
        body: &Value,
        before: Documents,
        after: Documents,
    ) -> Option<Option<Value>> {
        match self.ask(pair, method, path, body).await {
            Reply::Alone => None,
            Reply::Answered(200, answer) => {
                self.documents.retain(|key, _| !before.contains_key(key));
                self.documents.extend(after);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Some(Some(answer))
            }
            // Another change was in the way, and nothing was changed.
            Reply::Answered(429, _) => Some(None),
            Reply::Answered(status, answer) => panic!("{path}: {status} {answer}"),
            Reply::Cut => {
                self.documents.retain(|key, _| !before.contains_key(key) && !after.contains_key(key));
                self.unsure.push(Unsure { before, after });
                Some(None)
            }
        }
    }

    async fn add_policy(&mut self, pair: &Pair) -> Option<()> {
        if self.of("/policy").len() >= POLICIES {
            return self.delete(pair, "/policy").await;
        }
        self.names += 1;
        let (name, text) = (format!("p{}", self.names), format!("made {}", self.names));
        let rego = STANDARD.encode("package verification\nresult := {\"policy_matched\": true}");
        let body = json!({
            "name": name, "description": text, "attester_type": ["tpm_ima"], "content_type": "text", "content": rego,
        });
        let key = ("/policy", name);
        let shown = Shown { id: String::new(), version: 1, text };
        let after = Documents::from([(key.clone(), shown)]);
        let made = self.change(pair, (Method::POST, "/policy"), &body, Documents::new(), after).await?;
        if let Some(made) = made {
            self.documents.get_mut(&key).unwrap().id = made["policy"]["id"].as_str().unwrap().to_owned();
        }
        Some(())
    }

    async fn replace_policy(&mut self, pair: &Pair) -> Option<()> {
        let Some((key, old)) = self.of("/policy").into_iter().choose(&mut self.random) else {
            return self.add_policy(pair).await;
        };
        let new = Shown { version: old.version + 1, text: format!("{} again", old.text), ..old.clone() };
        let body = json!({ "id": old.id, "description": new.text });
        let (before, after) = (Documents::from([(key.clone(), old)]), Documents::from([(key, new)]));
        self.change(pair, (Method::PUT, "/policy"), &body, before, after).await.map(drop)
    }

    /// Deletes one or two at once.
    async fn delete(&mut self, pair: &Pair, path: &'static str) -> Option<()> {
        let amount = self.random.random_range(1..=2);
        let doomed: Documents =
            self.of(path).into_iter().sample(&mut self.random, amount).into_iter().collect();
        if doomed.is_empty() {
            return Some(());
        }
        let ids: Vec<&str> = doomed.values().map(|shown| shown.id.as_str()).collect();
        let body = json!({ "delete_type": "id", "ids": ids });
        self.change(pair, (Method::DELETE, path), &body, doomed.clone(), Documents::new()).await.map(drop)
    }

    async fn pin(&mut self, pair: &Pair) -> Option<()> {
        let missing = |name: &&str| {
            let key = ("/node", (*name).to_owned());
            let is_unsure =
                |unsure: &Unsure| unsure.before.contains_key(&key) || unsure.after.contains_key(&key);
            !self.documents.contains_key(&key) && !self.unsure.iter().any(is_unsure)
        };
        let Some(name) = NODES.into_iter().find(missing) else { return Some(()) };
        let key = STANDARD.encode(self.machine.tpm.attestation_public().encode());
        let body = json!({ "node_id": name, "ak_public": key });
        let shown = Shown { id: name.to_owned(), version: 0, text: key };
        let after = Documents::from([(("/node", name.to_owned()), shown)]);
        self.change(pair, (Method::POST, "/node"), &body, Documents::new(), after).await.map(drop)
    }

    /// A nonce, if one was given out.
    async fn nonce(&mut self, pair: &Pair) -> Option<Option<String>> {
        let body = json!({ "attester_type": ["tpm_boot"] });
        match self.ask(pair, Method::POST, "/challenge", &body).await {
            Reply::Alone => None,
            Reply::Cut => Some(None),
            Reply::Answered(200, answer) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Some(Some(answer["nonce"].as_str().unwrap().to_owned()))
            }
            Reply::Answered(status, answer) => panic!("/challenge: {status} {answer}"),
        }
    }

    async fn take_nonce(&mut self, pair: &Pair) -> Option<()> {
        let nonce = self.nonce(pair).await?;
        self.fresh.extend(nonce);
        Some(())
    }

    /// Uses a nonce up with evidence of a node that nobody knows.
    async fn spend(&mut self, pair: &Pair) -> Option<()> {
        let Some(nonce) = self.nonce(pair).await? else { return Some(()) };
        let evidence = self.evidence(NOBODY, &nonce);
        match self.ask(pair, Method::POST, "/attest", &evidence).await {
            Reply::Alone => self.fresh.push(nonce),
            Reply::Cut => self.open.push(nonce),
            Reply::Answered(status, answer) => {
                assert_eq!((status, &answer["code"]), (400, &json!("node_unknown")), "{answer}");
                self.spent.push(nonce);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(())
    }

    async fn attest(&mut self, pair: &Pair) -> Option<()> {
        let Some(((_, node), _)) = self.of("/node").into_iter().choose(&mut self.random) else {
            return self.pin(pair).await;
        };
        let Some(nonce) = self.nonce(pair).await? else { return Some(()) };
        let evidence = self.evidence(&node, &nonce);
        match self.ask(pair, Method::POST, "/attest", &evidence).await {
            Reply::Alone => self.fresh.push(nonce),
            // A request of an instance that is dead by now may still be running in the database.
            Reply::Cut | Reply::Answered(429, _) => self.open.push(nonce),
            Reply::Answered(status, answer) => {
                assert_eq!(
                    (status, &answer["tokens"][0]["attestation_status"]),
                    (200, &json!("pass")),
                    "{answer}"
                );
                self.tokens.push(answer["tokens"][0]["token"].as_str().unwrap().to_owned());
                self.spent.push(nonce);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(())
    }

    fn evidence(&self, node: &str, nonce: &str) -> Value {
        let mut measurement = self.machine.for_nonce(nonce, "tpm_boot");
        measurement["node_id"] = json!(node);
        json!({ "measurements": [measurement] })
    }

    /// Asserts that what was acknowledged is there, that nothing else is, and that both instances say the same.
    pub async fn check(&mut self, pair: &Pair) {
        let found = self.listed(pair, 0).await;
        assert_eq!(found, self.listed(pair, 1).await, "{}: the instances differ", self.name);
        for Unsure { before, after } in std::mem::take(&mut self.unsure) {
            let about: Documents = found
                .iter()
                .filter(|(key, _)| before.contains_key(*key) || after.contains_key(*key))
                .map(|(key, shown)| (key.clone(), shown.clone()))
                .collect();
            assert!(
                is_shown(&about, &before) || is_shown(&about, &after),
                "{}: {about:?} is neither {before:?} nor {after:?}",
                self.name
            );
            self.documents.extend(about);
        }
        assert_eq!(found, self.documents, "{}: what is there is not what was acknowledged", self.name);
        let nodes: Vec<&String> =
            found.keys().filter(|(path, _)| *path == "/node").map(|(_, name)| name).collect();
        let status = self.client.get(pair, 0, "/status").await;
        for health in status["nodes"].as_array().unwrap() {
            assert!(nodes.iter().any(|name| health["node_id"] == **name), "{}: {health} is left", self.name);
        }
        self.check_nonces(pair).await;
        for (number, token) in self.tokens.clone().into_iter().enumerate() {
            let body = json!({ "token": token });
            let (_, answer) =
                self.client.answer(pair, number % 2, Method::POST, "/token/verify", &body).await;
            assert_eq!(answer["verification_pass"], true, "{}: {answer}", self.name);
        }
    }

    async fn check_nonces(&mut self, pair: &Pair) {
        for nonce in std::mem::take(&mut self.fresh) {
            assert_eq!(
                self.use_nonce(pair, 0, &nonce).await,
                "node_unknown",
                "{}: a nonce is lost",
                self.name
            );
            self.spent.push(nonce);
        }
        for nonce in std::mem::take(&mut self.open) {
            let code = self.use_nonce(pair, 0, &nonce).await;
            assert!(["node_unknown", "nonce_used"].contains(&code.as_str()), "{}: {code}", self.name);
            self.spent.push(nonce);
        }
        for nonce in std::mem::take(&mut self.spent) {
            assert_eq!(
                self.use_nonce(pair, 1, &nonce).await,
                "nonce_used",
                "{}: a nonce is good again",
                self.name
            );
        }
    }

    async fn use_nonce(&mut self, pair: &Pair, instance: usize, nonce: &str) -> String {
        let evidence = self.evidence(NOBODY, nonce);
        let (_, answer) = self.client.answer(pair, instance, Method::POST, "/attest", &evidence).await;
        answer["code"].as_str().unwrap().to_owned()
    }

    /// What an instance says is registered.
    async fn listed(&mut self, pair: &Pair, number: usize) -> Documents {
        let text = |document: &Value, member: &str| document[member].as_str().unwrap().to_owned();
        let mut listed = Documents::new();
        for node in self.client.get(pair, number, "/node").await["nodes"].as_array().unwrap() {
            let name = text(node, "node_id");
            let shown = Shown { id: name.clone(), version: 0, text: text(node, "ak_public") };
            listed.insert(("/node", name), shown);
        }
        let brief = self.client.get(pair, number, "/policy").await;
        let ids: Vec<String> =
            brief["policies"].as_array().unwrap().iter().map(|policy| text(policy, "id")).collect();
        let full = self.client.get(pair, number, &format!("/policy?ids={}", ids.join(","))).await;
        for policy in full["policies"].as_array().unwrap() {
            let shown = Shown {
                id: text(policy, "id"),
                version: policy["version"].as_i64().unwrap(),
                text: text(policy, "description"),
            };
            listed.insert(("/policy", text(policy, "name")), shown);
        }
        assert_eq!(full["policies"].as_array().unwrap().len(), ids.len());
        listed
    }
}

/// Whether these are the same, but for an id that was never told.
fn is_shown(found: &Documents, expected: &Documents) -> bool {
    let same = |((key, found), (other, expected)): ((_, &Shown), (_, &Shown))| {
        key == other
            && (found.version, &found.text) == (expected.version, &expected.text)
            && (expected.id.is_empty() || found.id == expected.id)
    };
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}
