//! Users, what they may do, and the vhosts that exist.
//!
//! Passwords are checked outside the model: here a password's hash is text without meaning.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fancy_regex::{Regex, escape};
use parking_lot::RwLock;

use crate::{
    record::{self, Reader, Unreadable},
    refusal::{Refusal, Resource},
    value::Name,
};

/// What a user wants to do with a queue or exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Create, delete, change.
    Configure,
    /// Put messages in.
    Write,
    /// Get messages out.
    Read,
}

impl Access {
    /// The word for error texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A regular expression that is searched for anywhere in a name. The empty one matches only the empty name.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// If it is not a regular expression; the text says where.
    pub fn new(text: &str) -> Result<Self, String> {
        let source = if text.is_empty() { "^$" } else { text };
        let regex = Regex::new(source).map_err(|error| format!("'{text}' is not a regular expression: {error}"))?;
        Ok(Self { text: text.into(), regex })
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// An expression that gives up (too much backtracking) does not match: access is refused.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name).unwrap_or(false)
    }
}

/// A user's permissions in one vhost.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// Names that the user may configure.
    pub configure: Pattern,
    /// Names that the user may write to.
    pub write: Pattern,
    /// Names that the user may read from.
    pub read: Pattern,
}

/// A user's permissions on the routing keys of one topic exchange. `{username}` and `{vhost}` stand for the user's own.
#[derive(Clone, Debug)]
pub struct TopicPermissions {
    /// Routing keys that the user may publish with.
    pub write: String,
    /// Binding keys that the user may bind with.
    pub read: String,
}

/// A user.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// The password's hash; empty for a user who cannot log in with a password.
    pub password_hash: String,
    /// `administrator`, `monitoring`, `management`, `policymaker`, `impersonator`, or others.
    pub tags: Vec<Name>,
    /// Permissions by vhost.
    pub permissions: BTreeMap<Name, Permissions>,
    /// Topic permissions by vhost and exchange.
    pub topic_permissions: BTreeMap<(Name, Name), TopicPermissions>,
    /// `max-connections` and `max-channels`; negative for none.
    pub limits: BTreeMap<Name, i64>,
}

impl User {
    /// The user for the state table.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let count = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&(n as u64).to_be_bytes());
        record::put_text(&mut out, &self.password_hash);
        count(&mut out, self.tags.len());
        self.tags.iter().for_each(|tag| record::put_text(&mut out, tag));
        count(&mut out, self.permissions.len());
        for (vhost, permissions) in &self.permissions {
            record::put_text(&mut out, vhost);
            for pattern in [&permissions.configure, &permissions.write, &permissions.read] {
                record::put_text(&mut out, pattern.as_str());
            }
        }
        count(&mut out, self.topic_permissions.len());
        for ((vhost, exchange), permissions) in &self.topic_permissions {
            for text in [vhost.as_str(), exchange.as_str(), &permissions.write, &permissions.read] {
                record::put_text(&mut out, text);
            }
        }
        count(&mut out, self.limits.len());
        for (limit, value) in &self.limits {
            record::put_text(&mut out, limit);
            out.extend_from_slice(&value.to_be_bytes());
        }
        out
    }

    /// A user from the state table.
    ///
    /// # Errors
    /// If the bytes are not a user.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let bad = |_| Unreadable("a permission is not a regular expression");
        let mut user = Self { password_hash: reader.text()?.into(), ..Self::default() };
        for _ in 0..reader.u64()? {
            user.tags.push(reader.text()?.into());
        }
        for _ in 0..reader.u64()? {
            let vhost = reader.text()?.into();
            let mut pattern = || Pattern::new(reader.text()?).map_err(bad);
            let permissions = Permissions { configure: pattern()?, write: pattern()?, read: pattern()? };
            user.permissions.insert(vhost, permissions);
        }
        for _ in 0..reader.u64()? {
            let place = (reader.text()?.into(), reader.text()?.into());
            let permissions = TopicPermissions { write: reader.text()?.into(), read: reader.text()?.into() };
            user.topic_permissions.insert(place, permissions);
        }
        for _ in 0..reader.u64()? {
            user.limits.insert(reader.text()?.into(), reader.u64()? as i64);
        }
        Ok(user)
    }
}

/// All users.
#[derive(Debug, Default)]
pub struct Identity {
    users: RwLock<BTreeMap<Name, User>>,
    /// Topic permissions as they were asked for last. Making one of its text costs more than all the rest of a check.
    topics: RwLock<HashMap<String, Arc<Pattern>>>,
}

/// Topic permissions that are remembered.
const TOPICS_REMEMBERED: usize = 10_000;

impl Identity {
    /// Adds or replaces a user.
    pub fn put(&self, name: Name, user: User) {
        self.users.write().insert(name, user);
    }

    /// Removes a user. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.users.write().remove(name).is_some()
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<User> {
        self.users.read().get(name).cloned()
    }

    /// All users, by name.
    pub fn users(&self) -> Vec<(Name, User)> {
        self.users.read().iter().map(|(name, user)| (name.clone(), user.clone())).collect()
    }

    /// A limit of a user, if it has one.
    pub fn limit(&self, user: &str, limit: &str) -> Option<u64> {
        self.users.read().get(user)?.limits.get(limit).and_then(|value| u64::try_from(*value).ok())
    }

    /// The hash of a user's password.
    pub fn password_hash(&self, name: &str) -> Option<String> {
        self.users.read().get(name).map(|user| user.password_hash.clone())
    }

