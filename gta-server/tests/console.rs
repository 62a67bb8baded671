//! The web console in a browser, with a tenant's machines behind it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod browser;
mod fleet;
mod support;

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fantoccini::key::Key;
use gta_server::health::{EvidenceHealth, Health, NodeHealth};
use gta_server::model::AttesterType;
use gta_server::service::Settings;
use http_body_util::BodyExt as _;
use rcgen::PKCS_ECDSA_P384_SHA384;
use serde_json::{Value, json};
use verifier::testing::Authority;

use crate::browser::Browser;
use crate::browser::console::Console;
use crate::fleet::Words;
use crate::support::{Machine, Signer, TENANT, World, strict};

const DATABASE: support::Database = support::Database::Sqlite;

/// Every page that has an address of its own, for an administrator.
const PAGES: [&str; 11] = [
    "",
    "nodes",
    "nodes?status=enrolled",
    "nodes/new",
    "policies",
    "policies/new",
    "ref-values",
    "ref-values/new",
    "certificates",
    "certificates/new",
    "audit",
];

#[tokio::test]
async fn somebody_signs_in_by_keys_and_the_key_is_nowhere_but_in_the_page() {
    let console = Console::new().await;
    let (browser, admin) = (&console.browser, &console.fleet.world.admin);
    console.accessible("sign in").await;
    browser.type_text(TENANT).await;
    browser.key(Key::Tab).await;
    browser.type_text("a2345678901234567890123456789012").await;
    browser.key(Key::Enter).await;
    console.says("Invalid API key").await;
    console.says("api_key_unknown").await;
    console.accessible("a wrong key").await;
    browser.driver.refresh().await.unwrap();
    console.shows("Sign in").await;
    console.sign_in(admin).await;
    console.says("acme · admin").await;
    let kept =
        "return [localStorage.length, sessionStorage.length, document.cookie, location.href, history.state]";
    assert_eq!(browser.run(kept).await, json!([0, 0, "", format!("{}console/", console.base), null]));
    assert_eq!(browser.run("return document.documentElement.outerHTML.includes(arguments[0])").await, false);
    let script = "return document.documentElement.outerHTML.includes(arguments[0])";
    assert_eq!(browser.run_with(script, json!([admin.key])).await, false);
    console.sign_out().await;
    console.says("The key is forgotten").await;
    // Nothing is shown any more, whatever the address is.
    console.go("nodes").await;
    console.shows("Sign in").await;
    console.sign_in(admin).await;
    console.shows("Nodes").await;
    browser.driver.refresh().await.unwrap();
    console.shows("Sign in").await;
    // What the page was made of came from this server.
    let sources =
        browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)").await;
    let sources = sources.as_array().unwrap();
    assert!(sources.len() > 20);
    assert!(sources.iter().all(|source| source.as_str().unwrap().starts_with(&console.base)), "{sources:?}");
    console.close().await;
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_the_session() {
    let console = Console::of_admin().await;
    let world = &console.fleet.world;
    world.admin.post(&world.instance, "/register", &json!({})).await.ok();
    console.go("policies").await;
    console.shows("Sign in").await;
    console.says("This key is not known any more").await;
    console.close().await;
}

#[tokio::test]
async fn the_overview_counts_nodes_and_hears_of_changes_as_they_come() {
    let console = Console::of_admin().await;
    let (browser, world) = (&console.browser, &console.fleet.world);
    let tiles = "return [...document.querySelectorAll('.tile')].map((tile) => tile.innerText.split(/\\s+/u).slice(0, 2).join(' '))";
    assert_eq!(browser.run(tiles).await, json!(["3 Failed", "1 Refused", "1 Missed", "7 Passed"]));
    let rows = console.rows("Latest changes").await;
    assert!(rows[0].contains("cache-2 | new | Refused | pcr_digest_mismatch"), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("edge-3 | Passed | Failed | log_mismatch")), "{rows:?}");
    browser.until("return document.querySelector('.stream.live')").await;
    let machine = world.machine("new-1").await;
    console.fleet.send(&machine, "tpm_ima", None).await;
    browser.until("return document.querySelector('tbody tr.fresh th') && document.querySelector('tbody tr').innerText.includes('new-1')").await;
    browser.until("return document.getElementById('live').textContent === 'new-1: Passed'").await;
    browser.until("return document.querySelector('.tile.passed .number').textContent === '8'").await;
    browser.run("document.querySelector('.tile.failed').focus()").await;
    browser.key(Key::Enter).await;
    console.shows("Nodes").await;
    let rows = console.rows("Nodes").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    console.close().await;
}

