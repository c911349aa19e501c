//! Authorization that a login brings along, instead of what [`crate::Identity`] knows of its user.

use std::{fmt, sync::Arc};

use crate::{identity::Access, refusal::Resource, session::Millis, value::Name};

/// What one login may do. Two logins of one user may differ in it: each is judged by its own.
///
/// The broker asks before it takes any lock, so an answer may take as long as the caller of the broker may wait.
pub trait Authorization: fmt::Debug + Send + Sync {
    /// Whether the vhost may be entered.
    fn may_enter(&self, vhost: &str) -> bool;

    /// Whether a queue or exchange may be used so. The default exchange comes as `amq.default`.
    fn check(&self, access: Access, resource: &Resource) -> bool;

    /// Whether a topic exchange may be used so with a key; asked in addition to [`Authorization::check`].
    fn check_topic(&self, access: Access, exchange: &Resource, key: &str, client_id: Option<&str>) -> bool;

    /// Whether the login has a tag: `administrator`, `impersonator`, …
    fn has_tag(&self, tag: &str) -> bool;

    /// When it ends, on the broker's clock, if it does. From then on nothing is allowed.
    fn expires(&self) -> Option<Millis>;

    /// Whether the same question always gets the same answer, so that answers may be kept until it ends.
    fn is_fixed(&self) -> bool;
}

/// Who has logged in: a name, and what decides over what it may do.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The user.
    pub user: Name,
    /// What the login may do; without it the broker's own users decide.
    pub authorization: Option<Arc<dyn Authorization>>,
}

impl Principal {
    /// When the login ends, if it does.
    pub fn expires(&self) -> Option<Millis> {
        self.authorization.as_ref()?.expires()
    }
}

impl From<Name> for Principal {
    fn from(user: Name) -> Self {
        Self { user, authorization: None }
    }
}

impl From<&str> for Principal {
    fn from(user: &str) -> Self {
        Self::from(Name::from(user))
    }
}
