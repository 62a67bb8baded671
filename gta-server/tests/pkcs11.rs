//! A master key that stays in a token: SoftHSM, whose keys OpenSC's pkcs11-tool made.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use test_softhsm::{CONFIGURATION, PIN, SoftHsm};

use crate::process::master_key::Home;

mod process;

const FIT: [&str; 3] = ["--key-type", "AES:32", "--sensitive"];

struct World {
    hsm: SoftHsm,
    home: Home,
}

impl World {
    fn new() -> Self {
        let hsm = SoftHsm::new().unwrap();
        hsm.add_key("master", "01", &FIT).unwrap();
        let home = Home::new(Some((CONFIGURATION, hsm.configuration().into())), PIN);
        Self { hsm, home }
    }
}

#[test]
fn what_a_key_in_a_token_seals_it_opens_and_no_other_key_does() {
    let world = World::new();
    let master = world.hsm.uri("master");
    world.home.done(&master, &["add-tenant", "acme"]);
    world.home.done(&master, &["add-key", "acme", "admin"]);
    world.home.done(&master, &["rotate", "row"]);
    world.home.done(&master, &["fsck"]);
    // The same key by its identifier.
    world.home.done(&master.replace("object=master", "id=%01"), &["fsck"]);

    world.hsm.add_key("other", "02", &FIT).unwrap();
    let other = world.home.run(&world.hsm.uri("other"), &["fsck"]);
    assert!(!other.status.success());
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("sealed under master key pkcs11:"), "{said}");
}

#[test]
fn what_a_file_seals_moves_to_a_token_and_back() {
    let world = World::new();
    let (token, file) = (world.hsm.uri("master"), "file.key");
    world.home.done(file, &["add-tenant", "acme"]);
    let said = world.home.fails(&token, &["rewrap"]);
    assert!(said.contains("sealed under master key"), "{said}");
    for (new, old) in [(token.as_str(), file), (file, token.as_str())] {
        world.home.done(new, &["rewrap", "--old-master-key", old]);
        world.home.done(new, &["fsck"]);
        world.home.fails(old, &["fsck"]);
    }
}

#[tokio::test]
async fn what_was_altered_or_belongs_to_something_else_is_not_opened() {
    use sqlx::Connection as _;
    let world = World::new();
    let master = world.hsm.uri("master");
    world.home.done(&master, &["add-tenant", "acme"]);
    world.home.done(&master, &["rotate", "row"]);
    world.home.done(&master, &["fsck"]);
    let database = world.home.path().join("gta.db");
    let whole = fs::read(&database).unwrap();
    for statement in [
        "UPDATE keys SET wrapped_key = CAST(substr(wrapped_key, 1, 59) || x'00' AS BLOB)",
        "UPDATE keys SET wrapped_key = CAST(substr(wrapped_key, 1, 59) AS BLOB)",
        "UPDATE keys SET wrapped_key = x''",
        "UPDATE keys SET wrapped_key =
         (SELECT other.wrapped_key FROM keys other WHERE other.id <> keys.id)",
    ] {
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite:{}", database.display())).await.unwrap();
        assert!(sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected() > 0);
        connection.close().await.unwrap();
        let output = world.home.run(&master, &["fsck"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("altered"), "{statement}: {said}");
        fs::write(&database, &whole).unwrap();
        for journal in ["gta.db-wal", "gta.db-shm"] {
            let _ = fs::remove_file(world.home.path().join(journal));
        }
        world.home.done(&master, &["fsck"]);
    }
}

#[test]
fn keys_that_could_leave_the_token_or_are_no_master_keys_are_refused() {
    let world = World::new();
    let keys: [(&str, &[&str], &str); 4] = [
        ("short", &["--key-type", "AES:16", "--sensitive"], "256 bits"),
        ("generic", &["--key-type", "GENERIC:32", "--sensitive"], "not a key for AES"),
        ("open", &["--key-type", "AES:32"], "not sensitive"),
        ("loose", &["--key-type", "AES:32", "--sensitive", "--extractable"], "extractable"),
    ];
    for (number, (label, options, reason)) in keys.into_iter().enumerate() {
        world.hsm.add_key(label, &format!("1{number}"), options).unwrap();
        let said = world.home.refused(&world.hsm.uri(label));
        assert!(said.contains(reason), "{label}: {said}");
    }
}

#[test]
fn a_key_that_cannot_be_told_from_others_or_is_not_there_is_refused() {
    let world = World::new();
    let uri = world.hsm.uri("master");
    let said = world.home.refused(&world.hsm.uri("absent"));
    assert!(said.contains("0 secret keys") && said.contains("AES-256"), "{said}");
    world.hsm.add_key("master", "02", &FIT).unwrap();
    let said = world.home.refused(&uri);
    assert!(said.contains("2 secret keys"), "{said}");
    world.home.done(&uri.replace("object=master", "object=master;id=%02"), &["add-tenant", "acme"]);
}

#[test]
fn a_token_that_is_not_there_and_a_pin_that_is_not_its_own_are_refused() {
    let world = World::new();
    let uri = world.hsm.uri("master");
    let said = world.home.refused(&uri.replace("token=redoubt", "token=another"));
    assert!(said.contains("0 tokens") && said.contains("\"redoubt test\""), "{said}");
    let said = world.home.refused(&uri.replace("object", "serial=0;object"));
    assert!(said.contains("0 tokens"), "{said}");
    let said = world.home.refused(&uri.replace("libsofthsm2.so", "absent.so"));
    assert!(said.contains("cannot load") && said.contains("absent.so"), "{said}");

    let wrong = world.hsm.write_pin("wrong", "314159265").unwrap();
    let said =
        world.home.refused(&uri.replace(&*world.hsm.path("pin").to_string_lossy(), wrong.to_str().unwrap()));
    assert!(said.contains("does not accept the PIN") && !said.contains("314159265"), "{said}");
    let said = world.home.refused(&format!("{uri}-absent"));
    assert!(said.contains("pin-source") && said.contains("pin-absent"), "{said}");
    fs::set_permissions(world.hsm.path("pin"), Permissions::from_mode(0o640)).unwrap();
    let said = world.home.refused(&uri);
    assert!(said.contains("chmod 600"), "{said}");
    let said = world.home.refused(&format!("pkcs11:token=a;object=b?pin-value={PIN}"));
    assert!(said.contains("pin-value would show"), "{said}");
}

/// The file of a key that is somewhere else for a while.
struct Taken<'a> {
    hsm: &'a SoftHsm,
    from: PathBuf,
    to: PathBuf,
}

