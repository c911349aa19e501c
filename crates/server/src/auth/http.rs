//! A server of the operator's own that decides, asked as RabbitMQ's rabbitmq_auth_backend_http asks it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::bail;
use broker::{Access, Authorization, Millis, Name, Resource};

use super::{Identified, Origin, Verdict, asking::Asking, cache::Cache};
use crate::{
    clock::Clock,
    config::{self, Method},
    web::Web,
};

/// Time for which a server that does not answer is not asked the same again.
const SILENCE: Duration = Duration::from_secs(1);

/// The parameters of a question.
type Parameters = Vec<(&'static str, String)>;

/// Asks the server.
#[derive(Debug)]
pub struct Http {
    settings: config::Http,
    web: Web,
    asking: Asking,
    answers: Cache<(String, Parameters), bool>,
}

/// What the server says of one login.
#[derive(Debug)]
struct Asked {
    http: Arc<Http>,
    user: Name,
    address: IpAddr,
    tags: Vec<Name>,
}

impl Http {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If a path is missing, or the authorities cannot be read.
    pub fn new(auth: &config::Auth, clock: Clock) -> anyhow::Result<Arc<Self>> {
        let settings = auth.http.clone();
        let paths = [
            ("user_path", &settings.user_path),
            ("vhost_path", &settings.vhost_path),
            ("resource_path", &settings.resource_path),
            ("topic_path", &settings.topic_path),
        ];
        for (name, path) in paths {
            if !path.starts_with("http://") && !path.starts_with("https://") {
                bail!("auth.http.{name} is '{path}', which is no address of a server");
            }
        }
        let within = Duration::from_millis(settings.timeout_ms);
        let web = Web::new(settings.ca.as_deref(), within)?;
        let answers = Cache::new(clock, Duration::from_secs(auth.cache_s), auth.cache_entries);
        Ok(Arc::new(Self { settings, web, asking: Asking::new(within), answers }))
    }

    /// Asks about a user: who he says he is, with his password if he has one.
    pub async fn authenticate(&self, user: &Name, password: Option<&[u8]>) -> Verdict<Vec<Name>> {
        let mut parameters = vec![("username", user.to_string())];
        if let Some(password) = password {
            let Ok(password) = std::str::from_utf8(password) else {
                return Verdict::Refused("the password is not UTF-8".into());
            };
            parameters.push(("password", password.into()));
        }
        match self.asking.ask(self.question(&self.settings.user_path, parameters)).await {
            Err(error) => Verdict::Unavailable(error),
            Ok(answer) => match tags_of(&answer) {
                Some(tags) => Verdict::Accepted(tags),
                None => {
                    self.check_answer(&answer);
                    Verdict::Refused("refused by the HTTP server".into())
                }
            },
        }
    }

    /// What a user may do whom the server, or somebody else, knows.
    pub fn authorize(self: &Arc<Self>, user: &Name, tags: Vec<Name>, origin: Origin) -> Identified {
        let asked = Asked { http: Arc::clone(self), user: user.clone(), address: origin.address, tags: tags.clone() };
        Identified { user: user.clone(), tags, authorization: Some(Arc::new(asked)) }
    }

    async fn question(&self, path: &str, parameters: Parameters) -> anyhow::Result<String> {
        let answer = match self.settings.method {
            Method::Get => self.web.query(path, parameters).await,
            Method::Post => self.web.post(path, parameters).await,
        };
        answer.map(|answer| answer.trim().to_owned())
    }

    fn check_answer(&self, answer: &str) {
        if answer != "deny" && !answer.starts_with("deny ") {
            let answer: String = answer.chars().take(80).collect();
            tracing::warn!("the HTTP server's answer is neither allow nor deny, and taken for the latter: '{answer}'");
        }
    }

    /// Asks where no one may await, unless the answer is known.
    fn allows(&self, path: &str, parameters: Parameters) -> bool {
        let key = (path.to_owned(), parameters);
        if let Some(answer) = self.answers.get(&key) {
            return answer;
        }
        match self.asking.wait(self.question(path, key.1.clone())) {
            Ok(answer) => {
                let is_allowed = tags_of(&answer).is_some();
                if !is_allowed {
                    self.check_answer(&answer);
                }
                self.answers.put(key, is_allowed);
                is_allowed
            }
            Err(error) => {
                tracing::warn!("access refused, since the HTTP server does not tell: {error:#}");
                self.answers.put_for(key, false, SILENCE);
                false
            }
        }
    }
}

/// The tags in an answer that allows: `allow`, `allow administrator management`.
fn tags_of(answer: &str) -> Option<Vec<Name>> {
    let mut words = answer.split_ascii_whitespace();
    (words.next()? == "allow").then(|| words.map(Name::from).collect())
}

impl Asked {
    /// The parameters that all questions about what is in a vhost have.
    fn parameters(&self, vhost: &str) -> Parameters {
        vec![("username", self.user.to_string()), ("vhost", vhost.to_owned())]
    }

    fn tags(&self) -> (&'static str, String) {
        ("tags", self.tags.iter().map(|tag| &**tag).collect::<Vec<_>>().join(" "))
    }

    fn of_resource(&self, kind: &str, access: Access, resource: &Resource) -> Parameters {
        let mut parameters = self.parameters(&resource.vhost);
        parameters.push(("resource", kind.to_owned()));
        parameters.push(("name", resource.name.to_string()));
        parameters.push(("permission", access.name().to_owned()));
        parameters.push(self.tags());
        parameters
    }
}

impl Authorization for Asked {
    fn may_enter(&self, vhost: &str) -> bool {
        let mut parameters = self.parameters(vhost);
        parameters.push(("ip", self.address.to_string()));
        parameters.push(self.tags());
        self.http.allows(&self.http.settings.vhost_path, parameters)
    }

    fn check(&self, access: Access, resource: &Resource) -> bool {
        let parameters = self.of_resource(resource.kind, access, resource);
        self.http.allows(&self.http.settings.resource_path, parameters)
    }

    fn check_topic(&self, access: Access, exchange: &Resource, key: &str, client_id: Option<&str>) -> bool {
        let mut parameters = self.of_resource("topic", access, exchange);
        parameters.push(("routing_key", key.to_owned()));
        parameters.push(("variable_map.username", self.user.to_string()));
        parameters.push(("variable_map.vhost", exchange.vhost.to_string()));
        if let Some(client_id) = client_id {
            parameters.push(("variable_map.client_id", client_id.to_owned()));
        }
        self.http.allows(&self.http.settings.topic_path, parameters)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allow_allows() {
        assert_eq!(tags_of("allow"), Some(vec![]));
        assert_eq!(tags_of("allow administrator management"), Some(vec!["administrator".into(), "management".into()]));
        for answer in ["", "deny", "allowed", "Allow", "deny allow", "<html>allow"] {
            assert_eq!(tags_of(answer), None, "{answer}");
        }
    }
}
