//! The audit log: who was refused, and what administrators changed. Its lines have the target `audit`; `log.audit_file` has them
//! apart from the others.

use crate::auth::Origin;

/// What lines are known by.
pub const TARGET: &str = "audit";

/// Somebody was not let in.
pub fn login_refused(user: &str, origin: Origin, reason: &str) {
    let Origin { address, protocol } = origin;
    tracing::warn!(target: TARGET, user, peer = %address, protocol, "login refused: {reason}");
}

/// An administrator has changed something: what was done (`put`, `delete`, …), to what, and its name.
#[expect(dead_code, reason = "the management API calls it")]
pub fn changed(user: &str, origin: Origin, action: &str, kind: &str, name: &str) {
    let Origin { address, protocol } = origin;
    tracing::info!(target: TARGET, user, peer = %address, protocol, action, kind, name, "changed");
}
