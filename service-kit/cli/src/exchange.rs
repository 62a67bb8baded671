//! One request, one answer.

use anyhow::{Context as _, anyhow};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::upload::Upload;

/// An answer.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// A problem document (RFC 7807) with the code that services of this project give.
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    step: Option<String>,
    #[serde(default)]
    detail: String,
}

/// Sends a request over `stream`, and shows on a terminal how much of a large body is sent.
///
/// # Errors
/// If no answer comes back. One with the status of an error is an answer.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Builder,
    body: Vec<u8>,
) -> anyhow::Result<Exchanged> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response =
        sender.send_request(request.body(Upload::new(body))?).await.context("the service did not answer")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("the service's answer broke off")?.to_bytes();
    drop(sender);
    // The service may close without close_notify once everything was said.
    connection.await?.ok();
    Ok(Exchanged { status, body })
}

impl Exchanged {
    /// The body of an answer that is no error.
    ///
    /// # Errors
    /// What the service says is wrong.
    pub fn success(self) -> anyhow::Result<Bytes> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let Ok(Problem { code, step, detail }) = serde_json::from_slice(&self.body) else {
            return Err(anyhow!("the service answered {}", self.status));
        };
        let step = step.map(|step| format!(" at step {step}")).unwrap_or_default();
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        // It ends up on a terminal: no control characters.
        let text = format!("{code}{step}{detail}");
        Err(anyhow!("{}", text.chars().filter(|c| !c.is_control()).collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &'static str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Exchanged { status, body: Bytes::from_static(body.as_bytes()) };
        match answer.success() {
            Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_problem_is_told_in_words() {
        assert_eq!(said(200, "fine"), "fine");
        assert_eq!(
            said(404, r#"{"code":"unknown","detail":"there is no such id"}"#),
            "unknown: there is no such id"
        );
        assert_eq!(said(400, r#"{"code":"a","step":"logs","detail":"\u001b[2Jx"}"#), "a at step logs: [2Jx");
        assert_eq!(said(502, "<html>"), "the service answered 502 Bad Gateway");
    }
}
