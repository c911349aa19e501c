//! A directory (LDAP): a user's password is good if the directory lets him in with it. What he may do is said by rules, most of
//! which ask for groups.

mod connection;
mod rules;
mod wire;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use broker::{Access, Authorization, Millis, Name, Resource};
use parking_lot::Mutex;

pub use self::wire::escape_dn;
use self::{
    connection::{Connection, Target},
    rules::Subject,
};
use super::{Identified, Verdict, asking::Asking, cache::Cache};
use crate::{
    clock::Clock,
    config::{self, Encryption, Rule},
    web,
};

/// Connections kept for the next question, at most.
const IDLE_MAX: usize = 8;

/// Time for which a directory that does not answer is not asked the same again.
const SILENCE: Duration = Duration::from_secs(1);

/// Asks the directory.
pub struct Ldap {
    settings: config::Ldap,
    target: Target,
    asking: Asking,
    /// Connections that have said who asks.
    idle: Mutex<Vec<Connection>>,
    answers: Cache<Question, bool>,
}

/// A question about a user, with which of the rules it is put to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Vhost(Subject),
    Resource(Subject),
    Topic(Subject),
}

/// What the directory says of one login.
#[derive(Debug)]
struct Asked {
    ldap: Arc<Ldap>,
    user: Name,
    dn: Name,
    tags: Vec<Name>,
}

