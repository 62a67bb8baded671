//! One request, one answer.

use anyhow::{Context as _, anyhow};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Builder;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::patience::Patience;
use crate::upload::Upload;

/// Longest answer, in bytes: several times what the largest list or log comes to.
const MAX_ANSWER: usize = 64 << 20;

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
/// If no answer comes back in time, or it does not end. One with the status of an error is an answer.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Builder,
    body: Vec<u8>,
    patience: Patience,
) -> anyhow::Result<Exchanged> {
    let limit = patience.whole();
    tokio::time::timeout(limit, converse(stream, request, body)).await.unwrap_or_else(|_| {
        Err(anyhow!("the service has not answered in full within {} s (--timeout)", limit.as_secs()))
    })
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Builder,
    body: Vec<u8>,
) -> anyhow::Result<Exchanged> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response =
        sender.send_request(request.body(Upload::new(body))?).await.context("the service did not answer")?;
    let answer = answer_of(response).await?;
    drop(sender);
    // The service may close without close_notify once everything was said.
    connection.await?.ok();
    Ok(answer)
}

/// All of an answer.
pub(crate) async fn answer_of(response: Response<Incoming>) -> anyhow::Result<Exchanged> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            anyhow!("the service's answer is longer than {} MiB", MAX_ANSWER >> 20)
        } else {
            anyhow!(error).context("the service's answer broke off")
        }
    })?;
    Ok(Exchanged { status, body: body.to_bytes() })
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

    use hyper::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    async fn ask(serve: impl AsyncFnOnce(DuplexStream)) -> anyhow::Result<Exchanged> {
        let (here, mut there) = duplex(1 << 20);
        let server = async {
            // The request's head is all of it.
            let mut head = [0; 1024];
            assert_ne!(there.read(&mut head).await.unwrap(), 0);
            serve(there).await;
            std::future::pending::<()>().await;
        };
        let request = Request::builder().uri("/").header("host", "test");
        tokio::select! {
            answer = exchange(here, request, Vec::new(), Patience::seconds(2)) => answer,
            () = server => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_service_that_hangs_is_not_waited_for() {
        let silent = ask(async |_there| std::future::pending().await).await.unwrap_err();
        assert!(silent.to_string().contains("within 2 s (--timeout)"), "{silent:#}");
        // It answers, a byte now and then.
        let slow = async |mut there: DuplexStream| {
            there.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
            loop {
                there.write_all(b"x").await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let slow = ask(slow).await.unwrap_err();
        assert!(slow.to_string().contains("within 2 s (--timeout)"), "{slow:#}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_not_kept() {
        let endless = async |mut there: DuplexStream| {
            there.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let some = vec![b'x'; 1 << 20];
            for _ in 0..=MAX_ANSWER >> 20 {
                if there.write_all(&some).await.is_err() {
                    break;
                }
            }
        };
        let endless = ask(endless).await.unwrap_err();
        assert!(endless.to_string().contains("longer than 64 MiB"), "{endless:#}");
    }

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