#[tokio::test]
async fn a_node_tells_the_file_the_register_and_the_line_for_which_it_is_not_accepted() {
    let console = Console::of_admin().await;
    console.press("Nodes").await;
    console.shows("Nodes").await;
    console.press("db-1").await;
    console.shows("db-1").await;
    let files = console.rows("Files").await;
    assert_eq!(files[0], format!("/opt/.cache/miner | sha256:{} | 2", "09".repeat(32)));
    console.says("Policy built in for tpm_ima stopped at line 11").await;
    console.says("log.ref_value_match_status == \"matched\"").await;
    let history = console.rows("Changes of this node").await;
    assert_eq!(history.len(), 2, "{history:?}");
    console.says("Its TPM has opened a credential for its endorsement key").await;
    console.says("C=CN, CN=Maker").await;
    console.go("node/edge-3").await;
    let registers = console.rows("Registers").await;
    assert!(registers[0].starts_with("PCR 4 | "), "{registers:?}");
    console.go("node/cache-2").await;
    console.says("pcr_digest_mismatch").await;
    console.go("node/lab-9").await;
    console.says("the next was announced for 600 s after it").await;
    console.go("node/build-7").await;
    console.says("not accepted by the policies secure-boot").await;
    console.press("secure-boot").await;
    console.shows("Policy secure-boot").await;
    let marked =
        "return [...document.querySelectorAll('.marked code')].map((line) => line.textContent.trim())";
    assert_eq!(console.browser.run(marked).await, json!(["loader in released", "known_loader"]));
    console.accessible("marked lines").await;
    // What happens while somebody reads is told, and the page stays as it is.
    console.go("node/web-01").await;
    let mut machine = console.fleet.world.machine("again").await;
    console.fleet.send(&machine, "tpm_ima", None).await;
    console.go("node/again").await;
    machine.measure("/opt/.cache/miner", &[9; 32]);
    console.fleet.send(&machine, "tpm_ima", None).await;
    console.says("1 change since this page was loaded: it is Failed now.").await;
    console.press("Load again").await;
    console.says("ima_entry_unknown").await;
    console.close().await;
}

#[tokio::test]
async fn what_machines_and_people_wrote_stays_text() {
    let console = Console::of_admin().await;
    let fleet = &console.fleet;
    let Words { markup, name, backwards } = Words::HOSTILE;
    let first = async |path: &str, list: &str, id: &str| -> String {
        let answer = fleet.world.admin.get(&fleet.world.instance, path).await.ok();
        answer[list][0][id].as_str().unwrap().to_owned()
    };
    let set = first("/ref_value", "ref_values", "id").await;
    let certificate = first("/cert", "certs", "cert_id").await;
    let list = first("/cert?cert_type=crl", "crls", "crl_id").await;
    for (page, text) in [
        ("nodes".to_owned(), name),
        (format!("node/{}", name.replace(' ', "%20")), name),
        ("node/db-1".to_owned(), markup),
        (format!("policy/{}", fleet.policy), markup),
        (format!("ref-value/{set}"), markup),
        ("certificates".to_owned(), markup),
        (format!("certificate/{certificate}"), markup),
        (format!("certificate/{list}?type=crl"), markup),
        ("audit?kind=api_key".to_owned(), markup),
        (format!("node/{markup}"), markup),
        (format!("policy/default?type={markup}"), "There is no policy with this id"),
    ] {
        console.go(&page).await;
        console.says(text).await;
        let made = "return document.querySelectorAll('main img, main script, img[onerror]').length";
        assert_eq!(console.browser.run(made).await, 0, "{page}");
    }
    console.go(&format!("ref-value/{set}")).await;
    console.fill("Path or digest contains", "<img").await;
    assert_eq!(console.rows("Files").await, [format!("/usr/bin/{markup} | {}", "02".repeat(32))]);
    // What would turn a line round is shown as what it is.
    console.go("nodes?search=bd").await;
    assert!(console.rows("Nodes").await[0].starts_with("web\\u{202e}30-bd | "));
    console.press("web\\u{202e}30-bd").await;
    console.shows("web\\u{202e}30-bd").await;
    assert_eq!(
        console.browser.run("return decodeURIComponent(location.hash)").await,
        format!("#/node/{backwards}")
    );
    // Were a page to make markup of text, the browser would not.
    let caught = "try { document.querySelector('main').innerHTML = '<b>x</b>'; return 'made'; } catch (error) { return error.name; }";
    assert_eq!(console.browser.run(caught).await, "TypeError");
    assert_eq!(console.browser.complaints().await.len(), 1);
    console.close().await;
}

