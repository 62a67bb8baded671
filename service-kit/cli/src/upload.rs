//! Bodies that show how much of them is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use indicatif::{ProgressBar, ProgressStyle};

/// So much is sent between two looks at the progress bar.
const CHUNK: usize = 16 * 1024;
/// Smaller uploads are over before anybody could look.
const WORTH_A_BAR: usize = 4 * CHUNK;

/// A body that shows on a terminal how much of it is sent.
pub struct Upload {
    rest: Bytes,
    bar: ProgressBar,
}

impl Upload {
    pub fn new(body: Vec<u8>) -> Self {
        let bar = if body.len() > WORTH_A_BAR {
            ProgressBar::new(u64::try_from(body.len()).unwrap_or(u64::MAX))
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}") {
            bar.set_style(style);
        }
        Self { rest: Bytes::from(body), bar }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            self.bar.finish_and_clear();
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        let chunk = self.rest.split_to(length);
        self.bar.inc(u64::try_from(length).unwrap_or(0));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
