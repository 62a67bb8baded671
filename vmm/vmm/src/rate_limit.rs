//! Rate limits of the configuration as devices take them.

use std::collections::BTreeMap;
use std::time::Duration;

use api::config::{RateLimitGroupConfig, RateLimiterConfig, TokenBucketConfig};
use devices::rate_limit::{BucketConfig, LimitConfig, Limits};

/// The limits that disks share, by name.
pub fn groups(configs: &[RateLimitGroupConfig]) -> BTreeMap<String, Limits> {
    let group = |config: &RateLimitGroupConfig| {
        (config.id.clone(), Limits::new(&limits(&config.rate_limiter_config)))
    };
    configs.iter().map(group).collect()
}

/// Limits as devices take them.
pub fn limits(config: &RateLimiterConfig) -> LimitConfig {
    let bucket = |bucket: Option<TokenBucketConfig>| {
        bucket.map(|bucket| BucketConfig {
            size: bucket.size,
            burst: bucket.one_time_burst.unwrap_or(0),
            refill: Duration::from_millis(bucket.refill_time),
        })
    };
    LimitConfig { bandwidth: bucket(config.bandwidth), ops: bucket(config.ops) }
}