    /// Whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.users.read().is_empty()
    }

    /// A user's tags, if there is such a user.
    pub fn tags(&self, user: &str) -> Option<Vec<Name>> {
        self.users.read().get(user).map(|user| user.tags.clone())
    }

    /// Whether a user has a tag.
    pub fn has_tag(&self, user: &str, tag: &str) -> bool {
        self.users.read().get(user).is_some_and(|user| user.tags.iter().any(|other| &**other == tag))
    }

    /// Whether a user has any permissions in a vhost.
    pub fn may_enter(&self, user: &str, vhost: &str) -> bool {
        self.users.read().get(user).is_some_and(|user| user.permissions.contains_key(vhost))
    }

    /// Checks a permission.
    ///
    /// # Errors
    /// [`Refusal::AccessRefused`] without it.
    pub fn check(&self, user: &Name, access: Access, resource: Resource) -> Result<(), Refusal> {
        let name: &str = if resource.name.is_empty() { "amq.default" } else { &resource.name };
        let users = self.users.read();
        let permissions = users.get(user).and_then(|user| user.permissions.get(&resource.vhost));
        let allowed = permissions.is_some_and(|permissions| match access {
            Access::Configure => permissions.configure.matches(name),
            Access::Write => permissions.write.matches(name),
            Access::Read => permissions.read.matches(name),
        });
        if allowed {
            return Ok(());
        }
        let resource = Resource { name: name.into(), ..resource };
        Err(Refusal::AccessRefused { access: access.name(), resource, user: user.clone() })
    }

    /// The expression with a text, if it is one.
    fn topic_pattern(&self, text: String) -> Option<Arc<Pattern>> {
        if let Some(pattern) = self.topics.read().get(&text) {
            return Some(Arc::clone(pattern));
        }
        let pattern = Arc::new(Pattern::new(&text).ok()?);
        let mut topics = self.topics.write();
        if topics.len() >= TOPICS_REMEMBERED {
            topics.clear();
        }
        topics.insert(text, Arc::clone(&pattern));
        Some(pattern)
    }

    /// Checks a topic permission. Without one for the exchange, every key is allowed.
    ///
    /// # Errors
    /// [`Refusal::TopicRefused`] if there is one and the key does not match.
    pub fn check_topic(
        &self,
        user: &Name,
        access: Access,
        exchange: Resource,
        key: &str,
        client_id: Option<&str>,
    ) -> Result<(), Refusal> {
        let users = self.users.read();
        let place = (exchange.vhost.clone(), exchange.name.clone());
        let Some(permissions) = users.get(user).and_then(|user| user.topic_permissions.get(&place)) else {
            return Ok(());
        };
        let text = if access == Access::Write { &permissions.write } else { &permissions.read };
        // What a name contains must not become part of the expression.
        let mut text = text.replace("{username}", &escape(user)).replace("{vhost}", &escape(&exchange.vhost));
        if let Some(client_id) = client_id {
            text = text.replace("{client_id}", &escape(client_id));
        }
        if self.topic_pattern(text).is_some_and(|pattern| pattern.matches(key)) {
            return Ok(());
        }
        let (routing_key, resource) = (key.into(), exchange);
        Err(Refusal::TopicRefused { access: access.name(), routing_key, resource, user: user.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Resource {
        Resource { kind: "queue", name: name.into(), vhost: "/".into() }
    }

    fn identity() -> Identity {
        let pattern = |text| Pattern::new(text).unwrap();
        let permissions =
            Permissions { configure: pattern("^app-"), write: pattern(""), read: pattern("^(?!secret).*$") };
        let mut user = User { password_hash: "h".into(), tags: vec!["t".into()], ..User::default() };
        user.permissions.insert("/".into(), permissions);
        let topic = TopicPermissions { write: "^{username}\\.".into(), read: "^of\\.{client_id}$".into() };
        user.topic_permissions.insert(("/".into(), "amq.topic".into()), topic);
        let identity = Identity::default();
        identity.put("u".into(), User::decode(&user.encode()).unwrap());
        identity
    }

    #[test]
    fn patterns_decide_by_name() {
        let identity = identity();
        let allowed = |access, name| identity.check(&"u".into(), access, resource(name)).is_ok();
        assert!(allowed(Access::Configure, "app-1") && !allowed(Access::Configure, "my-app-1"));
        assert!(!allowed(Access::Write, "app-1") && !allowed(Access::Write, ""));
        assert!(allowed(Access::Read, "public") && !allowed(Access::Read, "secret-1"));
        assert!(identity.may_enter("u", "/") && !identity.may_enter("u", "other") && !identity.may_enter("v", "/"));
        let refused = identity.check(&"u".into(), Access::Write, resource("")).unwrap_err();
        assert_eq!(refused.to_string(), "write access to queue 'amq.default' in vhost '/' refused for user 'u'");
    }

    #[test]
    fn topic_patterns_know_the_user() {
        let identity = identity();
        let exchange = || Resource { kind: "exchange", name: "amq.topic".into(), vhost: "/".into() };
        let allowed = |key| identity.check_topic(&"u".into(), Access::Write, exchange(), key, None).is_ok();
        assert!(allowed("u.x") && !allowed("v.x"));
        let allowed =
            |key, client_id| identity.check_topic(&"u".into(), Access::Read, exchange(), key, Some(client_id)).is_ok();
        assert!(allowed("of.c1", "c1") && !allowed("of.c2", "c1"));
        assert!(!allowed("of.anything", ".*") && allowed("of..*", ".*"));
    }
}
