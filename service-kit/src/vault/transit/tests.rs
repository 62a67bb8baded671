//! What a server does that is not OpenBao: it lies, breaks off, echoes, leads elsewhere.

mod engine;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use serde_json::{Value, json};

use self::engine::{Engine, SECRET_ID, TOKEN, plain, text, uri};
use super::client::MAX_ANSWER;
use super::*;
use crate::environment::Environment;
use crate::private_file;
use crate::vault::{Sealed, Vault};

/// All that an error says, to people and to programmers.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        said += &format!(" | {error}");
        next = error.source();
    }
    said
}

async fn refused(engine: &Engine) -> String {
    match engine.open().await {
        Ok(_) => unreachable!("it was accepted"),
        Err(error) => said(&error),
    }
}

#[tokio::test]
async fn an_honest_engine_seals_and_opens() {
    let engine = Engine::start().await;
    let vault = engine.vault().await;
    let sealed = vault.seal("a", b"secret").await.unwrap();
    assert!(sealed.master_key.starts_with("transit:") && sealed.master_key == vault.current_id());
    assert_eq!(vault.open("a", &sealed).await.unwrap().as_slice(), b"secret");
    let other = vault.open("b", &sealed).await.unwrap_err();
    assert!(matches!(other, VaultError::Altered), "{other}");
}

#[tokio::test]
async fn a_server_that_leaves_the_context_out_is_refused() {
    let engine = Engine::start().await;
    engine.twist(|operation, body, honest| {
        if operation == "decrypt" && honest.0 == 400 && body["associated_data"].is_string() {
            return plain((200, json!({ "data": { "plaintext": STANDARD.encode(CHECKED) } })));
        }
        plain(honest)
    });
    let said = refused(&engine).await;
    assert!(said.contains("leaves associated_data out"), "{said}");
}

#[tokio::test]
async fn a_server_that_does_not_give_back_what_it_got_is_refused() {
    let engine = Engine::start().await;
    engine.twist(|operation, _, mut honest| {
        if operation == "decrypt" && honest.0 == 200 {
            honest.1["data"]["plaintext"] = json!(STANDARD.encode([0; KEY_LEN]));
        }
        plain(honest)
    });
    let said = refused(&engine).await;
    assert!(said.contains("does not decrypt what it encrypts"), "{said}");
}

