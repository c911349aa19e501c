//! The queues and the exchange of a load: their names, who uses which, and their life.

use crate::connection::Connection;
use crate::error::Error;
use crate::jms::destinations;
use crate::options::Options;
use crate::uri::Uri;
use crate::wire::Method;

/// What a load declares before it starts and deletes when it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) queues: Vec<String>,
    /// The exchange, if the load has one of its own.
    pub(crate) exchange: Option<String>,
}

impl Topology {
    pub(crate) fn of(options: &Options) -> Self {
        Self::named(options, options.queues, options.fanout.is_some())
    }

    /// Names of equal length, so that all prebuilt messages are equally long.
    pub(crate) fn named(options: &Options, queues: usize, has_exchange: bool) -> Self {
        let prefix = match &options.queue_prefix {
            Some(prefix) => prefix.clone(),
            None => format!("bench-{}", std::process::id()),
        };
        let digits = (queues - 1).to_string().len();
        Self {
            queues: (0..queues).map(|i| format!("{prefix}-{i:0digits$}")).collect(),
            exchange: has_exchange.then(|| format!("{prefix}-x")),
        }
    }

    /// The queues of one of `workers`: one of them if there are enough workers, else a round-robin share.
    pub(crate) fn share(&self, worker: usize, workers: usize) -> Vec<String> {
        if workers >= self.queues.len() {
            return vec![self.queues[worker % self.queues.len()].clone()];
        }
        self.queues.iter().skip(worker).step_by(workers).cloned().collect()
    }

    /// Exchange and routing keys that a publisher sends to.
    pub(crate) fn target(&self, publisher: usize, publishers: usize) -> (String, Vec<String>) {
        match &self.exchange {
            Some(exchange) => (exchange.clone(), vec![String::new()]),
            None => (String::new(), self.share(publisher, publishers)),
        }
    }

    pub(crate) fn declare(&self, connection: &mut Connection, options: &Options) -> Result<(), Error> {
        let durable = u8::from(options.durable_queue) << 1;
        if let Some(exchange) = &self.exchange {
            connection.call(Method::EXCHANGE_DECLARE, Method::EXCHANGE_DECLARE_OK, |out| {
                out.short(0).short_text(exchange).short_text("fanout").octet(durable).table(|_| ());
            })?;
        }
        for queue in &self.queues {
            connection.call(Method::QUEUE_DECLARE, Method::QUEUE_DECLARE_OK, |out| {
                out.short(0).short_text(queue).octet(durable).table(|arguments| {
                    if let Some(queue_type) = &options.queue_type {
                        arguments.short_text("x-queue-type").octet(b'S').long_text(queue_type.as_bytes());
                    }
                });
            })?;
            if let Some(exchange) = &self.exchange {
                connection.call(Method::QUEUE_BIND, Method::QUEUE_BIND_OK, |out| {
                    out.short(0).short_text(queue).short_text(exchange).short_text("").octet(0).table(|_| ());
                })?;
            }
        }
        Ok(())
    }

    /// Deletes everything over a connection of its own; deleting what is not there is no error.
    pub(crate) fn delete(&self, uri: &Uri) -> Result<(), Error> {
        if uri.scheme.is_jms() {
            return destinations::delete(uri, &self.queues);
        }
        let mut connection = Connection::open(uri)?;
        connection.call_each(Method::QUEUE_DELETE, Method::QUEUE_DELETE_OK, &self.queues, |queue, out| {
            out.short(0).short_text(queue).octet(0);
        })?;
        if let Some(exchange) = &self.exchange {
            connection.call(Method::EXCHANGE_DELETE, Method::EXCHANGE_DELETE_OK, |out| {
                out.short(0).short_text(exchange).octet(0);
            })?;
        }
        connection.close(std::time::Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(queues: usize) -> Topology {
        Topology { queues: (0..queues).map(|i| i.to_string()).collect(), exchange: None }
    }

    #[test]
    fn every_queue_has_a_worker_and_every_worker_a_queue() {
        for queues in 1..6 {
            for workers in 1..6 {
                let shares: Vec<_> = (0..workers).map(|w| topology(queues).share(w, workers)).collect();
                assert!(shares.iter().all(|share| !share.is_empty()));
                let mut used: Vec<_> = shares.concat();
                used.sort();
                used.dedup();
                assert_eq!(used.len(), queues);
            }
        }
    }
}
