//! Server-sent events (the WHATWG's HTML, 9.2), as they come.
//!
//! Read here because the crates for it keep lines of any length.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::exchange::answer_of;
use crate::patience::Patience;
use crate::upload::Upload;

/// Longest event, in bytes.
const MAX_EVENT: usize = 1 << 20;
/// A service that has nothing to tell says so several times in this time.
const SILENCE: Duration = Duration::from_secs(60);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What to name when the stream has broken off, to go on after this event.
    pub id: String,
    /// What has happened.
    pub data: String,
}

/// Why there are no more events.
#[derive(Debug)]
pub enum Ended {
    /// The service does not give them, or what is given is not understood: to ask again is of no use.
    Refused(anyhow::Error),
    /// The connection is gone: ask again, from the last event on.
    Broken(anyhow::Error),
}

/// Reads events over `stream` until there are no more; `each` is given every one.
pub async fn subscribe(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Builder,
    patience: Patience,
    each: &mut impl FnMut(Event) -> anyhow::Result<()>,
) -> Ended {
    match read(stream, request, patience, each).await {
        Err(ended) => ended,
        Ok(()) => Ended::Broken(anyhow!("the service has ended the stream")),
    }
}

async fn read(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Builder,
    patience: Patience,
    each: &mut impl FnMut(Event) -> anyhow::Result<()>,
) -> Result<(), Ended> {
    let request = request.body(Upload::new(Vec::new())).context("request").map_err(Ended::Refused)?;
    let ask = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.context("the service did not answer")?;
        // Without the sender the connection would end.
        anyhow::Ok((sender, response))
    };
    let limit = patience.whole();
    let asked = timeout(limit, ask).await.unwrap_or_else(|_| {
        Err(anyhow!("the service has not answered within {} s (--timeout)", limit.as_secs()))
    });
    let (_sender, response) = asked.map_err(Ended::Broken)?;
    let status = response.status();
    if !status.is_success() {
        let answer = timeout(limit, answer_of(response)).await;
        let refused = match answer {
            Ok(answer) => answer.and_then(|answer| answer.success().map(drop)).err(),
            Err(_) => None,
        };
        let error = refused.unwrap_or_else(|| anyhow!("the service answered {status}"));
        return Err(if status.is_client_error() { Ended::Refused(error) } else { Ended::Broken(error) });
    }
    let (mut body, mut parser) = (response.into_body(), Parser::default());
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| {
            Ended::Broken(anyhow!("nothing has come from the service for {} s", SILENCE.as_secs()))
        })?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.context("the stream broke off").map_err(Ended::Broken)?;
        for byte in frame.data_ref().into_iter().flatten() {
            if let Some(event) = parser.push(*byte).map_err(Ended::Refused)? {
                each(event).map_err(Ended::Refused)?;
            }
        }
    }
}

/// What has come of an event so far.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    event: Event,
}

impl Parser {
    /// Takes one byte; gives the event that ends with it.
    fn push(&mut self, byte: u8) -> anyhow::Result<Option<Event>> {
        if byte != b'\n' {
            self.line.push(byte);
            if self.line.len() + self.event.data.len() > MAX_EVENT {
                return Err(anyhow!("an event of the service is longer than {} KiB", MAX_EVENT >> 10));
            }
            return Ok(None);
        }
        let line = String::from_utf8(std::mem::take(&mut self.line)).context("an event is not UTF-8")?;
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.event.data);
            // The id stays until there is another one.
            return Ok((!data.is_empty()).then(|| Event { data, ..self.event.clone() }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.event.id),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment, or a field that nobody here needs.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    async fn subscribed(answer: &'static [u8]) -> (Vec<Event>, Ended) {
        let (here, mut there) = duplex(1 << 16);
        let server = async move {
            let mut head = [0; 1024];
            assert_ne!(there.read(&mut head).await.unwrap(), 0);
            there.write_all(answer).await.unwrap();
        };
        let request = Request::builder().uri("/").header("host", "test");
        let mut events = Vec::new();
        let mut each = |event| {
            events.push(event);
            Ok(())
        };
        let (ended, ()) = tokio::join!(subscribe(here, request, Patience::seconds(5), &mut each), server);
        (events, ended)
    }

    #[tokio::test]
    async fn events_are_read_as_they_are_written_until_the_stream_ends() {
        let (events, ended) = subscribed(
            b"HTTP/1.1 200 OK\r\n\r\n: nothing yet\n\nid: 7\nevent: failed\ndata: {\"a\":1}\n\n:\n\n\
              data:x\r\ndata: y\r\n\r\ndata: half",
        )
        .await;
        let event = |data: &str| Event { id: "7".to_owned(), data: data.to_owned() };
        assert_eq!(events, [event("{\"a\":1}"), event("x\ny")]);
        assert!(matches!(ended, Ended::Broken(_)), "{ended:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_a_service_that_is_not_there() {
        let (events, ended) =
            subscribed(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 23\r\n\r\n{\"code\":\"role_missing\"}")
                .await;
        assert!(events.is_empty());
        assert!(matches!(&ended, Ended::Refused(error) if error.to_string() == "role_missing"), "{ended:?}");
        let (_, ended) = subscribed(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(ended, Ended::Broken(_)), "{ended:?}");
        let (_, ended) = subscribed(b"").await;
        assert!(matches!(ended, Ended::Broken(_)), "{ended:?}");
    }

    #[test]
    fn an_event_that_does_not_end_is_not_kept() {
        for line in [&b"x"[..], b"data: x\n"] {
            let mut parser = Parser::default();
            let mut bytes = line.iter().cycle().take(2 * MAX_EVENT + line.len() * MAX_EVENT);
            let error = bytes.find_map(|byte| parser.push(*byte).err()).unwrap();
            assert!(error.to_string().contains("1024 KiB"), "{error}");
        }
    }
}
