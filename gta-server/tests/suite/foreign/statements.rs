//! What the database is asked, as the log says it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

/// The statements that were run on this thread.
#[derive(Clone, Default)]
pub struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    /// Those from now on, until the guard is dropped.
    pub fn of_this_thread() -> (Self, impl Drop) {
        let statements = Self::default();
        let database = filter_fn(|metadata| metadata.target() == "service_kit::db");
        let subscriber = Registry::default().with(statements.clone().with_filter(database));
        (statements, tracing::subscriber::set_default(subscriber))
    }

    /// Those since the last time. Keys of the service, which are asked for once a second, are left out.
    pub fn take(&self) -> Vec<String> {
        let mut statements = std::mem::take(&mut *self.0.lock().unwrap());
        statements.retain(|sql| !sql.contains("FROM \"keys\""));
        statements
    }

    /// How many have this text in them.
    pub fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|sql| sql.contains(text)).count()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Text(self));
    }
}

struct Text<'a>(&'a Statements);

impl tracing::field::Visit for Text<'_> {
    fn record_str(&mut self, _: &tracing::field::Field, value: &str) {
        let text: Vec<&str> = value.split_ascii_whitespace().collect();
        self.0.0.lock().unwrap().push(text.join(" "));
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn Debug) {}
}
