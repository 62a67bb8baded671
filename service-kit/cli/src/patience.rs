//! How long a command waits for a service.

use std::io;
use std::time::Duration;

use clap::Args;

/// Longest wait for a connection: who does not answer by then is not there.
const CONNECT: Duration = Duration::from_secs(10);

/// Flags of whatever asks a service.
#[derive(Args, Clone, Copy, Debug)]
pub struct Patience {
    /// Seconds to wait for the whole answer, uploads included
    #[arg(long, value_name = "SECONDS", default_value_t = 120, global = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Patience {
    /// Patience of so many seconds.
    #[must_use]
    pub const fn seconds(timeout: u64) -> Self {
        Self { timeout }
    }

    /// How long to wait for a whole answer.
    #[must_use]
    pub const fn whole(self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Waits for a connection, but not for ever.
    ///
    /// # Errors
    /// What `connect` fails with, or that it took too long.
    pub async fn connecting<T>(self, connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let limit = CONNECT.min(self.whole());
        tokio::time::timeout(limit, connect).await.unwrap_or_else(|_| {
            let text = format!("no answer within {} s", limit.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}
