//! The console in a browser, as a person uses it: mostly with keys.

use fantoccini::Locator;
use fantoccini::key::Key;
use serde_json::{Value, json};

use super::Browser;
use crate::fleet::{Fleet, Words};
use crate::support::Client;

/// A console in front of a fleet.
pub struct Console {
    pub browser: Browser,
    pub fleet: Fleet,
    /// Where it is, with a slash at the end.
    pub base: String,
}

impl Console {
    /// With words that would be markup if anybody took them for it.
    pub async fn new() -> Self {
        Self::of(&Words::HOSTILE).await
    }

    pub async fn of(words: &Words) -> Self {
        let fleet = Fleet::new(words).await;
        let base = format!("http://127.0.0.1:{}/", fleet.world.instance.listen().await);
        let browser = Browser::start().await;
        browser.driver.goto(&base).await.unwrap();
        browser.until("return document.querySelector('#tenant')").await;
        Self { browser, fleet, base }
    }

    /// The same, with an administrator signed in.
    pub async fn of_admin() -> Self {
        let console = Self::new().await;
        console.sign_in(&console.fleet.world.admin).await;
        console
    }

    /// By keys alone.
    pub async fn sign_in(&self, client: &Client) {
        assert_eq!(self.browser.run("return document.activeElement.id").await, "tenant");
        self.browser.type_text(&client.tenant).await;
        self.browser.key(Key::Tab).await;
        self.browser.type_text(&client.key).await;
        self.browser.key(Key::Enter).await;
        self.browser.until("return !document.querySelector('#nav').hidden").await;
        self.settled().await;
        assert_eq!(self.browser.run("return document.activeElement.tagName").await, "H1");
    }

    pub async fn sign_out(&self) {
        self.browser.driver.find(Locator::Id("sign-out")).await.unwrap().click().await.unwrap();
        self.shows("Sign in").await;
        assert_eq!(self.browser.run("return location.hash").await, "#/");
    }

    /// Goes to a page by its address.
    pub async fn go(&self, page: &str) {
        // A mark tells the page that is shown from the one before, whose heading may be the same.
        let script = "document.querySelector('h1').dataset.old = ''; location.hash = '#/' + arguments[0]";
        self.browser.run_with(script, json!([page])).await;
        self.browser.until("return document.querySelector('h1:not([data-old])')").await;
        self.settled().await;
    }

    pub async fn settled(&self) {
        self.browser.until("return !document.querySelector('main[aria-busy]')").await;
    }

    /// Waits for a page with this heading, which has the focus and is in the title.
    pub async fn shows(&self, heading: &str) {
        let script = format!(
            "const h1 = document.querySelector('h1'); \
             return h1 && h1.textContent === {text} && document.title.startsWith({text})",
            text = json!(heading)
        );
        self.browser.until(&script).await;
        self.settled().await;
        let focused = self.browser.run("return document.activeElement.tagName").await;
        let first = self.browser.run("return document.querySelector('[data-first]') !== null").await;
        assert!(focused == "H1" || first == true, "{focused} has the focus on {heading}");
    }

    /// Waits until this text is on the page.
    #[track_caller]
    pub fn says(&self, text: &str) -> impl Future<Output = Value> {
        self.browser.until_with("return document.body.innerText.includes(arguments[0])", json!([text]))
    }

    /// The text of each row of the first table whose caption has this.
    pub async fn rows(&self, caption: &str) -> Vec<String> {
        let script = "const table = [...document.querySelectorAll('table')].find((table) => table.caption.textContent.includes(arguments[0])); \
            return [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join(' | '))";
        let rows = self.browser.run_with(script, json!([caption])).await;
        rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned()).collect()
    }

    /// Puts the focus on what has this text, by pressing Tab until it is there, and presses Enter.
    pub async fn press(&self, text: &str) {
        self.reach(text).await;
        self.browser.key(Key::Enter).await;
    }

    /// Presses Tab until what has this text has the focus.
    pub async fn reach(&self, text: &str) {
        for _ in 0..200 {
            let script = "const element = document.activeElement; \
                return [element.textContent.trim(), element.labels?.[0]?.textContent.trim() ?? '', element.tagName]";
            let at = self.browser.run(script).await;
            if (at[0] == text || at[1] == text) && at[2] != "H1" && at[2] != "BODY" {
                return;
            }
            self.browser.key(Key::Tab).await;
        }
        panic!("no key leads to {text}");
    }

    /// Types into the field with this label, in place of what is there.
    pub async fn fill(&self, label: &str, text: &str) {
        self.reach(label).await;
        // Typing is a key at a time; pasting is what people do with long texts.
        let paste =
            "document.activeElement.select(); document.execCommand('insertText', false, arguments[0])";
        self.browser.run_with(paste, json!([text])).await;
    }

    /// Changes the state of the box with this label.
    pub async fn tick(&self, label: &str) {
        self.reach(label).await;
        self.browser.type_text(" ").await;
    }

    pub async fn accessible(&self, what: &str) {
        let complaints = self.browser.run(include_str!("accessibility.js")).await;
        assert_eq!(complaints, json!([]), "{what}");
    }

    /// Nobody has made markup of text, and the browser has refused nothing but what the server did.
    pub async fn close(self) {
        assert_eq!(self.browser.run("return window.hacked === undefined").await, true);
        let complaints = self.browser.complaints().await;
        let refused = |complaint: &&String| {
            !complaint.contains("Failed to load resource: the server responded with a status of 4")
        };
        assert_eq!(complaints.iter().filter(refused).collect::<Vec<_>>(), Vec::<&String>::new());
        self.browser.close().await;
    }
}
