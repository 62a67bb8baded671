//! What comes back: JSON lines for test cases, one plain line for a job's exit code.

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port that the harness attaches for reports.
pub const PORT: &str = "org.redoubt.report";

/// One line of a test report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// First line: every case that will be reported. One that never is has failed.
    Plan {
        /// Full names, in the order in which they run.
        plan: Vec<String>,
    },
    /// A case begins.
    Started {
        /// Its full name.
        started: String,
    },
    /// A case has ended.
    Case(Case),
}

/// The outcome of one test case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Full name, `binary::test`.
    pub case: String,
    /// Whether it passed.
    pub ok: bool,
    /// Wall time in milliseconds.
    pub millis: u64,
    /// What it printed (its end, where that is long).
    pub output: String,
}

const EXIT_PREFIX: &str = "guest-init: job exited with code ";

/// The console line that tells the exit code of a [`Job::Run`](crate::config::Job::Run).
#[must_use]
pub fn exit_line(code: i32) -> String {
    format!("{EXIT_PREFIX}{code}")
}

/// The exit code in a console line, when the line is an [`exit_line`].
#[must_use]
pub fn parse_exit_line(line: &str) -> Option<i32> {
    line.trim_end().strip_prefix(EXIT_PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_line_survives_a_serial_console() {
        assert_eq!(parse_exit_line(&format!("{}\r\n", exit_line(-9))), Some(-9));
        assert_eq!(parse_exit_line("[    1.0] guest-init: job exited with code 0"), None);
    }

    #[test]
    fn each_kind_of_message_is_told_apart() {
        let case = Case { case: "a::b".into(), ok: false, millis: 3, output: "x".into() };
        for message in [
            Message::Plan { plan: vec!["a::b".into()] },
            Message::Started { started: "a::b".into() },
            Message::Case(case),
        ] {
            let line = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), message);
        }
    }
}