#[tokio::test]
async fn administrators_register_change_and_delete() {
    let console = Console::of_admin().await;
    let world = &console.fleet.world;

    console.go("policies").await;
    console.press("Add a policy").await;
    console.shows("Add a policy").await;
    console.fill("Name", "mine").await;
    console.fill("Text", "package verification\n\nresult := {").await;
    console.press("Add this policy").await;
    console.says("policy_invalid").await;
    console.accessible("a form that was refused").await;
    console
        .fill(
            "Text",
            "package verification\n\nresult := {\"policy_matched\": true} if {\n\t# §\n\tinput\n}\n",
        )
        .await;
    console.press("Add this policy").await;
    console.shows("Policy mine").await;
    console.says("mine was added.").await;
    console.says("# §").await;
    console.press("Change this policy").await;
    console.shows("Change a policy").await;
    console.fill("Description", "for tests").await;
    console.tick("All evidence of these types, and not only where a client names it").await;
    console.press("Change this policy").await;
    console.shows("Policy mine").await;
    console.says("it has version 2").await;
    console.says("All evidence of its types").await;
    console.press("Delete this policy").await;
    console.browser.until("return document.activeElement.textContent === 'Cancel'").await;
    console.accessible("a question").await;
    console.browser.key(Key::Escape).await;
    console.browser.until("return !document.querySelector('dialog')").await;
    assert_eq!(console.browser.run("return document.activeElement.textContent").await, "Delete this policy");
    console.press("Delete this policy").await;
    console.browser.until("return document.querySelector('dialog[open]')").await;
    console.press("Delete it").await;
    console.shows("Policies").await;
    console.says("mine was deleted.").await;
    assert_eq!(console.rows("Policies").await.len(), 1);

    let authority = Authority::root(Authority::ca_params("New", 1), &PKCS_ECDSA_P384_SHA384);
    console.go("certificates/new").await;
    console.fill("Name", "new").await;
    console.tick("tpm_ek: authorities that certify endorsement keys of TPMs").await;
    console.fill("PEM", &authority.pem()).await;
    console.press("Add this certificate").await;
    console.shows("Certificates").await;
    assert!(
        console
            .rows("Authorities")
            .await
            .contains(&"new | tpm_ek | C=CN, CN=New | 2060-01-01 00:00:00".to_owned())
    );
    console.press("new").await;
    console.shows("Certificate new").await;
    let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &authority.der()));
    console.says(&digest).await;

    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let files = |path: &str| {
        signer.sign(&json!({ "referenceValues": [{ "fileName": path, "sha256": "11".repeat(32) }] }))
    };
    console.go("ref-values/new").await;
    console.fill("Name", "more").await;
    console.fill("Signed content", "a.b.c").await;
    console.press("Add these reference values").await;
    console.says("signature_invalid").await;
    console.fill("Signed content", &files("/usr/bin/one")).await;
    console.press("Add these reference values").await;
    console.shows("Reference values more").await;
    console.says("/usr/bin/one").await;
    console.press("Change this set").await;
    console.shows("Change reference values").await;
    console.fill("Signed content", &files("/usr/bin/two")).await;
    console.press("Change this set").await;
    console.shows("Reference values more").await;
    console.says("/usr/bin/two").await;

    let machine = Machine::new("pinned", &world.maker);
    let key = machine.enrolment()["ak_public"].as_str().unwrap().to_owned();
    console.go("nodes/new").await;
    console.fill("Name of the node", "a, pinned/one".replace('/', "-").as_str()).await;
    console.fill("Or in base64", &key).await;
    console.press("Pin this key").await;
    console.shows("a, pinned-one").await;
    console.says("An administrator has pinned its key").await;
    console.press("Delete this node").await;
    console.browser.until("return document.querySelector('dialog[open]')").await;
    console.press("Delete it").await;
    console.shows("Nodes").await;
    console.says("a, pinned-one was deleted.").await;

    console.go("audit").await;
    let changes = console.rows("Changes").await;
    // All of it was in one second.
    let deleted = |change: &String| change.contains("(you) | deleted | node | a, pinned-one | 2");
    assert!(changes.iter().any(deleted), "{changes:?}");
    console.close().await;
}

#[tokio::test]
async fn a_nodes_status_is_forgotten_and_a_silent_node_is_still_found() {
    let console = Console::of_admin().await;
    console.go("node/lab-9").await;
    console.press("Forget its status").await;
    console.browser.until("return document.querySelector('dialog[open]')").await;
    console.press("Forget it").await;
    console.says("How lab-9 is was forgotten.").await;
    console.says("It has not reported, or was forgotten.").await;
    console.go("nodes?status=enrolled").await;
    let rows = console.rows("Nodes").await;
    for silent in ["lab-9 | Silent", "spare-1 | Silent", "web-01 | Passed"] {
        assert!(rows.iter().any(|row| row.starts_with(silent)), "{silent}: {rows:?}");
    }
    console.go("node/nobody").await;
    console.says("There is no node of this name").await;
    console.close().await;
}