/// What would not open again is not stored.
#[tokio::test]
async fn what_was_wrapped_is_read_back_at_once() {
    let engine = Engine::start().await;
    let vault = engine.vault().await;
    let mistakes: [fn(&mut Vec<Value>); 3] = [
        |results| results[1]["plaintext"] = json!(STANDARD.encode([0; KEY_LEN])),
        |results| results[0]["plaintext"] = json!(STANDARD.encode([0; KEY_LEN])),
        |results| drop(results.pop()),
    ];
    for mistake in mistakes {
        engine.twist(move |_, _, mut honest| {
            if let Some(results) = honest.1["data"]["batch_results"].as_array_mut() {
                mistake(results);
            }
            plain(honest)
        });
        let error = said(&vault.seal("a", b"secret").await.unwrap_err());
        assert!(error.contains("not the key that it was before"), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_was_made_anew_does_not_wrap_for_the_one_before() {
    let engine = Engine::start().await;
    let vault = engine.vault().await;
    let sealed = vault.seal("a", b"secret").await.unwrap();
    *engine.secret.lock().unwrap() = 2;
    engine.wrapped.lock().unwrap().iter_mut().for_each(|it| *it = (1, Value::Null, Value::Null));
    let error = said(&vault.seal("a", b"secret").await.unwrap_err());
    assert!(error.contains("not the key that it was before"), "{error}");
    let error = said(&vault.open("a", &sealed).await.unwrap_err());
    assert!(error.contains("not the key that it was before"), "{error}");
    // Whoever starts anew is told, too.
    let error = engine.vault().await.open("a", &sealed).await.unwrap_err();
    assert!(matches!(&error, VaultError::UnknownMasterKey(id) if *id == sealed.master_key), "{error}");
}

/// Whoever only opens learns of new versions, too, and is not left with an anchor that the server does not open any more.
#[tokio::test]
async fn who_has_used_a_new_version_does_not_need_the_one_before() {
    let engine = Engine::start().await;
    let (opens, idle, rewraps) = (engine.vault().await, engine.vault().await, engine.vault().await);
    let sealed = rewraps.seal("a", b"secret").await.unwrap();
    engine.versions.lock().unwrap().0 = 2;
    let newer = rewraps.rewrap("a", &sealed).await.unwrap();
    assert_ne!(newer.master_key, sealed.master_key);
    assert_eq!(rewraps.current_id(), newer.master_key);
    opens.open("a", &newer).await.unwrap();
    *engine.versions.lock().unwrap() = (2, 2);
    assert_eq!(opens.seal("b", b"secret").await.unwrap().master_key, newer.master_key);
    opens.open("a", &newer).await.unwrap();
    let error = said(&opens.open("a", &sealed).await.unwrap_err());
    assert!(error.contains("set min_decryption_version of the key to 1"), "{error}");
    // What was wrapped before is a proof as good as its own.
    let error = said(&idle.seal("b", b"secret").await.unwrap_err());
    assert!(error.contains("or have it open a secret"), "{error}");
    idle.open("a", &newer).await.unwrap();
    idle.seal("b", b"secret").await.unwrap();
}

#[tokio::test]
async fn of_several_engines_the_right_one_opens() {
    let (first, second) = (Engine::start().await, Engine::start().await);
    *second.secret.lock().unwrap() = 2;
    let sealed = second.vault().await.seal("a", b"secret").await.unwrap();
    let current: Arc<dyn MasterKey> = Arc::new(first.open().await.unwrap());
    let old: Arc<dyn MasterKey> = Arc::new(second.open().await.unwrap());
    let both = Vault::new(current, vec![old], Environment::system());
    assert_eq!(both.open("a", &sealed).await.unwrap().as_slice(), b"secret");
    let moved = both.rewrap("a", &sealed).await.unwrap();
    assert_eq!(moved.master_key, both.current_id());
    assert_eq!(first.vault().await.open("a", &moved).await.unwrap().as_slice(), b"secret");
    // One that cannot be asked is not taken for one that knows better.
    second.twist(|_, _, _| text(503, ""));
    let error = said(&both.open("a", &sealed).await.unwrap_err());
    assert!(error.contains("sealed or has no leader"), "{error}");
}

#[tokio::test]
async fn answers_of_another_kind_are_errors() {
    let huge = " ".repeat(MAX_ANSWER + 1);
    let deep = "[".repeat(100_000);
    let long = format!(r#"{{"data":{{"ciphertext":"vault:v1:{}"}}}}"#, "A".repeat(4096));
    let answers = [
        "",
        "null",
        "[]",
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{}}"#,
        r#"{"data":{"ciphertext":"vault:v0:AAAA","plaintext":"?","hmac":"vault:v2:AAAA"}}"#,
        r#"{"data":{"ciphertext":7,"plaintext":7,"hmac":7,"type":7}}"#,
        r#"{"data":{"type":"aes256-gcm96","derived":false,"exportable":false}}"#,
        r#"{"data":{"batch_results":[]}}"#,
        r#"{"data":{"batch_results":[{"error":"no"},{"error":"no"},{"error":"no"}]}}"#,
        "\u{0}",
        &huge,
        &deep,
        &long,
    ];
    for operation in ["keys", "encrypt", "decrypt", "hmac"] {
        let engine = Engine::start().await;
        let vault = engine.vault().await;
        let sealed = vault.seal("a", b"secret").await.unwrap();
        for answer in &answers {
            let answer = (*answer).to_owned();
            engine.twist(
                move |asked, _, honest| {
                    if asked == operation { text(200, answer.clone()) } else { plain(honest) }
                },
            );
            refused(&engine).await;
            match operation {
                "encrypt" => drop(vault.seal("a", b"secret").await.unwrap_err()),
                "decrypt" => {
                    vault.seal("a", b"secret").await.unwrap_err();
                    vault.open("a", &sealed).await.unwrap_err();
                }
                "keys" => drop(vault.open("b", &sealed).await.unwrap_err()),
                // Only a new version needs a name.
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_another_length_is_none() {
    let engine = Engine::start().await;
    let key = engine.open().await.unwrap();
    let wrapped = TransitKey::wrap(&key, &[7; KEY_LEN], b"a").await.unwrap();
    assert_eq!(*TransitKey::unwrap(&key, &wrapped, b"a").await.unwrap(), [7; KEY_LEN]);
    for length in [0, 31, 33] {
        engine.twist(move |operation, _, mut honest| {
            if operation == "decrypt" {
                honest.1["data"]["plaintext"] = json!(STANDARD.encode(vec![7; length]));
            }
            plain(honest)
        });
        let error = TransitKey::unwrap(&key, &wrapped, b"a").await.unwrap_err();
        assert!(matches!(error, VaultError::Altered), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_other_statuses_are_told() {
    let engine = Engine::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("http://{}/v1/transit/keys/a", elsewhere.local_addr().unwrap());
    for status in [301, 307, 308] {
        let location = location.clone();
        engine.twist(move |_, _, _| {
            let mut response = text(status, "");
            response.headers_mut().insert("location", location.parse().unwrap());
            response
        });
        let said = refused(&engine).await;
        assert!(said.contains(&status.to_string()) && said.contains("redirects are not followed"), "{said}");
    }
    assert!(elsewhere.accept().is_err());
    for (status, expected) in [
        (400, "refuses transit/keys/a"),
        (403, "denies transit/keys/a"),
        (404, "no key a"),
        (429, "429"),
        (500, "500"),
        (503, "sealed"),
        (204, "204"),
    ] {
        engine.twist(move |_, _, _| text(status, ""));
        let said = refused(&engine).await;
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn what_the_server_says_cannot_carry_a_secret_into_the_log() {
    let engine = Engine::start().await;
    let vault = engine.vault().await;
    let sealed = vault.seal("a", b"secret").await.unwrap();
    for status in [200, 307, 400, 403, 404, 500, 503] {
        engine.twist(move |_, body, _| {
            text(status, json!({ "errors": [TOKEN, body], "data": { "type": TOKEN } }).to_string())
        });
        let key = STANDARD.encode(CHECKED);
        let errors = [
            refused(&engine).await,
            said(&vault.seal("a", b"secret").await.unwrap_err()),
            said(&vault.open("a", &sealed).await.unwrap_err()),
        ];
        for error in errors {
            assert!(
                !error.contains(TOKEN) && !error.contains(&key) && !error.contains("plaintext"),
                "{error}"
            );
        }
    }
    assert!(!format!("{:?}", engine.uri()).contains(TOKEN));
}

#[tokio::test]
async fn a_token_that_was_replaced_meanwhile_is_read_again() {
    let engine = Engine::start().await;
    let vault = engine.vault().await;
    *engine.token.lock().unwrap() = "s.other".to_owned();
    let error = said(&vault.seal("a", b"secret").await.unwrap_err());
    assert!(error.contains("(403)"), "{error}");
    // An agent writes it while the old one is on its way.
    let file = engine.token_file();
    engine.twist(move |_, _, honest| {
        if honest.0 == 403 {
            std::fs::write(&file, "s.other\n").unwrap();
        }
        plain(honest)
    });
    vault.seal("a", b"secret").await.unwrap();
}

#[tokio::test]
async fn a_role_logs_in_when_it_must_and_not_again_with_what_was_not_accepted() {
    let engine = Engine::start().await;
    let key = TransitKey::open(engine.role()).await.unwrap();
    let vault = Vault::new(Arc::new(key), Vec::new(), Environment::system());
    vault.seal("a", b"secret").await.unwrap();
    let logins = || engine.logins.lock().unwrap().len();
    assert_eq!(logins(), 1);
    // The token is over.
    *engine.token.lock().unwrap() = "s.next".to_owned();
    vault.seal("a", b"secret").await.unwrap();
    assert_eq!(logins(), 2);

    let file = engine.directory.path().join("secret-id");
    std::fs::write(&file, "SECRETwrong").unwrap();
    *engine.token.lock().unwrap() = "s.last".to_owned();
    for _ in 0..3 {
        let error = said(&vault.seal("a", b"secret").await.unwrap_err());
        assert!(error.contains("not asked again with the same") && !error.contains("SECRET"), "{error}");
    }
    assert_eq!(logins(), 3);
    std::fs::write(&file, SECRET_ID).unwrap();
    vault.seal("a", b"secret").await.unwrap();
    assert_eq!(logins(), 4);
}

#[tokio::test]
async fn a_login_that_gives_no_token_is_an_error() {
    let engine = Engine::start().await;
    let endless = " ".repeat(MAX_ANSWER + 1);
    let token = json!({ "auth": { "client_token": TOKEN } }).to_string();
    for (status, body, expected) in [
        (200, "", "auth/approle/login"),
        (200, "{}", "auth/approle/login"),
        (200, r#"{"auth":null}"#, "auth/approle/login"),
        (200, r#"{"auth":{"client_token":""}}"#, "auth/approle/login"),
        (200, r#"{"auth":{"client_token":"a\nb"}}"#, "auth/approle/login"),
        (200, r#"{"auth":{"client_token":7}}"#, "auth/approle/login"),
        (200, &endless, "more than"),
        (204, &token, "auth/approle/login"),
        (307, &token, "307"),
        (400, &token, "does not accept"),
        (403, &token, "does not accept"),
        (404, &token, "does not accept"),
        (500, &token, "500"),
        (503, &token, "sealed"),
    ] {
        let body = body.to_owned();
        engine.twist(
            move |operation, _, honest| {
                if operation == "login" { text(status, body.clone()) } else { plain(honest) }
            },
        );
        let error = said(&TransitKey::open(engine.role()).await.map(drop).unwrap_err());
        assert!(error.contains(expected) && !error.contains("SECRET"), "{status}: {error}");
    }
    *engine.twist.lock().unwrap() = None;
    let uri = engine.role();
    std::fs::write(engine.directory.path().join("secret-id"), "\n").unwrap();
    let error = TransitKey::open(uri).await.map(drop).unwrap_err();
    assert!(matches!(error, TransitKeyError::Nothing(_)), "{error}");
}

/// A server of one answer, which need not be one, and then of `more`, as long as somebody reads.
fn raw(head: &'static str, more: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes());
            while !more.is_empty() && stream.write_all(more).is_ok() {}
        }
    });
    address
}

#[tokio::test]
async fn what_does_not_end_or_is_no_http_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    private_file::create(&token, TOKEN.as_bytes()).unwrap();
    for (head, more, expected) in [
        ("", &b""[..], "exchange"),
        ("nonsense\r\n\r\n", b"", "exchange"),
        ("HTTP/1.1 200 OK\r\nx: ", b"yyyyyyyyyyyyyyyy", "exchange"),
        ("HTTP/1.1 200 OK\r\n\r\n", b"                ", "more than"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nxxxx\r\n", "more than"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", b"", "broke off"),
    ] {
        let error = TransitKey::open(uri(raw(head, more), &token)).await.map(drop).unwrap_err();
        assert!(error.to_string().contains(expected), "{head:?}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for() {
    let engine = Engine::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::new(uri(listener.local_addr().unwrap(), &engine.token_file())).unwrap();
    client.limit = std::time::Duration::from_millis(200);
    let error = client.ask::<Answer<Description>>(Operation::Describe, None).await.map(drop).unwrap_err();
    assert!(matches!(error, TransitKeyError::Timeout { .. }), "{error}");
}

/// A connection that is kept is used, and one that the server closes meanwhile is replaced.
#[tokio::test]
async fn connections_are_kept_and_made_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::start().await;
    let served = std::thread::spawn(move || {
        // It closes the first connection when it has read a third request.
        for (requests, answers) in [(3, 2), (1, 1)] {
            let (mut stream, _) = listener.accept().unwrap();
            for number in 1..=requests {
                assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
                if number <= answers {
                    stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                }
            }
        }
    });
    let client = Client::new(uri(address, &engine.token_file())).unwrap();
    for _ in 0..3 {
        let error = client.ask::<Answer<Description>>(Operation::Describe, None).await.map(drop).unwrap_err();
        assert!(matches!(error, TransitKeyError::Absent { .. }), "{error}");
    }
    served.join().unwrap();
}

#[tokio::test]
async fn what_is_no_ciphertext_is_not_sent() {
    let engine = Engine::start().await;
    let vault = engine.vault().await;
    let sealed = vault.seal("a", b"secret").await.unwrap();
    engine.twist(|_, _, _| unreachable!("nothing is asked for"));
    for wrapped in [&b""[..], b"vault:v1", b"\xff", b"vault:v1:AAAA\"", &[b'A'; 1 << 16]] {
        let altered = Sealed { wrapped_key: wrapped.to_vec(), ..sealed.clone() };
        let error = vault.open("a", &altered).await.unwrap_err();
        assert!(matches!(error, VaultError::Altered), "{error}");
    }
}