impl Taken<'_> {
    /// The same key is there again. SoftHSM never believes in a file again that was gone, and looks for others when another
    /// program has changed something.
    fn put_back(self) {
        fs::rename(self.to, self.from.with_file_name("00000000-0000-0000-0000-000000000001.object")).unwrap();
        self.hsm.add_key("other", "02", &FIT).unwrap();
    }
}

impl World {
    /// The token without its only key, for a while.
    fn take_key_file(&self) -> Taken<'_> {
        let token = fs::read_dir(self.hsm.path("tokens")).unwrap().next().unwrap().unwrap().path();
        let files = fs::read_dir(token).unwrap().map(|file| file.unwrap().path());
        let mut keys = files.filter(|file| {
            file.extension().is_some_and(|end| end == "object") && file.file_stem().unwrap() != "token"
        });
        let (from, to) = (keys.next().unwrap(), self.hsm.path("taken"));
        assert_eq!(keys.next(), None);
        fs::rename(&from, &to).unwrap();
        Taken { hsm: &self.hsm, from, to }
    }
}

#[test]
fn a_token_that_comes_back_is_logged_in_to_anew() {
    let world = World::new();
    let running = world.home.serve(&world.hsm.uri("master"));
    let key = world.take_key_file();
    assert_eq!([running.nonce(), running.nonce()], [503; 2], "{}", running.log());
    key.put_back();
    assert_eq!(running.nonce(), 200, "{}", running.log());
}

/// What it wrapped would have the name of the key that is gone, and could never be opened again.
#[test]
fn another_key_under_the_same_name_is_not_taken_for_the_one_before() {
    let world = World::new();
    let running = world.home.serve(&world.hsm.uri("master"));
    world.hsm.remove_key("master").unwrap();
    world.hsm.add_key("master", "09", &FIT).unwrap();
    for _ in 0..4 {
        assert_eq!(running.nonce(), 503, "{}", running.log());
    }
    assert!(running.log().contains("it is not the key that it was before"), "{}", running.log());
}

/// Tokens lock themselves after some wrong PINs.
#[test]
fn a_pin_that_is_not_accepted_any_more_is_not_tried_again_and_again() {
    let world = World::new();
    let running = world.home.serve(&world.hsm.uri("master"));
    let key = world.take_key_file();
    assert_eq!(running.nonce(), 503);
    key.put_back();
    world.hsm.write_pin("pin", "314159265").unwrap();
    assert_eq!(running.nonce(), 503);
    assert!(running.log().contains("does not accept the PIN"), "{}", running.log());
    // Were it tried again, the right one would open.
    world.hsm.write_pin("pin", PIN).unwrap();
    assert_eq!(running.nonce(), 503);
}
