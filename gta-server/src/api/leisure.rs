//! Work that would keep a worker from other requests.

use service_kit::problem::Problem;

/// Runs what takes its time: signatures, logs and policies.
pub async fn at_leisure<T: Send + 'static, E: From<Problem> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "what takes its time did not finish");
        Problem::unavailable("appraisal_failed", "the appraisal or compilation did not finish")
    })?
}
