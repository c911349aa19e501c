//! Rules: conditions on a user and on what he wants to do.

use anyhow::Context;
use broker::{Access, Name, identity::Pattern};

use super::{Ldap, wire::escape_dn};
use crate::config::{Condition, Rule};

/// The attribute of a group that names its members, if a rule does not say.
const MEMBER: &str = "member";

/// Who is asked about, and what he wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The user.
    pub user: Name,
    /// His entry.
    pub dn: Name,
    /// The vhost.
    pub vhost: Name,
    /// `queue`, `exchange` or `topic`.
    pub resource: &'static str,
    /// Its name.
    pub name: Name,
    /// `configure`, `write` or `read`.
    pub permission: &'static str,
    /// The routing key, of a topic.
    pub routing_key: Name,
}

impl Subject {
    /// A user, in a vhost or, if that is empty, in none yet.
    pub fn new(user: &Name, dn: &Name, vhost: &str) -> Self {
        let empty = || Name::from("");
        Self {
            user: user.clone(),
            dn: dn.clone(),
            vhost: vhost.into(),
            resource: "",
            name: empty(),
            permission: "",
            routing_key: empty(),
        }
    }

    /// The same with what is to be done, and to what.
    #[must_use]
    pub fn about(self, access: Access, resource: &'static str, name: &Name) -> Self {
        Self { permission: access.name(), resource, name: name.clone(), ..self }
    }

    /// A text with what is asked about in it, each value escaped by `escape`. Values are put in at once, so that none of them
    /// can stand for another.
    fn fill(&self, text: &str, escape: impl Fn(&str) -> String) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut left = text;
        while let Some((before, behind)) = left.split_once("${") {
            filled.push_str(before);
            let Some((name, rest)) = behind.split_once('}') else {
                left = &left[before.len()..];
                break;
            };
            match name {
                "username" => filled.push_str(&escape(&self.user)),
                // The name of an entry has its form already.
                "user_dn" => filled.push_str(&self.dn),
                "vhost" => filled.push_str(&escape(&self.vhost)),
                "resource" => filled.push_str(self.resource),
                "name" => filled.push_str(&escape(&self.name)),
                "permission" => filled.push_str(self.permission),
                "routing_key" => filled.push_str(&escape(&self.routing_key)),
                other => filled.extend(["${", other, "}"]),
            }
            left = rest;
        }
        filled.push_str(left);
        filled
    }
}

/// Checks the expressions in a rule.
///
/// # Errors
/// If one is none.
pub fn check(rule: &Rule) -> anyhow::Result<()> {
    let Rule::When(condition) = rule else { return Ok(()) };
    match &**condition {
        Condition::Match { pattern, .. } => {
            let sample = Subject::new(&"".into(), &"".into(), "").fill(pattern, |value| value.to_owned());
            Pattern::new(&sample).map(drop).map_err(anyhow::Error::msg).context("match")
        }
        Condition::All(rules) | Condition::Any(rules) => rules.iter().try_for_each(check),
        Condition::Not(rule) => check(rule),
        Condition::Permission(rules) | Condition::Resource(rules) => rules.values().try_for_each(check),
        Condition::InGroup(_) | Condition::InGroupBy { .. } | Condition::Exists(_) => Ok(()),
    }
}

impl Ldap {
    /// Whether a rule holds.
    ///
    /// # Errors
    /// If the directory cannot tell.
    pub(super) async fn holds(&self, rule: &Rule, subject: &Subject) -> anyhow::Result<bool> {
        let condition = match rule {
            Rule::Constant(answer) => return Ok(*answer),
            Rule::When(condition) => condition,
        };
        match &**condition {
            Condition::InGroup(group) => self.is_member(group, MEMBER, subject).await,
            Condition::InGroupBy { group, attribute } => self.is_member(group, attribute, subject).await,
            Condition::Exists(dn) => {
                let dn = subject.fill(dn, escape_dn);
                Ok(!self.search(&dn, false, None).await?.is_empty())
            }
            Condition::Match { text, pattern } => {
                let (text, pattern) = (subject.fill(text, str::to_owned), subject.fill(pattern, quote));
                Ok(Pattern::new(&pattern).is_ok_and(|pattern| pattern.matches(&text)))
            }
            Condition::All(rules) => {
                for rule in rules {
                    if !Box::pin(self.holds(rule, subject)).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Any(rules) => {
                for rule in rules {
                    if Box::pin(self.holds(rule, subject)).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Not(rule) => Ok(!Box::pin(self.holds(rule, subject)).await?),
            Condition::Permission(rules) => self.holds_for(rules.get(subject.permission), subject).await,
            Condition::Resource(rules) => self.holds_for(rules.get(subject.resource), subject).await,
        }
    }

    /// What is not named is not allowed.
    async fn holds_for(&self, rule: Option<&Rule>, subject: &Subject) -> anyhow::Result<bool> {
        match rule {
            Some(rule) => Box::pin(self.holds(rule, subject)).await,
            None => Ok(false),
        }
    }

    async fn is_member(&self, group: &str, attribute: &str, subject: &Subject) -> anyhow::Result<bool> {
        let group = subject.fill(group, escape_dn);
        let equality = Some((attribute, subject.dn.as_bytes()));
        Ok(!self.search(&group, false, equality).await?.is_empty())
    }
}

/// A text as an expression that matches it alone.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        let subject = Subject::new(&"a,b".into(), &"cn=a\\,b,o=x".into(), "${name}");
        subject.about(Access::Write, "queue", &"q.1".into())
    }

    #[test]
    fn what_is_asked_about_is_put_in_once_and_escaped() {
        let fill = |text| subject().fill(text, escape_dn);
        assert_eq!(fill("cn=${username},ou=${permission}-${resource}"), "cn=a\\,b,ou=write-queue");
        assert_eq!(fill("${user_dn}"), "cn=a\\,b,o=x");
        assert_eq!(fill("${vhost}|${name}"), "${name}|q.1");
        assert_eq!(fill("${other}${"), "${other}${");
        assert_eq!(subject().fill("^${name}$", quote), "^q\\.1$");
    }

    #[test]
    fn rules_are_read_from_the_configuration() {
        #[derive(serde::Deserialize)]
        struct Rules {
            rules: Vec<Rule>,
        }
        let text = "rules = [true, { in_group = 'cn=g' }, { in_group_by = { group = 'cn=g', attribute = 'uniqueMember' } },\n\
            { permission = { read = true, write = { match = { text = '${name}', pattern = '^${username}-' } } } },\n\
            { any = [false, { not = { exists = 'cn=${vhost}' } }] }]";
        let Rules { rules } = toml::from_str(text).unwrap();
        assert_eq!(rules[0], Rule::Constant(true));
        assert_eq!(rules[1], Rule::When(Box::new(Condition::InGroup("cn=g".into()))));
        assert!(rules.iter().all(|rule| check(rule).is_ok()));
        let Rules { rules } = toml::from_str("rules = [{ match = { text = '', pattern = '(' } }]").unwrap();
        assert!(check(&rules[0]).is_err());
        assert!(toml::from_str::<Rules>("rules = [{ in_grop = 'cn=g' }]").is_err());
    }
}