#[tokio::test]
async fn who_may_not_is_told_so_in_words() {
    let console = Console::new().await;
    let fleet = &console.fleet;
    console.sign_in(&fleet.auditor).await;
    console.go("policies").await;
    assert_eq!(console.rows("Policies").await.len(), 1);
    console.go(&format!("policy/{}", fleet.policy)).await;
    let offers = "return document.querySelector('main').innerText.match(/Add|Delete|Change this/u)";
    assert_eq!(console.browser.run(offers).await, Value::Null);
    // Whoever knows the address gets as far as the server lets them.
    console.go("policies/new").await;
    console.fill("Name", "mine").await;
    console.press("Add this policy").await;
    console.says("your role does not allow that").await;
    console.says("This key has the role auditor").await;
    console.sign_out().await;

    console.sign_in(&fleet.relying_party).await;
    console.go("nodes").await;
    console.press("build-7").await;
    console.shows("build-7").await;
    console.says("Policy secure-boot stopped at line 24, 17").await;
    console.says("your role does not allow that").await;
    for page in ["policies", "ref-values", "certificates", "audit"] {
        console.go(page).await;
        console.says("role_missing").await;
        console.accessible(page).await;
    }
    console.sign_out().await;

    console.sign_in(&fleet.world.agent).await;
    console.says("This key has the role agent").await;
    console.close().await;
}

#[tokio::test]
async fn ten_thousand_nodes_are_paged_and_found() {
    let console = Console::of_admin().await;
    let service = &console.fleet.world.instance.service;
    let passed = EvidenceHealth {
        status: Health::Passed,
        reported_at: service.now(),
        reason: None,
        report_interval: None,
    };
    let health = NodeHealth {
        since: service.now(),
        reported_at: service.now(),
        reports: 1,
        evidences: BTreeMap::from([(AttesterType::TpmBoot, passed)]),
    };
    let mut change = service.store.change("test").await.unwrap();
    for number in 0..10_000 {
        change.set_state(TENANT, &format!("fleet-{number:05}"), None, &health).await.unwrap();
    }
    change.commit().await.unwrap();
    console.go("nodes?status=passed").await;
    console.says("Passed (10,007)").await;
    assert_eq!(console.rows("Nodes").await.len(), 100);
    console.press("Next page").await;
    console.says("fleet-00150").await;
    console.press("Next page").await;
    console.says("fleet-00250").await;
    console.press("Previous page").await;
    console.says("fleet-00150").await;
    console.fill("Name contains", "09999").await;
    console.browser.key(Key::Enter).await;
    console.browser.until("return document.querySelectorAll('tbody tr').length === 1").await;
    assert!(console.rows("Nodes").await[0].starts_with("fleet-09999 | Passed"));
    // Who searches again goes on where they were.
    assert_eq!(console.browser.run("return document.activeElement.id").await, "search");
    console.close().await;
}

#[tokio::test]
async fn every_page_can_be_read_and_used_without_a_mouse_in_both_schemes() {
    let console = Console::of_admin().await;
    let policy = console.fleet.policy.clone();
    let more = [
        "node/db-1".to_owned(),
        "node/edge-3".to_owned(),
        format!("policy/{policy}?lines=17,24&version=1"),
        format!("policy/{policy}?lines=17&version=9"),
        format!("policy/{policy}/change"),
        "nowhere".to_owned(),
    ];
    for scheme in ["light", "dark"] {
        console.browser.prefer(scheme).await;
        for page in PAGES.iter().copied().chain(more.iter().map(String::as_str)) {
            console.go(page).await;
            assert_eq!(console.browser.run("return document.activeElement.tagName").await, "H1", "{page}");
            console.accessible(&format!("{page} in {scheme}")).await;
        }
    }
    for page in PAGES.iter().copied().chain(more.iter().map(String::as_str)) {
        console.go(page).await;
        everything_is_reached(&console.browser, page).await;
    }
    console.close().await;
}