impl std::fmt::Debug for Ldap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ldap").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ldap {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If settings are missing or wrong.
    pub fn new(auth: &config::Auth, clock: Clock) -> anyhow::Result<Arc<Self>> {
        let settings = auth.ldap.clone();
        if settings.servers.is_empty() {
            bail!("auth.ldap.servers is empty");
        }
        if settings.dn_lookup_attribute.is_some() != settings.dn_lookup_base.is_some() {
            bail!("auth.ldap.dn_lookup_attribute and auth.ldap.dn_lookup_base go together: one of them is missing");
        }
        if settings.bind_dn.is_some() && settings.bind_password.as_deref().unwrap_or_default().is_empty() {
            bail!("auth.ldap.bind_dn is set, and auth.ldap.bind_password is not");
        }
        let rules = [
            ("vhost_access", &settings.vhost_access),
            ("resource_access", &settings.resource_access),
            ("topic_access", &settings.topic_access),
        ];
        for (name, rule) in rules.into_iter().chain(settings.tags.iter().map(|(tag, rule)| (tag.as_str(), rule))) {
            rules::check(rule).with_context(|| format!("in auth.ldap, {name}"))?;
        }
        let usual_port = if settings.encryption == Encryption::Tls { 636 } else { 389 };
        let target = Target {
            servers: settings.servers.clone(),
            port: settings.port.unwrap_or(usual_port),
            encryption: settings.encryption,
            tls: web::client_config(settings.ca.as_deref())?,
        };
        let asking = Asking::new(Duration::from_millis(settings.timeout_ms));
        let answers = Cache::new(clock, Duration::from_secs(auth.cache_s), auth.cache_entries);
        Ok(Arc::new(Self { settings, target, asking, idle: Mutex::default(), answers }))
    }

    /// The entry of a user whose password is right.
    pub async fn authenticate(&self, user: &Name, password: &[u8]) -> Verdict<Name> {
        // An empty password would be no login at all, which directories let in (RFC 4513, section 5.1.2).
        if password.is_empty() || user.is_empty() {
            return Verdict::Refused("the user name or the password is empty".into());
        }
        let answer = self.asking.ask(async {
            let Some(dn) = self.dn_of(user).await? else { return Ok(None) };
            if dn.is_empty() {
                return Ok(None);
            }
            let mut connection = Connection::open(&self.target).await?;
            let is_right = connection.bind(&dn, password).await?;
            connection.close().await;
            Ok(is_right.then_some(dn))
        });
        match answer.await {
            Ok(Some(dn)) => Verdict::Accepted(dn),
            Ok(None) => Verdict::Refused("no such user in the directory, or wrong password".into()),
            Err(error) => Verdict::Unavailable(error),
        }
    }

    /// The entry of a user who is known already.
    pub async fn identify(&self, user: &Name) -> Verdict<Name> {
        let answer = self.asking.ask(async {
            let Some(dn) = self.dn_of(user).await? else { return Ok(None) };
            let is_there = self.search(&dn, false, None).await?;
            Ok((!is_there.is_empty()).then_some(dn))
        });
        match answer.await {
            Ok(Some(dn)) => Verdict::Accepted(dn),
            Ok(None) => Verdict::Refused("no such user in the directory".into()),
            Err(error) => Verdict::Unavailable(error),
        }
    }

    /// What a user may do who has an entry.
    pub async fn authorize(self: &Arc<Self>, user: &Name, dn: &Name) -> Verdict<Identified> {
        let subject = Subject::new(user, dn, "");
        let answer = self.asking.ask(async {
            let mut tags = Vec::new();
            for (tag, rule) in &self.settings.tags {
                if self.holds(rule, &subject).await? {
                    tags.push(tag.as_str().into());
                }
            }
            Ok(tags)
        });
        match answer.await {
            Ok(tags) => {
                let tags: Vec<Name> = tags;
                let asked = Asked { ldap: Arc::clone(self), user: user.clone(), dn: dn.clone(), tags: tags.clone() };
                Verdict::Accepted(Identified { user: user.clone(), tags, authorization: Some(Arc::new(asked)) })
            }
            Err(error) => Verdict::Unavailable(error),
        }
    }

    /// The name of a user's entry: made by the pattern, or searched for. Nothing if there is not exactly one.
    async fn dn_of(&self, user: &Name) -> anyhow::Result<Option<Name>> {
        let settings = &self.settings;
        let (Some(attribute), Some(base)) = (&settings.dn_lookup_attribute, &settings.dn_lookup_base) else {
            return Ok(Some(settings.user_dn_pattern.replace("${username}", &escape_dn(user)).into()));
        };
        let equality = Some((attribute.as_str(), user.as_bytes()));
        let mut found = self.search(base, true, equality).await?;
        Ok(if found.len() == 1 { found.pop().map(Name::from) } else { None })
    }

    /// Searches over a connection that has said who asks. One that was idle may have ended meanwhile: then there is a new one.
    async fn search(&self, base: &str, is_deep: bool, equality: Option<(&str, &[u8])>) -> anyhow::Result<Vec<String>> {
        let idle = self.idle.lock().pop();
        if let Some(mut connection) = idle
            && let Ok(found) = connection.search(base, is_deep, equality).await
        {
            self.keep(connection);
            return Ok(found);
        }
        let mut connection = Connection::open(&self.target).await?;
        if let (Some(dn), Some(password)) = (&self.settings.bind_dn, &self.settings.bind_password)
            && !connection.bind(dn, password.as_bytes()).await?
        {
            bail!("the directory refuses auth.ldap.bind_dn");
        }
        let found = connection.search(base, is_deep, equality).await?;
        self.keep(connection);
        Ok(found)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// Asks where no one may await, unless the answer is known.
    fn allows(&self, rule: &Rule, question: Question) -> bool {
        if let Rule::Constant(answer) = rule {
            return *answer;
        }
        if let Some(answer) = self.answers.get(&question) {
            return answer;
        }
        let (Question::Vhost(subject) | Question::Resource(subject) | Question::Topic(subject)) = &question;
        match self.asking.wait(self.holds(rule, subject)) {
            Ok(answer) => {
                self.answers.put(question, answer);
                answer
            }
            Err(error) => {
                tracing::warn!(user = &*subject.user, "access refused, since the directory does not tell: {error:#}");
                self.answers.put_for(question, false, SILENCE);
                false
            }
        }
    }
}

impl Asked {
    fn subject(&self, vhost: &str) -> Subject {
        Subject::new(&self.user, &self.dn, vhost)
    }
}

impl Authorization for Asked {
    fn may_enter(&self, vhost: &str) -> bool {
        self.ldap.allows(&self.ldap.settings.vhost_access, Question::Vhost(self.subject(vhost)))
    }

    fn check(&self, access: Access, resource: &Resource) -> bool {
        let subject = self.subject(&resource.vhost).about(access, resource.kind, &resource.name);
        self.ldap.allows(&self.ldap.settings.resource_access, Question::Resource(subject))
    }

    fn check_topic(&self, access: Access, exchange: &Resource, key: &str, _client_id: Option<&str>) -> bool {
        let subject = self.subject(&exchange.vhost).about(access, "topic", &exchange.name);
        let subject = Subject { routing_key: key.into(), ..subject };
        self.ldap.allows(&self.ldap.settings.topic_access, Question::Topic(subject))
    }

    fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| &**other == tag)
    }

    fn expires(&self) -> Option<Millis> {
        None
    }

    fn is_fixed(&self) -> bool {
        false
    }
}
