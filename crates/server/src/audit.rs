//! The audit log: who was refused, and what administrators changed, which the management API tells itself. Its lines have the
//! target `audit`; `log.audit_file` has them apart from the others.

use crate::auth::Origin;

/// What lines are known by.
pub const TARGET: &str = "audit";

/// Somebody was not let in.
pub fn login_refused(user: &str, origin: Origin, reason: &str) {
    let Origin { address, protocol } = origin;
    tracing::warn!(target: TARGET, user, peer = %address, protocol, "login refused: {reason}");
}