/// Tab leads to everything that can be used, each time to be seen where it is, and the way past the navigation comes first.
async fn everything_is_reached(browser: &Browser, page: &str) {
    let count = "const usable = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex=\"0\"]')]; \
        const shown = usable.filter((element) => element.checkVisibility() && !(element.type === 'radio' && !element.checked)); \
        window.wanted = new Set(shown); document.activeElement.blur(); \
        document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex'); return shown.length";
    let count = browser.run(count).await.as_u64().unwrap();
    let step = "const element = document.activeElement; window.wanted.delete(element); \
        const style = getComputedStyle(element); \
        return [element.className, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1, element.outerHTML.slice(0, 100)]";
    for number in 0..count {
        browser.key(Key::Tab).await;
        let at = browser.run(step).await;
        assert_eq!(at[1], true, "{page}: no focus to be seen: {at}");
        assert!(number > 0 || at[0] == "skip", "{page}: {at}");
    }
    let left =
        browser.run("return [...window.wanted].map((element) => element.outerHTML.slice(0, 100))").await;
    assert_eq!(left, json!([]), "{page}");
}

#[tokio::test]
async fn the_way_past_the_navigation_leads_to_the_heading() {
    let console = Console::of_admin().await;
    console.go("nodes").await;
    console.press("Skip to the content").await;
    assert_eq!(console.browser.run("return document.activeElement.tagName").await, "H1");
    assert_eq!(console.browser.run("return location.hash").await, "#/nodes");
    console.close().await;
}

#[tokio::test]
async fn files_are_served_with_what_protects_them() {
    let world = World::new().await;
    let get = async |path: &str, tag: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        world.instance.respond(request.body(Body::empty()).unwrap()).await
    };
    for path in ["/", "/console"] {
        let answer = get(path, None).await;
        assert_eq!(
            (answer.status(), &answer.headers()["location"]),
            (StatusCode::TEMPORARY_REDIRECT, &"/console/".parse().unwrap())
        );
    }
    for (path, media_type) in [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/main.js", "text/javascript; charset=utf-8"),
        ("/console/views/node.js", "text/javascript; charset=utf-8"),
        ("/console/style/base.css", "text/css; charset=utf-8"),
        ("/console/favicon.svg", "image/svg+xml"),
    ] {
        let answer = get(path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let value = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(value("content-type"), media_type);
        assert_eq!(value("cache-control"), "no-cache");
        assert_eq!(value("x-content-type-options"), "nosniff");
        assert_eq!(value("referrer-policy"), "no-referrer");
        let policy = value("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split(';').any(|found| found.trim() == part), "{part}: {policy}");
        }
        let tag = value("etag");
        let again = get(path, Some(&format!("\"other\", W/{tag}"))).await;
        assert_eq!(
            (again.status(), &again.headers()["etag"]),
            (StatusCode::NOT_MODIFIED, &tag.parse().unwrap())
        );
        assert!(again.into_body().collect().await.unwrap().to_bytes().is_empty());
        assert_eq!(get(path, Some("\"other\"")).await.status(), StatusCode::OK);
    }
    for path in ["/console/nothing.js", "/console/../Cargo.toml", "/console/%2e%2e/Cargo.toml", "/console//"]
    {
        assert_eq!(get(path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    // Answers for programs keep what is strict.
    let answer = get("/global-trust-authority/service/v1/jwks", None).await;
    assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(answer.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn without_the_console_the_rest_is_served() {
    let world = World::with(Settings { console: false, ..strict() }).await;
    for (path, status) in [("/", 404), ("/console/", 404), ("/console/main.js", 404), ("/health", 200)] {
        let answer = world.instance.respond(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
}

/// `REDOUBT_SCREENSHOTS` names the directory in which the pictures of the manual are made anew.
#[tokio::test]
async fn pages_are_drawn_in_the_colours_that_are_preferred() {
    let console = Console::of(&Words::PLAIN).await;
    console.sign_in(&console.fleet.world.admin).await;
    let directory = std::env::var_os("REDOUBT_SCREENSHOTS");
    for (name, page, scheme, background) in [
        ("overview", "", "light", "rgb(245, 246, 248)"),
        ("nodes", "nodes", "dark", "rgb(15, 19, 24)"),
        ("node", "node/db-1", "light", "rgb(245, 246, 248)"),
        ("policy", "policy/POLICY?lines=17,24&version=1", "dark", "rgb(15, 19, 24)"),
    ] {
        console.browser.prefer(scheme).await;
        console.go(&page.replace("POLICY", &console.fleet.policy)).await;
        let drawn = console.browser.run("return getComputedStyle(document.body).backgroundColor").await;
        assert_eq!(drawn, background, "{name}");
        // Without the frame of what has the focus.
        console.browser.run("document.activeElement.blur()").await;
        let picture = console.browser.driver.screenshot().await.unwrap();
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        if let Some(directory) = &directory {
            let path = std::path::Path::new(directory).join(name).with_extension("png");
            std::fs::write(path, picture).unwrap();
        }
    }
    console.close().await;
}
