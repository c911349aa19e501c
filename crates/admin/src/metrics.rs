//! Metrics.

use std::sync::Arc;

use axum::Router;

use crate::Admin;

/// Everything below the metrics' port.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new().with_state(admin)
}
